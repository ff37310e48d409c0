-- name: make_shadow
INSERT INTO shadows (device_id, name) VALUES (%(device_id)s, %(name)s) ON CONFLICT DO NOTHING

-- name: lock_shadow
SELECT version, desired, reported, desired_metadata, reported_metadata, last_seq, wire_time(updated_at) AS updated_at,
       wire_time(pending_since) AS pending_since
FROM shadows WHERE device_id = %(device_id)s AND name = %(name)s FOR UPDATE

-- name: get_shadow
SELECT version, desired, reported, desired_metadata, reported_metadata, last_seq, wire_time(updated_at) AS updated_at,
       wire_time(pending_since) AS pending_since
FROM shadows WHERE device_id = %(device_id)s AND name = %(name)s

-- name: list_names
SELECT name FROM shadows WHERE device_id = %(device_id)s AND version > 0 ORDER BY name

-- name: drifts
SELECT device_id, wire_time(min(pending_since)) AS pending_since,
       bool_or(desired IS NOT NULL) AS desired, bool_or(reported IS NOT NULL) AS reported
FROM shadows
WHERE device_id = ANY(%(device_ids)s) AND version > 0
GROUP BY device_id

-- name: write_shadow
WITH written AS (
    UPDATE shadows
    SET version = %(version)s, desired = %(desired)s, reported = %(reported)s,
        desired_metadata = %(desired_metadata)s, reported_metadata = %(reported_metadata)s,
        last_seq = coalesce(%(last_seq)s, last_seq), updated_at = now(),
        pending_since = CASE WHEN %(differs)s THEN coalesce(pending_since, now()) END,
        desired_due = desired_due OR %(told)s, delta_due = (delta_due OR %(told)s) AND %(differs)s
    WHERE device_id = %(device_id)s AND name = %(name)s
)
INSERT INTO shadow_history (device_id, name, version, author, reason, section, desired, reported)
VALUES (%(device_id)s, %(name)s, %(version)s, %(author)s, %(reason)s, %(section)s, %(desired)s, %(reported)s)

-- name: ask_delta
UPDATE shadows SET delta_due = pending_since IS NOT NULL WHERE device_id = %(device_id)s AND name = %(name)s

-- name: history
SELECT version, wire_time(at) AS at, author, reason, section, desired, reported
FROM shadow_history
WHERE device_id = %(device_id)s AND name = %(name)s AND (%(before)s::bigint IS NULL OR version < %(before)s)
ORDER BY version DESC
LIMIT %(limit)s

-- name: get_version
SELECT version, wire_time(at) AS at, author, reason, section, desired, reported
FROM shadow_history WHERE device_id = %(device_id)s AND name = %(name)s AND version = %(version)s

-- name: get_answer
SELECT digest, answer FROM shadow_answers
WHERE device_id = %(device_id)s AND name = %(name)s AND client_token = %(client_token)s

-- name: keep_answer
INSERT INTO shadow_answers (device_id, name, client_token, digest, answer)
VALUES (%(device_id)s, %(name)s, %(client_token)s, %(digest)s, %(answer)s)
ON CONFLICT (device_id, name, client_token) DO UPDATE
SET digest = excluded.digest, answer = excluded.answer, at = now()

-- name: trim
WITH answers AS (DELETE FROM shadow_answers WHERE at < now() - interval '1 day')
DELETE FROM shadow_history h
USING shadows s
WHERE s.device_id = h.device_id AND s.name = h.name AND h.version <= s.version - %(keep)s

-- name: lock_due
SELECT s.device_id, s.name, s.version, s.desired, s.reported, s.desired_metadata, s.desired_due, s.delta_due,
       d.status IN ('online', 'error', 'maintenance') AS connected
FROM shadows s JOIN devices d USING (device_id)
WHERE s.desired_due OR (s.delta_due AND d.status IN ('online', 'error', 'maintenance'))
ORDER BY s.updated_at
LIMIT %(limit)s
FOR UPDATE OF s SKIP LOCKED

-- name: told
UPDATE shadows SET desired_due = false, delta_due = delta_due AND NOT %(connected)s
WHERE device_id = %(device_id)s AND name = %(name)s
