"""Devices, telemetry, logs, frames, dead letters, people and their sessions."""

from alembic import op

revision = "0001"
down_revision = None

# "C" collation: ids and streams are compared as bytes, which is what keyset cursors rely on.
TABLES = """
-- Times on the wire: RFC 3339, UTC, milliseconds.
CREATE FUNCTION wire_time(moment timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE RETURN
    to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

CREATE TABLE devices (
    device_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    type text NOT NULL,
    status text NOT NULL DEFAULT 'provisioning',
    status_reason text,
    status_since timestamptz NOT NULL DEFAULT now(),
    tags text[] NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    firmware jsonb,
    layout jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX devices_status ON devices (status);
CREATE INDEX devices_tags ON devices USING gin (tags);

-- What every message changes, apart from what people edit: rewritten once a second, so kept narrow.
CREATE TABLE device_vitals (
    device_id text COLLATE "C" PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
    last_seen timestamptz,
    battery real,
    pose jsonb
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE device_credentials (
    credential_id text PRIMARY KEY,
    device_id text COLLATE "C" NOT NULL REFERENCES devices,
    broker_hash text NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX device_credentials_device ON device_credentials (device_id) WHERE revoked_at IS NULL;

-- The process that runs the broker writes its accounts anew, whoever changed them.
CREATE FUNCTION announce_credentials() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY rosfit_credentials;
    RETURN NULL;
END $$;
CREATE TRIGGER announce_credentials AFTER INSERT OR UPDATE OR DELETE ON device_credentials
    FOR EACH STATEMENT EXECUTE FUNCTION announce_credentials();

CREATE TABLE device_logs (
    device_id text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    level text NOT NULL,
    message text NOT NULL,
    logger text NOT NULL,
    fields jsonb NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (device_id, time, message_id)
);

CREATE TABLE device_alerts (
    device_id text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    severity text NOT NULL,
    message text NOT NULL,
    payload jsonb NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (device_id, time, message_id)
);

CREATE TABLE device_frames (
    device_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    content_type text NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (device_id, name)
);

CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL,
    topic text NOT NULL,
    device_id text,
    reason text NOT NULL,
    detail text NOT NULL,
    qos smallint NOT NULL,
    content_type text,
    payload bytea NOT NULL,
    size integer NOT NULL,
    replayed_at timestamptz
);
CREATE INDEX dead_letters_reason ON dead_letters (reason, id);

-- Messages without an id and a time of their own, committed but perhaps not acknowledged yet. A broker sends an
-- unacknowledged message again under the same packet id, so these marks tell its redelivery from a new sample.
CREATE TABLE ingest_marks (
    slot smallint NOT NULL,
    packet_id integer NOT NULL,
    digest text NOT NULL,
    PRIMARY KEY (slot, packet_id)
) WITH (fillfactor = 40);

CREATE TABLE users (
    user_id text PRIMARY KEY,
    email text NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);
CREATE UNIQUE INDEX users_email ON users (lower(email));

-- One family per sign-in; a token that was spent already and comes again revokes its family.
CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    family text NOT NULL,
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    spent_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);

CREATE TABLE page_sessions (
    token_hash bytea PRIMARY KEY,
    user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

CREATE TABLE signing_keys (
    key_id text PRIMARY KEY,
    private_jwk jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);

-- The first answer to each Idempotency-Key; an empty status means that the request is still at work.
CREATE TABLE idempotency_keys (
    actor text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    status smallint,
    body bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor, key)
);
"""

TELEMETRY = """
CREATE TABLE telemetry (
    device_id text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    seq bigint,
    received_at timestamptz NOT NULL,
    payload jsonb NOT NULL,
    PRIMARY KEY (device_id, stream, time, message_id)
)
"""

# The extension is used where the server has it loaded; `CREATE EXTENSION` fails where it is only installed.
HAS_TIMESCALEDB = """
SELECT strpos(current_setting('shared_preload_libraries'), 'timescaledb') > 0
   AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
"""


def upgrade() -> None:
    op.execute(TABLES)
    if op.get_bind().exec_driver_sql(HAS_TIMESCALEDB).scalar():
        op.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        op.execute(TELEMETRY)
        op.execute(
            "SELECT create_hypertable('telemetry', 'time',"
            " chunk_time_interval => interval '1 day', create_default_indexes => false)"
        )
    else:
        op.execute(TELEMETRY + "PARTITION BY RANGE (time)")
        op.execute("CREATE TABLE telemetry_other PARTITION OF telemetry DEFAULT")
