BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'receiver','m001_the_record','2026-11-21 14:44:11.788237+00:00');
CREATE TABLE assets (
        event_id TEXT NOT NULL REFERENCES events (id),
        position INTEGER NOT NULL,
        url TEXT NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'stored', 'failed')),
        outcome TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        due_at TEXT NOT NULL,
        lease TEXT,
        deadline_at TEXT NOT NULL,
        key TEXT,
        media_type TEXT,
        bytes INTEGER,
        width INTEGER,
        height INTEGER,
        sha256 TEXT,
        settled_at TEXT,
        PRIMARY KEY (event_id, position)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "assets" VALUES('evt_01a1fd8c690000000000000000000004',0,'https://cdn.test/partial/0.png','image','stored','stored',1,'2026-11-21T10:00:12.000Z',NULL,'2026-11-22T10:00:10.000Z','vidgo/partial/0.png','image/png',100,64,64,'abababababababababababababababababababababababababababababababab','2026-11-21T10:00:12.000Z');
INSERT INTO "assets" VALUES('evt_01a1fd8c690000000000000000000004',1,'https://cdn.test/partial/1.png','image','failed','gone',1,'2026-11-21T10:00:12.000Z',NULL,'2026-11-22T10:00:10.000Z',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:12.000Z');
INSERT INTO "assets" VALUES('evt_01a1fd8c690000000000000000000009',0,'https://cdn.test/fetching/0.png','image','pending',NULL,1,'2058-07-30T11:46:40.000Z','lease_01a1fd8c69000000000000000000000a','2026-11-22T10:00:30.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "assets" VALUES('evt_01a1fd8c690000000000000000000009',1,'https://cdn.test/fetching/1.png','image','pending','timeout',1,'2026-11-21T10:00:50.000Z',NULL,'2026-11-22T10:00:30.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE attempts (
        number INTEGER PRIMARY KEY,
        event_id TEXT NOT NULL REFERENCES events (id),
        target TEXT NOT NULL,   -- "asset 0", "sink jsonl"
        attempt INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        started_at TEXT NOT NULL,
        seconds REAL NOT NULL,
        detail TEXT
    ) STRICT
    ;
INSERT INTO "attempts" VALUES(1,'evt_01a1fd8c690000000000000000000004','asset 0',1,'stored','2026-11-21T10:00:12.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(2,'evt_01a1fd8c690000000000000000000004','asset 1',1,'gone','2026-11-21T10:00:12.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(3,'evt_01a1fd8c690000000000000000000004','sink all',1,'refused','2026-11-21T10:00:13.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(4,'evt_01a1fd8c690000000000000000000009','asset 1',1,'timeout','2026-11-21T10:00:40.000Z',0.0,NULL);
CREATE TABLE deliveries (
        number INTEGER PRIMARY KEY,
        provider TEXT NOT NULL,
        task_id TEXT NOT NULL,  -- '' where the body names none
        claim TEXT NOT NULL,    -- the submission that the token names, or ''
        digest TEXT NOT NULL,   -- the first half of the body's SHA-256
        submission_id TEXT,     -- the owner's, where there is one
        event_id TEXT,
        via TEXT NOT NULL CHECK (via IN ('callback', 'poll')),
        proof TEXT NOT NULL,
        verdict TEXT NOT NULL,
        provider_state TEXT,
        note TEXT,
        waiting TEXT,           -- JSON: what it says, while it waits for its submission
        received_at TEXT NOT NULL,
        last_seen_at TEXT NOT NULL,
        seen INTEGER NOT NULL DEFAULT 1,
        body BLOB               -- verbatim; dropped by retention, the key above stays
    ) STRICT
    ;
INSERT INTO "deliveries" VALUES(1,'vidgo','told','','7086dfcdeea6ffa3863f2ba46e3e210e','sub_told','evt_01a1fd8c690000000000000000000001','callback','provider','accepted',NULL,NULL,NULL,'2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z',1,NULL);
INSERT INTO "deliveries" VALUES(2,'vidgo','partial','','daba6fafd2c73444242b382e2b7d150e','sub_partial','evt_01a1fd8c690000000000000000000004','callback','provider','accepted','finished',NULL,NULL,'2026-11-21T10:00:10.000Z','2026-11-21T10:00:10.000Z',1,X'5265706F7274287461736B5F69643D277061727469616C272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F7061727469616C2F302E706E67272C206B696E643D27696D61676527292C2052656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F7061727469616C2F312E706E67272C206B696E643D27696D6167652729292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(3,'vidgo','untold','','9fdc116f5534913e5716f354b5551c7b','sub_untold','evt_01a1fd8c690000000000000000000007','callback','provider','accepted',NULL,NULL,NULL,'2026-11-21T10:00:20.000Z','2026-11-21T10:00:20.000Z',1,X'5265706F7274287461736B5F69643D27756E746F6C64272C2073746174653D3C5265706F727453746174652E4641494C45443A20276661696C6564273E2C2066696C65733D28292C206572726F725F636F64653D276E736677272C206572726F725F6D6573736167653D2772656675736564272C2070726F76696465725F73746174653D4E6F6E652C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(4,'vidgo','fetching','','c6f027492ed06d91a7d62035ef0f1901','sub_fetching','evt_01a1fd8c690000000000000000000009','callback','provider','accepted','finished',NULL,NULL,'2026-11-21T10:00:30.000Z','2026-11-21T10:00:30.000Z',1,X'5265706F7274287461736B5F69643D276665746368696E67272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F6665746368696E672F302E706E67272C206B696E643D27696D61676527292C2052656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F6665746368696E672F312E706E67272C206B696E643D27696D6167652729292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(5,'vidgo','submitted','','c8b30ae2e847dd0b90f59aecad323200','sub_submitted',NULL,'callback','provider','progress','running',NULL,NULL,'2026-11-21T10:00:41.000Z','2026-11-21T10:00:41.000Z',1,X'5265706F7274287461736B5F69643D277375626D6974746564272C2073746174653D3C5265706F727453746174652E50524F47524553533A202770726F6772657373273E2C2066696C65733D28292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2772756E6E696E67272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(6,'vidgo','early','','b7a4b13df0a8ba269c0e86419032afb7',NULL,NULL,'callback','provider','early','finished',NULL,'{"provider":"vidgo","via":"callback","proof":"provider","submission_id":null,"body":"","digest":"b7a4b13df0a8ba269c0e86419032afb7","fingerprint":"b8f217936f84645e31dd22ae7aa34e1b","report":{"task_id":"early","state":"completed","files":[{"url":"https://cdn.test/early/0.png","kind":"image"},{"url":"https://cdn.test/early/1.png","kind":"image"}],"error_code":null,"error_message":null,"provider_state":"finished","note":null},"received_at":"2026-11-21T10:00:42Z","links_die_at":"2026-11-22T10:00:42Z"}','2026-11-21T10:00:42.000Z','2026-11-21T10:00:42.000Z',1,X'5265706F7274287461736B5F69643D276561726C79272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F6561726C792F302E706E67272C206B696E643D27696D61676527292C2052656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F6561726C792F312E706E67272C206B696E643D27696D6167652729292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(7,'vidgo','','','4f53cda18c2baa0c0354bb5f9a3ecbe5',NULL,NULL,'callback','provider','unrecognised',NULL,'state ''odd'' is not known',NULL,'2026-11-21T10:00:43.000Z','2026-11-21T10:00:43.000Z',1,X'5B5D');
CREATE TABLE events (
        id TEXT PRIMARY KEY,
        provider TEXT NOT NULL,
        task_id TEXT NOT NULL,
        submission_id TEXT NOT NULL REFERENCES submissions (id),
        via TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        received_at TEXT NOT NULL,
        type TEXT,              -- unset until the last asset settles
        ended_at TEXT,
        revision INTEGER NOT NULL DEFAULT 1,
        error_code TEXT,
        error_message TEXT
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "events" VALUES('evt_01a1fd8c690000000000000000000001','vidgo','told','sub_told','callback','6cfa8ad5b82f5521a74c82cc35ee6f00','2026-11-21T10:00:00.000Z','task.failed','2026-11-21T10:00:00.000Z',1,'nsfw','refused');
INSERT INTO "events" VALUES('evt_01a1fd8c690000000000000000000004','vidgo','partial','sub_partial','callback','3413403c698485af9ab04d2fddfeaa13','2026-11-21T10:00:10.000Z','task.partial','2026-11-21T10:00:12.000Z',1,NULL,NULL);
INSERT INTO "events" VALUES('evt_01a1fd8c690000000000000000000007','vidgo','untold','sub_untold','callback','6cfa8ad5b82f5521a74c82cc35ee6f00','2026-11-21T10:00:20.000Z','task.failed','2026-11-21T10:00:20.000Z',1,'nsfw','refused');
INSERT INTO "events" VALUES('evt_01a1fd8c690000000000000000000009','vidgo','fetching','sub_fetching','callback','2d18010f12b5a06b2dd2d79fca5e7ba6','2026-11-21T10:00:30.000Z',NULL,NULL,1,NULL,NULL);
CREATE TABLE heartbeat (id INTEGER PRIMARY KEY CHECK (id = 1), beats INTEGER NOT NULL) STRICT;
INSERT INTO "heartbeat" VALUES(1,0);
CREATE TABLE outbox (
        number INTEGER PRIMARY KEY,
        event_id TEXT NOT NULL REFERENCES events (id),
        sink TEXT NOT NULL,
        revision INTEGER NOT NULL,
        replay_id TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
        outcome TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        due_at TEXT NOT NULL,
        lease TEXT,
        created_at TEXT NOT NULL,
        settled_at TEXT
    ) STRICT
    ;
INSERT INTO "outbox" VALUES(1,'evt_01a1fd8c690000000000000000000001','all',1,'','delivered','delivered',1,'2026-11-21T10:00:01.000Z',NULL,'2026-11-21T10:00:00.000Z','2026-11-21T10:00:01.000Z');
INSERT INTO "outbox" VALUES(2,'evt_01a1fd8c690000000000000000000001','failures',1,'','delivered','delivered',1,'2026-11-21T10:00:01.000Z',NULL,'2026-11-21T10:00:00.000Z','2026-11-21T10:00:01.000Z');
INSERT INTO "outbox" VALUES(3,'evt_01a1fd8c690000000000000000000004','all',1,'','dead','refused',1,'2026-11-21T10:00:13.000Z',NULL,'2026-11-21T10:00:12.000Z','2026-11-21T10:00:13.000Z');
INSERT INTO "outbox" VALUES(4,'evt_01a1fd8c690000000000000000000007','all',1,'','pending',NULL,1,'2058-07-30T11:46:40.000Z','lease_01a1fd8c690000000000000000000008','2026-11-21T10:00:20.000Z',NULL);
INSERT INTO "outbox" VALUES(5,'evt_01a1fd8c690000000000000000000007','failures',1,'','pending',NULL,0,'2026-11-21T10:00:20.000Z',NULL,'2026-11-21T10:00:20.000Z',NULL);
CREATE TABLE retention (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        deliveries_to INTEGER NOT NULL,
        submissions_to TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "retention" VALUES(1,1,'sub_told');
CREATE TABLE submissions (
        id TEXT PRIMARY KEY,
        provider TEXT NOT NULL,
        owner TEXT NOT NULL,
        task_id TEXT,           -- unset while only reserved
        model TEXT,
        request TEXT,           -- JSON, as the backend gave it
        metadata TEXT NOT NULL, -- JSON object, handed on to consumers
        created_at TEXT NOT NULL,
        bound_at TEXT
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "submissions" VALUES('sub_fetching','vidgo','user-17','fetching','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES('sub_partial','vidgo','bob','partial','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES('sub_reserved','vidgo','user-17',NULL,'gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z',NULL);
INSERT INTO "submissions" VALUES('sub_submitted','vidgo','user-17','submitted','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES('sub_told','vidgo','user-17','told','gpt-image-2',NULL,'{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES('sub_untold','vidgo','bob','untold','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX submissions_task ON submissions (provider, task_id) WHERE task_id IS NOT NULL;
CREATE UNIQUE INDEX deliveries_key ON deliveries (provider, task_id, claim, digest);
CREATE INDEX deliveries_ownerless ON deliveries (verdict, received_at)
    WHERE submission_id IS NULL AND verdict IN ('early', 'unrecognised')
    ;
CREATE UNIQUE INDEX events_task ON events (provider, task_id);
CREATE INDEX assets_pending ON assets (deadline_at, due_at) WHERE state = 'pending';
CREATE UNIQUE INDEX outbox_key ON outbox (event_id, sink, revision, replay_id);
CREATE INDEX outbox_pending ON outbox (sink, due_at) WHERE state = 'pending';
CREATE INDEX attempts_event ON attempts (event_id);
CREATE VIEW tasks AS
    SELECT s.provider, s.task_id,
           CASE WHEN e.id IS NULL THEN 'submitted' WHEN e.type IS NULL THEN 'fetching'
                ELSE substr(e.type, 6) END AS state,
           s.owner, s.model, s.id AS submission_id, e.id AS event_id,
           s.created_at AS submitted_at, e.received_at, e.ended_at, e.error_code, e.error_message
    FROM submissions s LEFT JOIN events e ON e.provider = s.provider AND e.task_id = s.task_id
    WHERE s.task_id IS NOT NULL;
CREATE VIEW task_timeline AS
    SELECT provider, task_id, created_at AS at, 'submission' AS what, 'logged for ' || owner AS detail
        FROM submissions WHERE task_id IS NOT NULL
    UNION ALL SELECT provider, task_id, received_at, 'delivery', verdict || ' by ' || via ||
        CASE WHEN seen > 1 THEN ', seen ' || seen || ' times' ELSE '' END
        FROM deliveries WHERE task_id <> ''
    UNION ALL SELECT e.provider, e.task_id, a.started_at, a.target, a.outcome || ', attempt ' || a.attempt
        FROM attempts a JOIN events e ON e.id = a.event_id
    UNION ALL SELECT provider, task_id, ended_at, 'event', type FROM events WHERE ended_at IS NOT NULL
    ORDER BY provider, task_id, at;
COMMIT;
