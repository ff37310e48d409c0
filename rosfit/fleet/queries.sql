-- name: insert_device
INSERT INTO devices (device_id, name, type, tags, metadata)
VALUES (%(device_id)s, %(name)s, %(type)s, %(tags)s, %(metadata)s)
ON CONFLICT (device_id) DO NOTHING
RETURNING device_id

-- name: insert_vitals
INSERT INTO device_vitals (device_id) VALUES (%(device_id)s)

-- name: list_devices
SELECT d.device_id, d.name, d.type, d.status, d.status_reason, wire_time(d.status_since) AS status_since,
       d.tags, ARRAY[]::text[] AS groups, d.metadata, d.firmware, v.battery,
       wire_time(d.created_at) AS created_at, wire_time(v.last_seen) AS last_seen
FROM devices d LEFT JOIN device_vitals v USING (device_id)
WHERE {where}
  AND (%(after)s::text IS NULL OR d.device_id > %(after)s)
ORDER BY d.device_id
LIMIT %(limit)s

-- name: count_by_status
SELECT d.status, count(*)
FROM devices d LEFT JOIN device_vitals v USING (device_id)
WHERE {where}
GROUP BY d.status

-- name: device_ids
SELECT d.device_id
FROM devices d LEFT JOIN device_vitals v USING (device_id)
WHERE {where}
ORDER BY d.device_id

-- name: memberships
SELECT d.device_id, array_remove(ARRAY[{cases}]::text[], NULL)
FROM devices d LEFT JOIN device_vitals v USING (device_id)
WHERE d.device_id = ANY(%(device_ids)s)

-- name: insert_group
INSERT INTO groups (group_id, name, kind, query) VALUES (%(group_id)s, %(name)s, %(kind)s, %(query)s)
ON CONFLICT DO NOTHING
RETURNING group_id

-- name: find_group
SELECT group_id, name, kind, query, wire_time(created_at) AS created_at,
       CASE WHEN kind = 'static' THEN (SELECT count(*) FROM group_members m WHERE m.group_id = g.group_id) END AS count
FROM groups g
WHERE g.group_id = %(group)s OR lower(g.name) = lower(%(group)s)
ORDER BY g.group_id = %(group)s DESC
LIMIT 1

-- name: list_groups
SELECT group_id, name, kind, query, wire_time(created_at) AS created_at,
       CASE WHEN kind = 'static' THEN (SELECT count(*) FROM group_members m WHERE m.group_id = g.group_id) END AS count
FROM groups g
ORDER BY lower(name)

-- name: update_group
UPDATE groups SET name = coalesce(%(name)s, name), query = coalesce(%(query)s, query)
WHERE group_id = %(group_id)s
  AND NOT EXISTS (SELECT FROM groups o WHERE lower(o.name) = lower(%(name)s) AND o.group_id <> %(group_id)s)
RETURNING group_id

-- name: delete_group
DELETE FROM groups WHERE group_id = %(group_id)s

-- name: users_of_group
SELECT email FROM users WHERE only_groups @> ARRAY[%(group_id)s]::text[]
UNION ALL
SELECT name FROM api_keys WHERE only_groups @> ARRAY[%(group_id)s]::text[] AND revoked_at IS NULL

-- name: add_members
INSERT INTO group_members (group_id, device_id)
SELECT %(group_id)s, device_id FROM unnest(%(device_ids)s::text[]) AS device_id
ON CONFLICT DO NOTHING

-- name: remove_members
DELETE FROM group_members WHERE group_id = %(group_id)s AND device_id = ANY(%(device_ids)s)

-- name: clear_members
DELETE FROM group_members WHERE group_id = %(group_id)s

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
  AND greatest(v.last_seen, d.status_since) < %(heard_before)s

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
