-- Bulkheads in one session: taking and giving back, transactions, definitions.
\set VERBOSITY terse
CREATE VIEW pools AS
SELECT bulkhead, size, in_use, waiting, high_water, acquired, rejected, timed_out, queue FROM platpat.stat_bulkheads;
CREATE VIEW holders AS
SELECT bulkhead, pid = pg_backend_pid() AS mine, tenant, waiting, class FROM platpat.bulkhead_holders;

-- a slot is free at the end of its transaction, which may be one statement
SELECT platpat.create_bulkhead('pay', 2);
SELECT * FROM pools;
SELECT platpat.acquire_slot('pay');
SELECT * FROM pools;
CREATE ROLE regress_bulkhead_app;
BEGIN;
SET LOCAL ROLE regress_bulkhead_app;
SELECT platpat.set_tenant('acme');
SELECT platpat.acquire_slot('pay', class => 'batch');
RESET ROLE;
SELECT * FROM holders;
COMMIT;
BEGIN;
SELECT platpat.acquire_slot('pay', '0', 'critical');
SELECT * FROM holders;
-- taken once more it is the same slot, until it is given back as often
SELECT platpat.acquire_slot('pay'), platpat.acquire_slot('pay'), platpat.try_acquire_slot('pay');
SELECT bulkhead, in_use FROM pools;
SELECT platpat.release_slot('pay'), platpat.release_slot('pay'), platpat.release_slot('pay');
SELECT bulkhead, in_use FROM pools;
SELECT platpat.release_slot('pay'), platpat.release_slot('pay');
SELECT bulkhead, in_use FROM pools;
SELECT platpat.acquire_slot('pay');
ROLLBACK;
SELECT bulkhead, in_use FROM pools;

-- subtransactions
BEGIN;
SAVEPOINT a;
SELECT platpat.acquire_slot('pay');
ROLLBACK TO a;
SELECT bulkhead, in_use FROM pools;
SAVEPOINT b;
SAVEPOINT c;
SELECT platpat.acquire_slot('pay');
RELEASE c;
SAVEPOINT d;
SELECT platpat.acquire_slot('pay');
ROLLBACK TO d;
SELECT bulkhead, in_use FROM pools;
ROLLBACK TO b;
SELECT bulkhead, in_use FROM pools;
COMMIT;
DO $$
BEGIN
	PERFORM platpat.acquire_slot('pay');
	BEGIN
		PERFORM platpat.acquire_slot('pay');
		PERFORM 1 / 0;
	EXCEPTION WHEN division_by_zero THEN
		RAISE NOTICE 'in use: %', (SELECT in_use FROM pools WHERE bulkhead = 'pay');
	END;
	COMMIT;
	RAISE NOTICE 'in use: %', (SELECT in_use FROM pools WHERE bulkhead = 'pay');
END $$;
-- a prepared transaction could keep its slot for ever
BEGIN;
SELECT platpat.acquire_slot('pay');
PREPARE TRANSACTION 'regress_slot';
SELECT bulkhead, in_use FROM pools;
BEGIN;
SELECT platpat.acquire_slot('pay'), platpat.release_slot('pay');
PREPARE TRANSACTION 'regress_slot';
ROLLBACK PREPARED 'regress_slot';

-- scope session: until it is given back, or the session ends or is made new
SELECT platpat.create_bulkhead('keep', 1, scope => 'session');
BEGIN;
SELECT platpat.acquire_slot('keep');
ROLLBACK;
SELECT bulkhead, in_use FROM pools;
BEGIN;
SELECT platpat.release_slot('keep');
ROLLBACK;
SELECT bulkhead, in_use FROM pools;
SELECT platpat.acquire_slot('keep');
BEGIN;
PREPARE TRANSACTION 'regress_slot';
ROLLBACK PREPARED 'regress_slot';
RESET ALL;
SELECT bulkhead, in_use FROM pools;
DISCARD ALL;
SELECT bulkhead, in_use FROM pools;
SELECT platpat.acquire_slot('keep'), platpat.acquire_slot('keep');
SELECT platpat.release_slot('keep');
SELECT bulkhead, in_use FROM pools;
SELECT platpat.release_slot('keep');
SELECT bulkhead, in_use FROM pools;

-- full, and nobody gives anything back
SELECT platpat.create_bulkhead('full', 1, 1, '{"critical": 1}');
SELECT platpat.try_acquire_slot('full');
SELECT platpat.acquire_slot('full', '0');
SELECT platpat.acquire_slot('full', '10 ms', 'batch');
SET lock_timeout = '10 ms';
SELECT platpat.acquire_slot('full', NULL);
RESET lock_timeout;
SET statement_timeout = '10 ms';
SELECT platpat.acquire_slot('full', NULL);
RESET statement_timeout;
SELECT platpat.alter_bulkhead('full', queue => 0);
SELECT platpat.acquire_slot('full');
SELECT platpat.acquire_slot('full', class => 'critical');
SELECT * FROM pools WHERE bulkhead = 'full';
SELECT wait_p50, wait_p95, wait_p99 FROM platpat.stat_bulkheads WHERE bulkhead = 'full';
DO $$
DECLARE detail text;
BEGIN
	PERFORM platpat.acquire_slot('full');
EXCEPTION WHEN lock_not_available THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE NOTICE '%', detail;
END $$;
-- a transaction that has written does not wait, unless it is told to
SELECT platpat.alter_bulkhead('full', queue => 1);
CREATE TABLE written (id int);
\set VERBOSITY default
BEGIN;
INSERT INTO written VALUES (1);
SELECT platpat.acquire_slot('full', '10 ms');
ROLLBACK;
\set VERBOSITY terse
BEGIN;
INSERT INTO written VALUES (1);
SELECT platpat.acquire_slot('full', '10 ms', 'critical');
ROLLBACK;
BEGIN;
SET LOCAL platpat.bulkhead_wait_with_xid = on;
INSERT INTO written VALUES (1);
SELECT platpat.acquire_slot('full', '10 ms');
ROLLBACK;

-- statements with a slot
SELECT platpat.bulkhead_call('pay', 'SELECT in_use, $1 AS arg FROM pools WHERE bulkhead = ''pay''', '1 s', 'batch', 'x');
SELECT platpat.bulkhead_call('pay', 'INSERT INTO written VALUES (1), (2) RETURNING 1 / (id - 2)');
SELECT platpat.bulkhead_call('pay', 'SELECT platpat.drop_bulkhead(''pay'')');
SELECT platpat.create_bulkhead('pay', 2);
SELECT platpat.bulkhead_call('pay', 'SELECT platpat.acquire_slot(''pay'')');
SELECT platpat.bulkhead_call('full', 'SELECT 1', '0');
SELECT count(*) FROM written;
SELECT * FROM holders;
-- what the statement takes is its own, and what the call has is not for it to give back
SELECT platpat.bulkhead_call('keep', 'SELECT platpat.acquire_slot(''keep'') AS got');
SELECT * FROM holders;
SELECT platpat.release_slot('keep');
SELECT platpat.bulkhead_call('keep', 'SELECT platpat.release_slot(''keep'') AS released, in_use FROM pools WHERE bulkhead = ''keep''');
SELECT * FROM holders;

-- a session has slots of so many bulkheads
SELECT platpat.create_bulkhead('n' || i, 1) FROM generate_series(1, 9) i;
SELECT platpat.acquire_slot('n' || i) FROM generate_series(1, 9) i;
SELECT count(platpat.acquire_slot('n' || i)) FROM generate_series(1, 8) i;
SELECT count(*) FROM holders;

-- definitions that cannot be
SELECT platpat.create_bulkhead('pay', 2);
SELECT platpat.create_bulkhead(NULL, 2);
SELECT platpat.create_bulkhead('', 2);
SELECT platpat.create_bulkhead('bad', NULL);
SELECT platpat.create_bulkhead('bad', 0);
SELECT platpat.create_bulkhead('bad', 1000001);
SELECT platpat.create_bulkhead('bad', 1, -1);
SELECT platpat.create_bulkhead('bad', 1, NULL);
SELECT platpat.create_bulkhead('bad', 1, 1, '[1]');
SELECT platpat.create_bulkhead('bad', 1, 1, '{"critical": "1"}');
SELECT platpat.create_bulkhead('bad', 1, 1, '{"critical": null}');
SELECT platpat.create_bulkhead('bad', 1, 1, '{"critical": {"batch": 1}}');
SELECT platpat.create_bulkhead('bad', 1, 1, '{"urgent": 1}');
SELECT platpat.create_bulkhead('bad', 2, 1, '{"critical": 1.5}');
SELECT platpat.create_bulkhead('bad', 2, 1, '{"critical": -1}');
SELECT platpat.create_bulkhead('bad', 2, 1, '{"critical": 1e400}');
SELECT platpat.create_bulkhead('bad', 2, 1, '{"critical": 1, "batch": 2}');
SELECT platpat.create_bulkhead('bad', 2, 1, scope => 'statement');
SELECT platpat.create_bulkhead('bad', 2, 1, scope => NULL);
SELECT platpat.alter_bulkhead('nobody', 5);
SELECT platpat.alter_bulkhead('full', size => 1, reserved => '{"critical": 2}');
SELECT platpat.drop_bulkhead('nobody');
SELECT platpat.acquire_slot('nobody');
SELECT platpat.acquire_slot(NULL);
SELECT platpat.acquire_slot('pay', '-1 s');
SELECT platpat.acquire_slot('pay', '1 s', 'urgent');
SELECT platpat.acquire_slot('pay', '1 s', NULL);
SELECT platpat.try_acquire_slot('pay', 'Critical');
SELECT platpat.release_slot(NULL);
SELECT platpat.release_slot('pay');
INSERT INTO platpat.bulkheads (bulkhead, size) VALUES ('row', 0);

-- an alteration counts at its commit, and a smaller one drains
SELECT platpat.create_bulkhead('alter', 1);
BEGIN;
SELECT platpat.acquire_slot('alter'), platpat.alter_bulkhead('alter', 5);
SELECT size, in_use FROM pools WHERE bulkhead = 'alter';
ROLLBACK;
SELECT size FROM pools WHERE bulkhead = 'alter';
SELECT platpat.alter_bulkhead('alter', 3, 7, '{"batch": 1}', 'session');
SELECT bulkhead, size, queue, reserved, scope FROM platpat.bulkheads WHERE bulkhead = 'alter';

-- figures
SELECT name, labels - 'bulkhead' AS labels, type, value FROM platpat.metrics() WHERE labels ->> 'bulkhead' = 'full';
SELECT platpat.reset_stats();
SELECT * FROM pools WHERE bulkhead = 'full';

-- who may do what
SET ROLE regress_bulkhead_app;
SELECT platpat.acquire_slot('pay'), platpat.try_acquire_slot('pay'), platpat.release_slot('pay');
SELECT platpat.create_bulkhead('mine', 1);
SELECT platpat.alter_bulkhead('pay', 1);
SELECT platpat.drop_bulkhead('pay');
SELECT * FROM platpat.stat_bulkheads;
SELECT * FROM platpat.bulkhead_holders;
UPDATE platpat.bulkheads SET size = 100;
RESET ROLE;
DROP ROLE regress_bulkhead_app;
SELECT count(platpat.drop_bulkhead(bulkhead)) FROM platpat.bulkheads;
DROP VIEW pools, holders;
DROP TABLE written;
