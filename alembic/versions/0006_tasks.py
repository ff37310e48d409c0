"""Tasks: commands that wait in a queue for a robot that is free."""

from alembic import op

revision = "0006"
down_revision = "0005"

TABLES = """
CREATE TABLE tasks (
    task_id text COLLATE "C" PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY,
    task_type text NOT NULL,
    -- The robot that was asked for, or the one that was found in the group.
    robot_id text COLLATE "C" REFERENCES devices,
    group_id text COLLATE "C" REFERENCES groups ON DELETE SET NULL,
    parameters jsonb NOT NULL,
    priority integer NOT NULL,
    timeout_s double precision NOT NULL,
    status text NOT NULL DEFAULT 'queued',
    command_id text COLLATE "C" REFERENCES commands ON DELETE SET NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    result jsonb,
    error jsonb
);
CREATE INDEX tasks_queue ON tasks (priority DESC, position) WHERE status = 'queued';
CREATE INDEX tasks_robot ON tasks (robot_id, position);
-- A robot does one task at a time, whoever assigns it.
CREATE UNIQUE INDEX tasks_running ON tasks (robot_id) WHERE status = 'running';

CREATE TRIGGER announce_tasks AFTER INSERT ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION announce_commands();
"""


def upgrade() -> None:
    op.execute(TABLES)
