"""Device shadows: desired, reported, each version of them, and what is still to be told to the device."""

from alembic import op

revision = "0007"
down_revision = "0006"

TABLES = """
CREATE TABLE shadows (
    device_id text COLLATE "C" NOT NULL REFERENCES devices,
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL DEFAULT 0,
    desired jsonb,
    reported jsonb,
    desired_metadata jsonb NOT NULL DEFAULT '{}',
    reported_metadata jsonb NOT NULL DEFAULT '{}',
    last_seq bigint,
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- Since when desired and reported differ.
    pending_since timestamptz,
    -- What the device has not been told yet: the whole desired document, and what differs.
    desired_due boolean NOT NULL DEFAULT false,
    delta_due boolean NOT NULL DEFAULT false,
    PRIMARY KEY (device_id, name)
);
CREATE INDEX shadows_due ON shadows (device_id) WHERE desired_due OR delta_due;
CREATE INDEX shadows_pending ON shadows (pending_since) WHERE pending_since IS NOT NULL;

CREATE TABLE shadow_history (
    device_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    author text NOT NULL,
    reason text,
    section text NOT NULL,
    desired jsonb,
    reported jsonb,
    PRIMARY KEY (device_id, name, version)
);

-- The answer to each client_token, so that the same report twice is one version.
CREATE TABLE shadow_answers (
    device_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    client_token text NOT NULL,
    digest text NOT NULL,
    answer jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (device_id, name, client_token)
);
CREATE INDEX shadow_answers_at ON shadow_answers (at);

CREATE FUNCTION announce_shadows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY rosfit_shadows;
    RETURN NULL;
END $$;
CREATE TRIGGER announce_shadows AFTER INSERT OR UPDATE OF desired_due, delta_due ON shadows
    FOR EACH ROW WHEN (NEW.desired_due OR NEW.delta_due) EXECUTE FUNCTION announce_shadows();

-- A device that is back is told what differs now, and nothing of what happened while it was away.
CREATE FUNCTION shadow_delta_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shadows SET delta_due = true WHERE device_id = NEW.device_id AND pending_since IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER shadow_delta_due AFTER UPDATE OF status ON devices
    FOR EACH ROW WHEN (NEW.status = 'online' AND OLD.status <> 'online') EXECUTE FUNCTION shadow_delta_due();
"""


def upgrade() -> None:
    op.execute(TABLES)
