-- name: lock_keys
LOCK TABLE update_keys IN EXCLUSIVE MODE

-- name: signing_key
SELECT key_id, private_key FROM update_keys
WHERE private_key IS NOT NULL AND retired_at IS NULL
ORDER BY created_at DESC, key_id
LIMIT 1

-- name: verifying_key
SELECT public_key FROM update_keys WHERE key_id = %(key_id)s AND retired_at IS NULL

-- name: list_keys
SELECT key_id, name, encode(public_key, 'base64') AS public_key, private_key IS NOT NULL AS own,
       private_key IS NOT NULL AND retired_at IS NULL AS signs, created_by,
       wire_time(created_at) AS created_at, wire_time(retired_at) AS retired_at
FROM update_keys
ORDER BY update_keys.created_at DESC, key_id

-- name: insert_key
INSERT INTO update_keys (key_id, name, public_key, private_key, created_by)
VALUES (%(key_id)s, %(name)s, %(public_key)s, %(private_key)s, %(created_by)s)
ON CONFLICT (key_id) DO UPDATE SET retired_at = NULL, name = excluded.name WHERE update_keys.private_key IS NULL

-- name: retire_own_keys
UPDATE update_keys SET retired_at = now() WHERE private_key IS NOT NULL AND retired_at IS NULL

-- name: retire_key
UPDATE update_keys SET retired_at = coalesce(retired_at, now()) WHERE key_id = %(key_id)s

-- name: insert_artifact
INSERT INTO artifacts (artifact_id, name, version, device_types, from_versions, file_name, size, sha256, signature,
                       key_id, release_notes, object_key, created_by)
VALUES (%(artifact_id)s, %(name)s, %(version)s, %(device_types)s, %(from_versions)s, %(file_name)s, %(size)s,
        %(sha256)s, %(signature)s, %(key_id)s, %(release_notes)s, %(object_key)s, %(created_by)s)
ON CONFLICT (name, version) DO NOTHING
RETURNING artifact_id

-- name: get_artifact
SELECT artifact_id, name, version, device_types, from_versions, file_name, size, sha256, signature, key_id,
       release_notes, created_by, wire_time(created_at) AS created_at, wire_time(deleted_at) AS deleted_at
FROM artifacts WHERE artifact_id = %(artifact_id)s

-- name: find_artifact
SELECT artifact_id, name, version, device_types, from_versions, file_name, size, sha256, signature, key_id,
       release_notes, created_by, wire_time(created_at) AS created_at, wire_time(deleted_at) AS deleted_at
FROM artifacts WHERE name = %(name)s AND version = %(version)s

-- name: list_artifacts
SELECT artifact_id, name, version, device_types, from_versions, file_name, size, sha256, signature, key_id,
       release_notes, created_by, wire_time(created_at) AS created_at, wire_time(deleted_at) AS deleted_at
FROM artifacts
WHERE deleted_at IS NULL
  AND (%(name)s::text IS NULL OR name = %(name)s)
  AND (%(device_type)s::text IS NULL OR device_types @> ARRAY[%(device_type)s]::text[])
  AND (%(after)s::text IS NULL OR artifact_id < %(after)s)
ORDER BY artifact_id DESC
LIMIT %(limit)s

-- name: lock_artifact
SELECT object_key, deleted_at IS NOT NULL FROM artifacts WHERE artifact_id = %(artifact_id)s FOR UPDATE

-- name: artifact_users
SELECT artifact_id, deployment_id FROM deployments
WHERE artifact_id = ANY(%(artifact_ids)s::text[]) AND status IN ('draft', 'waiting_for_approval', 'running', 'paused')
UNION
SELECT d.artifact_id, d.deployment_id FROM deployments d JOIN device_deployments dd USING (deployment_id)
WHERE d.artifact_id = ANY(%(artifact_ids)s::text[])
  AND dd.status IN ('queued', 'notified', 'downloading', 'verifying', 'installing', 'rebooting', 'health_check')
UNION
SELECT dd.previous_artifact_id, dd.deployment_id FROM device_deployments dd JOIN deployments d USING (deployment_id)
WHERE dd.previous_artifact_id = ANY(%(artifact_ids)s::text[]) AND d.status IN ('running', 'paused')
ORDER BY 2 DESC

-- name: delete_artifact
DELETE FROM artifacts a
WHERE artifact_id = %(artifact_id)s
  AND NOT EXISTS (SELECT FROM deployments d WHERE d.artifact_id = a.artifact_id)
  AND NOT EXISTS (SELECT FROM device_deployments dd WHERE dd.previous_artifact_id = a.artifact_id)

-- name: hide_artifact
UPDATE artifacts SET deleted_at = now() WHERE artifact_id = %(artifact_id)s

-- name: note_unclaimed
INSERT INTO unclaimed_objects (object_key, discard_at)
VALUES (%(object_key)s, now() + make_interval(secs => %(after_s)s))
ON CONFLICT (object_key) DO UPDATE SET discard_at = excluded.discard_at

-- name: claim_object
DELETE FROM unclaimed_objects WHERE object_key = %(object_key)s RETURNING true

-- name: lock_unclaimed
SELECT object_key FROM unclaimed_objects WHERE discard_at <= now() ORDER BY discard_at LIMIT 1
FOR UPDATE SKIP LOCKED

-- name: lock_launch
SELECT pg_advisory_xact_lock(7201200)

-- name: insert_deployment
INSERT INTO deployments (deployment_id, artifact_id, target, waves, success_threshold, failure_threshold, min_sample,
                         max_in_progress, rate_per_minute, device_deadline_s, on_failure, requires_approval,
                         start_window, min_battery, rollback_of, retry_of, url_secret, created_by)
VALUES (%(deployment_id)s, %(artifact_id)s, %(target)s, %(waves)s, %(success_threshold)s, %(failure_threshold)s,
        %(min_sample)s, %(max_in_progress)s, %(rate_per_minute)s, %(device_deadline_s)s, %(on_failure)s,
        %(requires_approval)s, %(window)s, %(min_battery)s, %(rollback_of)s, %(retry_of)s, %(url_secret)s,
        %(created_by)s)

-- name: get_deployment
SELECT d.deployment_id, d.artifact_id, a.name, a.version, d.target, d.waves, d.success_threshold, d.failure_threshold,
       d.min_sample, d.max_in_progress, d.rate_per_minute, d.device_deadline_s, d.on_failure, d.requires_approval,
       d.start_window AS window, d.min_battery, d.status, d.status_reason, d.wave, d.total, d.left_out, d.rollback_of,
       d.retry_of, d.created_by, wire_time(d.created_at) AS created_at, d.started_by,
       wire_time(d.started_at) AS started_at, d.approved_by, wire_time(d.approved_at) AS approved_at,
       wire_time(d.finished_at) AS finished_at
FROM deployments d JOIN artifacts a USING (artifact_id)
WHERE d.deployment_id = %(deployment_id)s

-- name: list_deployments
SELECT d.deployment_id, d.artifact_id, a.name, a.version, d.target, d.waves, d.success_threshold, d.failure_threshold,
       d.min_sample, d.max_in_progress, d.rate_per_minute, d.device_deadline_s, d.on_failure, d.requires_approval,
       d.start_window AS window, d.min_battery, d.status, d.status_reason, d.wave, d.total, d.left_out, d.rollback_of,
       d.retry_of, d.created_by, wire_time(d.created_at) AS created_at, d.started_by,
       wire_time(d.started_at) AS started_at, d.approved_by, wire_time(d.approved_at) AS approved_at,
       wire_time(d.finished_at) AS finished_at
FROM deployments d JOIN artifacts a USING (artifact_id)
WHERE (%(status)s::text IS NULL OR d.status = %(status)s)
  AND (%(artifact_id)s::text IS NULL OR d.artifact_id = %(artifact_id)s)
  AND (%(after)s::text IS NULL OR d.deployment_id < %(after)s)
ORDER BY d.deployment_id DESC
LIMIT %(limit)s

-- name: list_followers
SELECT d.deployment_id, a.name, a.version, d.status, d.total, d.rollback_of IS NOT NULL AS is_rollback,
       (SELECT count(*) FROM device_deployments dd
        WHERE dd.deployment_id = d.deployment_id AND dd.status = 'succeeded') AS succeeded
FROM deployments d JOIN artifacts a USING (artifact_id)
WHERE d.rollback_of = %(deployment_id)s OR d.retry_of = %(deployment_id)s
ORDER BY d.deployment_id

-- name: lock_deployment
SELECT deployment_id, artifact_id, status, wave, waves, success_threshold, failure_threshold, min_sample,
       max_in_progress, rate_per_minute, on_failure, start_window AS window, min_battery, accepted_failures, created_by,
       started_by, requires_approval, rollback_of, target
FROM deployments WHERE deployment_id = %(deployment_id)s
FOR UPDATE

-- name: lock_deployments_of
SELECT deployment_id FROM deployments
WHERE deployment_id = %(deployment_id)s
   OR deployment_id IN (SELECT dd.deployment_id FROM device_deployments dd
                        WHERE dd.device_id = ANY(%(device_ids)s) AND dd.status = 'queued')
ORDER BY deployment_id
FOR UPDATE

-- name: set_deployment_status
UPDATE deployments
SET status = %(status)s, status_reason = %(reason)s,
    stopped_by_failure = stopped_by_failure OR %(by_failure)s,
    finished_at = CASE WHEN %(status)s IN ('aborted', 'finished', 'rolled_back') THEN now() END
WHERE deployment_id = %(deployment_id)s

-- name: set_started
UPDATE deployments SET started_by = %(actor)s, started_at = now() WHERE deployment_id = %(deployment_id)s

-- name: set_approved
UPDATE deployments SET approved_by = %(actor)s, approved_at = now() WHERE deployment_id = %(deployment_id)s

-- name: set_frozen
UPDATE deployments SET total = %(total)s, left_out = %(left_out)s WHERE deployment_id = %(deployment_id)s

-- name: set_wave
UPDATE deployments SET wave = %(wave)s, accepted_failures = 0 WHERE deployment_id = %(deployment_id)s

-- name: accept_failures
UPDATE deployments SET accepted_failures = %(accepted)s WHERE deployment_id = %(deployment_id)s

-- name: anything_open
SELECT EXISTS (SELECT FROM deployments WHERE status = 'running')
    OR EXISTS (SELECT FROM device_deployments
               WHERE status NOT IN ('succeeded', 'failed', 'rolled_back', 'timed_out', 'cancelled', 'rejected'))

-- name: running_deployments
SELECT deployment_id FROM deployments WHERE status = 'running' ORDER BY deployment_id

-- name: rollbacks_of
SELECT deployment_id FROM deployments
WHERE rollback_of = %(deployment_id)s AND artifact_id = %(artifact_id)s AND status IN ('running', 'paused')
ORDER BY deployment_id DESC LIMIT 1

-- name: target_devices
SELECT d.device_id, d.name, d.type, d.status, d.status_reason, wire_time(d.status_since) AS status_since,
       d.tags, ARRAY[]::text[] AS groups, d.metadata, d.firmware, v.battery,
       wire_time(d.created_at) AS created_at, wire_time(v.last_seen) AS last_seen,
       EXISTS (SELECT FROM tasks t WHERE t.robot_id = d.device_id AND t.status = 'running') AS busy,
       (SELECT dd.deployment_id FROM device_deployments dd
        WHERE dd.device_id = d.device_id
          AND (dd.status IN ('notified', 'downloading', 'verifying', 'installing', 'rebooting', 'health_check')
               OR (dd.status = 'queued' AND dd.claimed_at IS NOT NULL))) AS update
FROM devices d LEFT JOIN device_vitals v USING (device_id)
WHERE {where}
ORDER BY d.device_id

-- name: insert_device_deployments
INSERT INTO device_deployments (deployment_id, device_id, wave, position, from_version)
SELECT %(deployment_id)s, n.device_id, n.wave, n.position, d.firmware ->> 'version'
FROM unnest(%(device_ids)s::text[], %(waves)s::int[], %(positions)s::int[]) AS n(device_id, wave, position)
     JOIN devices d USING (device_id)

-- name: insert_steps
INSERT INTO device_deployment_steps (deployment_id, device_id, status)
SELECT %(deployment_id)s, device_id, %(status)s FROM unnest(%(device_ids)s::text[]) AS device_id

-- name: insert_step
INSERT INTO device_deployment_steps (deployment_id, device_id, status, detail, refused)
SELECT %(deployment_id)s, %(device_id)s, %(status)s, %(detail)s, %(refused)s
WHERE %(refused)s::text IS NULL
   OR (SELECT count(*) FROM device_deployment_steps s
       WHERE s.deployment_id = %(deployment_id)s AND s.device_id = %(device_id)s AND s.refused IS NOT NULL) < 200

-- name: cancel_queued
UPDATE device_deployments
SET status = 'cancelled', finished_at = now(), updated_at = now(), error = %(error)s
WHERE deployment_id = %(deployment_id)s AND status = 'queued' AND claimed_at IS NULL
  AND (%(device_ids)s::text[] IS NULL OR device_id = ANY(%(device_ids)s))
RETURNING device_id, wave

-- name: decommissioned_in_line
SELECT dd.deployment_id, array_agg(dd.device_id)
FROM device_deployments dd JOIN devices d USING (device_id)
WHERE dd.status = 'queued' AND dd.claimed_at IS NULL AND d.status = 'decommissioned'
GROUP BY dd.deployment_id

-- name: lock_device_deployment
SELECT status, wave, claimed_at IS NOT NULL AS sent FROM device_deployments
WHERE deployment_id = %(deployment_id)s AND device_id = %(device_id)s
FOR UPDATE

-- name: set_device_status
UPDATE device_deployments d
SET status = %(status)s,
    -- How far a step is says nothing of the next one.
    percent = CASE WHEN status = %(status)s THEN coalesce(%(percent)s, percent) ELSE %(percent)s END,
    bytes = coalesce(%(bytes)s, bytes),
    error = coalesce(%(error)s, error),
    detail = %(detail)s,
    notified_at = coalesce(notified_at, CASE WHEN %(status)s = 'notified' THEN now() END),
    deadline_at = coalesce(deadline_at, CASE WHEN %(status)s = 'notified' THEN
        now() + (SELECT make_interval(secs => p.device_deadline_s) FROM deployments p
                 WHERE p.deployment_id = d.deployment_id) END),
    finished_at = CASE WHEN %(final)s THEN now() END,
    updated_at = now()
WHERE deployment_id = %(deployment_id)s AND device_id = %(device_id)s

-- name: wave_counts
SELECT wave, status, count(*), count(*) FILTER (WHERE status = 'queued' AND claimed_at IS NOT NULL)
FROM device_deployments WHERE deployment_id = %(deployment_id)s
GROUP BY wave, status

-- name: counts_of
SELECT deployment_id, wave, status, count(*)
FROM device_deployments WHERE deployment_id = ANY(%(deployment_ids)s)
GROUP BY deployment_id, wave, status

-- name: claimed_since
SELECT count(*) FROM device_deployments
WHERE deployment_id = %(deployment_id)s AND claimed_at > now() - make_interval(secs => %(seconds)s)

-- name: candidates
SELECT dd.device_id, d.status, d.metadata, v.battery,
       EXISTS (SELECT FROM tasks t WHERE t.robot_id = dd.device_id AND t.status = 'running') AS busy,
       EXISTS (SELECT FROM device_deployments o
               WHERE o.device_id = dd.device_id AND o.deployment_id <> dd.deployment_id
                 AND (o.status IN ('notified', 'downloading', 'verifying', 'installing', 'rebooting', 'health_check')
                      OR (o.status = 'queued' AND o.claimed_at IS NOT NULL))) AS elsewhere
FROM device_deployments dd JOIN devices d USING (device_id) LEFT JOIN device_vitals v USING (device_id)
WHERE dd.deployment_id = %(deployment_id)s AND dd.status = 'queued' AND dd.claimed_at IS NULL
  AND dd.wave <= %(wave)s AND d.status IN ('online', 'error')
ORDER BY dd.wave, dd.position

-- name: claim_devices
UPDATE device_deployments dd
SET claimed_at = clock_timestamp(), from_version = d.firmware ->> 'version',
    previous_artifact_id = (SELECT a.artifact_id FROM artifacts a
                            WHERE a.name = d.firmware ->> 'name' AND a.version = d.firmware ->> 'version'
                              AND a.deleted_at IS NULL)
FROM devices d
WHERE d.device_id = dd.device_id AND dd.deployment_id = %(deployment_id)s AND dd.device_id = ANY(%(device_ids)s)
  AND dd.status = 'queued' AND dd.claimed_at IS NULL

-- name: deployments_to_publish
SELECT DISTINCT dd.deployment_id
FROM device_deployments dd JOIN devices d USING (device_id)
WHERE ((dd.status = 'queued' AND dd.claimed_at IS NOT NULL) OR (dd.status = 'notified'
           AND (d.status_since > dd.published_at OR dd.published_at < now() - make_interval(secs => %(again_s)s))))
  AND d.status IN ('online', 'error')

-- name: to_publish
SELECT dd.deployment_id, dd.device_id, dd.status, dd.wave, dv.type AS device_type,
       coalesce(dd.deadline_at, now() + make_interval(secs => d.device_deadline_s)) AS deadline_at, d.url_secret,
       a.object_key, a.artifact_id, a.name, a.version, a.size, a.sha256, a.signature, a.key_id
FROM device_deployments dd
     JOIN deployments d USING (deployment_id)
     JOIN artifacts a USING (artifact_id)
     JOIN devices dv ON dv.device_id = dd.device_id
WHERE dd.deployment_id = %(deployment_id)s
  AND ((dd.status = 'queued' AND dd.claimed_at IS NOT NULL) OR (dd.status = 'notified'
           AND (dv.status_since > dd.published_at OR dd.published_at < now() - make_interval(secs => %(again_s)s))))
  AND dv.status IN ('online', 'error')
ORDER BY dd.wave, dd.position
LIMIT %(limit)s
FOR UPDATE OF dd

-- name: mark_published
UPDATE device_deployments
SET published_at = now(),
    deadline_at = coalesce(device_deployments.deadline_at, n.deadline_at),
    notified_at = coalesce(notified_at, now()),
    status = 'notified', updated_at = now()
FROM unnest(%(device_ids)s::text[], %(deadlines)s::timestamptz[]) AS n(device_id, deadline_at)
WHERE deployment_id = %(deployment_id)s AND device_deployments.device_id = n.device_id
  AND status IN ('queued', 'notified')

-- name: overdue
SELECT deployment_id, device_id FROM device_deployments
WHERE status IN ('notified', 'downloading', 'verifying', 'installing', 'rebooting', 'health_check')
  AND deadline_at < now()
ORDER BY deployment_id, device_id
LIMIT %(limit)s

-- name: list_devices
SELECT dd.device_id, dd.status, dd.wave, dd.percent, dd.bytes, dd.error, dd.detail, dd.from_version,
       wire_time(dd.notified_at) AS notified_at, wire_time(dd.deadline_at) AS deadline_at,
       wire_time(dd.finished_at) AS finished_at, wire_time(dd.updated_at) AS updated_at,
       d.status AS device_status, d.metadata, v.battery, dd.claimed_at IS NOT NULL AS claimed,
       EXISTS (SELECT FROM tasks t WHERE t.robot_id = dd.device_id AND t.status = 'running') AS busy,
       EXISTS (SELECT FROM device_deployments o
               WHERE o.device_id = dd.device_id AND o.deployment_id <> dd.deployment_id
                 AND (o.status IN ('notified', 'downloading', 'verifying', 'installing', 'rebooting', 'health_check')
                      OR (o.status = 'queued' AND o.claimed_at IS NOT NULL))) AS elsewhere,
       dd.position
FROM device_deployments dd JOIN devices d USING (device_id) LEFT JOIN device_vitals v USING (device_id)
WHERE dd.deployment_id = %(deployment_id)s
  AND (%(status)s::text IS NULL OR dd.status = %(status)s)
  AND (%(wave)s::int IS NULL OR dd.wave = %(wave)s)
  AND (%(device_id)s::text IS NULL OR dd.device_id = %(device_id)s)
  AND (%(visible)s::text[] IS NULL OR dd.device_id = ANY(%(visible)s))
  AND (%(after)s::int IS NULL OR dd.position > %(after)s)
ORDER BY dd.position
LIMIT %(limit)s

-- name: list_steps
SELECT status, wire_time(at) AS at, detail, refused FROM device_deployment_steps
WHERE deployment_id = %(deployment_id)s AND device_id = %(device_id)s
ORDER BY number

-- name: current_update
SELECT dd.deployment_id, a.name, a.version, dd.status, dd.percent
FROM device_deployments dd JOIN deployments d USING (deployment_id) JOIN artifacts a USING (artifact_id)
WHERE dd.device_id = %(device_id)s
  AND (dd.status IN ('notified', 'downloading', 'verifying', 'installing', 'rebooting', 'health_check')
       OR (dd.status = 'queued' AND d.status IN ('running', 'paused')))
ORDER BY dd.status = 'queued', dd.deployment_id DESC
LIMIT 1

-- name: device_history
SELECT dd.deployment_id, a.name, a.version, dd.status, dd.percent, dd.error, wire_time(dd.updated_at) AS updated_at
FROM device_deployments dd JOIN deployments d USING (deployment_id) JOIN artifacts a USING (artifact_id)
WHERE dd.device_id = %(device_id)s
ORDER BY dd.deployment_id DESC
LIMIT %(limit)s

-- name: failures
SELECT status, coalesce(error ->> 'code', upper(status)) AS code, coalesce(error ->> 'message', '') AS message,
       count(*) AS count, (array_agg(device_id ORDER BY position))[1:10] AS sample
FROM device_deployments
WHERE deployment_id = %(deployment_id)s AND status IN ('failed', 'rolled_back', 'timed_out', 'rejected')
  AND (%(visible)s::text[] IS NULL OR device_id = ANY(%(visible)s))
GROUP BY 1, 2, 3
ORDER BY count DESC, code
LIMIT 100

-- name: failed_devices
SELECT device_id FROM device_deployments
WHERE deployment_id = %(deployment_id)s AND status IN ('failed', 'rolled_back', 'timed_out', 'rejected')
ORDER BY position

-- name: to_roll_back
SELECT dd.previous_artifact_id, array_agg(dd.device_id ORDER BY dd.position)
FROM device_deployments dd JOIN deployments d USING (deployment_id)
WHERE dd.deployment_id = %(deployment_id)s AND dd.status = 'succeeded'
  AND (%(device_id)s::text IS NULL OR dd.device_id = %(device_id)s)
  AND NOT EXISTS (SELECT FROM device_deployments o JOIN deployments od USING (deployment_id)
                  WHERE o.device_id = dd.device_id AND od.started_at > d.started_at AND o.status <> 'cancelled')
GROUP BY dd.previous_artifact_id

-- name: next_position
SELECT coalesce(max(position), 0) + 1 FROM device_deployments WHERE deployment_id = %(deployment_id)s

-- name: grow_total
UPDATE deployments SET total = total + 1 WHERE deployment_id = %(deployment_id)s

-- name: installed_versions
SELECT d.firmware ->> 'name' AS name, d.firmware ->> 'version' AS version, count(*) AS count
FROM devices d
WHERE d.status <> 'decommissioned' AND (%(visible)s::text[] IS NULL OR d.device_id = ANY(%(visible)s))
GROUP BY 1, 2
ORDER BY 1 NULLS LAST, 3 DESC, 2

-- name: set_firmware
UPDATE devices SET firmware = %(firmware)s WHERE device_id = %(device_id)s

-- name: download_grant
SELECT d.url_secret, a.object_key, a.size, a.sha256, a.file_name, dd.status
FROM device_deployments dd JOIN deployments d USING (deployment_id) JOIN artifacts a USING (artifact_id)
     JOIN devices dv ON dv.device_id = dd.device_id
WHERE dd.deployment_id = %(deployment_id)s AND dd.device_id = %(device_id)s AND a.deleted_at IS NULL
  AND dv.status <> 'decommissioned'

-- name: deployment_counts
SELECT status, count(*) FROM deployments GROUP BY status

-- name: open_device_counts
SELECT dd.status, count(*) FROM device_deployments dd JOIN deployments d USING (deployment_id)
WHERE d.status IN ('running', 'paused') GROUP BY dd.status

-- name: stopped_count
SELECT count(*) FROM deployments WHERE stopped_by_failure
