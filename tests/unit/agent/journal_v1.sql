-- A journal of version 1 as its first release wrote it; never changed. One delivery in each situation.
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
BEGIN;
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
PRAGMA user_version = 1;
INSERT INTO journal VALUES (1, '11111111-1111-4111-8111-111111111111', 1000, 'boot-1', 900000, 5000, 1790000000000, 4000);
INSERT INTO delivery VALUES (1, 'a0000000-0000-4000-8000-000000000000', '22222222-2222-4222-8222-222222222222', 'ScanExecutionCompleted', '9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b', 'http://10.0.0.1/ScanEnded/{SubjectId}', 'GET', NULL, NULL, 'Bearer secret', 'fire', 1000, 86401000, 176401000, 1000, 'pending', 0, 1000, 0, '[]', NULL, NULL, NULL, NULL);
INSERT INTO delivery VALUES (2, 'a1000000-0000-4000-8000-000000000000', '22222222-2222-4222-8222-222222222222', 'ScanExecutionCompleted', '9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b', 'http://10.0.0.1/ScanEnded/{SubjectId}', 'GET', NULL, NULL, 'Bearer secret', 'fire', 1000, 86401000, 176401000, 1000, 'pending', 0, 3000, 1, '[{"number":1,"at":2000,"took":3,"phase":"connect","fault":"connection_refused"}]', NULL, NULL, NULL, NULL);
INSERT INTO delivery VALUES (3, 'a2000000-0000-4000-8000-000000000000', '22222222-2222-4222-8222-222222222222', 'ScanExecutionCompleted', '9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b', 'http://10.0.0.1/ScanEnded/{SubjectId}', 'GET', NULL, NULL, 'Bearer secret', 'hold', 1000, 86401000, 176401000, 1000, 'held', 0, 1000, 1, '[{"number":1,"at":2000,"took":3,"phase":"connect","fault":"connection_refused"}]', 'unknown', 1, NULL, NULL);
INSERT INTO delivery VALUES (4, 'a3000000-0000-4000-8000-000000000000', '22222222-2222-4222-8222-222222222222', 'ScanExecutionCompleted', '9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b', 'http://10.0.0.1/ScanEnded/{SubjectId}', 'GET', NULL, NULL, NULL, 'fire', 1000, 86401000, 176401000, 1000, 'succeeded', 0, 1000, 1, '[{"number":1,"at":2000,"took":3,"status":204}]', 'delivered', 2, 2003, NULL);
INSERT INTO delivery VALUES (5, 'a4000000-0000-4000-8000-000000000000', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fire', 1000, 86401000, 176401000, 1000, 'succeeded', 0, 1000, 1, '[]', 'delivered', 3, 2003, 2100);
COMMIT;
