"""Groups, limits of roles to devices, API keys, throttled sign-in, and the audit log."""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = """
CREATE TABLE groups (
    group_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('static', 'query')),
    query text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'query') = (query IS NOT NULL))
);
CREATE UNIQUE INDEX groups_name ON groups (lower(name));

CREATE TABLE group_members (
    group_id text COLLATE "C" NOT NULL REFERENCES groups ON DELETE CASCADE,
    device_id text COLLATE "C" NOT NULL REFERENCES devices ON DELETE CASCADE,
    PRIMARY KEY (group_id, device_id)
);
CREATE INDEX group_members_device ON group_members (device_id);

-- Both empty: every device. Else the devices in any of these groups or with any of these tags.
ALTER TABLE users
    ADD COLUMN only_groups text[] NOT NULL DEFAULT '{}',
    ADD COLUMN only_tags text[] NOT NULL DEFAULT '{}',
    ADD COLUMN oidc_subject text UNIQUE,
    -- Access tokens issued before this are refused.
    ADD COLUMN tokens_valid_from timestamptz NOT NULL DEFAULT '-infinity';

CREATE TABLE api_keys (
    key_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    secret_hash bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    only_groups text[] NOT NULL DEFAULT '{}',
    only_tags text[] NOT NULL DEFAULT '{}',
    created_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);

-- Failed sign-ins, by account and by address; a row is worth nothing once its time is over.
CREATE TABLE sign_in_failures (
    subject text PRIMARY KEY,
    failures integer NOT NULL,
    blocked_until timestamptz NOT NULL
);

-- Each row's hash covers the row and the hash before it, so that a changed or missing row shows.
CREATE TABLE audit_log (
    id bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    before jsonb,
    after jsonb,
    address text,
    request_id text,
    result text NOT NULL,
    hash bytea NOT NULL
);
CREATE INDEX audit_log_actor ON audit_log (actor, id);
CREATE INDEX audit_log_target ON audit_log (target, id);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
"""


def upgrade() -> None:
    op.execute(TABLES)
