BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'receiver','m001_the_record','2026-11-28 18:32:49.933224+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'receiver','m002_numbers','2026-11-28 18:32:49.938224+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'receiver','m003_polls','2026-11-28 18:32:49.939567+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'receiver','m004_replays','2026-11-28 18:32:49.940183+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'receiver','m005_ways_to_the_few','2026-11-28 18:32:49.940762+00:00');
CREATE TABLE assets (
        event INTEGER NOT NULL REFERENCES events (number),
        position INTEGER NOT NULL,
        url TEXT NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending'
            CHECK (state = 'pending' OR state = 'stored' OR state = 'failed'),
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
        settled_at TEXT, renewed INTEGER NOT NULL DEFAULT 0, replay_id TEXT, alike INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (event, position)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "assets" VALUES(2,0,'https://cdn.test/partial/0.png','image','stored','stored',1,'2026-11-21T10:00:12.000Z',NULL,'2026-11-22T10:00:10.000Z','vidgo/partial/0.png','image/png',100,64,64,'abababababababababababababababababababababababababababababababab','2026-11-21T10:00:12.000Z',0,NULL,1);
INSERT INTO "assets" VALUES(2,1,'https://cdn.test/partial/1.png','image','failed','gone',1,'2026-11-21T10:00:12.000Z',NULL,'2026-11-22T10:00:10.000Z',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-21T10:00:12.000Z',0,NULL,1);
INSERT INTO "assets" VALUES(3,0,'https://cdn.test/revised/0.png','image','stored','stored',1,'2026-11-21T10:00:15.000Z',NULL,'2026-11-22T10:00:14.000Z','vidgo/revised/0.png','image/png',100,64,64,'abababababababababababababababababababababababababababababababab','2026-11-21T10:00:15.000Z',0,NULL,1);
INSERT INTO "assets" VALUES(3,1,'https://cdn.test/revised/1.png','image','stored','stored',1,'2026-11-21T10:00:18.000Z',NULL,'2026-11-22T10:00:17.000Z','vidgo/revised/1.png','image/png',100,64,64,'abababababababababababababababababababababababababababababababab','2026-11-21T10:00:18.000Z',0,'rpl_done',1);
INSERT INTO "assets" VALUES(4,0,'https://cdn.test/refetched/0.png','image','stored','stored',1,'2026-11-21T10:00:25.000Z',NULL,'2026-11-22T10:00:23.000Z','vidgo/refetched/0.png','image/png',100,64,64,'abababababababababababababababababababababababababababababababab','2026-11-21T10:00:25.000Z',0,'rpl_fetch',1);
INSERT INTO "assets" VALUES(4,1,'https://cdn.test/refetched/1.png','image','pending','connect_failed',1,'2026-11-21T10:06:40.000Z',NULL,'2026-11-22T10:00:23.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,'rpl_fetch',1);
INSERT INTO "assets" VALUES(4,2,'https://cdn.test/refetched/2.png','image','pending','timeout',2,'2058-07-30T11:46:40.000Z','lease_01a1fd8c690000000000000000000016','2026-11-22T10:00:23.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,'rpl_fetch',0);
INSERT INTO "assets" VALUES(5,0,'https://cdn.test/fetching/0.png','image','pending',NULL,1,'2058-07-30T11:46:40.000Z','lease_01a1fd8c690000000000000000000019','2026-11-22T10:00:40.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0);
INSERT INTO "assets" VALUES(5,1,'https://cdn.test/fetching/1.png','image','pending','timeout',1,'2026-11-21T10:01:00.000Z',NULL,'2026-11-22T10:00:40.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,1);
INSERT INTO "assets" VALUES(5,2,'https://cdn.test/fetching/2.png','image','pending',NULL,0,'2026-11-21T10:00:40.000Z',NULL,'2026-11-22T10:00:40.000Z',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0);
CREATE TABLE attempts (
        number INTEGER PRIMARY KEY,
        event INTEGER NOT NULL REFERENCES events (number),
        target TEXT NOT NULL,   -- "asset 0", "sink jsonl"
        attempt INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        started_at TEXT NOT NULL,
        seconds REAL NOT NULL,
        detail TEXT
    ) STRICT
    ;
INSERT INTO "attempts" VALUES(1,1,'sink all',1,'delivered','2026-11-21T10:00:01.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(2,1,'sink failures',1,'delivered','2026-11-21T10:00:01.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(3,2,'asset 0',1,'stored','2026-11-21T10:00:12.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(4,2,'asset 1',1,'gone','2026-11-21T10:00:12.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(5,2,'sink all',1,'refused','2026-11-21T10:00:13.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(6,3,'asset 0',1,'stored','2026-11-21T10:00:15.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(7,3,'asset 1',1,'timeout','2026-11-21T10:00:15.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(8,3,'sink all',1,'delivered','2026-11-21T10:00:16.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(9,3,'asset 1',1,'stored','2026-11-21T10:00:18.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(10,3,'sink all',1,'delivered','2026-11-21T10:00:19.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(11,4,'asset 0',1,'gone','2026-11-21T10:00:21.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(12,4,'asset 1',1,'gone','2026-11-21T10:00:21.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(13,4,'asset 2',1,'timeout','2026-11-21T10:00:21.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(14,4,'sink all',1,'delivered','2026-11-21T10:00:22.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(15,4,'sink failures',1,'timeout','2026-11-21T10:00:22.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(16,4,'asset 0',1,'stored','2026-11-21T10:00:25.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(17,4,'asset 1',1,'connect_failed','2026-11-21T10:00:25.000Z',0.0,NULL);
INSERT INTO "attempts" VALUES(18,5,'asset 1',1,'timeout','2026-11-21T10:00:50.000Z',0.0,NULL);
CREATE TABLE deliveries (
        number INTEGER PRIMARY KEY,
        provider TEXT NOT NULL,
        task_id TEXT NOT NULL,  -- '' where the body names none
        claim TEXT NOT NULL,    -- the submission that the token names, or ''
        digest TEXT NOT NULL,   -- the first half of the body's SHA-256
        submission INTEGER REFERENCES submissions (number), -- the owner's, where there is one
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
INSERT INTO "deliveries" VALUES(1,'vidgo','told','','7086dfcdeea6ffa3863f2ba46e3e210e',1,'callback','signature','accepted',NULL,NULL,NULL,'2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z',1,NULL);
INSERT INTO "deliveries" VALUES(2,'vidgo','told','','3baf35a6beac662b773ce9627384388b',1,'callback','signature','conflict','finished',NULL,NULL,'2026-11-21T10:00:02.000Z','2026-11-21T10:00:02.000Z',1,X'5265706F7274287461736B5F69643D27746F6C64272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F746F6C642F302E706E67272C206B696E643D27696D61676527292C292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(3,'vidgo','unowned','','64019a9ab77c5d6ce5dbae4a90958be7',NULL,'callback','signature','unowned','finished',NULL,NULL,'2026-11-21T10:00:02.000Z','2026-11-21T10:00:02.000Z',1,NULL);
INSERT INTO "deliveries" VALUES(4,'vidgo','partial','','daba6fafd2c73444242b382e2b7d150e',2,'callback','signature','accepted','finished',NULL,NULL,'2026-11-21T10:00:10.000Z','2026-11-21T10:00:10.000Z',1,X'5265706F7274287461736B5F69643D277061727469616C272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F7061727469616C2F302E706E67272C206B696E643D27696D61676527292C2052656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F7061727469616C2F312E706E67272C206B696E643D27696D6167652729292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(5,'vidgo','revised','','ddea9ce41e89a62bc4fd4da0032edf0b',3,'callback','signature','accepted','finished',NULL,NULL,'2026-11-21T10:00:14.000Z','2026-11-21T10:00:14.000Z',1,X'5265706F7274287461736B5F69643D2772657669736564272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F726576697365642F302E706E67272C206B696E643D27696D61676527292C2052656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F726576697365642F312E706E67272C206B696E643D27696D6167652729292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(6,'vidgo','refetched','','9994f4c67cfe97bb5ae41dd21c9c5130',4,'callback','signature','accepted','finished',NULL,NULL,'2026-11-21T10:00:20.000Z','2026-11-21T10:00:20.000Z',1,X'5265706F7274287461736B5F69643D27726566657463686564272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F7265666574636865642F302E706E67272C206B696E643D27696D61676527292C2052656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F7265666574636865642F312E706E67272C206B696E643D27696D61676527292C2052656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F7265666574636865642F322E706E67272C206B696E643D27696D6167652729292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(7,'vidgo','fetching','','484b8f04df234a9e061ee76a2d36e736',5,'callback','signature','accepted','finished',NULL,NULL,'2026-11-21T10:00:40.000Z','2026-11-21T10:00:40.000Z',1,X'5265706F7274287461736B5F69643D276665746368696E67272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F6665746368696E672F302E706E67272C206B696E643D27696D61676527292C2052656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F6665746368696E672F312E706E67272C206B696E643D27696D61676527292C2052656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F6665746368696E672F322E706E67272C206B696E643D27696D6167652729292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(8,'vidgo','untold','','9fdc116f5534913e5716f354b5551c7b',6,'callback','signature','accepted',NULL,NULL,NULL,'2026-11-21T10:00:41.000Z','2026-11-21T10:00:41.000Z',1,X'5265706F7274287461736B5F69643D27756E746F6C64272C2073746174653D3C5265706F727453746174652E4641494C45443A20276661696C6564273E2C2066696C65733D28292C206572726F725F636F64653D276E736677272C206572726F725F6D6573736167653D2772656675736564272C2070726F76696465725F73746174653D4E6F6E652C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(9,'vidgo','submitted','','c8b30ae2e847dd0b90f59aecad323200',7,'callback','signature','progress','running',NULL,NULL,'2026-11-21T10:00:43.000Z','2026-11-21T10:00:43.000Z',1,X'5265706F7274287461736B5F69643D277375626D6974746564272C2073746174653D3C5265706F727453746174652E50524F47524553533A202770726F6772657373273E2C2066696C65733D28292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2772756E6E696E67272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(10,'vidgo','submitted','','7f52374cc512fc96941d0910f1870b0c',7,'callback','signature','unrecognised',NULL,'state ''odd'' is not known',NULL,'2026-11-21T10:00:43.000Z','2026-11-21T10:00:43.000Z',1,X'7B226F6464223A20327D');
INSERT INTO "deliveries" VALUES(11,'vidgo','held','','48f31226de9ad25e8d8eecb4f27aafb0',10,'callback','provider','unconfirmed','finished',NULL,'{"fingerprint":"da4c07de4ef6230fbed0cdfad11bb994"}','2026-11-21T10:00:44.000Z','2026-11-21T10:00:44.000Z',1,X'5265706F7274287461736B5F69643D2768656C64272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F68656C642F302E706E67272C206B696E643D27696D61676527292C292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(12,'vidgo','held','','54e9b08af2b5e17ca3d637f2ce6146c5',10,'callback','provider','unconfirmed','finished',NULL,'{"fingerprint":"e28e787bf46b029821590cc0e4c79c32"}','2026-11-21T10:00:45.000Z','2026-11-21T10:00:45.000Z',1,X'5265706F7274287461736B5F69643D2768656C64272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F68656C642F302E706E67272C206B696E643D27696D61676527292C2052656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F68656C642F312E706E67272C206B696E643D27696D6167652729292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(13,'vidgo','early','','0ea2701f6090cec298450c793de9b74e',NULL,'callback','signature','early','running',NULL,NULL,'2026-11-21T10:00:46.000Z','2026-11-21T10:00:46.000Z',1,X'5265706F7274287461736B5F69643D276561726C79272C2073746174653D3C5265706F727453746174652E50524F47524553533A202770726F6772657373273E2C2066696C65733D28292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2772756E6E696E67272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(14,'vidgo','early','','9cf50a8b84419adfdc4a736daae5f2e1',NULL,'callback','signature','early','finished',NULL,'{"provider":"vidgo","via":"callback","proof":"signature","submission_id":null,"body":"","digest":"9cf50a8b84419adfdc4a736daae5f2e1","fingerprint":"bc531e8c1aa11d579a18e76176543c8e","report":{"task_id":"early","state":"completed","files":[{"url":"https://cdn.test/early/0.png","kind":"image"}],"error_code":null,"error_message":null,"provider_state":"finished","note":null},"received_at":"2026-11-21T10:00:47Z","links_die_at":"2026-11-22T10:00:47Z"}','2026-11-21T10:00:47.000Z','2026-11-21T10:00:47.000Z',1,X'5265706F7274287461736B5F69643D276561726C79272C2073746174653D3C5265706F727453746174652E434F4D504C455445443A2027636F6D706C65746564273E2C2066696C65733D2852656D6F746546696C652875726C3D2768747470733A2F2F63646E2E746573742F6561726C792F302E706E67272C206B696E643D27696D61676527292C292C206572726F725F636F64653D4E6F6E652C206572726F725F6D6573736167653D4E6F6E652C2070726F76696465725F73746174653D2766696E6973686564272C206E6F74653D4E6F6E6529');
INSERT INTO "deliveries" VALUES(15,'vidgo','','','51e17f55eb20fdaa941ef119c82193ae',NULL,'callback','signature','unrecognised',NULL,'state ''odd'' is not known',NULL,'2026-11-21T10:00:48.000Z','2026-11-21T10:00:48.000Z',1,X'7B226F6464223A20317D');
CREATE TABLE events (
        number INTEGER PRIMARY KEY REFERENCES submissions (number),
        id TEXT NOT NULL,       -- as consumers know it
        via TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        received_at TEXT NOT NULL,
        type TEXT,              -- unset until the last asset settles
        ended_at TEXT,
        revision INTEGER NOT NULL DEFAULT 1,
        error_code TEXT,
        error_message TEXT
    , announced INTEGER NOT NULL DEFAULT 0) STRICT
    ;
INSERT INTO "events" VALUES(1,'evt_01a1fd8c690000000000000000000001','callback','6cfa8ad5b82f5521a74c82cc35ee6f00','2026-11-21T10:00:00.000Z','task.failed','2026-11-21T10:00:00.000Z',1,'nsfw','refused',0);
INSERT INTO "events" VALUES(2,'evt_01a1fd8c690000000000000000000006','callback','3413403c698485af9ab04d2fddfeaa13','2026-11-21T10:00:10.000Z','task.partial','2026-11-21T10:00:12.000Z',1,NULL,NULL,1);
INSERT INTO "events" VALUES(3,'evt_01a1fd8c690000000000000000000009','callback','676f3125eee047fa6e5449070e36a7cc','2026-11-21T10:00:14.000Z','task.completed','2026-11-21T10:00:18.000Z',2,NULL,NULL,2);
INSERT INTO "events" VALUES(4,'evt_01a1fd8c690000000000000000000010','callback','76eb58f214b5af3e0938c9be3deb69a8','2026-11-21T10:00:20.000Z','task.failed','2026-11-21T10:00:21.000Z',1,'gone','none of 3 files could be had',0);
INSERT INTO "events" VALUES(5,'evt_01a1fd8c690000000000000000000018','callback','e1a09cdeff40e144bfceec176a153464','2026-11-21T10:00:40.000Z',NULL,NULL,1,NULL,NULL,0);
INSERT INTO "events" VALUES(6,'evt_01a1fd8c69000000000000000000001a','callback','6cfa8ad5b82f5521a74c82cc35ee6f00','2026-11-21T10:00:41.000Z','task.failed','2026-11-21T10:00:41.000Z',1,'nsfw','refused',0);
CREATE TABLE heartbeat (id INTEGER PRIMARY KEY CHECK (id = 1), beats INTEGER NOT NULL) STRICT;
INSERT INTO "heartbeat" VALUES(1,0);
CREATE TABLE outbox (
        number INTEGER PRIMARY KEY,
        event INTEGER NOT NULL REFERENCES events (number),
        sink TEXT NOT NULL,
        revision INTEGER NOT NULL,
        replay_id TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL DEFAULT 'pending'
            CHECK (state = 'pending' OR state = 'delivered' OR state = 'dead'),
        outcome TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        due_at TEXT NOT NULL,
        lease TEXT,
        created_at TEXT NOT NULL,
        settled_at TEXT
    , revived INTEGER NOT NULL DEFAULT 0) STRICT
    ;
INSERT INTO "outbox" VALUES(1,1,'all',1,'','delivered','delivered',1,'2026-11-21T10:00:01.000Z',NULL,'2026-11-21T10:00:00.000Z','2026-11-21T10:00:01.000Z',0);
INSERT INTO "outbox" VALUES(2,1,'failures',1,'','delivered','delivered',1,'2026-11-21T10:00:01.000Z',NULL,'2026-11-21T10:00:00.000Z','2026-11-21T10:00:01.000Z',0);
INSERT INTO "outbox" VALUES(3,2,'all',1,'','dead','refused',1,'2026-11-21T10:00:13.000Z',NULL,'2026-11-21T10:00:12.000Z','2026-11-21T10:00:13.000Z',0);
INSERT INTO "outbox" VALUES(4,3,'all',1,'','delivered','delivered',1,'2026-11-21T10:00:16.000Z',NULL,'2026-11-21T10:00:15.000Z','2026-11-21T10:00:16.000Z',0);
INSERT INTO "outbox" VALUES(5,3,'all',2,'','delivered','delivered',1,'2026-11-21T10:00:19.000Z',NULL,'2026-11-21T10:00:18.000Z','2026-11-21T10:00:19.000Z',0);
INSERT INTO "outbox" VALUES(6,4,'all',1,'','delivered','delivered',1,'2026-11-21T10:00:22.000Z',NULL,'2026-11-21T10:00:21.000Z','2026-11-21T10:00:22.000Z',0);
INSERT INTO "outbox" VALUES(7,4,'failures',1,'','pending','timeout',1,'2026-11-21T10:08:20.000Z',NULL,'2026-11-21T10:00:21.000Z',NULL,0);
INSERT INTO "outbox" VALUES(8,1,'all',1,'rpl_notify','pending',NULL,0,'2026-11-21T10:00:30.000Z',NULL,'2026-11-21T10:00:30.000Z',NULL,0);
INSERT INTO "outbox" VALUES(9,6,'all',1,'','pending',NULL,0,'2026-11-21T10:00:41.000Z',NULL,'2026-11-21T10:00:41.000Z',NULL,0);
INSERT INTO "outbox" VALUES(10,6,'failures',1,'','pending',NULL,1,'2058-07-30T11:46:40.000Z','lease_01a1fd8c69000000000000000000001b','2026-11-21T10:00:41.000Z',NULL,0);
CREATE TABLE polls (
        number INTEGER PRIMARY KEY REFERENCES submissions (number),
        provider TEXT NOT NULL,
        due_at TEXT NOT NULL,
        lease TEXT,
        asked INTEGER NOT NULL DEFAULT 0,
        outcome TEXT,           -- of the last question
        detail TEXT,
        asked_at TEXT,
        held INTEGER NOT NULL DEFAULT 0, -- 1: callbacks wait for the answer; what they say is in "waiting"
        replay_id TEXT          -- the replay that wants the next question asked
    ) STRICT
    ;
INSERT INTO "polls" VALUES(7,'vidgo','2026-11-21T10:07:40.000Z','lease_01a1fd8c69000000000000000000001c',1,NULL,NULL,NULL,0,NULL);
INSERT INTO "polls" VALUES(8,'vidgo','2058-07-30T11:46:40.000Z',NULL,1,'http_error',NULL,'2026-11-21T10:06:41.000Z',0,NULL);
INSERT INTO "polls" VALUES(10,'vidgo','2026-11-21T10:00:44.000Z',NULL,0,NULL,NULL,NULL,1,NULL);
CREATE TABLE replays (
        id TEXT PRIMARY KEY,
        stage TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'cancelled', 'done')),
        requested_by TEXT NOT NULL,
        created_at TEXT NOT NULL,
        finished_at TEXT,
        rate REAL CHECK (rate >= 0.001), -- matches a second
        due_at TEXT,
        lease TEXT,
        matched INTEGER NOT NULL,   -- when it was asked for
        looked_at INTEGER NOT NULL DEFAULT 0,
        queued INTEGER NOT NULL DEFAULT 0,
        settled INTEGER NOT NULL DEFAULT 0,
        cursor INTEGER NOT NULL DEFAULT 0, -- the last submission (reprocess: delivery) that was looked at
        up_to INTEGER NOT NULL,     -- the newest when it was asked for
        results TEXT NOT NULL DEFAULT '{}', -- JSON: what has settled, by outcome
        filter TEXT NOT NULL,       -- JSON
        sinks TEXT NOT NULL         -- JSON
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "replays" VALUES('rpl_done','fetch','done','ann','2026-11-21T10:00:17.000Z','2026-11-21T10:00:18.000Z',NULL,NULL,'lease_01a1fd8c69000000000000000000000e',1,1,1,1,3,3,'{"stored":1}','{"provider":null,"owner":null,"state":null,"type":null,"since":null,"until":null,"task_ids":["revised"]}','[]');
INSERT INTO "replays" VALUES('rpl_fetch','fetch','running','ann','2026-11-21T10:00:23.000Z',NULL,NULL,NULL,NULL,1,1,3,1,4,4,'{"stored":1}','{"provider":null,"owner":null,"state":null,"type":null,"since":null,"until":null,"task_ids":["refetched"]}','[]');
INSERT INTO "replays" VALUES('rpl_notify','notify','running','ann','2026-11-21T10:00:30.000Z',NULL,NULL,NULL,NULL,1,1,1,0,1,4,'{}','{"provider":null,"owner":null,"state":null,"type":null,"since":null,"until":null,"task_ids":["told"]}','["all"]');
CREATE TABLE retention (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        deliveries_to INTEGER NOT NULL,
        submissions_to INTEGER NOT NULL
    , polls_to INTEGER NOT NULL DEFAULT 0) STRICT
    ;
INSERT INTO "retention" VALUES(1,1,1,0);
CREATE TABLE submissions (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        provider TEXT NOT NULL,
        owner TEXT NOT NULL,
        task_id TEXT,           -- unset while only reserved
        model TEXT,
        request TEXT,           -- JSON, as the backend gave it
        metadata TEXT NOT NULL, -- JSON object, handed on to consumers
        created_at TEXT NOT NULL,
        bound_at TEXT
    ) STRICT
    ;
INSERT INTO "submissions" VALUES(1,'sub_told','vidgo','user-17','told','gpt-image-2',NULL,'{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES(2,'sub_partial','vidgo','bob','partial','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES(3,'sub_revised','vidgo','user-17','revised','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES(4,'sub_refetched','vidgo','user-17','refetched','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES(5,'sub_fetching','vidgo','user-17','fetching','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES(6,'sub_untold','vidgo','bob','untold','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES(7,'sub_submitted','vidgo','user-17','submitted','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES(8,'sub_asked','vidgo','user-17','asked','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
INSERT INTO "submissions" VALUES(9,'sub_reserved','vidgo','user-17',NULL,'gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z',NULL);
INSERT INTO "submissions" VALUES(10,'sub_held','vidgo','user-17','held','gpt-image-2','{"prompt":"a lighthouse"}','{"order":7}','2026-11-21T10:00:00.000Z','2026-11-21T10:00:00.000Z');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX submissions_task ON submissions (provider, task_id) WHERE task_id IS NOT NULL;
CREATE UNIQUE INDEX deliveries_key ON deliveries (provider, task_id, claim, digest);
CREATE INDEX deliveries_ownerless ON deliveries (verdict, received_at)
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised')
    ;
CREATE UNIQUE INDEX outbox_key ON outbox (event, sink, revision, replay_id);
CREATE INDEX outbox_pending ON outbox (sink, due_at) WHERE state = 'pending';
CREATE INDEX attempts_event ON attempts (event);
CREATE VIEW tasks AS
    SELECT s.provider, s.task_id,
           CASE WHEN e.id IS NULL THEN 'submitted' WHEN e.type IS NULL THEN 'fetching'
                ELSE substr(e.type, 6) END AS state,
           s.owner, s.model, s.id AS submission_id, e.id AS event_id,
           s.created_at AS submitted_at, e.received_at, e.ended_at, e.error_code, e.error_message, s.number
    FROM submissions s LEFT JOIN events e ON e.number = s.number
    WHERE s.task_id IS NOT NULL;
CREATE INDEX polls_due ON polls (provider, due_at);
CREATE INDEX polls_held ON polls (provider, due_at) WHERE held = 1;
CREATE VIEW task_timeline AS
    SELECT provider, task_id, created_at AS at, 'submission' AS what, 'logged for ' || owner AS detail
        FROM submissions WHERE task_id IS NOT NULL
    UNION ALL SELECT provider, task_id, received_at, 'delivery', verdict || ' by ' || via ||
        CASE WHEN seen > 1 THEN ', seen ' || seen || ' times' ELSE '' END
        FROM deliveries WHERE task_id <> ''
    UNION ALL SELECT p.provider, s.task_id, p.asked_at, 'poll', p.outcome || ', attempt ' || p.asked
        FROM polls p JOIN submissions s USING (number) WHERE p.asked_at IS NOT NULL
    UNION ALL SELECT s.provider, s.task_id, a.started_at, a.target, a.outcome || ', attempt ' || a.attempt
        FROM attempts a JOIN submissions s ON s.number = a.event
    UNION ALL SELECT s.provider, s.task_id, e.ended_at, 'event', e.type
        FROM events e JOIN submissions s USING (number) WHERE e.ended_at IS NOT NULL
    ORDER BY provider, task_id, at;
CREATE INDEX deliveries_unrecognised ON deliveries (number) WHERE verdict = 'unrecognised';
CREATE INDEX outbox_dead ON outbox (number) WHERE state = 'dead';
CREATE INDEX outbox_replayed ON outbox (replay_id, sink, state) WHERE replay_id <> '';
CREATE INDEX assets_pending ON assets (attempts = 0 AND outcome IS NULL, deadline_at)
    WHERE state = 'pending'
    ;
CREATE INDEX assets_again ON assets (min(attempts, 3), due_at, deadline_at)
    WHERE state = 'pending' AND (attempts > 0 OR outcome IS NOT NULL)
    ;
CREATE INDEX deliveries_large ON deliveries (verdict)
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') AND length(body) > 65536
    ;
COMMIT;
