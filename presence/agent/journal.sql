-- The journal of the agent: schema and every statement that the journal runs, by name.
-- Times are milliseconds of the journal's own time, which never goes back (see journal_time.py).
-- 'schema N' makes version N of the file out of version N-1. Columns are only ever added, at the end: salvage.py counts
-- on it.

-- name: schema 1
CREATE TABLE journal (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    instance    TEXT    NOT NULL,
    epoch       INTEGER NOT NULL,
    boot_id     TEXT    NOT NULL,
    elapsed     INTEGER NOT NULL,
    now         INTEGER NOT NULL,
    server_time INTEGER,
    server_at   INTEGER
) STRICT;

CREATE TABLE delivery (
    seq           INTEGER PRIMARY KEY,
    id            TEXT    NOT NULL UNIQUE,
    webhook_id    TEXT,
    event         TEXT,
    subject_id    TEXT,
    uri           TEXT,
    method        TEXT,
    body          TEXT,
    content_type  TEXT,
    authorization TEXT,
    on_unknown    TEXT    NOT NULL CHECK (on_unknown IN ('fire', 'hold')),
    born_at       INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    forget_at     INTEGER NOT NULL,
    accepted_at   INTEGER NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN (
                      'pending', 'delivering', 'held',
                      'succeeded', 'failed', 'refused', 'expired', 'cancelled')),
    cancelling    INTEGER NOT NULL DEFAULT 0 CHECK (cancelling IN (0, 1)),
    due_at        INTEGER NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    log           TEXT    NOT NULL DEFAULT '[]',
    reason        TEXT,
    settled_order INTEGER,
    settled_at    INTEGER,
    reported_at   INTEGER,
    CHECK ((state IN ('succeeded', 'failed', 'refused', 'expired', 'cancelled'))
           = (settled_at IS NOT NULL AND settled_order IS NOT NULL AND reason IS NOT NULL)),
    CHECK (reported_at IS NULL OR settled_at IS NOT NULL),
    CHECK (authorization IS NULL OR settled_at IS NULL),
    CHECK (settled_at IS NOT NULL OR (webhook_id IS NOT NULL AND event IS NOT NULL AND subject_id IS NOT NULL
                                      AND uri IS NOT NULL AND method IS NOT NULL))
) STRICT;

CREATE INDEX delivery_waiting ON delivery (settled_order) WHERE state = 'held';
CREATE INDEX delivery_unreported ON delivery (settled_order) WHERE reported_at IS NULL AND settled_at IS NOT NULL;
CREATE INDEX delivery_held ON delivery (seq) WHERE reported_at IS NULL;
CREATE INDEX delivery_detailed ON delivery (reported_at) WHERE reported_at IS NOT NULL AND uri IS NOT NULL;
CREATE INDEX delivery_remembered ON delivery (forget_at) WHERE reported_at IS NOT NULL AND uri IS NULL;

-- name: schema 2
ALTER TABLE journal ADD COLUMN paused_until INTEGER;

-- name: schema 3
ALTER TABLE delivery ADD COLUMN traceparent TEXT;

-- name: create
INSERT INTO journal (one, instance, epoch, boot_id, elapsed, now) VALUES (1, ?, 0, ?, ?, 0);

-- name: instance
SELECT instance, epoch FROM journal;

-- name: time
SELECT boot_id, elapsed, now, server_time, server_at FROM journal;

-- name: paused_until
SELECT paused_until FROM journal;

-- name: pause_until
UPDATE journal SET paused_until = ?;

-- name: keep_time
UPDATE journal SET boot_id = ?, elapsed = ?, now = ?, server_time = ?, server_at = ?;

-- name: reserve_epochs
UPDATE journal SET epoch = ?;

-- name: skip_epochs
UPDATE journal SET epoch = epoch + ?;

-- name: not_before
UPDATE journal SET now = (SELECT coalesce(max(accepted_at), 0) FROM delivery), boot_id = '';

-- name: counts
SELECT (SELECT count(*) FROM delivery),
       (SELECT coalesce(max(settled_order), 0) FROM delivery),
       (SELECT count(*) FROM delivery WHERE state = 'held'),
       (SELECT count(*) FROM delivery WHERE reported_at IS NULL AND settled_at IS NOT NULL);

-- name: unsettled
SELECT uri, count(*) FROM delivery WHERE reported_at IS NULL AND settled_at IS NULL GROUP BY uri;

-- name: here
SELECT id FROM delivery WHERE id IN (SELECT value FROM json_each(?));

-- name: accept
INSERT INTO delivery (id, webhook_id, event, subject_id, uri, method, body, content_type, authorization, on_unknown,
                      born_at, expires_at, forget_at, accepted_at, state, due_at, traceparent)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 'pending', ?14, ?15);

-- name: claim
UPDATE delivery SET state = 'delivering', attempts = attempts + 1
WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending' AND expires_at > ?
RETURNING seq, id, webhook_id, event, subject_id, uri, method, body, content_type, authorization, on_unknown,
          born_at, expires_at, attempts, traceparent;

-- name: pending
SELECT id, uri, due_at, attempts FROM delivery WHERE reported_at IS NULL AND state = 'pending' ORDER BY due_at;

-- name: too_old
SELECT seq, id, state FROM delivery
WHERE reported_at IS NULL AND state IN ('pending', 'held') AND expires_at <= ? LIMIT ?;

-- name: too_old_of
SELECT seq, id, state FROM delivery
WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending' AND expires_at <= ?;

-- name: clamp_delays
UPDATE delivery SET due_at = :latest WHERE reported_at IS NULL AND state = 'pending' AND due_at > :latest;

-- name: mend_logs
UPDATE delivery SET log = '[]'
WHERE reported_at IS NULL AND CASE WHEN json_valid(log) THEN json_type(log) <> 'array' ELSE 1 END;

-- name: settle
UPDATE delivery
SET state = e.value ->> 'state', reason = e.value ->> 'reason', settled_order = :order + e.key, settled_at = :now,
    authorization = NULL,
    log = json_insert(
        CASE WHEN json_array_length(log) < :length THEN log ELSE json_remove(log, '$[1]') END,
        '$[#]', json(e.value -> 'entry'))
FROM json_each(:rows) AS e
WHERE delivery.seq = e.value ->> 'seq' AND delivery.state = 'delivering';

-- name: retry
UPDATE delivery
SET state = 'pending', due_at = :now + (e.value ->> 'delay'),
    log = json_insert(
        CASE WHEN json_array_length(log) < :length THEN log ELSE json_remove(log, '$[1]') END,
        '$[#]', json(e.value -> 'entry'))
FROM json_each(:rows) AS e
WHERE delivery.seq = e.value ->> 'seq' AND delivery.state = 'delivering'
RETURNING delivery.seq, cancelling;

-- name: hold
UPDATE delivery
SET state = 'held', reason = e.value ->> 'reason', settled_order = :order + e.key,
    log = json_insert(
        CASE WHEN json_array_length(log) < :length THEN log ELSE json_remove(log, '$[1]') END,
        '$[#]', json(e.value -> 'entry'))
FROM json_each(:rows) AS e
WHERE delivery.seq = e.value ->> 'seq' AND delivery.state = 'delivering'
RETURNING delivery.seq, cancelling;

-- name: waiting
SELECT id, reason, attempts, log, settled_order FROM delivery
WHERE state = 'held' AND settled_order > ? ORDER BY settled_order LIMIT ?;

-- name: release_held
UPDATE delivery SET state = 'pending', reason = NULL, settled_order = NULL, due_at = ?
WHERE id = ? AND state = 'held'
RETURNING uri;

-- name: release
UPDATE delivery SET state = 'pending', reason = NULL, settled_order = NULL, due_at = ?
WHERE id = ? AND state = 'held' AND attempts = ?
RETURNING uri;

-- name: end
UPDATE delivery SET state = ?, reason = ?, settled_order = ?, settled_at = ?, authorization = NULL
WHERE seq = ? AND state = ? RETURNING uri;

-- name: cancel
UPDATE delivery SET cancelling = 1 WHERE id = ? AND settled_at IS NULL RETURNING seq, state;

-- name: delivering
SELECT seq, attempts, on_unknown, uri FROM delivery WHERE reported_at IS NULL AND state = 'delivering';

-- name: held
SELECT id, settled_at IS NULL AND attempts = (state = 'delivering') FROM delivery
WHERE reported_at IS NULL ORDER BY seq;

-- name: unreported
SELECT id, state, reason, attempts, log, settled_order, settled_at FROM delivery
WHERE reported_at IS NULL AND settled_at IS NOT NULL AND settled_order > ?
ORDER BY settled_order LIMIT ?;

-- name: unreported_rows
SELECT * FROM delivery WHERE reported_at IS NULL;

-- name: known
SELECT state, reported_at FROM delivery WHERE id = ?;

-- name: sums
SELECT state, reason, count(*), min(accepted_at) FROM delivery WHERE reported_at IS NULL GROUP BY 1, 2;

-- name: oldest
SELECT accepted_at FROM delivery WHERE reported_at IS NULL ORDER BY seq LIMIT 1;

-- name: listed
SELECT seq, id, state, reason, webhook_id, event, subject_id, uri, method, length(body), authorization IS NOT NULL,
       cancelling, attempts, accepted_at, due_at, expires_at, settled_at, reported_at, log
FROM delivery
WHERE seq > :after AND (:all OR reported_at IS NULL) AND (:state IS NULL OR state = :state)
ORDER BY seq LIMIT :most;

-- name: shown
SELECT seq, id, state, reason, webhook_id, event, subject_id, uri, method, length(body), authorization IS NOT NULL,
       cancelling, attempts, accepted_at, due_at, expires_at, settled_at, reported_at, log
FROM delivery WHERE id = ?;

-- name: report_again
UPDATE delivery SET reported_at = NULL, settled_order = ? WHERE id = ?;

-- name: wanted
UPDATE delivery SET cancelling = 0 WHERE id = ? AND settled_at IS NULL;

-- name: revive
UPDATE delivery
SET webhook_id = ?2, event = ?3, subject_id = ?4, uri = ?5, method = ?6, body = ?7, content_type = ?8,
    authorization = ?9, on_unknown = ?10, born_at = ?11, expires_at = ?12, forget_at = ?13, accepted_at = ?14,
    due_at = ?14, state = 'pending', cancelling = 0, attempts = 0, log = '[]', reason = NULL, settled_order = NULL,
    settled_at = NULL, reported_at = NULL, traceparent = ?15
WHERE id = ?1 AND state = 'cancelled';

-- name: mark_reported
UPDATE delivery SET reported_at = ?
WHERE id IN (SELECT value FROM json_each(?)) AND reported_at IS NULL AND settled_at IS NOT NULL;

-- name: erase
UPDATE delivery
SET webhook_id = NULL, event = NULL, subject_id = NULL, uri = NULL, method = NULL, body = NULL, content_type = NULL,
    log = '[]', traceparent = NULL
WHERE seq IN (
    SELECT seq FROM delivery
    WHERE reported_at IS NOT NULL AND uri IS NOT NULL AND reported_at < ?
    ORDER BY reported_at LIMIT ?);

-- name: forget
DELETE FROM delivery WHERE seq IN (
    SELECT seq FROM delivery
    WHERE reported_at IS NOT NULL AND uri IS NULL AND forget_at < ?
    ORDER BY forget_at LIMIT ?);
