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

-- name: count_each
SELECT {counts}
FROM devices d LEFT JOIN device_vitals v USING (device_id)
WHERE {where}

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

-- name: has_layer
SELECT EXISTS (SELECT FROM shadow_layers WHERE group_id = %(group_id)s)

-- name: add_members
INSERT INTO group_members (group_id, device_id)
SELECT %(group_id)s, device_id FROM unnest(%(device_ids)s::text[]) AS device_id
ON CONFLICT DO NOTHING

-- name: remove_members
DELETE FROM group_members WHERE group_id = %(group_id)s AND device_id = ANY(%(device_ids)s)

-- name: clear_members
DELETE FROM group_members WHERE group_id = %(group_id)s

-- name: list_tags
SELECT DISTINCT unnest(d.tags) AS tag
FROM devices d LEFT JOIN device_vitals v USING (device_id)
WHERE d.status <> 'decommissioned' AND {where}
ORDER BY tag LIMIT 200

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

-- name: get_layout
SELECT layout FROM devices WHERE device_id = %(device_id)s

-- name: remember_layouts
UPDATE devices d
SET layout = n.layout::jsonb
FROM unnest(%(device_ids)s::text[], %(layouts)s::text[]) AS n(device_id, layout)
WHERE d.device_id = n.device_id AND d.layout IS DISTINCT FROM n.layout::jsonb

-- name: insert_credential
INSERT INTO device_credentials (credential_id, device_id, username, kind, broker_hash, scopes, expires_at)
VALUES (%(credential_id)s, %(device_id)s, %(username)s, %(kind)s, %(broker_hash)s, %(scopes)s, %(expires_at)s)
RETURNING wire_time(expires_at)

-- name: revoke_credentials
UPDATE device_credentials SET revoked_at = now() WHERE device_id = %(device_id)s AND revoked_at IS NULL

-- name: revoke_username
UPDATE device_credentials SET revoked_at = now() WHERE username = %(username)s AND revoked_at IS NULL

-- name: revoke_credential
UPDATE device_credentials SET revoked_at = now()
WHERE device_id = %(device_id)s AND credential_id = %(credential_id)s AND revoked_at IS NULL
RETURNING credential_id

-- name: end_credentials
UPDATE device_credentials SET expires_at = least(expires_at, %(expires_at)s)
WHERE device_id = %(device_id)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: list_credentials
SELECT credential_id AS id, device_id, username, kind, scopes, wire_time(created_at) AS created_at,
       wire_time(expires_at) AS expires_at, wire_time(revoked_at) AS revoked_at
FROM device_credentials
WHERE device_id = %(device_id)s
ORDER BY credential_id DESC
LIMIT 200

-- name: live_credentials
SELECT credential_id AS id, device_id, username, kind, broker_hash, scopes
FROM device_credentials
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
  AND (%(device_id)s::text IS NULL OR device_id = %(device_id)s)
ORDER BY username

-- name: next_expiry
SELECT min(expires_at) FROM device_credentials WHERE revoked_at IS NULL AND expires_at > now()

-- name: insert_certificate
INSERT INTO device_certificates (serial, device_id, fingerprint, expires_at)
VALUES (%(serial)s, %(device_id)s, %(fingerprint)s, %(expires_at)s)

-- name: list_certificates
SELECT serial, device_id, fingerprint, wire_time(created_at) AS created_at,
       wire_time(expires_at) AS expires_at, wire_time(revoked_at) AS revoked_at
FROM device_certificates
WHERE device_id = %(device_id)s
ORDER BY device_certificates.created_at DESC
LIMIT 200

-- name: revoke_certificate
UPDATE device_certificates SET revoked_at = now()
WHERE device_id = %(device_id)s AND serial = %(serial)s AND revoked_at IS NULL
RETURNING serial

-- name: revoke_certificates
UPDATE device_certificates SET revoked_at = now() WHERE device_id = %(device_id)s AND revoked_at IS NULL

-- name: certified_devices
SELECT DISTINCT device_id FROM device_certificates
WHERE revoked_at IS NULL AND expires_at > now() AND (%(device_id)s::text IS NULL OR device_id = %(device_id)s)

-- name: revoked_certificates
SELECT serial, device_id, revoked_at FROM device_certificates WHERE revoked_at IS NOT NULL AND expires_at > now()
ORDER BY serial

-- name: insert_enrolment_token
INSERT INTO enrolment_tokens (token_id, name, token_hash, device_type, tags, approval, max_uses, created_by, expires_at)
VALUES (%(token_id)s, %(name)s, %(token_hash)s, %(device_type)s, %(tags)s, %(approval)s, %(max_uses)s,
        %(created_by)s, %(expires_at)s)
RETURNING wire_time(expires_at) AS expires_at

-- name: list_enrolment_tokens
SELECT token_id AS id, name, device_type, tags, approval, max_uses, uses, created_by,
       wire_time(created_at) AS created_at, wire_time(expires_at) AS expires_at
FROM enrolment_tokens
WHERE revoked_at IS NULL AND (%(after)s::text IS NULL OR token_id < %(after)s)
ORDER BY token_id DESC
LIMIT %(limit)s

-- name: revoke_enrolment_token
UPDATE enrolment_tokens SET revoked_at = now() WHERE token_id = %(token_id)s AND revoked_at IS NULL
RETURNING token_id

-- name: use_enrolment_token
UPDATE enrolment_tokens SET uses = uses + 1
WHERE token_hash = %(token_hash)s AND revoked_at IS NULL AND expires_at > now() AND uses < max_uses
RETURNING token_id, device_type, tags, approval

-- name: insert_enrolment
INSERT INTO enrolments (enrolment_id, token_id, device_id, name, claim_hash, status, address)
VALUES (%(enrolment_id)s, %(token_id)s, %(device_id)s, %(name)s, %(claim_hash)s, %(status)s, %(address)s)

-- name: list_enrolments
SELECT e.enrolment_id AS id, e.device_id, e.name, e.status, e.address, e.token_id, t.name AS token_name,
       t.device_type, wire_time(e.created_at) AS created_at, wire_time(e.decided_at) AS decided_at, e.decided_by
FROM enrolments e JOIN enrolment_tokens t USING (token_id)
WHERE (%(status)s::text IS NULL OR e.status = %(status)s)
  AND (%(enrolment_id)s::text IS NULL OR e.enrolment_id = %(enrolment_id)s)
  AND (%(after)s::text IS NULL OR e.enrolment_id < %(after)s)
ORDER BY e.enrolment_id DESC
LIMIT %(limit)s

-- name: lock_enrolment
SELECT e.device_id, e.name, e.claim_hash, e.status, t.device_type, t.tags
FROM enrolments e JOIN enrolment_tokens t USING (token_id)
WHERE e.enrolment_id = %(enrolment_id)s
FOR UPDATE OF e

-- name: decide_enrolment
UPDATE enrolments
SET status = %(status)s, decided_at = coalesce(decided_at, now()), decided_by = coalesce(%(decided_by)s, decided_by)
WHERE enrolment_id = %(enrolment_id)s
