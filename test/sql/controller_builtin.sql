-- The controllers of bulkheads, circuit breakers and partitions of the event
-- log.  The worker rests, or sees nothing of a transaction that is open.  What
-- other tests have left is not shown.
\set VERBOSITY terse
CREATE ROLE regress_builtin_plain;
CREATE ROLE regress_builtin_monitor IN ROLE pg_monitor;
CREATE FUNCTION pause(paused boolean) RETURNS void LANGUAGE sql AS $$
	SELECT platpat.alter_controller(c, paused => paused) FROM unnest('{breakers,bulkheads}'::text[]) c $$;
CREATE TEMP TABLE seen (key text);
CREATE FUNCTION pg_temp.name_of(key text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN key IN ('built', 'held') THEN key WHEN EXISTS (SELECT FROM seen s WHERE s.key = $1) THEN 'orphan' END $$;
SELECT controller, mode, period, prune, builtin, desired, actual, apply FROM platpat.controllers
	WHERE controller IN ('breakers', 'bulkheads', 'event_partitions') ORDER BY controller;
SELECT pause(true);

-- a bulkhead that goes by old rules: its row was replaced, as a restore does
SELECT platpat.create_bulkhead('built', 1, 5);
SELECT key, spec - 'id' AS spec FROM platpat.actual_bulkheads WHERE key = 'built';
SELECT platpat.try_acquire_slot('built');
CREATE TEMP TABLE saved AS TABLE platpat.bulkheads;
BEGIN;
DELETE FROM platpat.bulkheads WHERE bulkhead = 'built';
INSERT INTO platpat.bulkheads SELECT bulkhead, 3, queue, '{"critical": 1, "batch": 0}', scope, id FROM saved WHERE bulkhead = 'built';
COMMIT;
SELECT key, action, desired - 'id' AS desired, actual - 'id' AS actual FROM platpat.drift('bulkheads') WHERE key = 'built';
SELECT action, outcome, message FROM platpat.reconcile('bulkheads', dry_run => true) WHERE key = 'built';
SELECT spec - 'id' AS spec FROM platpat.actual_bulkheads WHERE key = 'built';
BEGIN;
SELECT pause(false);
SELECT action, desired - 'id' AS desired, actual - 'id' AS actual, outcome, message FROM platpat.reconcile('bulkheads') WHERE key = 'built';
SELECT action FROM platpat.reconcile('bulkheads') WHERE key = 'built';
SELECT pause(true);
COMMIT;
SELECT spec - 'id' AS spec FROM platpat.actual_bulkheads WHERE key = 'built';
-- what is not committed is not for others; when it is, the commit installs it
BEGIN;
SELECT pause(false);
UPDATE platpat.bulkheads SET size = 4 WHERE bulkhead = 'built';
SELECT action, outcome, message FROM platpat.reconcile('bulkheads') WHERE key = 'built';
SELECT spec - 'id' AS spec FROM platpat.actual_bulkheads WHERE key = 'built';
SELECT pause(true);
COMMIT;
SELECT action FROM platpat.drift('bulkheads') WHERE key = 'built';
SELECT spec - 'id' AS spec FROM platpat.actual_bulkheads WHERE key = 'built';

-- what is left of a bulkhead that is gone, unless somebody has a slot
SELECT platpat.create_bulkhead('held', 1, scope => 'session');
SELECT platpat.try_acquire_slot('held');
INSERT INTO seen SELECT id FROM platpat.bulkheads WHERE bulkhead IN ('built', 'held');
DELETE FROM platpat.bulkheads WHERE bulkhead IN ('built', 'held');
SELECT pg_temp.name_of(key) AS key, action, desired, actual->>'id' = key AS is_id FROM platpat.drift('bulkheads') WHERE pg_temp.name_of(key) <> '';
SELECT platpat.release_slot('held');
SELECT pg_temp.name_of(key) AS key, action FROM platpat.drift('bulkheads') WHERE pg_temp.name_of(key) <> '';
SELECT pg_temp.name_of(key) AS key, action, outcome FROM platpat.reconcile('bulkheads', dry_run => true) WHERE pg_temp.name_of(key) <> '';
SELECT count(*) FROM platpat.actual_bulkheads WHERE pg_temp.name_of(key) <> '';
BEGIN;
SELECT pause(false);
SELECT pg_temp.name_of(key) AS key, action, outcome, message FROM platpat.reconcile('bulkheads') WHERE pg_temp.name_of(key) <> '';
SELECT pause(true);
COMMIT;
SELECT count(*) FROM platpat.actual_bulkheads WHERE pg_temp.name_of(key) <> '';
SELECT status, drift FROM platpat.controller_status WHERE controller = 'bulkheads';

-- circuit breakers: one that is there, one that was dropped, one that was never committed
SELECT platpat.create_breaker('built', 1, '1 day'), platpat.create_breaker('held', 1, '1 day');
SELECT platpat.record_failure('built'), platpat.record_failure('held');
INSERT INTO seen SELECT id FROM platpat.breakers WHERE breaker IN ('built', 'held');
BEGIN;
SELECT platpat.create_breaker('undone', 1, '1 day');
SELECT platpat.record_failure('undone');
SELECT action FROM platpat.drift('breakers') JOIN platpat.breakers ON key = id::text;
SELECT id AS undone FROM platpat.breakers WHERE breaker = 'undone' \gset
ROLLBACK;
INSERT INTO seen VALUES (:'undone');
SELECT count(*) FROM platpat.desired_breakers d JOIN platpat.actual_breakers a USING (key, spec) WHERE key IN ('built', 'held');
BEGIN;
DELETE FROM platpat.breakers WHERE breaker = 'held';
SELECT key = :'undone' AS is_undone FROM platpat.drift('breakers') WHERE pg_temp.name_of(key) <> '';
COMMIT;
SELECT pg_temp.name_of(key) AS key, action, desired, actual->>'id' = key AS is_id FROM platpat.drift('breakers') WHERE pg_temp.name_of(key) <> '';
SELECT pg_temp.name_of(key) AS key, action, outcome FROM platpat.reconcile('breakers', dry_run => true) WHERE pg_temp.name_of(key) <> '';
BEGIN;
SELECT pause(false);
SELECT pg_temp.name_of(key) AS key, action, outcome, message FROM platpat.reconcile('breakers') WHERE pg_temp.name_of(key) <> '';
SELECT pause(true);
COMMIT;
SELECT key, spec->'failure_threshold' AS threshold FROM platpat.actual_breakers WHERE pg_temp.name_of(key) <> '';
SELECT platpat.breaker_state('built');

-- what apply does not do, whoever asks: a thing that is there stays
SELECT platpat.apply_breaker((SELECT id::text FROM platpat.breakers WHERE breaker = 'built'), NULL, '{}'), platpat.apply_breaker('built', '{}', NULL);
SELECT platpat.breaker_state('built');
SELECT platpat.apply_breaker(NULL, NULL, NULL);
SELECT platpat.apply_breaker('no id', NULL, NULL);
SELECT platpat.apply_bulkhead(NULL, NULL, NULL);
SELECT platpat.apply_bulkhead('nobody', '{}', NULL);
SELECT platpat.apply_event_partition(NULL, NULL, NULL);
SELECT platpat.apply_event_partition('nothing', NULL, '{}');
SELECT * FROM platpat.bulkhead_rules(NULL);
SELECT * FROM platpat.list_event_partitions(NULL);
SELECT platpat.drop_breaker('built');

-- partitions, in a log that nobody else sees
BEGIN;
SELECT platpat.alter_controller('event_partitions', mode => 'enforce');
SELECT count(*) FROM platpat.desired_event_partitions;
CREATE TABLE platpat.events_old (LIKE platpat.events, PRIMARY KEY (position));
INSERT INTO platpat.events_old VALUES (1000000, gen_random_uuid(), 'old', '1', 1, 'x', '{}', NULL, NULL, '2020-01-02');
ALTER TABLE platpat.events ATTACH PARTITION platpat.events_old FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
-- one that a restore fills is left alone
SELECT count(*) FROM platpat.drift('event_partitions');
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.events_old EXECUTE FUNCTION platpat.guard_events();
TABLE platpat.actual_event_partitions;
-- two are missing; an old one is kept for ever, or for who has not read it
SELECT action, count(*), bool_and(desired ? 'from' AND desired ? 'to') AS spans FROM platpat.drift('event_partitions') GROUP BY action;
SELECT action, outcome FROM platpat.reconcile('event_partitions', dry_run => true);
SELECT count(*) FROM platpat.actual_event_partitions;
SELECT action, outcome, message FROM platpat.reconcile('event_partitions');
SELECT count(*) FROM platpat.actual_event_partitions;
SELECT count(*) FROM platpat.drift('event_partitions');
INSERT INTO platpat.event_consumers VALUES ('regress_reader', 999999);
SET LOCAL platpat.event_retention = '1d';
SELECT key FROM platpat.desired_event_partitions WHERE key = 'events_old';
SELECT count(*) FROM platpat.drift('event_partitions');
-- one that was dropped comes again, also beside a table of its name
DO $$
DECLARE
	last text := (SELECT max(key) FROM platpat.actual_event_partitions WHERE key <> 'events_old');
BEGIN
	EXECUTE format('ALTER TABLE platpat.events DETACH PARTITION platpat.%I', last);
	IF (SELECT ARRAY[key] FROM platpat.drift('event_partitions')) = ARRAY[last] THEN
		RAISE NOTICE 'the last one is missing';
	END IF;
END $$;
SELECT action, outcome, message FROM platpat.reconcile('event_partitions');
SELECT count(*) FROM platpat.actual_event_partitions WHERE key ~ '^events_p\d{8}(_\d{20})?$';
-- when all have read it it goes, unless something needs it
UPDATE platpat.event_consumers SET position = 1000000 WHERE consumer = 'regress_reader';
CREATE VIEW needs AS SELECT position FROM platpat.events_old;
SELECT key, action, desired, outcome, message FROM platpat.reconcile('event_partitions');
SELECT status, sqlstate, keys, drift, failing FROM platpat.controller_status WHERE controller = 'event_partitions';
DROP VIEW needs;
SELECT key, action, outcome FROM platpat.reconcile('event_partitions', dry_run => true);
SELECT key, action, outcome, message FROM platpat.reconcile('event_partitions');
SELECT partition, last_position FROM platpat.event_drops;
-- without events those ahead stay
SELECT count(*) FROM platpat.actual_event_partitions;
SELECT count(*) FROM platpat.drift('event_partitions');
SELECT status, keys, drift, repaired, next_reconcile > clock_timestamp() + interval '50 min' AS is_in_an_hour
	FROM platpat.controller_status WHERE controller = 'event_partitions';
ROLLBACK;

-- who may look
SET ROLE regress_builtin_monitor;
SELECT count(*) >= 0 AS ok FROM platpat.desired_bulkheads, platpat.actual_bulkheads, platpat.desired_breakers, platpat.actual_breakers,
	platpat.desired_event_partitions, platpat.actual_event_partitions;
SELECT platpat.apply_breaker('x', NULL, NULL);
SET ROLE regress_builtin_plain;
TABLE platpat.desired_bulkheads;
TABLE platpat.actual_breakers;
TABLE platpat.actual_event_partitions;
SELECT platpat.bulkhead_rules(true);
SELECT platpat.list_event_partitions(false);
RESET ROLE;

SELECT pause(false);
DROP FUNCTION pause(boolean);
DROP ROLE regress_builtin_plain, regress_builtin_monitor;
