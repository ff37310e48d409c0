"""Updates over the air: artifacts, the keys that sign them, deployments and every step a device took."""

from alembic import op

revision = "0008"
down_revision = "0007"

TABLES = """
-- RosFit's own keys have a private one; others are trusted to have signed what is brought along.
CREATE TABLE update_keys (
    key_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    public_key bytea NOT NULL UNIQUE,
    private_key bytea,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);

CREATE TABLE artifacts (
    artifact_id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    device_types text[] NOT NULL,
    from_versions text[] NOT NULL,
    file_name text NOT NULL,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    signature text NOT NULL,
    key_id text COLLATE "C" NOT NULL REFERENCES update_keys,
    release_notes text NOT NULL,
    object_key text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Its bytes are gone; deployments still tell its name.
    deleted_at timestamptz,
    UNIQUE (name, version)
);

-- Objects that no artifact names: uploads under way, and what is left of broken ones and of deleted artifacts.
CREATE TABLE unclaimed_objects (
    object_key text COLLATE "C" PRIMARY KEY,
    discard_at timestamptz NOT NULL
);
CREATE INDEX unclaimed_objects_due ON unclaimed_objects (discard_at);

CREATE TABLE deployments (
    deployment_id text COLLATE "C" PRIMARY KEY,
    artifact_id text COLLATE "C" NOT NULL REFERENCES artifacts,
    target jsonb NOT NULL,
    waves double precision[] NOT NULL,
    success_threshold double precision NOT NULL,
    failure_threshold double precision NOT NULL,
    min_sample integer NOT NULL,
    max_in_progress integer NOT NULL,
    rate_per_minute integer,
    device_deadline_s double precision NOT NULL,
    on_failure text NOT NULL,
    requires_approval boolean NOT NULL,
    start_window jsonb,
    min_battery double precision NOT NULL,
    status text NOT NULL DEFAULT 'draft',
    status_reason text,
    -- The running wave, from 1.
    wave integer NOT NULL DEFAULT 0,
    -- Failures of that wave which an operator has seen and gone on from.
    accepted_failures integer NOT NULL DEFAULT 0,
    stopped_by_failure boolean NOT NULL DEFAULT false,
    total integer NOT NULL DEFAULT 0,
    left_out jsonb NOT NULL DEFAULT '[]',
    rollback_of text COLLATE "C" REFERENCES deployments,
    retry_of text COLLATE "C" REFERENCES deployments,
    -- Signs the download links of this deployment.
    url_secret bytea NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_by text,
    started_at timestamptz,
    approved_by text,
    approved_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX deployments_artifact ON deployments (artifact_id);
CREATE INDEX deployments_rollback ON deployments (rollback_of) WHERE rollback_of IS NOT NULL;
CREATE INDEX deployments_status ON deployments (status) WHERE status IN ('waiting_for_approval', 'running', 'paused');

CREATE TABLE device_deployments (
    deployment_id text COLLATE "C" NOT NULL REFERENCES deployments,
    device_id text COLLATE "C" NOT NULL REFERENCES devices,
    wave integer NOT NULL,
    position integer NOT NULL,
    status text NOT NULL DEFAULT 'queued',
    percent real,
    bytes bigint,
    error jsonb,
    -- What the robot says it waits for, or does, in its own words.
    detail text,
    from_version text,
    -- What it had before, to go back to.
    previous_artifact_id text COLLATE "C" REFERENCES artifacts,
    -- Its place is taken and its trigger may be on the way: it counts as in progress although it is still queued.
    claimed_at timestamptz,
    -- When the broker last took its trigger.
    published_at timestamptz,
    notified_at timestamptz,
    deadline_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (deployment_id, device_id)
);
CREATE INDEX device_deployments_wave ON device_deployments (deployment_id, wave, status);
CREATE INDEX device_deployments_open ON device_deployments (device_id)
    WHERE status NOT IN ('succeeded', 'failed', 'rolled_back', 'timed_out', 'cancelled', 'rejected');
CREATE INDEX device_deployments_deadline ON device_deployments (deadline_at)
    WHERE status IN ('notified', 'downloading', 'verifying', 'installing', 'rebooting', 'health_check');
CREATE INDEX device_deployments_claimed ON device_deployments (claimed_at) WHERE status = 'queued';
-- A device installs one thing at a time, whoever sends it.
CREATE UNIQUE INDEX device_deployments_running ON device_deployments (device_id)
    WHERE status IN ('notified', 'downloading', 'verifying', 'installing', 'rebooting', 'health_check')
       OR (status = 'queued' AND claimed_at IS NOT NULL);

-- `refused` is the code of a report that came too late, or out of order; it is kept and changes nothing.
CREATE TABLE device_deployment_steps (
    deployment_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    status text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    detail jsonb,
    refused text,
    PRIMARY KEY (deployment_id, device_id, number)
);

CREATE FUNCTION announce_updates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY rosfit_updates;
    RETURN NULL;
END $$;
CREATE TRIGGER announce_deployments AFTER UPDATE OF status, wave ON deployments
    FOR EACH STATEMENT EXECUTE FUNCTION announce_updates();
CREATE TRIGGER announce_device_deployments AFTER UPDATE OF status ON device_deployments
    FOR EACH STATEMENT EXECUTE FUNCTION announce_updates();
CREATE TRIGGER announce_updatable AFTER UPDATE OF status ON devices
    FOR EACH ROW WHEN (NEW.status IN ('online', 'decommissioned')) EXECUTE FUNCTION announce_updates();
"""


def upgrade() -> None:
    op.execute(TABLES)
