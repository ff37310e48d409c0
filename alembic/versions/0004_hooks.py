"""Incoming webhooks: their sources, and the signatures that were seen, so that none is taken twice."""

from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = """
CREATE TABLE hook_sources (
    source text PRIMARY KEY,
    secret text NOT NULL,
    created_by text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE hook_deliveries (
    source text NOT NULL REFERENCES hook_sources ON DELETE CASCADE,
    signature bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    body jsonb NOT NULL,
    PRIMARY KEY (source, signature)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
