"""JSON Schemas that what is desired of devices of a type, or of a group, has to fit."""

from alembic import op

revision = "0012"
down_revision = "0011"

SCHEMAS = """
CREATE TABLE shadow_schemas (
    -- The device type, or the group's id.
    target text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    device_type text,
    group_id text COLLATE "C" REFERENCES groups ON DELETE CASCADE,
    version bigint NOT NULL DEFAULT 0,
    -- Not jsonb: forms show properties in the order in which they were written.
    schema json NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    PRIMARY KEY (target, name),
    CHECK (num_nonnulls(device_type, group_id) = 1)
);
"""


def upgrade() -> None:
    op.execute(SCHEMAS)
