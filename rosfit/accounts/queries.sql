-- name: count_users
SELECT count(*) FROM users

-- name: lock_users
LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE

-- name: insert_user
INSERT INTO users (user_id, email, name, role, password_hash, only_groups, only_tags)
VALUES (%(user_id)s, %(email)s, %(name)s, %(role)s, %(password_hash)s, %(only_groups)s, %(only_tags)s)
ON CONFLICT DO NOTHING
RETURNING wire_time(created_at)

-- name: get_user
SELECT user_id AS id, email, name, role, wire_time(created_at) AS created_at, only_groups, only_tags,
       disabled_at IS NOT NULL AS disabled
FROM users WHERE user_id = %(user_id)s

-- name: list_users
SELECT user_id AS id, email, name, role, wire_time(created_at) AS created_at, only_groups, only_tags,
       disabled_at IS NOT NULL AS disabled
FROM users
WHERE (%(after)s::text IS NULL OR user_id > %(after)s)
ORDER BY user_id
LIMIT %(limit)s

-- name: find_user_by_email
SELECT user_id AS id, email, name, role, wire_time(created_at) AS created_at, only_groups, only_tags,
       disabled_at IS NOT NULL AS disabled
FROM users WHERE lower(email) = lower(%(email)s)

-- name: update_user
UPDATE users
SET name = coalesce(%(name)s, name),
    role = coalesce(%(role)s, role),
    password_hash = coalesce(%(password_hash)s, password_hash),
    only_groups = coalesce(%(only_groups)s, only_groups),
    only_tags = coalesce(%(only_tags)s, only_tags),
    disabled_at = CASE WHEN %(disabled)s::bool IS NULL THEN disabled_at
                       WHEN %(disabled)s THEN coalesce(disabled_at, now()) END
WHERE user_id = %(user_id)s

-- name: sign_out_everywhere
WITH sessions AS (DELETE FROM page_sessions WHERE user_id = %(user_id)s),
     families AS (UPDATE refresh_tokens SET revoked_at = now() WHERE user_id = %(user_id)s AND revoked_at IS NULL)
UPDATE users SET tokens_valid_from = now() WHERE user_id = %(user_id)s

-- name: delete_user
DELETE FROM users WHERE user_id = %(user_id)s

-- name: other_admins
SELECT count(*) FROM users
WHERE role = 'admin' AND disabled_at IS NULL AND oidc_subject IS NULL AND user_id <> %(user_id)s
  AND only_groups = '{}' AND only_tags = '{}'

-- name: names
SELECT user_id, email FROM users WHERE user_id = ANY(%(ids)s)
UNION ALL
SELECT key_id, name FROM api_keys WHERE key_id = ANY(%(ids)s)

-- name: user_actor
SELECT role, email, name, only_groups, only_tags, extract(epoch FROM tokens_valid_from)::float8
FROM users WHERE user_id = %(user_id)s AND disabled_at IS NULL
  AND NOT EXISTS (SELECT FROM refresh_tokens WHERE family = %(family)s AND revoked_at IS NOT NULL)

-- name: insert_key
INSERT INTO api_keys (key_id, name, secret_hash, scopes, only_groups, only_tags, created_by, expires_at)
VALUES (%(key_id)s, %(name)s, %(secret_hash)s, %(scopes)s, %(only_groups)s, %(only_tags)s, %(created_by)s,
        %(expires_at)s)
RETURNING wire_time(expires_at)

-- name: list_keys
SELECT key_id AS id, name, scopes, only_groups, only_tags, created_by, wire_time(created_at) AS created_at,
       wire_time(expires_at) AS expires_at, wire_time(last_used_at) AS last_used_at
FROM api_keys
WHERE revoked_at IS NULL AND (%(after)s::text IS NULL OR key_id > %(after)s)
ORDER BY key_id
LIMIT %(limit)s

-- name: revoke_key
UPDATE api_keys SET revoked_at = now() WHERE key_id = %(key_id)s AND revoked_at IS NULL RETURNING name

-- name: key_actor
SELECT key_id, name, scopes, only_groups, only_tags, extract(epoch FROM expires_at)::float8
FROM api_keys
WHERE (secret_hash = %(secret_hash)s OR (%(secret_hash)s::bytea IS NULL AND key_id = %(key_id)s))
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: note_key_use
UPDATE api_keys SET last_used_at = now()
WHERE key_id = %(key_id)s AND (last_used_at IS NULL OR last_used_at < now() - interval '10 seconds')

-- name: get_user_by_email
SELECT user_id, password_hash FROM users WHERE lower(email) = lower(%(email)s) AND disabled_at IS NULL

-- name: update_password_hash
UPDATE users SET password_hash = %(password_hash)s WHERE user_id = %(user_id)s

-- name: insert_refresh_token
INSERT INTO refresh_tokens (token_hash, family, user_id, expires_at)
VALUES (%(token_hash)s, %(family)s, %(user_id)s, now() + make_interval(secs => %(ttl_s)s))

-- name: lock_refresh_token
SELECT family, user_id, spent_at IS NOT NULL OR revoked_at IS NOT NULL AS spent, expires_at <= now() AS expired
FROM refresh_tokens WHERE token_hash = %(token_hash)s FOR UPDATE

-- name: spend_refresh_token
UPDATE refresh_tokens SET spent_at = now() WHERE token_hash = %(token_hash)s

-- name: revoke_family
UPDATE refresh_tokens SET revoked_at = now() WHERE family = %(family)s AND revoked_at IS NULL

-- name: insert_session
INSERT INTO page_sessions (token_hash, user_id, expires_at)
VALUES (%(token_hash)s, %(user_id)s, now() + make_interval(secs => %(ttl_s)s))

-- name: session_user
SELECT u.user_id AS id, u.email, u.name, u.role, wire_time(u.created_at) AS created_at, u.only_groups, u.only_tags
FROM page_sessions s JOIN users u USING (user_id)
WHERE s.token_hash = %(token_hash)s AND s.expires_at > now() AND u.disabled_at IS NULL

-- name: delete_session
DELETE FROM page_sessions WHERE token_hash = %(token_hash)s

-- name: delete_expired
WITH sessions AS (DELETE FROM page_sessions WHERE expires_at <= now()),
     answers AS (DELETE FROM idempotency_keys WHERE created_at < now() - interval '1 day')
DELETE FROM refresh_tokens WHERE expires_at <= now()

-- name: signing_keys
SELECT key_id, private_jwk FROM signing_keys WHERE retired_at IS NULL OR retired_at > now()
ORDER BY retired_at IS NOT NULL, created_at DESC

-- name: lock_signing_keys
LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE

-- name: insert_signing_key
INSERT INTO signing_keys (key_id, private_jwk) VALUES (%(key_id)s, %(private_jwk)s)

-- name: lock_audit
SELECT pg_advisory_xact_lock(7201003)

-- name: as_kept
SELECT %(before)s::jsonb, %(after)s::jsonb

-- name: last_audit
SELECT id, hash FROM audit_log ORDER BY id DESC LIMIT 1

-- name: insert_audit
INSERT INTO audit_log (id, at, actor, action, target, before, after, address, request_id, result, hash)
VALUES (%(id)s, %(at)s, %(actor)s, %(action)s, %(target)s, %(before)s, %(after)s, %(address)s, %(request_id)s,
        %(result)s, %(hash)s)

-- name: list_audit
SELECT id, wire_time(at) AS at, actor, action, target, before, after, address, request_id, result
FROM audit_log
WHERE (%(actor)s::text IS NULL OR actor = %(actor)s)
  AND (%(action)s::text IS NULL OR action = %(action)s OR starts_with(action, %(action)s || '.'))
  AND (%(target)s::text IS NULL OR target = %(target)s)
  AND (%(before_id)s::bigint IS NULL OR id < %(before_id)s)
ORDER BY id DESC
LIMIT %(limit)s

-- name: all_audit
SELECT id, at, actor, action, target, before, after, address, request_id, result, hash
FROM audit_log ORDER BY id

-- name: blocked_for_s
SELECT coalesce(extract(epoch FROM max(blocked_until) - now()), 0)::float8
FROM sign_in_failures WHERE subject = ANY(%(subjects)s)

-- name: count_failure
INSERT INTO sign_in_failures AS known (subject, failures, blocked_until) VALUES (%(subject)s, 1, now())
ON CONFLICT (subject) DO UPDATE SET (failures, blocked_until) = (
    SELECT counted, CASE WHEN counted < %(free)s THEN now()
        ELSE now() + make_interval(secs => least(power(2, least(counted - %(free)s, 30)), %(longest_s)s)) END
    FROM (SELECT CASE WHEN known.blocked_until < now() - make_interval(secs => %(forgotten_s)s) THEN 1
        ELSE known.failures + 1 END AS counted) AS next
)
RETURNING failures

-- name: forget_failures
DELETE FROM sign_in_failures WHERE subject = %(subject)s

-- name: trim_failures
DELETE FROM sign_in_failures WHERE blocked_until < now() - interval '1 day'

-- name: insert_hook_source
INSERT INTO hook_sources (source, secret, created_by) VALUES (%(source)s, %(secret)s, %(created_by)s)
ON CONFLICT DO NOTHING RETURNING source

-- name: rotate_hook_secret
UPDATE hook_sources
SET previous_secret = secret, previous_until = now() + make_interval(secs => %(overlap_s)s), secret = %(secret)s
WHERE source = %(source)s RETURNING source

-- name: delete_hook_source
DELETE FROM hook_sources WHERE source = %(source)s RETURNING source

-- name: hook_secrets
SELECT secret, CASE WHEN previous_until > now() THEN previous_secret END FROM hook_sources WHERE source = %(source)s

-- name: list_hook_sources
SELECT source, created_by, wire_time(created_at) AS created_at,
       CASE WHEN previous_until > now() THEN wire_time(previous_until) END AS previous_until
FROM hook_sources
WHERE (%(after)s::text IS NULL OR source > %(after)s)
ORDER BY source
LIMIT %(limit)s

-- name: insert_delivery
INSERT INTO hook_deliveries (delivery_id, source, signature, sent_at, body)
VALUES (%(delivery_id)s, %(source)s, %(signature)s, %(sent_at)s, %(body)s::text::jsonb)
ON CONFLICT (source, signature) DO NOTHING RETURNING delivery_id

-- name: list_deliveries
SELECT delivery_id, source, wire_time(sent_at) AS sent_at, wire_time(received_at) AS received_at, body
FROM hook_deliveries
WHERE source = %(source)s AND (%(before)s::text IS NULL OR delivery_id < %(before)s)
ORDER BY delivery_id DESC
LIMIT %(limit)s

-- name: trim_deliveries
DELETE FROM hook_deliveries WHERE received_at < now() - interval '30 days' OR delivery_id IN (
    SELECT delivery_id FROM (
        SELECT delivery_id, received_at, row_number() OVER (PARTITION BY source ORDER BY delivery_id DESC) AS place
        FROM hook_deliveries
    ) AS ranked
    WHERE place > 10000 AND received_at < now() - interval '15 minutes'
)

-- name: list_signing_keys
SELECT key_id AS id, wire_time(created_at) AS created_at, wire_time(retired_at) AS verifies_until
FROM signing_keys WHERE retired_at IS NULL OR retired_at > now()
ORDER BY retired_at IS NOT NULL, created_at DESC

-- name: retire_signing_keys
UPDATE signing_keys SET retired_at = least(retired_at, now() + make_interval(secs => %(overlap_s)s))
WHERE retired_at IS NULL OR retired_at > now()

-- name: find_oidc_user
SELECT user_id AS id, email, name, role, wire_time(created_at) AS created_at, only_groups, only_tags,
       disabled_at IS NOT NULL AS disabled
FROM users WHERE oidc_subject = %(subject)s

-- name: insert_oidc_user
INSERT INTO users (user_id, email, name, role, password_hash, oidc_subject)
VALUES (%(user_id)s, %(email)s, %(name)s, %(role)s, %(password_hash)s, %(subject)s)
ON CONFLICT DO NOTHING

-- name: update_oidc_user
UPDATE users SET name = %(name)s, role = %(role)s,
    email = CASE WHEN EXISTS (SELECT FROM users WHERE lower(email) = lower(%(email)s) AND user_id <> %(user_id)s)
        THEN email ELSE %(email)s END
WHERE user_id = %(user_id)s
