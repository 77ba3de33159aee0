-- Circuit breakers: states, leases and outcomes.  A timeout of a microsecond is
-- over by the next statement, one of a day is not.
\set VERBOSITY terse
CREATE VIEW breakers AS
SELECT breaker, state, forced, failures_in_row AS in_row, probes, allowed, rejected, passed, failed, slow, ignored,
	transitions AS moves, openings AS opened, last_error
FROM platpat.stat_breakers;

-- failures in a row open it; a success between them begins anew
SELECT platpat.create_breaker('pay', 3, '1 day');
SELECT * FROM breakers;
SELECT platpat.allow_call('pay'), platpat.breaker_state('pay'), platpat.breaker_retry_after('pay');
SELECT platpat.record_failure('pay', 'one'), platpat.record_failure('pay', 'two'), platpat.record_success('pay'),
	platpat.record_failure('pay', 'three'), platpat.record_failure('pay', 'four');
SELECT platpat.allow_call('pay'), platpat.breaker_state('pay');
SELECT platpat.record_failure('pay', 'five');
SELECT platpat.allow_call('pay'), platpat.allow_call('pay'), platpat.breaker_state('pay'),
	platpat.breaker_retry_after('pay') BETWEEN '23:59' AND '24:00' AS soon;
-- outcomes while it is open are ignored
SELECT platpat.record_success('pay'), platpat.record_failure('pay');
SELECT * FROM breakers;

-- ROLLBACK undoes none of it
BEGIN;
SELECT platpat.create_breaker('back', 1, '1 day');
SELECT platpat.record_failure('back');
SELECT platpat.breaker_state('back');
ROLLBACK;
SELECT platpat.breaker_state('back');
SELECT platpat.create_breaker('back', 1, '1 day');
SELECT platpat.breaker_state('back');
BEGIN;
SELECT platpat.record_failure('back');
ROLLBACK;
SELECT platpat.breaker_state('back');

-- when the time is over one probe passes, and no other meanwhile
SELECT platpat.create_breaker('half', 1, '1 us');
SELECT platpat.record_failure('half');
SELECT platpat.breaker_state('half'), platpat.breaker_retry_after('half');
SELECT platpat.allow_call('half') AS probe, platpat.allow_call('half') AS another, platpat.breaker_state('half'),
	platpat.breaker_retry_after('half') BETWEEN '29 s' AND '30 s' AS until_its_deadline;
SELECT platpat.record_success('half');
SELECT platpat.breaker_state('half');
-- a probe that fails opens it again
SELECT platpat.alter_breaker('half', timeout => '1 day');
SELECT platpat.record_failure('half');
SELECT platpat.force_breaker('half', 'auto');
SELECT platpat.alter_breaker('half', timeout => '1 us');
SELECT platpat.record_failure('half', 'opens');
SELECT platpat.allow_call('half');
SELECT platpat.alter_breaker('half', timeout => '1 day');
SELECT platpat.record_failure('half', 'the probe');
SELECT platpat.breaker_state('half'), last_error FROM breakers WHERE breaker = 'half';

-- a lease is the transaction's until its end: an abort fails it, ...
SELECT platpat.create_breaker('lease', 1, '1 us');
SELECT platpat.record_failure('lease');
BEGIN;
SELECT platpat.allow_call('lease');
SELECT platpat.alter_breaker('lease', timeout => '1 day');
SELECT state, probes FROM breakers WHERE breaker = 'lease';
ROLLBACK;
SELECT state, probes FROM breakers WHERE breaker = 'lease';
-- ... also that of its savepoint, ...
BEGIN;
SELECT platpat.allow_call('lease');
SAVEPOINT s;
ROLLBACK TO s;
SELECT state, probes FROM breakers WHERE breaker = 'lease';
COMMIT;
SELECT platpat.record_success('lease');
SELECT platpat.breaker_state('lease');
SELECT platpat.record_failure('lease');
BEGIN;
SAVEPOINT s;
SELECT platpat.allow_call('lease');
RELEASE s;
SAVEPOINT t;
SELECT 1 / 0;
ROLLBACK TO t;
SELECT state, probes FROM breakers WHERE breaker = 'lease';
SAVEPOINT u;
SELECT platpat.allow_call('lease');
ROLLBACK;
SELECT openings FROM platpat.stat_breakers WHERE breaker = 'lease';
-- ... a commit leaves it to any outcome, ...
BEGIN;
SELECT platpat.allow_call('lease');
COMMIT;
SELECT state, probes FROM breakers WHERE breaker = 'lease';
SELECT platpat.allow_call('lease');
SELECT platpat.record_success('lease');
SELECT state, probes FROM breakers WHERE breaker = 'lease';
-- ... a prepared transaction too, ...
SELECT platpat.record_failure('lease');
BEGIN;
SELECT platpat.allow_call('lease');
PREPARE TRANSACTION 'regress_lease';
SELECT state, probes FROM breakers WHERE breaker = 'lease';
ROLLBACK PREPARED 'regress_lease';
SELECT platpat.record_success('lease');
-- ... and its deadline is a failure
SELECT platpat.record_failure('lease');
SELECT platpat.alter_breaker('lease', probe_timeout => '1 us', backoff => 2, max_timeout => '1 hour');
SELECT platpat.allow_call('lease');
SELECT state, probes, moves, opened FROM breakers WHERE breaker = 'lease';
SELECT platpat.record_success('lease');
SELECT state, probes, ignored FROM breakers WHERE breaker = 'lease';

-- an exception handler is a subtransaction: the probe inside has failed
SELECT platpat.create_breaker('handler', 1, '1 us');
SELECT platpat.record_failure('handler', 'to begin with');
DO $$
BEGIN
	PERFORM platpat.allow_call('handler');
	PERFORM 1 / 0;
EXCEPTION WHEN division_by_zero THEN
	PERFORM platpat.record_failure('handler', 'comes second');
END $$;
SELECT opened, ignored, last_error FROM breakers WHERE breaker = 'handler';

-- as many probes as it says, and as many successes
SELECT platpat.create_breaker('many', 1, '1 us', half_open_calls => 3, success_threshold => 4);
SELECT platpat.record_failure('many');
SELECT count(*) FILTER (WHERE platpat.allow_call('many')) FROM generate_series(1, 10);
SELECT platpat.record_success('many'), platpat.record_success('many'), platpat.record_success('many');
SELECT state, probes FROM breakers WHERE breaker = 'many';
SELECT platpat.allow_call('many');
SELECT platpat.record_success('many');
SELECT state, probes FROM breakers WHERE breaker = 'many';

-- rates of a window
SELECT platpat.create_breaker('rate', timeout => '1 day', failure_window => '1 hour', failure_rate => 0.5, minimum_calls => 4);
SELECT platpat.record_failure('rate'), platpat.record_failure('rate'), platpat.record_success('rate');
SELECT platpat.breaker_state('rate'), failure_rate FROM platpat.stat_breakers WHERE breaker = 'rate';
SELECT platpat.record_success('rate');
SELECT platpat.breaker_state('rate');
SELECT platpat.create_breaker('slow', timeout => '1 day', failure_window => '1 hour', slow_call => '2 s', slow_rate => 0.3, minimum_calls => 3);
SELECT platpat.record_success('slow', '1.9 s'), platpat.record_success('slow', '1.9 s'), platpat.record_success('slow', '1.9 s'),
	platpat.record_failure('slow'), platpat.record_success('slow', '2 s');
SELECT state, slow, slow_rate FROM platpat.stat_breakers WHERE breaker = 'slow';
SELECT platpat.record_success('slow', '2 s');
SELECT state, slow FROM platpat.stat_breakers WHERE breaker = 'slow';
-- so many failures of a window, not in a row
SELECT platpat.create_breaker('window', 3, '1 day', failure_window => '1 hour');
SELECT platpat.record_failure('window'), platpat.record_success('window'), platpat.record_failure('window'),
	platpat.record_success('window');
SELECT platpat.breaker_state('window');
SELECT platpat.record_failure('window');
SELECT platpat.breaker_state('window');

-- held by hand
SELECT platpat.create_breaker('hand', 1, '1 us');
SELECT platpat.force_breaker('hand', 'open');
SELECT platpat.allow_call('hand'), platpat.breaker_state('hand'), platpat.breaker_retry_after('hand') IS NULL AS nobody_knows;
SELECT platpat.force_breaker('hand', 'closed');
SELECT platpat.record_failure('hand'), platpat.record_failure('hand');
SELECT platpat.allow_call('hand'), platpat.breaker_state('hand');
SELECT platpat.force_breaker('hand', 'disabled');
SELECT platpat.record_failure('hand');
SELECT platpat.allow_call('hand'), platpat.breaker_state('hand');
SELECT state, forced, failed, ignored FROM breakers WHERE breaker = 'hand';
SELECT platpat.force_breaker('hand', 'auto');
SELECT platpat.alter_breaker('hand', timeout => '1 day');
-- the call before was let through by a breaker that was disabled
SELECT platpat.record_failure('hand');
SELECT platpat.breaker_state('hand');
SELECT platpat.record_failure('hand');
SELECT platpat.allow_call('hand'), platpat.breaker_state('hand');
SELECT platpat.force_breaker('hand', 'ajar');
SELECT platpat.force_breaker('hand', NULL);

-- an outcome of another state than that in which its call was let through
SELECT platpat.create_breaker('late', 1, '1 us', half_open_calls => 2);
SELECT platpat.allow_call('late');
\c -
SELECT platpat.record_failure('late');
SELECT platpat.allow_call('late');
SELECT state, probes FROM breakers WHERE breaker = 'late';
SELECT platpat.record_success('late');
SELECT platpat.breaker_state('late');
BEGIN;
SELECT platpat.allow_call('late');
SELECT platpat.force_breaker('late', 'open'), platpat.force_breaker('late', 'auto');
SELECT platpat.record_failure('late');
COMMIT;
SELECT state, ignored FROM breakers WHERE breaker = 'late';

-- figures are set back, states are not
SELECT platpat.reset_stats();
SELECT state, allowed, rejected, passed, failed, moves, opened FROM breakers WHERE breaker = 'pay';
SELECT name, labels, type, value FROM platpat.metrics() WHERE labels ->> 'breaker' = 'pay';

-- whoever uses them, and who does not
SELECT platpat.allow_call(NULL);
SELECT platpat.allow_call('');
SELECT platpat.allow_call('nobody');
SELECT platpat.allow_call(repeat('x', 129));
SELECT platpat.record_success('pay', '-1 s');
SELECT platpat.create_breaker(repeat('я', 64));
SELECT platpat.allow_call(repeat('я', 64));
SELECT platpat.record_failure(repeat('я', 64), repeat('я', 1000));
SELECT length(last_error), last_error = repeat('я', length(last_error)) AS whole FROM breakers WHERE breaker = repeat('я', 64);
CREATE ROLE regress_breaker_app;
SET ROLE regress_breaker_app;
SELECT platpat.allow_call('rate'), platpat.breaker_state('rate');
SELECT platpat.create_breaker('mine');
SELECT platpat.force_breaker('pay', 'auto');
SELECT * FROM platpat.stat_breakers;
INSERT INTO platpat.breakers (breaker) VALUES ('mine');
RESET ROLE;
DROP ROLE regress_breaker_app;
SELECT platpat.drop_breaker(breaker) FROM platpat.breakers ORDER BY breaker;
DROP VIEW breakers;
