"""Commands with every step they took, and who holds the stick of a robot."""

from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = """
CREATE TABLE commands (
    command_id text COLLATE "C" PRIMARY KEY,
    -- The order in which commands were accepted, which is the order of publishing per device.
    position bigint GENERATED ALWAYS AS IDENTITY,
    device_id text COLLATE "C" NOT NULL REFERENCES devices,
    correlation_id text NOT NULL,
    command text NOT NULL,
    data jsonb NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    urgent boolean NOT NULL DEFAULT false,
    timeout_s double precision NOT NULL,
    expires_at timestamptz NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    finished_at timestamptz,
    progress real,
    result jsonb,
    error jsonb,
    late boolean NOT NULL DEFAULT false
);
CREATE INDEX commands_device ON commands (device_id, position);
CREATE INDEX commands_correlation ON commands (correlation_id);
CREATE INDEX commands_open ON commands (position)
    WHERE status IN ('pending', 'delivered', 'acked', 'in_progress');

-- `refused` is the code of a report that came too late to count; it is kept and changes nothing.
CREATE TABLE command_steps (
    command_id text COLLATE "C" NOT NULL REFERENCES commands ON DELETE CASCADE,
    number integer NOT NULL,
    status text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    detail jsonb,
    refused text,
    PRIMARY KEY (command_id, number)
);

-- Something may be published now: a command came, or a device is back.
CREATE FUNCTION announce_commands() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY rosfit_commands;
    RETURN NULL;
END $$;
CREATE TRIGGER announce_commands AFTER INSERT ON commands
    FOR EACH STATEMENT EXECUTE FUNCTION announce_commands();
CREATE TRIGGER announce_presence AFTER UPDATE OF status ON devices
    FOR EACH ROW WHEN (NEW.status = 'online') EXECUTE FUNCTION announce_commands();

CREATE TABLE teleop_leases (
    device_id text COLLATE "C" PRIMARY KEY REFERENCES devices,
    lease_id text NOT NULL,
    user_id text NOT NULL,
    user_name text NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now()
);
"""


def upgrade() -> None:
    op.execute(TABLES)
