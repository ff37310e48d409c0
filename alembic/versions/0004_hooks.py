"""Incoming webhooks: their sources and what came; and word of a change of the signing keys."""

from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = """
-- The secret itself is kept: no signature can be checked without it. After a rotation both are taken for a while.
CREATE TABLE hook_sources (
    source text COLLATE "C" PRIMARY KEY,
    secret text NOT NULL,
    previous_secret text,
    previous_until timestamptz,
    created_by text,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A signature covers the time of sending, so the same one twice is a replay.
CREATE TABLE hook_deliveries (
    delivery_id text COLLATE "C" PRIMARY KEY,
    source text COLLATE "C" NOT NULL REFERENCES hook_sources ON DELETE CASCADE,
    signature bytea NOT NULL,
    sent_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    body jsonb NOT NULL,
    UNIQUE (source, signature)
);
CREATE INDEX hook_deliveries_newest ON hook_deliveries (source, delivery_id);

CREATE FUNCTION announce_signing_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY rosfit_signing_keys;
    RETURN NULL;
END $$;
CREATE TRIGGER announce_signing_keys AFTER INSERT OR UPDATE OR DELETE ON signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION announce_signing_keys();
"""


def upgrade() -> None:
    op.execute(TABLES)
