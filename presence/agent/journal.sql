-- The journal of the agent: schema and every statement that journal.py runs, by name.
-- Times are milliseconds of the journal's own time, which never goes back (see journal.py).

-- name: schema
CREATE TABLE journal (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    instance  TEXT    NOT NULL,
    epoch     INTEGER NOT NULL,
    boot_id   TEXT    NOT NULL,
    elapsed   INTEGER NOT NULL,
    wall      INTEGER NOT NULL,
    now       INTEGER NOT NULL
) STRICT;

CREATE TABLE delivery (
    seq           INTEGER PRIMARY KEY,
    id            TEXT    NOT NULL UNIQUE,
    webhook_id    TEXT    NOT NULL,
    event         TEXT    NOT NULL,
    subject_id    TEXT    NOT NULL,
    uri           TEXT    NOT NULL,
    method        TEXT    NOT NULL,
    born_at       INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
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
    CHECK (reported_at IS NULL OR settled_at IS NOT NULL)
) STRICT;

CREATE INDEX delivery_due ON delivery (due_at) WHERE state = 'pending';
CREATE INDEX delivery_delivering ON delivery (seq) WHERE state = 'delivering';
CREATE INDEX delivery_unreported ON delivery (settled_order) WHERE reported_at IS NULL AND settled_at IS NOT NULL;
CREATE INDEX delivery_unsettled ON delivery (seq) WHERE settled_at IS NULL;
CREATE INDEX delivery_reported ON delivery (reported_at) WHERE reported_at IS NOT NULL;

-- name: create
INSERT INTO journal (one, instance, epoch, boot_id, elapsed, wall, now) VALUES (1, ?, 0, ?, ?, ?, 0);

-- name: identity
SELECT instance, boot_id, elapsed, wall, now FROM journal;

-- name: keep_time
UPDATE journal SET boot_id = ?, elapsed = ?, wall = ?, now = ?;

-- name: next_epoch
UPDATE journal SET epoch = epoch + 1 RETURNING epoch;

-- name: counts
SELECT (SELECT count(*) FROM delivery WHERE settled_at IS NULL),
       (SELECT coalesce(max(settled_order), 0) FROM delivery);

-- name: accept
INSERT INTO delivery (id, webhook_id, event, subject_id, uri, method, born_at, expires_at, accepted_at, state, due_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?)
ON CONFLICT (id) DO NOTHING;

-- name: expired
SELECT id FROM delivery WHERE state = 'pending' AND due_at <= :now AND expires_at <= :now;

-- name: claim
UPDATE delivery SET state = 'delivering', attempts = attempts + 1
WHERE state = 'pending' AND seq IN (
    SELECT seq FROM delivery WHERE state = 'pending' AND due_at <= ? ORDER BY due_at LIMIT ?)
RETURNING id, webhook_id, event, subject_id, uri, method, born_at, expires_at, attempts, log;

-- name: next_due
SELECT min(due_at) FROM delivery WHERE state = 'pending';

-- name: end
UPDATE delivery
SET state = :state, reason = :reason, log = coalesce(:log, log), settled_order = :order, settled_at = :now
WHERE id = :id AND state = :source;

-- name: retry
UPDATE delivery SET state = 'pending', due_at = :due_at, log = :log
WHERE id = :id AND state = 'delivering'
RETURNING cancelling;

-- name: cancel
UPDATE delivery SET cancelling = 1 WHERE id = ? AND settled_at IS NULL RETURNING state;

-- name: delivering
SELECT id, attempts, log FROM delivery WHERE state = 'delivering';

-- name: held
SELECT id FROM delivery WHERE reported_at IS NULL ORDER BY seq;

-- name: unreported
SELECT id, state, reason, attempts, log, settled_order, settled_at FROM delivery
WHERE reported_at IS NULL AND settled_at IS NOT NULL AND settled_order > ?
ORDER BY settled_order LIMIT ?;

-- name: known
SELECT 1 FROM delivery WHERE id = ?;

-- name: report_again
UPDATE delivery SET reported_at = NULL, settled_order = ? WHERE id = ? AND reported_at IS NOT NULL;

-- name: mark_reported
UPDATE delivery SET reported_at = ? WHERE id = ? AND reported_at IS NULL AND settled_at IS NOT NULL;

-- name: prune
DELETE FROM delivery WHERE seq IN (
    SELECT seq FROM delivery
    WHERE reported_at < ? AND expires_at < ?
    ORDER BY reported_at LIMIT 1000);
