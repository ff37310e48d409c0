-- name: make_shadows
INSERT INTO shadows (device_id, name)
SELECT device_id, name FROM unnest(%(device_ids)s::text[], %(names)s::text[]) AS n(device_id, name)
ORDER BY device_id, name
ON CONFLICT DO NOTHING

-- name: hold_shadows
SELECT device_id, name, version, desired, reported, own, desired_metadata, reported_metadata, own_metadata, last_seq,
       wire_time(updated_at) AS updated_at, wire_time(pending_since) AS pending_since, sync_s, wire_time(now()) AS at
FROM shadows
WHERE (device_id, name) IN (SELECT * FROM unnest(%(device_ids)s::text[], %(names)s::text[]))
ORDER BY device_id, name
FOR UPDATE

-- name: get_shadows
SELECT device_id, name, version, desired, reported, own, desired_metadata, reported_metadata, own_metadata, last_seq,
       wire_time(updated_at) AS updated_at, wire_time(pending_since) AS pending_since, sync_s, wire_time(now()) AS at
FROM shadows WHERE (device_id, name) IN (SELECT * FROM unnest(%(device_ids)s::text[], %(names)s::text[]))

-- name: list_names
SELECT name FROM shadows WHERE device_id = %(device_id)s AND version > 0 ORDER BY name

-- name: drifts
SELECT device_id, wire_time(min(pending_since)) AS pending_since, max(sync_s) AS sync_s,
       bool_or(desired IS NOT NULL) AS desired, bool_or(reported IS NOT NULL) AS reported
FROM shadows
WHERE device_id = ANY(%(device_ids)s) AND version > 0
GROUP BY device_id

-- name: write_shadows
UPDATE shadows s
SET version = n.version, desired = n.desired, reported = n.reported, own = n.own,
    desired_metadata = n.desired_metadata, reported_metadata = n.reported_metadata, own_metadata = n.own_metadata,
    last_seq = n.last_seq, updated_at = now(), pending_since = n.pending_since, sync_s = n.sync_s,
    desired_due = s.desired_due OR n.told, delta_due = (s.delta_due OR n.told) AND n.pending_since IS NOT NULL
FROM json_to_recordset(%(rows)s) AS n(device_id text, name text, version bigint, desired jsonb, reported jsonb, own jsonb,
    desired_metadata jsonb, reported_metadata jsonb, own_metadata jsonb, last_seq bigint, pending_since timestamptz,
    sync_s float8, told boolean)
WHERE s.device_id = n.device_id AND s.name = n.name

-- name: insert_history
INSERT INTO shadow_history (device_id, name, version, author, reason, section, desired, reported)
SELECT device_id, name, version, author, reason, section, desired, reported
FROM json_to_recordset(%(rows)s) AS n(device_id text, name text, version bigint, author text, reason text, section text,
                                      desired jsonb, reported jsonb)

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

-- name: known_answers
SELECT device_id, name, client_token, digest, answer FROM shadow_answers
WHERE (device_id, name, client_token) IN (
    SELECT * FROM unnest(%(device_ids)s::text[], %(names)s::text[], %(client_tokens)s::text[]))

-- name: keep_answers
INSERT INTO shadow_answers (device_id, name, client_token, digest, answer)
SELECT device_id, name, client_token, digest, answer
FROM json_to_recordset(%(rows)s) AS n(device_id text, name text, client_token text, digest text, answer jsonb)
ON CONFLICT (device_id, name, client_token) DO UPDATE
SET digest = excluded.digest, answer = excluded.answer, at = now()

-- name: trim
WITH answers AS (DELETE FROM shadow_answers WHERE at < now() - interval '1 day')
DELETE FROM shadow_history h
USING shadows s
WHERE s.device_id = h.device_id AND s.name = h.name AND h.version <= s.version - %(keep)s

-- name: lock_due
SELECT s.device_id, s.name, s.version, s.desired, s.reported, s.desired_metadata, s.desired_due, s.delta_due,
       d.status IN ('online', 'error', 'maintenance') AS connected, d.status = 'provisioning' AS unheard
FROM shadows s JOIN devices d USING (device_id)
WHERE s.desired_due OR (s.delta_due AND d.status IN ('online', 'error', 'maintenance'))
ORDER BY s.updated_at
LIMIT %(limit)s
FOR UPDATE OF s SKIP LOCKED

-- name: told
UPDATE shadows SET desired_due = false, delta_due = delta_due AND NOT %(connected)s
WHERE device_id = %(device_id)s AND name = %(name)s

-- name: layers_below
SELECT m.device_id, l.name, l.layer_id, l.group_id, l.priority, l.version, l.desired, l.metadata
FROM shadow_layer_members m JOIN shadow_layers l USING (layer_id)
WHERE (m.device_id, l.name) IN (SELECT * FROM unnest(%(device_ids)s::text[], %(names)s::text[]))

-- name: list_layers
SELECT l.layer_id, l.name, l.group_id, g.name AS group_name, l.priority, l.version, l.desired, l.metadata,
       wire_time(l.updated_at) AS updated_at, l.updated_by,
       (SELECT count(*) FROM shadow_layer_members m WHERE m.layer_id = l.layer_id) AS devices
FROM shadow_layers l LEFT JOIN groups g USING (group_id)
ORDER BY l.group_id IS NOT NULL, l.priority, l.layer_id

-- name: make_layer
INSERT INTO shadow_layers (layer_id, name, group_id, updated_by)
VALUES (%(layer_id)s, %(name)s, %(group_id)s, %(updated_by)s)
ON CONFLICT DO NOTHING

-- name: hold_layer
SELECT layer_id, group_id, priority, version, desired, metadata, wire_time(now()) AS at
FROM shadow_layers WHERE name = %(name)s AND group_id IS NOT DISTINCT FROM %(group_id)s
FOR UPDATE

-- name: write_layer
UPDATE shadow_layers
SET version = %(version)s, priority = %(priority)s, desired = %(desired)s, metadata = %(metadata)s,
    updated_at = now(), updated_by = %(updated_by)s
WHERE layer_id = %(layer_id)s

-- name: delete_layer
DELETE FROM shadow_layers WHERE layer_id = %(layer_id)s

-- name: refresh_members
INSERT INTO shadow_refreshes (device_id, name, reason, author)
SELECT m.device_id, %(name)s, %(reason)s, %(author)s
FROM shadow_layer_members m JOIN devices d USING (device_id)
WHERE m.layer_id = %(layer_id)s AND d.status <> 'decommissioned'
ORDER BY m.device_id
ON CONFLICT (device_id, name) DO UPDATE SET reason = excluded.reason, author = excluded.author

-- name: refresh_where
INSERT INTO shadow_refreshes (device_id, name, reason, author)
SELECT d.device_id, %(name)s, %(reason)s, %(author)s
FROM devices d LEFT JOIN device_vitals v USING (device_id)
WHERE d.status <> 'decommissioned' AND {where} AND EXISTS (
    SELECT FROM shadow_layer_members m JOIN shadow_layers l USING (layer_id)
    WHERE m.device_id = d.device_id AND l.name = %(name)s)
ORDER BY d.device_id
ON CONFLICT DO NOTHING

-- name: look_at_members
WITH present AS (
    SELECT d.device_id FROM devices d LEFT JOIN device_vitals v USING (device_id)
    WHERE d.status <> 'decommissioned' AND {where}
), gone AS (
    DELETE FROM shadow_layer_members m
    WHERE m.layer_id = %(layer_id)s AND NOT EXISTS (SELECT FROM present p WHERE p.device_id = m.device_id)
    RETURNING m.device_id
), come AS (
    INSERT INTO shadow_layer_members (layer_id, device_id) SELECT %(layer_id)s, device_id FROM present
    ON CONFLICT DO NOTHING
    RETURNING device_id
)
INSERT INTO shadow_refreshes (device_id, name, reason, author)
SELECT device_id, %(name)s, %(reason)s, %(author)s
FROM (SELECT device_id FROM gone UNION SELECT device_id FROM come) AS changed JOIN devices d USING (device_id)
WHERE d.status <> 'decommissioned'
ORDER BY device_id
ON CONFLICT (device_id, name) DO UPDATE SET reason = excluded.reason, author = excluded.author

-- name: one_looks
SELECT pg_try_advisory_xact_lock(7201007)

-- name: take_refreshes
DELETE FROM shadow_refreshes
WHERE (device_id, name) IN (
    SELECT device_id, name FROM shadow_refreshes ORDER BY device_id, name LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING device_id, name, reason, author

-- name: list_schemas
SELECT s.target, g.name AS group, s.name, s.version, s.schema, wire_time(s.updated_at) AS updated_at, s.updated_by
FROM shadow_schemas s LEFT JOIN groups g USING (group_id)
ORDER BY s.group_id IS NOT NULL, s.target, s.name

-- name: schemas_of
SELECT s.target, s.name, s.device_type, s.group_id, g.name AS group, s.schema
FROM shadow_schemas s LEFT JOIN groups g USING (group_id)
WHERE s.name = ANY(%(names)s)
ORDER BY s.group_id IS NOT NULL, s.target

-- name: hold_schema
SELECT version FROM shadow_schemas WHERE target = %(target)s AND name = %(name)s FOR UPDATE

-- name: write_schema
INSERT INTO shadow_schemas (target, name, device_type, group_id, version, schema, updated_by)
VALUES (%(target)s, %(name)s, %(device_type)s, %(group_id)s, 1, %(schema)s, %(author)s)
ON CONFLICT (target, name) DO UPDATE
SET version = shadow_schemas.version + 1, schema = excluded.schema, updated_at = now(), updated_by = excluded.updated_by

-- name: delete_schema
DELETE FROM shadow_schemas WHERE target = %(target)s AND name = %(name)s

-- name: types_of
SELECT device_id, type FROM devices WHERE device_id = ANY(%(device_ids)s)
