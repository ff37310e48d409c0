-- name: insert_device
INSERT INTO devices (device_id, name, type, tags, metadata)
VALUES (%(device_id)s, %(name)s, %(type)s, %(tags)s, %(metadata)s)
ON CONFLICT (device_id) DO NOTHING
RETURNING device_id

-- name: insert_vitals
INSERT INTO device_vitals (device_id) VALUES (%(device_id)s)

-- name: get_device
SELECT d.device_id, d.name, d.type, d.status, d.status_reason, wire_time(d.status_since) AS status_since,
       d.tags, '{}'::text[] AS groups, d.metadata, d.firmware, v.battery,
       wire_time(d.created_at) AS created_at, wire_time(v.last_seen) AS last_seen
FROM devices d LEFT JOIN device_vitals v USING (device_id)
WHERE d.device_id = %(device_id)s

-- name: list_devices
SELECT d.device_id, d.name, d.type, d.status, d.status_reason, wire_time(d.status_since) AS status_since,
       d.tags, '{}'::text[] AS groups, d.metadata, d.firmware, v.battery,
       wire_time(d.created_at) AS created_at, wire_time(v.last_seen) AS last_seen
FROM devices d LEFT JOIN device_vitals v USING (device_id)
WHERE (%(status)s::text[] IS NULL OR d.status = ANY(%(status)s))
  AND (%(type)s::text IS NULL OR d.type = %(type)s)
  AND (%(tag)s::text IS NULL OR d.tags @> ARRAY[%(tag)s])
  AND (%(q)s::text IS NULL OR d.device_id ILIKE %(q)s OR d.name ILIKE %(q)s)
  AND (%(after)s::text IS NULL OR d.device_id > %(after)s)
ORDER BY d.device_id
LIMIT %(limit)s

-- name: count_by_status
SELECT d.status, count(*)
FROM devices d
WHERE (%(type)s::text IS NULL OR d.type = %(type)s)
  AND (%(tag)s::text IS NULL OR d.tags @> ARRAY[%(tag)s])
  AND (%(q)s::text IS NULL OR d.device_id ILIKE %(q)s OR d.name ILIKE %(q)s)
GROUP BY d.status

-- name: list_tags
SELECT DISTINCT unnest(tags) AS tag FROM devices WHERE status <> 'decommissioned' ORDER BY tag LIMIT 200

-- name: lock_device
SELECT status, type FROM devices WHERE device_id = %(device_id)s FOR UPDATE

-- name: update_device
UPDATE devices
SET name = coalesce(%(name)s, name),
    tags = coalesce(%(tags)s, tags),
    metadata = coalesce(%(metadata)s, metadata)
WHERE device_id = %(device_id)s

-- name: statuses
SELECT device_id, status FROM devices WHERE device_id = ANY(%(device_ids)s)

-- name: change_status
UPDATE devices d
SET status = n.status, status_reason = n.reason, status_since = now()
FROM unnest(%(device_ids)s::text[], %(previous)s::text[], %(statuses)s::text[], %(reasons)s::text[])
     AS n(device_id, previous, status, reason)
WHERE d.device_id = n.device_id AND d.status = n.previous
RETURNING d.device_id, n.previous, d.status, d.status_reason,
          (SELECT wire_time(v.last_seen) FROM device_vitals v WHERE v.device_id = d.device_id)

-- name: silent_devices
SELECT d.device_id, d.status
FROM devices d JOIN device_vitals v USING (device_id)
WHERE d.status IN ('online', 'error')
  AND coalesce(v.last_seen, d.status_since) < now() - make_interval(secs => %(timeout_s)s)
  AND d.status_since < now() - make_interval(secs => %(timeout_s)s)

-- name: write_vitals
UPDATE device_vitals v
SET last_seen = greatest(v.last_seen, to_timestamp(n.last_seen)),
    battery = coalesce(n.battery, v.battery),
    pose = coalesce(n.pose::jsonb, v.pose)
FROM unnest(%(device_ids)s::text[], %(last_seen)s::float8[], %(battery)s::float4[], %(pose)s::text[])
     AS n(device_id, last_seen, battery, pose)
WHERE v.device_id = n.device_id

-- name: remember_layouts
UPDATE devices d
SET layout = n.layout::jsonb
FROM unnest(%(device_ids)s::text[], %(layouts)s::text[]) AS n(device_id, layout)
WHERE d.device_id = n.device_id AND d.layout IS DISTINCT FROM n.layout::jsonb

-- name: insert_credential
INSERT INTO device_credentials (credential_id, device_id, username, broker_hash, scopes, expires_at)
VALUES (%(credential_id)s, %(device_id)s, %(device_id)s, %(broker_hash)s, %(scopes)s, %(expires_at)s)
RETURNING wire_time(expires_at)

-- name: revoke_credentials
UPDATE device_credentials SET revoked_at = now() WHERE device_id = %(device_id)s AND revoked_at IS NULL

-- name: broker_accounts
SELECT DISTINCT ON (device_id) device_id, broker_hash
FROM device_credentials
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
ORDER BY device_id, created_at DESC

-- name: next_expiry
SELECT min(expires_at) FROM device_credentials WHERE revoked_at IS NULL AND expires_at > now()
