-- The event log: appending, versions, who may see and do what, consumers.
\set VERBOSITY terse
CREATE ROLE regress_event_app;
CREATE ROLE regress_event_bypass BYPASSRLS;
CREATE ROLE regress_event_admin;
SELECT platpat.grant_admin('regress_event_admin');
GRANT EXECUTE ON FUNCTION platpat.append_event(text, text, text, jsonb, bigint, jsonb),
	platpat.append_event(text, uuid, text, jsonb, bigint, jsonb),
	platpat.append_event(text, bigint, text, jsonb, bigint, jsonb) TO regress_event_app, regress_event_bypass;
GRANT SELECT ON platpat.events, platpat.event_streams TO regress_event_app, regress_event_bypass;

-- a version counts the events of one thing, a position those of the log
SELECT platpat.append_event('order', '1', 'order.created', '{"total": 10}');
-- the worker makes a partition ahead, too, and has a lock then
SELECT count(*) <= 1 AS maintained FROM platpat.maintain_events();
DO $$ BEGIN WHILE platpat.event_watermark() < platpat.last_position() LOOP PERFORM pg_sleep(0.01); END LOOP; END $$;
SELECT platpat.append_event('order', '1', 'order.paid', '{"by": "card"}', metadata => '{"request": 7}');
SELECT platpat.append_event('order', 2, 'order.created', '{"total": 20}');
SELECT platpat.append_event('order', uuid '3F2504E0-4F89-41D3-9A0C-000000000001', 'order.created', '{}');
SELECT position, aggregatetype, aggregateid, version, type, payload, tenant, metadata,
	id IS NOT NULL AS has_id, created_at BETWEEN now() - interval '1 minute' AND clock_timestamp() AS is_new
FROM platpat.events ORDER BY position;
SELECT * FROM platpat.event_streams ORDER BY aggregateid;
SELECT platpat.last_position(), platpat.event_watermark();

-- optimistic concurrency
\set VERBOSITY default
SELECT platpat.append_event('order', '1', 'order.shipped', '{}', 1);
\set VERBOSITY terse
SELECT platpat.append_event('order', '1', 'order.shipped', '{}', 2);
SELECT platpat.append_event('order', '1', 'order.shipped', '{}', 0);
SELECT platpat.append_event('order', '5', 'order.created', '{}', 1);
SELECT version FROM platpat.event_streams WHERE aggregateid = '5';
SELECT platpat.append_event('order', '5', 'order.created', '{}', 0) > 0 AS appended;
SELECT platpat.append_event('order', '5', 'order.created', '{}', -1);
-- a version that was rolled back is there again
BEGIN;
SELECT platpat.append_event('order', '5', 'order.paid', '{}', 1) > 0 AS appended;
SAVEPOINT s;
SELECT platpat.append_event('order', '5', 'order.shipped', '{}', 2) > 0 AS appended;
ROLLBACK TO s;
SELECT platpat.append_event('order', '5', 'order.returned', '{}', 2) > 0 AS appended;
COMMIT;
SELECT version, type FROM platpat.events WHERE aggregateid = '5' ORDER BY position;

-- bad arguments
SELECT platpat.append_event(NULL, '1', 'x', '{}');
SELECT platpat.append_event('', '1', 'x', '{}');
SELECT platpat.append_event('order', NULL::text, 'x', '{}');
SELECT platpat.append_event('order', NULL::bigint, 'x', '{}');
SELECT platpat.append_event('order', NULL::uuid, 'x', '{}');
SELECT platpat.append_event('order', '1', NULL, '{}');
SELECT platpat.append_event('order', '1', '', '{}');
SELECT platpat.append_event('order', '1', 'x', NULL);
SELECT platpat.append_event(repeat('x', 256), '1', 'x', '{}');
SELECT platpat.append_event('order', repeat('x', 256), 'x', '{}');
SELECT platpat.append_event('order', '1', repeat('x', 256), '{}');
SELECT platpat.append_event(repeat('x', 255), 'ä''"; --', repeat('y', 255), '"\u202e"') > 0 AS appended;
BEGIN READ ONLY;
SELECT platpat.append_event('order', '1', 'x', '{}');
ROLLBACK;

-- only appending, and only by the function
INSERT INTO platpat.events (aggregatetype, aggregateid, version, type, payload, created_at)
	VALUES ('order', '99', 1, 'by the owner', '{}', now()) RETURNING version;
UPDATE platpat.events SET type = 'x' WHERE false;
DELETE FROM platpat.events;
TRUNCATE platpat.events;
MERGE INTO platpat.events e USING (VALUES (1)) v(i) ON e.position = v.i WHEN MATCHED THEN DELETE;
DO $$
DECLARE command text;
BEGIN
	FOREACH command IN ARRAY ARRAY['INSERT INTO %s TABLE platpat.events', 'UPDATE %s SET type = ''x''', 'DELETE FROM %s', 'TRUNCATE %s'] LOOP
		BEGIN
			EXECUTE format(command, (SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'platpat.events'::regclass ORDER BY 1 LIMIT 1));
		EXCEPTION WHEN insufficient_privilege THEN
			RAISE NOTICE '%: %', split_part(command, ' ', 1), SQLERRM;
		END;
	END LOOP;
END $$;

-- an application: its tenant's events, and nothing without one
SET ROLE regress_event_app;
SELECT platpat.append_event('order', '1', 'order.created', '{}');
SELECT count(*) FROM platpat.events;
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT platpat.append_event('order', '1', 'order.created', '{"of": "acme"}', 0) > 0 AS appended;
COMMIT;
BEGIN;
SELECT platpat.set_tenant('globex');
SELECT platpat.append_event('order', '1', 'order.created', '{"of": "globex"}', 0) > 0 AS appended;
SELECT tenant, version, payload FROM platpat.events;
SELECT * FROM platpat.event_streams;
SELECT platpat.fetch_events('c');
ROLLBACK;
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT tenant, version, payload FROM platpat.events;
INSERT INTO platpat.events (aggregatetype, aggregateid, version, type, payload, created_at) VALUES ('x', 'x', 1, 'x', '{}', now());
ROLLBACK;
DO $$
BEGIN
	EXECUTE format('TABLE %s', (SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'platpat.events'::regclass ORDER BY 1 LIMIT 1));
EXCEPTION WHEN insufficient_privilege THEN
	RAISE NOTICE 'no way to a partition';
END $$;
SELECT platpat.maintain_events();
SELECT platpat.run_projections();
SELECT platpat.create_projection('x', 'pg_catalog.int8pl(bigint, bigint)');
SELECT platpat.ack_events('c', 1);
TABLE platpat.dead_events;
TABLE platpat.command_results;
TABLE platpat.stat_projections;
RESET ROLE;
-- a role that may read everything by privilege still has policies
CREATE ROLE regress_event_reader IN ROLE pg_read_all_data;
SET ROLE regress_event_reader;
SET platpat.on_missing_tenant = 'empty';
RESET ROLE;
SET platpat.on_missing_tenant = 'empty';
SET ROLE regress_event_reader;
SELECT count(*) FROM platpat.events;
DO $$
DECLARE n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s', (SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'platpat.events'::regclass ORDER BY 1 LIMIT 1)) INTO n;
	RAISE NOTICE '% events in a partition', n;
END $$;
RESET ROLE;
RESET platpat.on_missing_tenant;
-- an administrator inside of as_admin() appends like anybody, and writes no other way
SET ROLE regress_event_admin;
BEGIN;
SELECT platpat.as_admin('regress');
SELECT platpat.append_event('order', '77', 'order.created', '{}') > 0 AS appended;
INSERT INTO platpat.events (aggregatetype, aggregateid, version, type, payload, created_at) VALUES ('x', 'x', 1, 'x', '{}', now());
ROLLBACK;
RESET ROLE;
-- one that bypasses policies has events of nobody
SET ROLE regress_event_bypass;
SELECT platpat.append_event('order', 'nobody', 'order.created', '{}') > 0 AS appended;
SELECT tenant FROM platpat.events WHERE aggregateid = 'nobody';
RESET ROLE;

-- consumers: again and again until they acknowledge
SELECT position, aggregateid, version FROM platpat.fetch_events('index', 3);
SELECT position, aggregateid, version FROM platpat.fetch_events('index', 3);
SELECT platpat.ack_events('index', 2);
SELECT position FROM platpat.fetch_events('index', 2);
SELECT platpat.ack_events('index', 1);
SELECT position FROM platpat.fetch_events('other', 1);
SELECT consumer, position, lag > 0 AS lags, acked_at IS NOT NULL AS acked FROM platpat.stat_consumers ORDER BY consumer;
SELECT platpat.ack_events('index', platpat.last_position()) = platpat.last_position() AS all;
SELECT count(*) FROM platpat.fetch_events('index');
SELECT platpat.ack_events('index', platpat.last_position() + 1);
SELECT platpat.ack_events('nobody', 1);
SELECT platpat.ack_events(NULL, 1);
SELECT platpat.ack_events('index', NULL);
SELECT platpat.fetch_events(NULL);
SELECT platpat.fetch_events('');
SELECT platpat.fetch_events(repeat('x', 129));
SELECT platpat.fetch_events('index', 0);
SELECT platpat.fetch_events('index', NULL);
SELECT platpat.drop_consumer('other');
SELECT platpat.drop_consumer('other');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT platpat.fetch_events('index');
ROLLBACK;

-- partitions: one ahead, old ones go when all are past them
SELECT count(*) > 1 AS ahead FROM pg_inherits WHERE inhparent = 'platpat.events'::regclass;
SELECT count(*) FROM platpat.maintain_events();
BEGIN;
INSERT INTO platpat.events (aggregatetype, aggregateid, version, type, payload, created_at)
	VALUES ('old', '1', 1, 'x', '{}', '2020-03-04');
ROLLBACK;
DO $$
BEGIN
	CREATE TABLE platpat.events_p20200101 (LIKE platpat.events, PRIMARY KEY (position));
	INSERT INTO platpat.events_p20200101 SELECT 1000000, id, 'old', '1', 1, 'x', '{}', NULL, NULL, '2020-01-02' FROM platpat.events LIMIT 1;
	CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.events_p20200101 EXECUTE FUNCTION platpat.guard_events();
	ALTER TABLE platpat.events ATTACH PARTITION platpat.events_p20200101 FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
END $$;
SELECT * FROM platpat.maintain_events() WHERE object = 'events_p20200101';
SET platpat.event_retention = '1d';
SELECT * FROM platpat.maintain_events() WHERE object = 'events_p20200101';
SELECT platpat.drop_consumer('index');
SELECT * FROM platpat.maintain_events() WHERE object = 'events_p20200101';
SELECT partition, last_position FROM platpat.event_drops;
SELECT count(*) FROM platpat.events WHERE position = 1000000;
-- a log that is being restored is not read by position
CREATE TABLE platpat.events_p20200101 (LIKE platpat.events, PRIMARY KEY (position));
ALTER TABLE platpat.events ATTACH PARTITION platpat.events_p20200101 FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
SELECT platpat.event_watermark();
SELECT platpat.fetch_events('index');
SELECT * FROM platpat.maintain_events() WHERE object = 'events_p20200101';
DROP TABLE platpat.events_p20200101;
SELECT platpat.event_watermark() = platpat.last_position() AS whole;
RESET platpat.event_retention;
DELETE FROM platpat.event_drops;
SET ROLE regress_event_app;
SET platpat.event_retention = '1d';
SET platpat.event_partition = 'day';
RESET ROLE;

DROP OWNED BY regress_event_app, regress_event_bypass, regress_event_admin;
DROP ROLE regress_event_app, regress_event_bypass, regress_event_admin, regress_event_reader;
