"""Several credentials per device, certificates, and enrolment."""

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
-- Two credentials live side by side during a rotation, so each has a user name of its own.
ALTER TABLE device_credentials
    ADD COLUMN username text COLLATE "C",
    ADD COLUMN kind text NOT NULL DEFAULT 'password' CHECK (kind IN ('password', 'jwt'));
UPDATE device_credentials SET username = device_id;
ALTER TABLE device_credentials ALTER COLUMN username SET NOT NULL;
-- Of those that shared a name only the newest was ever let in.
UPDATE device_credentials c SET revoked_at = now()
WHERE revoked_at IS NULL AND EXISTS (
    SELECT FROM device_credentials n WHERE n.username = c.username AND n.created_at > c.created_at
);
CREATE INDEX device_credentials_username ON device_credentials (username) WHERE revoked_at IS NULL;

CREATE TABLE device_certificates (
    serial text PRIMARY KEY,
    device_id text COLLATE "C" NOT NULL REFERENCES devices,
    fingerprint text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX device_certificates_device ON device_certificates (device_id);
CREATE TRIGGER announce_certificates AFTER INSERT OR UPDATE OR DELETE ON device_certificates
    FOR EACH STATEMENT EXECUTE FUNCTION announce_credentials();

CREATE TABLE enrolment_tokens (
    token_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    device_type text NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    approval boolean NOT NULL,
    max_uses integer NOT NULL,
    uses integer NOT NULL DEFAULT 0,
    created_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);

-- A device that asked to be let in; `claim_hash` lets it, and nobody else, fetch the answer.
CREATE TABLE enrolments (
    enrolment_id text COLLATE "C" PRIMARY KEY,
    token_id text NOT NULL REFERENCES enrolment_tokens,
    device_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    claim_hash bytea NOT NULL,
    status text NOT NULL CHECK (status IN ('waiting', 'approved', 'denied', 'claimed')),
    address text,
    created_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    decided_by text
);
CREATE INDEX enrolments_status ON enrolments (status, enrolment_id);
"""


def upgrade() -> None:
    op.execute(TABLES)
