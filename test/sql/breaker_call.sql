-- breaker_call(): statements through a circuit breaker; and the table of them.
\set VERBOSITY terse
SELECT platpat.create_breaker('call', 2, '1 day', failure_states => '{22012,XX}');
CREATE TABLE calls (id int, what text);

-- arguments become of the types that their places want
SELECT * FROM platpat.breaker_call('call', 'SELECT i, $2 AS text, $3::date AS day FROM generate_series(1, $1) i', '2', 'x', '2026-01-02');
SELECT platpat.breaker_call('call', 'INSERT INTO calls VALUES ($1, $2), (2, NULL) RETURNING *', '1', 'one');
SELECT platpat.breaker_call('call', 'UPDATE calls SET what = $2 WHERE id = $1', '2', 'two');
SELECT * FROM calls ORDER BY id;
SELECT platpat.breaker_call('call', 'SELECT $1 IS NULL AS none, $2', VARIADIC '{NULL,"a"}');
SELECT platpat.breaker_call('call', 'SELECT 1', 'not', 'mentioned');
SELECT platpat.breaker_call('call', 'SELECT 1; SELECT 2 AS last');
SELECT platpat.breaker_call('call', '');
SELECT count(*) FROM platpat.breaker_call('call', 'SELECT * FROM generate_series(1, 20000)');

-- errors go on as they are; only failure_states count
SELECT platpat.breaker_call('call', 'SELECT $1::int', 'x');
SELECT platpat.breaker_call('call', 'SELECT $2', 'x');
SELECT platpat.breaker_call('call', 'SELECT * FROM nowhere');
SELECT platpat.breaker_call('call', 'COMMIT');
SELECT platpat.breaker_call('call', 'COPY calls TO STDOUT');
SELECT platpat.breaker_call('call', NULL);
SELECT platpat.breaker_call('call', 'SELECT 1', VARIADIC NULL);
SELECT platpat.breaker_call('call', 'SELECT 1', VARIADIC '{{a,b},{c,d}}');
SELECT failures_in_row, failed FROM platpat.stat_breakers WHERE breaker = 'call';
DO $$
DECLARE message text; detail text; hint text; state text; context text; "column" text;
BEGIN
	PERFORM platpat.breaker_call('call', $c$
		DO 'BEGIN RAISE EXCEPTION USING MESSAGE = ''m'', DETAIL = ''d'', HINT = ''h'', ERRCODE = ''XX123'', COLUMN = ''c''; END'
	$c$);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
		state = RETURNED_SQLSTATE, "column" = COLUMN_NAME;
	RAISE NOTICE '% % % % %', state, message, detail, hint, "column";
END $$;
SELECT state, failures_in_row, failed, last_error FROM platpat.stat_breakers WHERE breaker = 'call';
-- the failure is remembered although its transaction is undone
BEGIN;
INSERT INTO calls VALUES (3);
SELECT platpat.breaker_call('call', 'INSERT INTO calls VALUES (4) RETURNING 1 / (id - 4)');
ROLLBACK;
SELECT count(*) FROM calls;
SELECT state, failed FROM platpat.stat_breakers WHERE breaker = 'call';
-- now nothing runs
SELECT platpat.breaker_call('call', 'INSERT INTO calls VALUES (5)');
\set VERBOSITY default
DO $$
DECLARE detail text;
BEGIN
	PERFORM platpat.breaker_call('call', 'INSERT INTO calls VALUES (5)');
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE NOTICE '% %', detail::jsonb - 'retry_after', (detail::jsonb ->> 'retry_after')::float8 BETWEEN 86300 AND 86400;
END $$;
\set VERBOSITY terse
SELECT count(*) FROM calls;

-- an error that is none of the failures closes it: what was called answers
SELECT platpat.force_breaker('call', 'auto'), platpat.alter_breaker('call', timeout => '1 us');
SELECT platpat.record_failure('call'), platpat.record_failure('call');
SELECT platpat.breaker_state('call');
-- one without which nothing was run says nothing
SELECT platpat.breaker_call('call', 'SELECT 1::no_type');
SELECT platpat.breaker_call('call', 'COMMIT');
SELECT platpat.breaker_call('call', 'SELECT $1::int', 'x');
SELECT state, probes FROM platpat.stat_breakers WHERE breaker = 'call';
SELECT platpat.breaker_call('call', 'SELECT $1::text::int', 'x');
SELECT platpat.breaker_state('call');
-- a rate limit says nothing of it, so the probe may be another's
SELECT platpat.alter_breaker('call', failure_states => '{53,42}');
SELECT platpat.record_failure('call'), platpat.record_failure('call');
SELECT platpat.breaker_call('call', $$SELECT platpat.enforce_rate_limit('call', 1, 1, 1, '1 day') FROM generate_series(1, 2)$$);
SELECT state, probes, failed FROM platpat.stat_breakers WHERE breaker = 'call';
SET platpat.limit_error_style = postgrest;
SELECT platpat.breaker_call('call', $$SELECT platpat.enforce_rate_limit('call 2', 1, 1, 1, '1 day') FROM generate_series(1, 2) HAVING count(*) > 2$$);
RESET platpat.limit_error_style;
SELECT state, probes, failed FROM platpat.stat_breakers WHERE breaker = 'call';
-- a statement that takes too long has failed
SELECT platpat.create_breaker('timeout', 1, '1 day');
SET statement_timeout = '100 ms';
SELECT platpat.breaker_call('timeout', 'SELECT pg_sleep(60)');
RESET statement_timeout;
SELECT state, last_error FROM platpat.stat_breakers WHERE breaker = 'timeout';

-- nested, recursive, and one that drops its own breaker
SELECT platpat.create_breaker('nest', 1, '1 us');
SELECT platpat.breaker_call('nest', $$SELECT platpat.breaker_call('nest', 'SELECT 1 AS x')$$);
SELECT platpat.record_failure('nest');
SELECT platpat.breaker_call('nest', $$SELECT platpat.breaker_call('nest', 'SELECT 1')$$);
SELECT state, passed, failed FROM platpat.stat_breakers WHERE breaker = 'nest';
SELECT platpat.breaker_call('nest', $$SELECT platpat.drop_breaker('nest')$$);
SELECT platpat.breaker_state('nest');
SELECT platpat.create_breaker('nest', 1, '1 us');
SELECT platpat.breaker_call('nest', $$SELECT platpat.drop_breaker('nest'), platpat.create_breaker('nest')$$);
SELECT state, passed FROM platpat.stat_breakers WHERE breaker = 'nest';

-- as the caller
CREATE ROLE regress_breaker_app;
SET ROLE regress_breaker_app;
SELECT platpat.breaker_call('nest', 'SELECT current_user');
SELECT platpat.breaker_call('nest', 'SELECT * FROM calls');
RESET ROLE;

-- definitions that cannot be
SELECT platpat.create_breaker('call');
SELECT platpat.create_breaker(NULL);
SELECT platpat.create_breaker('bad', 0);
SELECT platpat.create_breaker('bad', NULL);
SELECT platpat.create_breaker('bad', timeout => '0');
SELECT platpat.create_breaker('bad', timeout => '-1 s');
SELECT platpat.create_breaker('bad', timeout => '102 years');
SELECT platpat.create_breaker('bad', timeout => NULL);
SELECT platpat.create_breaker('bad', failure_rate => 0.5);
SELECT platpat.create_breaker('bad', failure_window => '1 min', failure_rate => 50);
SELECT platpat.create_breaker('bad', failure_window => '1 min', failure_rate => 'NaN');
SELECT platpat.create_breaker('bad', failure_window => '1 min', slow_rate => 0.5);
SELECT platpat.create_breaker('bad', half_open_calls => 65);
SELECT platpat.create_breaker('bad', success_threshold => -1);
SELECT platpat.create_breaker('bad', probe_timeout => NULL);
SELECT platpat.create_breaker('bad', backoff => 0.5);
SELECT platpat.create_breaker('bad', backoff => NULL);
SELECT platpat.create_breaker('bad', backoff => 'Infinity');
SELECT platpat.create_breaker('bad', max_timeout => '1 s');
SELECT platpat.create_breaker('bad', failure_states => '{08,5}');
SELECT platpat.create_breaker('bad', failure_states => '{08,xx}');
SELECT platpat.create_breaker('bad', failure_states => '{08,NULL}');
SELECT platpat.create_breaker('bad', failure_states => NULL);
SELECT platpat.create_breaker('bad', failure_states => array_fill('08'::text, ARRAY[65]));
SELECT platpat.alter_breaker('nobody', 5);
SELECT platpat.alter_breaker('call', 0);
SELECT platpat.drop_breaker('nobody');
SELECT platpat.drop_breaker(NULL);
-- none has been made, and what is null in alter_breaker() stays
SELECT platpat.alter_breaker('call', minimum_calls => 7, slow_call => '1 s');
SELECT platpat.alter_breaker('call');
SELECT breaker, failure_threshold, timeout, minimum_calls, slow_call, failure_states FROM platpat.breakers ORDER BY breaker;

-- by SQL: a renamed breaker keeps its state
INSERT INTO platpat.breakers (breaker, failure_threshold, timeout) VALUES ('row', 1, '1 day');
SELECT platpat.record_failure('row');
UPDATE platpat.breakers SET breaker = 'renamed' WHERE breaker = 'row';
SELECT platpat.breaker_state('renamed');
SELECT platpat.breaker_state('row');
UPDATE platpat.breakers SET timeout = '0' WHERE breaker = 'renamed';
DELETE FROM platpat.breakers WHERE breaker = 'renamed';
SELECT platpat.breaker_state('renamed');
INSERT INTO platpat.breakers (breaker) VALUES ('renamed');
SELECT platpat.breaker_state('renamed');
TRUNCATE platpat.breakers;
SELECT platpat.breaker_state('renamed');

-- changes are sent to a channel
SET platpat.breaker_notify_channel = 'regress_breaker';
LISTEN regress_other;
SELECT platpat.create_breaker('told', 1, '1 day');
CREATE FUNCTION told() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM platpat.record_failure('told');
	RETURN platpat.breaker_state('told');
END $$;
SELECT told();
SET platpat.breaker_notify_channel = '';
SELECT set_config('platpat.breaker_notify_channel', repeat('x', 64), false);
SET ROLE regress_breaker_app;
SET platpat.breaker_notify_channel = 'mine';
RESET ROLE;
UNLISTEN *;
SELECT platpat.drop_breaker('told');
DROP FUNCTION told();
DROP TABLE calls;
DROP ROLE regress_breaker_app;
