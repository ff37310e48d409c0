-- name: insert_command
INSERT INTO commands (command_id, device_id, correlation_id, command, data, urgent, timeout_s, expires_at, created_by)
VALUES (%(command_id)s, %(device_id)s, %(correlation_id)s, %(command)s, %(data)s, %(urgent)s, %(timeout_s)s,
        %(expires_at)s, %(created_by)s)

-- name: insert_step
INSERT INTO command_steps (command_id, number, status, detail, refused)
SELECT %(command_id)s, coalesce(max(number), 0) + 1, %(status)s, %(detail)s, %(refused)s
FROM command_steps WHERE command_id = %(command_id)s

-- name: update_step
UPDATE command_steps SET detail = %(detail)s
WHERE command_id = %(command_id)s AND status = %(status)s AND refused IS NULL

-- name: insert_refused_step
-- Not when the same was told before: a device repeats its answer after a lost line.
INSERT INTO command_steps (command_id, number, status, detail, refused)
SELECT %(command_id)s, max(number) + 1, %(status)s, %(detail)s, %(refused)s
FROM command_steps WHERE command_id = %(command_id)s
HAVING NOT bool_or(status = %(status)s AND detail IS NOT DISTINCT FROM %(detail)s)

-- name: get_command
SELECT command_id, device_id, correlation_id, command, data, status, urgent, timeout_s,
       wire_time(expires_at) AS expires_at, created_by, wire_time(created_at) AS created_at,
       wire_time(published_at) AS published_at, wire_time(finished_at) AS finished_at, progress, result, error, late
FROM commands WHERE device_id = %(device_id)s AND command_id = %(command_id)s

-- name: list_commands
SELECT command_id, device_id, correlation_id, command, data, status, urgent, timeout_s,
       wire_time(expires_at) AS expires_at, created_by, wire_time(created_at) AS created_at,
       wire_time(published_at) AS published_at, wire_time(finished_at) AS finished_at, progress, result, error, late
FROM commands
WHERE device_id = %(device_id)s
  AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(after)s::text IS NULL OR command_id < %(after)s)
ORDER BY command_id DESC
LIMIT %(limit)s

-- name: list_steps
SELECT status, wire_time(at) AS at, detail, refused FROM command_steps WHERE command_id = %(command_id)s ORDER BY number

-- name: lock_command
SELECT status, late, command, handed_over_at IS NOT NULL
FROM commands WHERE device_id = %(device_id)s AND command_id = %(command_id)s FOR UPDATE

-- name: set_status
UPDATE commands
SET status = %(status)s,
    progress = coalesce(%(progress)s, progress),
    result = coalesce(%(result)s, result),
    error = coalesce(%(error)s, error),
    late = late OR %(late)s,
    published_at = coalesce(published_at, CASE WHEN %(status)s <> 'cancelled' AND %(status)s <> 'expired' THEN now() END),
    finished_at = CASE WHEN %(final)s THEN now() END
WHERE command_id = %(command_id)s

-- name: anything_open
SELECT EXISTS (SELECT FROM commands WHERE status IN ('pending', 'delivered', 'acked', 'in_progress'))
    OR EXISTS (SELECT FROM tasks WHERE status IN ('queued', 'running'))

-- name: take_publishable
-- From here on they may reach their devices. What another transaction holds is just being cancelled or ended.
WITH chosen AS (
    SELECT c.command_id
    FROM commands c JOIN devices d USING (device_id)
    WHERE c.status = 'pending' AND c.published_at IS NULL AND c.expires_at > now()
      AND d.status IN ('online', 'error', 'maintenance')
    ORDER BY c.urgent DESC, c.position
    LIMIT %(limit)s
    FOR UPDATE OF c SKIP LOCKED
), taken AS (
    UPDATE commands c SET handed_over_at = coalesce(c.handed_over_at, now())
    FROM chosen WHERE c.command_id = chosen.command_id
    RETURNING c.*
)
SELECT c.command_id, c.device_id, d.type AS device_type, d.layout, c.correlation_id, c.command, c.data, c.timeout_s,
       c.expires_at
FROM taken c JOIN devices d USING (device_id)
ORDER BY c.urgent DESC, c.position

-- name: mark_published
UPDATE commands SET published_at = now()
WHERE command_id = ANY(%(command_ids)s) AND published_at IS NULL

-- name: lock_overdue
SELECT command_id, device_id, status
FROM commands
WHERE (status IN ('pending', 'delivered', 'acked', 'in_progress')
       AND published_at + make_interval(secs => timeout_s) < now())
   OR (status = 'pending' AND published_at IS NULL AND expires_at <= now())
ORDER BY position
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED

-- name: count_waiting
SELECT count(*) FROM commands WHERE device_id = %(device_id)s AND status = 'pending'

-- name: take_lease
INSERT INTO teleop_leases (device_id, lease_id, user_id, user_name)
VALUES (%(device_id)s, %(lease_id)s, %(user_id)s, %(user_name)s)
ON CONFLICT (device_id) DO UPDATE
SET lease_id = excluded.lease_id, user_id = excluded.user_id, user_name = excluded.user_name,
    taken_at = now(), renewed_at = now()
WHERE %(take_over)s OR teleop_leases.renewed_at < now() - make_interval(secs => %(stale_s)s)
RETURNING lease_id

-- name: get_lease
SELECT device_id, lease_id, user_id, user_name, wire_time(taken_at) AS taken_at
FROM teleop_leases
WHERE device_id = %(device_id)s AND renewed_at >= now() - make_interval(secs => %(stale_s)s)

-- name: renew_lease
UPDATE teleop_leases SET renewed_at = now() WHERE device_id = %(device_id)s AND lease_id = %(lease_id)s RETURNING true

-- name: drop_lease
DELETE FROM teleop_leases WHERE device_id = %(device_id)s AND lease_id = %(lease_id)s

-- name: insert_task
INSERT INTO tasks (task_id, task_type, robot_id, group_id, parameters, priority, timeout_s, created_by)
VALUES (%(task_id)s, %(task_type)s, %(robot_id)s, %(group_id)s, %(parameters)s, %(priority)s, %(timeout_s)s,
        %(created_by)s)

-- name: get_task
SELECT task_id, task_type, robot_id, group_id, parameters, priority, status, command_id, created_by,
       wire_time(created_at) AS created_at, wire_time(started_at) AS started_at,
       wire_time(finished_at) AS finished_at, result, error
FROM tasks WHERE task_id = %(task_id)s

-- name: list_tasks
SELECT task_id, task_type, robot_id, group_id, parameters, priority, status, command_id, created_by,
       wire_time(created_at) AS created_at, wire_time(started_at) AS started_at,
       wire_time(finished_at) AS finished_at, result, error
FROM tasks
WHERE (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(robot_id)s::text IS NULL OR robot_id = %(robot_id)s)
  AND (%(visible)s::text[] IS NULL OR robot_id = ANY(%(visible)s))
  AND (%(after)s::text IS NULL OR task_id < %(after)s)
ORDER BY task_id DESC
LIMIT %(limit)s

-- name: lock_task
SELECT status, robot_id, command_id FROM tasks WHERE task_id = %(task_id)s FOR UPDATE

-- name: queued_tasks
SELECT task_id, task_type, robot_id, group_id, parameters, timeout_s, created_by
FROM tasks
WHERE status = 'queued' AND task_id IN (
    -- The first few of each robot that is free and of each group: a long queue for one must not hide the others.
    SELECT task_id FROM (
        SELECT q.task_id, row_number() OVER (PARTITION BY q.robot_id, q.group_id
                                             ORDER BY q.priority DESC, q.position) AS place
        FROM tasks q
        WHERE q.status = 'queued'
          AND (q.robot_id IS NULL
               OR EXISTS (SELECT FROM devices d WHERE d.device_id = q.robot_id AND d.status IN ('online', 'decommissioned'))
              AND NOT EXISTS (SELECT FROM tasks r WHERE r.robot_id = q.robot_id AND r.status = 'running'))
    ) AS placed WHERE place <= %(each)s)
ORDER BY priority DESC, position
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED

-- name: busy_robots
SELECT robot_id FROM tasks WHERE status = 'running'

-- name: start_task
UPDATE tasks SET status = 'running', robot_id = %(robot_id)s, command_id = %(command_id)s, started_at = now()
WHERE task_id = %(task_id)s

-- name: ended_tasks
SELECT t.task_id, c.status, c.result, c.error
FROM tasks t JOIN commands c USING (command_id)
WHERE t.status = 'running' AND c.status IN ('succeeded', 'failed', 'rejected', 'expired', 'cancelled', 'timed_out')
FOR UPDATE OF t SKIP LOCKED

-- name: end_task
UPDATE tasks SET status = %(status)s, result = %(result)s, error = %(error)s, finished_at = now()
WHERE task_id = %(task_id)s

-- name: current_task
SELECT task_id, task_type, status, wire_time(started_at) AS started_at
FROM tasks WHERE robot_id = %(robot_id)s AND status = 'running'

-- name: queue_ahead
SELECT count(*) FILTER (WHERE status = 'running'
                           OR (status = 'queued' AND (priority, -position) > (%(priority)s, -%(position)s::bigint))),
       coalesce(avg(extract(epoch FROM finished_at - started_at)) FILTER (WHERE status = 'succeeded'), 300)::float8
FROM tasks
WHERE (%(robot_id)s::text IS NOT NULL AND robot_id = %(robot_id)s)
   OR (%(robot_id)s::text IS NULL AND group_id = %(group_id)s)

-- name: task_position
SELECT position FROM tasks WHERE task_id = %(task_id)s

-- name: list_bulk
SELECT device_id, command_id, status, progress, error, command
FROM commands WHERE correlation_id = %(bulk_id)s ORDER BY device_id
