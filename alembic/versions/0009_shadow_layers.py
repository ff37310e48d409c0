"""Layers of desired values under each device's own, and how long a change last took to arrive."""

from alembic import op

revision = "0009"
down_revision = "0008"

LAYERS = """
-- `desired` becomes what the layers and the device's own values make together.
ALTER TABLE shadows ADD own jsonb, ADD own_metadata jsonb NOT NULL DEFAULT '{}', ADD sync_s float8;
UPDATE shadows SET own = desired, own_metadata = desired_metadata;

-- The fleet's layer has no group.
CREATE TABLE shadow_layers (
    layer_id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" REFERENCES groups,
    priority integer NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0,
    desired jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    UNIQUE NULLS NOT DISTINCT (group_id, name)
);

-- Whom a layer reached when it was last looked at.
CREATE TABLE shadow_layer_members (
    layer_id text COLLATE "C" NOT NULL REFERENCES shadow_layers ON DELETE CASCADE,
    device_id text COLLATE "C" NOT NULL REFERENCES devices,
    PRIMARY KEY (layer_id, device_id)
);
CREATE INDEX shadow_layer_members_device ON shadow_layer_members (device_id);

-- Shadows whose desired is to be made anew, because a layer or its members changed.
CREATE TABLE shadow_refreshes (
    device_id text COLLATE "C" NOT NULL REFERENCES devices,
    name text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    author text NOT NULL,
    PRIMARY KEY (device_id, name)
);

CREATE FUNCTION announce_shadow_refreshes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY rosfit_shadow_layers;
    RETURN NULL;
END $$;
CREATE TRIGGER announce_shadow_refreshes AFTER INSERT OR UPDATE ON shadow_refreshes
    FOR EACH ROW EXECUTE FUNCTION announce_shadow_refreshes();
"""


def upgrade() -> None:
    op.execute(LAYERS)
