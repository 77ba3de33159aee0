-- Projections: making and changing them, inline and in batches, what fails,
-- tenants, rebuilding.  Async ones are run by hand, inside of transactions that
-- the worker does not see.
\set VERBOSITY terse
CREATE ROLE regress_projector;
CREATE ROLE regress_projection_app;
CREATE SCHEMA shop;
SET search_path = shop, public;
SELECT platpat.last_position() AS base \gset
GRANT USAGE, CREATE ON SCHEMA shop TO regress_projector;
GRANT SELECT ON platpat.events TO regress_projector;
GRANT EXECUTE ON FUNCTION platpat.append_event(text, text, text, jsonb, bigint, jsonb) TO regress_projection_app;

CREATE TABLE shop.totals (type text PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE shop.calls (n serial, first bigint, last bigint, who name, path text);
CREATE FUNCTION shop.count_types(first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO shop.calls (first, last, who, path) VALUES (first, last, current_user, current_setting('search_path'));
	INSERT INTO totals AS t SELECT type, count(*) FROM platpat.events
		WHERE position BETWEEN first AND last AND type IN ('created', 'paid', 'poison') GROUP BY type
	ON CONFLICT (type) DO UPDATE SET n = t.n + excluded.n;
	IF EXISTS (SELECT FROM platpat.events WHERE position BETWEEN first AND last AND type = 'poison') THEN
		RAISE EXCEPTION 'poison';
	END IF;
END $$;
CREATE PROCEDURE shop.no_function(first bigint, last bigint) LANGUAGE sql AS '';
CREATE FUNCTION shop.wrong(first int, last int) RETURNS void LANGUAGE sql AS '';

-- bad arguments
SELECT platpat.create_projection(NULL, 'shop.count_types(bigint, bigint)');
SELECT platpat.create_projection('', 'shop.count_types(bigint, bigint)');
SELECT platpat.create_projection(repeat('x', 129), 'shop.count_types(bigint, bigint)');
SELECT platpat.create_projection('p', NULL);
SELECT platpat.create_projection('p', 'shop.nowhere(bigint, bigint)');
SELECT platpat.create_projection('p', 1::regprocedure);
SELECT platpat.create_projection('p', 'shop.wrong(int, int)');
SELECT platpat.create_projection('p', 'shop.no_function(bigint, bigint)');
SELECT platpat.create_projection('p', 'shop.count_types(bigint, bigint)', mode => 'later');
SELECT platpat.create_projection('p', 'shop.count_types(bigint, bigint)', mode => NULL);
SELECT platpat.create_projection('p', 'shop.count_types(bigint, bigint)', on_error => 'ignore');
SELECT platpat.create_projection('p', 'shop.count_types(bigint, bigint)', batch_size => 0);
SELECT platpat.create_projection('p', 'shop.count_types(bigint, bigint)', types => '{a,NULL}');
SELECT platpat.create_projection('p', 'shop.count_types(bigint, bigint)', read_models => '{pg_stat_activity}');
SELECT platpat.create_projection('p', 'shop.count_types(bigint, bigint)', read_models => '{platpat.admin_log}');
SELECT platpat.create_projection('p', 'shop.count_types(bigint, bigint)', per_tenant => NULL);

-- a role makes projections of its own functions, and sees all events only if it may
SELECT platpat.grant_admin('regress_projector');
SET ROLE regress_projector;
CREATE TABLE mine (tenant text DEFAULT platpat.current_tenant(), n bigint, who name);
CREATE FUNCTION shop.count_mine(first bigint, last bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO mine (n, who) SELECT count(*), current_user FROM platpat.events WHERE position BETWEEN first AND last AND type = 'created'
$$;
SELECT platpat.create_projection('p', 'shop.count_types(bigint, bigint)');
SELECT platpat.create_projection('p', 'shop.count_mine(bigint, bigint)');
RESET ROLE;

-- batches: of at most so many events, in order, with the types that are wanted
BEGIN;
SELECT platpat.create_projection('totals', 'shop.count_types(bigint, bigint)', '{created,paid}', batch_size => 3, read_models => '{shop.totals}');
SELECT projection, apply, types, mode, per_tenant, batch_size, on_error, read_models, paused FROM platpat.projections;
SELECT platpat.create_projection('totals', 'shop.count_types(bigint, bigint)');
ROLLBACK;
BEGIN;
SELECT platpat.create_projection('totals', 'shop.count_types(bigint, bigint)', '{created,paid}', batch_size => 3, read_models => '{shop.totals}');
SELECT platpat.append_event('order', i::text, CASE WHEN i % 2 = 0 THEN 'created' WHEN i % 3 = 0 THEN 'paid' ELSE 'other' END, '{}') - :base AS position FROM generate_series(1, 12) i;
SELECT name, up_to - :base AS up_to, applied, parked FROM platpat.run_projections();
SELECT greatest(first - :base, 1) AS first, last - :base AS last, who = current_user AS as_owner, path FROM shop.calls ORDER BY n;
SELECT * FROM shop.totals ORDER BY type;
SELECT name, up_to - :base AS up_to, applied, parked FROM platpat.run_projections('totals');
SELECT status, lag, applied, dead_events, blocking_pid FROM platpat.stat_projections;
-- nothing wanted comes: the position goes on
SELECT platpat.append_event('order', '1', 'other', '{}') - :base AS position;
SELECT name, up_to - :base AS up_to, applied, parked FROM platpat.run_projections('totals');
SELECT platpat.wait_for_projection('totals', :base + 13, '0'), platpat.wait_for_projection('totals', 1);
-- rebuilding is for transactions that have not written to the read model
SAVEPOINT s;
SELECT platpat.rebuild_projection('totals');
ROLLBACK TO s;
ROLLBACK;
SELECT platpat.run_projections('totals');
SELECT platpat.wait_for_projection('totals', 1);
TRUNCATE shop.calls RESTART IDENTITY;

-- poison is found and put aside; the rest is applied once
BEGIN;
SELECT platpat.create_projection('totals', 'shop.count_types(bigint, bigint)', '{created,poison}', read_models => '{shop.totals}');
SELECT platpat.append_event('order', i::text, CASE WHEN i IN (4, 9) THEN 'poison' ELSE 'created' END, '{}') - :base AS position FROM generate_series(1, 10) i;
SELECT name, applied, parked FROM platpat.run_projections();
SELECT * FROM shop.totals;
SELECT projection, position - (SELECT min(position) FROM platpat.events WHERE type = 'poison') AS poison, sqlstate, error, attempts FROM platpat.dead_events ORDER BY position;
SELECT status, dead_events FROM platpat.stat_projections;
SELECT min(position) AS p FROM platpat.dead_events \gset
SELECT platpat.replay_dead_event('totals', :p);
SELECT error, attempts FROM platpat.dead_events WHERE position = :p;
CREATE OR REPLACE FUNCTION shop.count_types(first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO totals AS t SELECT type, count(*) FROM platpat.events
		WHERE position BETWEEN first AND last GROUP BY type
	ON CONFLICT (type) DO UPDATE SET n = t.n + excluded.n;
END $$;
SELECT platpat.replay_dead_event('totals', :p);
SELECT platpat.discard_dead_event('totals', (SELECT position FROM platpat.dead_events));
TABLE platpat.dead_events;
SELECT * FROM shop.totals ORDER BY type;
SAVEPOINT s;
SELECT platpat.replay_dead_event('totals', 0);
ROLLBACK TO s;
SELECT platpat.discard_dead_event('totals', 0);
ROLLBACK TO s;
SELECT platpat.replay_dead_event('nowhere', :p);
ROLLBACK TO s;
SELECT platpat.replay_dead_event('totals', NULL);
ROLLBACK;

SET client_min_messages = error;
-- or it stops, and goes on when somebody says so
BEGIN;
SELECT platpat.create_projection('totals', 'shop.count_types(bigint, bigint)', '{created,poison}', on_error => 'stop');
SELECT min(platpat.append_event('order', i::text, CASE WHEN i = 4 THEN 'poison' ELSE 'created' END, '{}')) AS p FROM generate_series(1, 10) i \gset
SELECT name, up_to - :p AS up_to, applied, parked FROM platpat.run_projections();
SELECT * FROM shop.totals;
SELECT status, sqlstate, error FROM platpat.stat_projections;
SELECT * FROM platpat.run_projections();
SAVEPOINT s;
SELECT platpat.wait_for_projection('totals', :p + 5);
ROLLBACK TO s;
SELECT platpat.alter_projection('totals', on_error => 'park');
SELECT name, up_to - :p AS up_to, applied, parked FROM platpat.run_projections();
SELECT * FROM shop.totals;
SELECT platpat.alter_projection('totals', paused => true);
SELECT * FROM platpat.run_projections();
SELECT status FROM platpat.stat_projections;
ROLLBACK TO s;
ROLLBACK;

-- what is not an event's fault is undone, told, and tried again
BEGIN;
SELECT platpat.create_projection('totals', 'shop.count_types(bigint, bigint)', '{created,poison}');
SELECT platpat.append_event('order', '1', 'created', '{}') AS p \gset
ALTER TABLE shop.totals RENAME TO gone;
SELECT name, up_to < :p AS behind, applied, parked FROM platpat.run_projections();
SELECT status, failures, sqlstate, error, next_attempt > now() + interval '4 s' AS later FROM platpat.stat_projections;
ALTER TABLE shop.gone RENAME TO totals;
SELECT name, up_to - :p AS up_to, applied, parked FROM platpat.run_projections();
SELECT status, failures, next_attempt FROM platpat.stat_projections;
DROP FUNCTION shop.count_types(bigint, bigint);
SELECT platpat.append_event('order', '1', 'created', '{}') AS p \gset
SELECT name, up_to < :p AS behind, applied, parked FROM platpat.run_projections();
SELECT status, sqlstate, error FROM platpat.stat_projections;
ROLLBACK;

RESET client_min_messages;
-- inline: in the transaction that appends, errors included
SELECT platpat.create_projection('totals', 'shop.count_types(bigint, bigint)', '{created,poison}', 'inline');
SELECT mode, status, lag FROM platpat.stat_projections;
SELECT platpat.append_event('order', '1', 'created', '{}') > 0 AS appended;
SELECT platpat.append_event('order', '1', 'paid', '{}') > 0 AS appended;
SELECT platpat.append_event('order', '1', 'poison', '{}');
SELECT * FROM shop.totals;
SELECT platpat.wait_for_projection('totals', platpat.last_position());
SELECT platpat.alter_projection('totals', paused => true);
-- async and back, with nothing applied twice; the transactions hide it from the worker
BEGIN;
SELECT platpat.alter_projection('totals', mode => 'async');
SELECT platpat.append_event('order', '1', 'created', '{}') > 0 AS appended;
SELECT * FROM shop.totals;
SELECT platpat.alter_projection('totals', mode => 'inline');
SELECT * FROM shop.totals;
SELECT platpat.append_event('order', '1', 'created', '{}') > 0 AS appended;
SELECT * FROM shop.totals;
COMMIT;
-- a function that is replaced or dropped is seen by the next append
CREATE OR REPLACE FUNCTION shop.count_types(first bigint, last bigint) RETURNS void LANGUAGE sql AS 'UPDATE totals SET n = n + 100';
SELECT platpat.append_event('order', '1', 'created', '{}') > 0 AS appended;
SELECT * FROM shop.totals;
ALTER FUNCTION shop.count_types(bigint, bigint) RENAME TO renamed;
SELECT platpat.append_event('order', '1', 'created', '{}');
ALTER FUNCTION shop.renamed(bigint, bigint) RENAME TO count_types;
SELECT platpat.append_event('order', '1', 'created', '{}') > 0 AS appended;
SELECT platpat.drop_projection('totals');
SELECT platpat.drop_projection('totals');
SELECT platpat.append_event('order', '1', 'created', '{}') > 0 AS appended;
SELECT * FROM shop.totals;
-- one that appends: each order is also an invoice
CREATE FUNCTION shop.invoice(first bigint, last bigint) RETURNS void LANGUAGE sql AS $$
	SELECT platpat.append_event('invoice', aggregateid, 'invoiced', '{}') FROM platpat.events WHERE position BETWEEN first AND last AND type = 'created';
$$;
SELECT platpat.create_projection('invoice', 'shop.invoice(bigint, bigint)', '{billed}', 'inline');
SELECT platpat.alter_projection('invoice', types => '{created}');
SELECT platpat.append_event('order', 'i', 'created', '{}') > 0 AS appended;
SELECT aggregatetype, version, type FROM platpat.events WHERE aggregateid = 'i' ORDER BY position;
SELECT platpat.drop_projection('invoice');

-- events of tenants
SET ROLE regress_projection_app;
BEGIN; SELECT platpat.set_tenant('acme'); SELECT count(platpat.append_event('order', i::text, 'created', '{}')) FROM generate_series(1, 3) i; COMMIT;
BEGIN; SELECT platpat.set_tenant('globex'); SELECT count(platpat.append_event('order', i::text, 'created', '{}')) FROM generate_series(1, 2) i; COMMIT;
RESET ROLE;
-- the function has its owner's rights, and no more
CREATE FUNCTION shop.escape(first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE '% %', current_user = session_user, current_setting('is_superuser');
	BEGIN
		RESET ROLE;
	EXCEPTION WHEN OTHERS THEN
		RAISE NOTICE '% %', SQLSTATE, SQLERRM;
	END;
	BEGIN
		PERFORM platpat.set_tenant('other');
	EXCEPTION WHEN OTHERS THEN
		RAISE NOTICE '% %', SQLSTATE, SQLERRM;
	END;
	CREATE TEMPORARY TABLE t (i int);
END $$;
ALTER FUNCTION shop.escape(bigint, bigint) OWNER TO regress_projector;
SET ROLE regress_projector;
SELECT platpat.create_projection('escape', 'shop.escape(bigint, bigint)', '{created}', per_tenant => true, mode => 'inline');
RESET ROLE;
SET ROLE regress_projection_app;
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT platpat.append_event('order', '1', 'created', '{}') > 0 AS appended;
ROLLBACK;
RESET ROLE;

-- and sees the events of one tenant after the other
BEGIN;
SET LOCAL ROLE regress_projector;
SELECT platpat.create_projection('mine', 'shop.count_mine(bigint, bigint)', '{created}', per_tenant => true, read_models => '{shop.mine}');
SELECT name, applied, parked FROM platpat.run_projections('mine');
SELECT * FROM shop.mine ORDER BY tenant;
RESET ROLE;
-- rebuilding a table that is protected, in a transaction that has not written it
SELECT platpat.current_tenant_or_null();
ROLLBACK;
SET ROLE regress_projector;
SELECT count(*) > 0 AS protected FROM platpat.protect('shop.mine', 'tenant');
SELECT platpat.create_projection('mine', 'shop.count_mine(bigint, bigint)', '{created}', per_tenant => true, read_models => '{shop.mine}');
SELECT platpat.rebuild_projection('mine') > 0 AS rebuilt;
SELECT platpat.rebuild_projection('mine') > 0 AS rebuilt;
RESET ROLE;
SELECT * FROM shop.mine ORDER BY tenant;
SELECT platpat.drop_projection('mine');

-- rebuilding: beside the read model, and refused where it cannot be
CREATE OR REPLACE FUNCTION shop.count_types(first bigint, last bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO totals AS t SELECT type, count(*) FROM platpat.events
		WHERE position BETWEEN first AND last AND type IN ('created', 'paid') GROUP BY type
	ON CONFLICT (type) DO UPDATE SET n = t.n + excluded.n;
$$;
SELECT platpat.create_projection('totals', 'shop.count_types(bigint, bigint)');
SELECT platpat.rebuild_projection('totals');
SELECT platpat.alter_projection('totals', read_models => '{shop.totals}');
SELECT platpat.rebuild_projection('totals') = (SELECT count(*) FROM platpat.events) AS complete;
SELECT type, t.n = count(*) AS right FROM shop.totals t JOIN platpat.events e USING (type) GROUP BY type, t.n ORDER BY type;
SELECT platpat.wait_for_projection('totals', platpat.last_position());
CREATE OR REPLACE FUNCTION shop.count_types(first bigint, last bigint) RETURNS void LANGUAGE sql AS 'UPDATE shop.totals SET n = 0';
\set VERBOSITY default
SELECT platpat.rebuild_projection('totals');
\set VERBOSITY terse
SELECT platpat.rebuild_projection('nowhere');
SELECT platpat.drop_projection('totals');

-- a materialized view as the read model
CREATE MATERIALIZED VIEW shop.types AS SELECT type, count(*) AS n FROM platpat.events GROUP BY type;
CREATE FUNCTION shop.refresh_types(first bigint, last bigint) RETURNS void LANGUAGE sql AS 'REFRESH MATERIALIZED VIEW types';
SELECT platpat.create_projection('types', 'shop.refresh_types(bigint, bigint)', '{refreshed}', 'inline');
SELECT platpat.append_event('order', 'm', 'refreshed', '{}') > 0 AS appended;
SELECT n FROM shop.types WHERE type = 'refreshed';
SELECT platpat.drop_projection('types');

-- what a function SETs stays with it, in the session that appends, too
CREATE FUNCTION shop.leak(first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('search_path', 'evil', false), set_config('row_security', 'off', false);
	SET default_transaction_isolation = 'serializable';
END $$;
SELECT platpat.create_projection('leak', 'shop.leak(bigint, bigint)', '{leaks}', 'inline');
SELECT platpat.append_event('order', 'l', 'leaks', '{}') > 0 AS appended;
SELECT current_setting('search_path') AS search_path, current_setting('row_security') AS row_security,
	current_setting('default_transaction_isolation') AS isolation;
SELECT platpat.drop_projection('leak');

-- an administrator decides nothing about what another role's function does
CREATE TABLE shop.precious AS SELECT 1 AS i;
SELECT platpat.create_projection('dba', 'shop.leak(bigint, bigint)', '{nothing}', read_models => '{totals}');
SET ROLE regress_projector;
SELECT platpat.alter_projection('dba', read_models => '{shop.precious}');
SELECT platpat.alter_projection('dba', apply => 'shop.count_mine(bigint, bigint)');
SELECT platpat.alter_projection('dba', per_tenant => true);
SELECT platpat.rebuild_projection('dba');
SELECT platpat.create_projection('mine', 'shop.count_mine(bigint, bigint)', per_tenant => true, read_models => '{shop.precious}');
SELECT platpat.alter_projection('dba', paused => true);
RESET ROLE;
SELECT count(*) FROM shop.precious;
-- a read model that is gone, or was made anew
SELECT platpat.alter_projection('dba', read_models => '{shop.precious}');
DROP TABLE shop.precious;
SELECT platpat.rebuild_projection('dba');
SELECT platpat.alter_projection('dba', batch_size => 5);
CREATE TABLE shop.precious (i int);
SELECT platpat.rebuild_projection('dba');
SELECT platpat.drop_projection('dba');

BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT platpat.run_projections();
ROLLBACK;
SELECT platpat.wait_for_projection('x', 1);
SELECT platpat.wait_for_projection(NULL, 1);
SELECT platpat.wait_for_projection('x', NULL);
SELECT platpat.wait_for_projection('x', 1, '-1 s');
SELECT platpat.alter_projection('x');
SELECT count(*) FROM platpat.projections;

\set VERBOSITY terse
DROP SCHEMA shop CASCADE;
DROP OWNED BY regress_projector, regress_projection_app;
DROP ROLE regress_projector, regress_projection_app;
