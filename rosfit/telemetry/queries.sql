-- name: insert_samples
INSERT INTO telemetry (device_id, stream, time, message_id, seq, received_at, payload)
SELECT device_id, stream, time, message_id, seq, received_at, payload
FROM json_to_recordset(%(rows)s) AS n(device_id text, stream text, time timestamptz, message_id text, seq bigint,
                                      received_at timestamptz, payload jsonb)
ON CONFLICT DO NOTHING

-- name: insert_logs
INSERT INTO device_logs (device_id, time, message_id, level, message, logger, fields, received_at)
SELECT device_id, time, message_id, level, message, logger, fields, received_at
FROM json_to_recordset(%(rows)s) AS n(device_id text, time timestamptz, message_id text, level text, message text,
                                      logger text, fields jsonb, received_at timestamptz)
ON CONFLICT DO NOTHING

-- name: insert_alerts
INSERT INTO device_alerts (device_id, time, message_id, name, severity, message, payload, received_at)
SELECT device_id, time, message_id, name, severity, message, payload, received_at
FROM json_to_recordset(%(rows)s) AS n(device_id text, time timestamptz, message_id text, name text, severity text,
                                      message text, payload jsonb, received_at timestamptz)
ON CONFLICT DO NOTHING

-- name: upsert_frame
INSERT INTO device_frames (device_id, name, time, content_type, data)
VALUES (%(device_id)s, %(name)s, %(time)s, %(content_type)s, %(data)s)
ON CONFLICT (device_id, name) DO UPDATE
SET time = excluded.time, content_type = excluded.content_type, data = excluded.data
WHERE device_frames.time <= excluded.time

-- name: list_frames
SELECT name, wire_time(time) AS time, content_type, octet_length(data) AS size
FROM device_frames WHERE device_id = %(device_id)s

-- name: get_frame
SELECT time, content_type, data FROM device_frames WHERE device_id = %(device_id)s AND name = %(name)s

-- name: streams
WITH RECURSIVE names AS (
    (SELECT stream FROM telemetry WHERE device_id = %(device_id)s ORDER BY stream LIMIT 1)
    UNION ALL
    SELECT (SELECT t.stream FROM telemetry t
            WHERE t.device_id = %(device_id)s AND t.stream > names.stream ORDER BY t.stream LIMIT 1)
    FROM names WHERE names.stream IS NOT NULL
)
SELECT stream FROM names WHERE stream IS NOT NULL

-- name: samples_desc
SELECT t.time, t.stream, t.message_id, t.seq, t.received_at, t.payload::text
FROM unnest(%(streams)s::text[]) AS wanted(stream) CROSS JOIN LATERAL (
    SELECT * FROM telemetry
    WHERE device_id = %(device_id)s AND stream = wanted.stream
      AND time >= %(from)s AND time < %(to)s
      AND (%(after_time)s::timestamptz IS NULL
           OR (time, stream, message_id) < (%(after_time)s, %(after_stream)s, %(after_id)s))
      AND time <= coalesce(%(after_time)s::timestamptz, 'infinity')
    ORDER BY time DESC, message_id DESC
    LIMIT %(limit)s
) AS t
ORDER BY t.time DESC, t.stream DESC, t.message_id DESC
LIMIT %(limit)s

-- name: samples_asc
SELECT t.time, t.stream, t.message_id, t.seq, t.received_at, t.payload::text
FROM unnest(%(streams)s::text[]) AS wanted(stream) CROSS JOIN LATERAL (
    SELECT * FROM telemetry
    WHERE device_id = %(device_id)s AND stream = wanted.stream
      AND time >= %(from)s AND time < %(to)s
      AND (%(after_time)s::timestamptz IS NULL
           OR (time, stream, message_id) > (%(after_time)s, %(after_stream)s, %(after_id)s))
      AND time >= coalesce(%(after_time)s::timestamptz, '-infinity')
    ORDER BY time, message_id
    LIMIT %(limit)s
) AS t
ORDER BY t.time, t.stream, t.message_id
LIMIT %(limit)s

-- name: latest
SELECT t.time, t.stream, t.message_id, t.seq, t.received_at, t.payload::text
FROM unnest(%(streams)s::text[]) AS wanted(stream) CROSS JOIN LATERAL (
    SELECT * FROM telemetry
    WHERE device_id = %(device_id)s AND stream = wanted.stream
    ORDER BY time DESC, message_id DESC
    LIMIT 1
) AS t
ORDER BY t.stream

-- name: series
-- Every aggregate but the one that is asked for is filtered to nothing: percentiles sort, sums overflow.
SELECT bucket, CASE %(fn)s::text
    WHEN 'avg' THEN sum(value) FILTER (WHERE %(fn)s::text = 'avg' AND abs(value) < 1e300)
                    / nullif(count(value) FILTER (WHERE abs(value) < 1e300), 0)
    WHEN 'min' THEN min(value)
    WHEN 'max' THEN max(value)
    WHEN 'sum' THEN sum(value) FILTER (WHERE %(fn)s::text = 'sum' AND abs(value) < 1e300)
    WHEN 'count' THEN count(value)::float8
    WHEN 'last' THEN (array_agg(value ORDER BY time DESC, message_id DESC) FILTER (WHERE %(fn)s::text = 'last'))[1]
    WHEN 'p50' THEN percentile_cont(0.5) WITHIN GROUP (ORDER BY value) FILTER (WHERE %(fn)s::text = 'p50')
    WHEN 'p95' THEN percentile_cont(0.95) WITHIN GROUP (ORDER BY value) FILTER (WHERE %(fn)s::text = 'p95')
END
FROM (
    SELECT ((extract(epoch FROM time - %(from)s::timestamptz) * 1000000)::bigint / %(bucket_us)s::bigint)::int AS bucket,
           time, message_id, CASE WHEN abs(value) < 1e-300 THEN 0 ELSE value::float8 END AS value
    FROM (
        SELECT time, message_id, CASE WHEN jsonb_typeof(payload #> %(path)s) = 'number'
                                      THEN (payload #>> %(path)s)::numeric END AS value
        FROM telemetry
        WHERE device_id = %(device_id)s AND stream = %(stream)s AND time >= %(from)s AND time < %(to)s
    ) AS found
    -- What a double cannot hold cannot be drawn either.
    WHERE abs(value) <= 1.7976931348623157e308
) AS numbers
GROUP BY bucket
ORDER BY bucket

-- name: logs
SELECT time, message_id, level, message, logger, fields
FROM device_logs
WHERE device_id = %(device_id)s
  AND (%(levels)s::text[] IS NULL OR level = ANY(%(levels)s))
  AND (%(after_time)s::timestamptz IS NULL OR (time, message_id) < (%(after_time)s, %(after_id)s))
ORDER BY time DESC, message_id DESC
LIMIT %(limit)s

-- name: insert_dead_letters
INSERT INTO dead_letters (received_at, topic, device_id, reason, detail, qos, content_type, payload, size)
SELECT *, length(payload)
FROM unnest(%(received_at)s::timestamptz[], %(topic)s::text[], %(device_id)s::text[], %(reason)s::text[],
            %(detail)s::text[], %(qos)s::smallint[], %(content_type)s::text[], %(payload)s::bytea[])
     AS n(received_at, topic, device_id, reason, detail, qos, content_type, payload)

-- name: list_dead_letters
SELECT id, wire_time(received_at) AS received_at, topic, device_id, reason, detail, qos, content_type, size,
       wire_time(replayed_at) AS replayed_at, substr(payload, 1, 65536) AS payload
FROM dead_letters
WHERE (%(reason)s::text IS NULL OR reason = %(reason)s)
  AND (%(device_id)s::text IS NULL OR device_id = %(device_id)s)
  AND (%(after)s::bigint IS NULL OR id < %(after)s)
ORDER BY id DESC
LIMIT %(limit)s

-- name: lock_dead_letter
SELECT received_at, topic, qos, content_type, payload, replayed_at
FROM dead_letters WHERE id = %(id)s FOR UPDATE

-- name: mark_replayed
UPDATE dead_letters SET replayed_at = now() WHERE id = %(id)s

-- name: trim_dead_letters
DELETE FROM dead_letters WHERE id <= (SELECT max(id) FROM dead_letters) - %(keep)s

-- name: claim_marks
-- Packet ids begin at 1; under 0 stands who may write. Waits for what the last owner is committing.
INSERT INTO ingest_marks (slot, packet_id, digest) VALUES (%(slot)s, 0, %(owner)s)
ON CONFLICT (slot, packet_id) DO UPDATE SET digest = excluded.digest

-- name: marks
SELECT packet_id, digest FROM ingest_marks WHERE slot = %(slot)s AND packet_id > 0

-- name: write_marks
WITH claim AS (
    SELECT FROM ingest_marks WHERE slot = %(slot)s AND packet_id = 0 AND digest = %(owner)s FOR SHARE
)
INSERT INTO ingest_marks (slot, packet_id, digest)
SELECT %(slot)s, packet_id, digest
FROM claim, unnest(%(packet_ids)s::int[], %(digests)s::text[]) AS n(packet_id, digest)
ON CONFLICT (slot, packet_id) DO UPDATE SET digest = excluded.digest

-- name: drop_marks
DELETE FROM ingest_marks WHERE slot = %(slot)s AND packet_id = ANY(%(packet_ids)s)

-- name: is_partitioned
SELECT relkind = 'p' FROM pg_class WHERE oid = 'telemetry'::regclass

-- name: partitions
SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'telemetry'::regclass
