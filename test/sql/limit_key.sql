-- Token buckets by key.  Rates are so low that nothing comes in meanwhile.
\set VERBOSITY terse
SET extra_float_digits = 0;

-- a burst is granted to the token, and not one more
SELECT count(*) FILTER (WHERE platpat.allow_request('burst', 1, 20, 1, '1 day'))
FROM generate_series(1, 30);
SELECT count(*) FILTER (WHERE platpat.allow_request('cost', 1, 20, 3, '1 day'))
FROM generate_series(1, 30);
SELECT count(*) FILTER (WHERE platpat.allow_request('part', 1, 2, 0.1, '1 day'))
FROM generate_series(1, 30);

-- what is left, and how long to wait
SELECT allowed, round(remaining::numeric, 3) AS remaining,
	date_trunc('minute', retry_after) AS retry_after,
	date_trunc('minute', reset_after + '1 s') AS reset_after
FROM platpat.consume_rate_limit('row', 1, 10, 4, '1 hour');
SELECT allowed, round(remaining::numeric, 3) AS remaining,
	date_trunc('minute', retry_after) AS retry_after,
	date_trunc('minute', reset_after + '1 s') AS reset_after
FROM platpat.consume_rate_limit('row', 1, 10, 4, '1 hour');
SELECT allowed, round(remaining::numeric, 3) AS remaining,
	date_trunc('minute', retry_after + '1 s') AS retry_after,
	date_trunc('minute', reset_after + '1 s') AS reset_after
FROM platpat.consume_rate_limit('row', 1, 10, 4, '1 hour');
-- a look charges nothing, however often
SELECT count(DISTINCT round(p.remaining::numeric, 2)) AS answers, bool_or(p.allowed) AS allowed
FROM generate_series(1, 10), platpat.peek_rate_limit('row', 1, 10, 4, '1 hour') AS p;
SELECT allowed, remaining, retry_after, reset_after
FROM platpat.peek_rate_limit('nobody knows', 1, 10, 4, '1 hour');
SELECT count(*) FROM platpat.stat_rate_limits WHERE key = 'nobody knows';

-- one key, whatever its type
SELECT platpat.allow_request(4711, 1, 2, 1, '1 day') AS number,
	platpat.allow_request('4711', 1, 2, 1, '1 day') AS text,
	platpat.allow_request(4711::smallint, 1, 2, 1, '1 day') AS small;
SELECT platpat.allow_request('3F2504E0-4F89-41D3-9A0C-000000000001'::uuid, 1, 1, 1, '1 day') AS uuid,
	platpat.allow_request('3f2504e0-4f89-41d3-9a0c-000000000001', 1, 1, 1, '1 day') AS text;

-- a call site may be asked for another key, rate and cost each time
SELECT k, r, platpat.allow_request('site ' || k, r, r, c, '1 day')
FROM (VALUES ('a', 1, 1), ('a', 1, 1), ('b', 2, 2), ('b', 2, 1), ('a', 3, 1), ('a', 3, 1)) AS v(k, r, c);

-- another rate keeps the debt in time: 10 of 10 at 1 an hour is 10 hours
SELECT platpat.allow_request('change', 1, 10, 10, '1 hour');
SELECT date_trunc('minute', reset_after + '1 s') AS reset_after, round(remaining::numeric, 2) AS remaining
FROM platpat.peek_rate_limit('change', 2, 30, 1, '1 hour');
SELECT allowed, date_trunc('minute', retry_after + '1 s') AS retry_after
FROM platpat.peek_rate_limit('change', 0.5, 2, 1, '1 hour');

-- cost 0 passes as long as there is no more than a full debt, and costs nothing
SELECT platpat.allow_request('nothing', 1, 1, 0, '1 day'), platpat.allow_request('nothing', 1, 1, 1, '1 day'),
	platpat.allow_request('nothing', 1, 1, 0, '1 day'), platpat.allow_request('nothing', 1, 1, 1, '1 day');

-- from one token in a month to a billion in a second
SELECT platpat.allow_request('month', 1, 1, 1, '1 month'), platpat.allow_request('month', 1, 1, 1, '1 month');
SELECT date_trunc('hour', retry_after + '1 s') AS retry_after
FROM platpat.peek_rate_limit('month', 1, 1, 1, '1 month');
SELECT platpat.allow_request('billion', 1e9, 1e9, 1e9), (platpat.peek_rate_limit('billion', 1e9, 1e9, 1e9)).allowed;
SELECT platpat.allow_request('century', 1, 100, 100, '1 year'), platpat.allow_request('century', 1, 100, 100, '1 year');
SELECT date_trunc('hour', retry_after + '1 s') AS retry_after
FROM platpat.peek_rate_limit('century', 1, 100, 100, '1 year');

-- refund and reset
SELECT platpat.allow_request('back', 1, 10, 10, '1 day');
SELECT round(platpat.refund_rate_limit('back', 1, 10, 4, '1 day')::numeric, 3);
SELECT round(platpat.refund_rate_limit('back', 1, 10, 4, '1 day')::numeric, 3);
SELECT round(platpat.refund_rate_limit('back', 1, 10, 4, '1 day')::numeric, 3);
SELECT platpat.refund_rate_limit('back', 1, 10, 10, '1 day');
SELECT count(*) FILTER (WHERE platpat.allow_request('back', 1, 10, 1, '1 day')) FROM generate_series(1, 30);
SELECT platpat.reset_rate_limit('back'), platpat.reset_rate_limit('never seen');
SELECT platpat.allow_request('back', 1, 10, 10, '1 day');
SELECT platpat.refund_rate_limit('never seen', 1, 10, 4, '1 day');
SELECT count(*) FROM platpat.stat_rate_limits WHERE key = 'never seen';

-- ROLLBACK gives nothing back, and READ ONLY does not matter
BEGIN READ ONLY;
SELECT platpat.allow_request('rollback', 1, 1, 1, '1 day');
SAVEPOINT s;
SELECT platpat.allow_request('rollback 2', 1, 1, 1, '1 day');
ROLLBACK TO s;
ROLLBACK;
SELECT platpat.allow_request('rollback', 1, 1, 1, '1 day'), platpat.allow_request('rollback 2', 1, 1, 1, '1 day');
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT platpat.allow_request('serial', 1, 1, 1, '1 day');
COMMIT;

-- never computed beforehand: neither by EXPLAIN nor by a prepared statement
EXPLAIN (COSTS OFF) SELECT platpat.allow_request('plan', 1, 1, 1, '1 day');
EXPLAIN (COSTS OFF) SELECT FROM (VALUES (1), (2)) AS v(i) WHERE platpat.allow_request('plan', 1, 1, 1, '1 day');
PREPARE plan AS SELECT platpat.allow_request('plan', 1, 3, 1, '1 day');
EXECUTE plan; EXECUTE plan; EXECUTE plan; EXECUTE plan;
DEALLOCATE plan;
SELECT provolatile, proparallel, array_agg(DISTINCT proname::text ORDER BY proname::text)
FROM pg_proc WHERE pronamespace = 'platpat'::regnamespace AND proname ~ 'allow_[rst]|rate_limit$|tenant_limit$|tenant_request$'
GROUP BY 1, 2;

-- several keys: all or none
SELECT platpat.allow_requests('{one, two}', '{1, 1}', '{2, 1}');
SELECT platpat.reset_rate_limit('one'), platpat.reset_rate_limit('two');
SELECT platpat.allow_requests('{one, two}', '{1e-5, 1e-5}', '{5, 2}') FROM generate_series(1, 4);
SELECT key, allowed, denied FROM platpat.stat_rate_limits WHERE key IN ('one', 'two') ORDER BY key;
SELECT round(remaining::numeric) FROM platpat.peek_rate_limit('one', 1e-5, 5);
SELECT platpat.allow_requests('{same, same, same}', '{1e-5, 1e-5, 1e-5}', '{3, 3, 3}');
SELECT platpat.allow_requests('{same, other}', '{1e-5, 1e-5}', '{3, 3}');
SELECT round(remaining::numeric) FROM platpat.peek_rate_limit('other', 1e-5, 3);
-- a full bucket gives its burst, whatever the rounding of costs
SELECT platpat.allow_requests('{thirds, thirds, thirds}', '{3, 3, 3}', '{3, 3, 3}');
SELECT platpat.allow_requests('{}', '{}', '{}');
SELECT platpat.allow_requests('{a}', '{1, 2}', '{1}');
SELECT platpat.allow_requests('{a, NULL}', '{1, 2}', '{1, 1}');
SELECT platpat.allow_requests('{a, b}', '{1, NULL}', '{1, 1}');
SELECT platpat.allow_requests('{a, ""}', '{1, 1}', '{1, 1}');
SELECT platpat.allow_requests('{{a}, {b}}', '{1, 1}', '{1, 1}');
SELECT platpat.allow_requests(NULL, '{1}', '{1}');
SELECT platpat.allow_requests('{a}', '{1}', '{1}', NULL);
SELECT platpat.allow_requests('{a, b}', '{1, 1}', '{2, 1}', 2);
SELECT platpat.allow_requests(array_fill('k'::text, '{1001}'), array_fill(1::float8, '{1001}'), array_fill(1::float8, '{1001}'));

-- waiting
SELECT count(*) FILTER (WHERE platpat.wait_for_rate_limit('wait', 200, 1)) FROM generate_series(1, 5);
SELECT platpat.wait_for_rate_limit('long', 1, 1, 1, '1 day');
SELECT platpat.wait_for_rate_limit('long', 1, 1, 1, '1 day', '1 s');
SELECT platpat.wait_for_rate_limit('long', 1, 1, 1, '1 day', '0');
SELECT platpat.wait_for_rate_limit('long', 1, 1, 1, '1 day', '-1 s');
SET statement_timeout = '50ms';
SELECT platpat.wait_for_rate_limit('long', 1, 1, 1, '1 day');
RESET statement_timeout;
-- the place was given back
SELECT date_trunc('hour', retry_after + '5 min') AS retry_after FROM platpat.peek_rate_limit('long', 1, 1, 1, '1 day');
SET statement_timeout = '50ms';
DO $$
BEGIN
	PERFORM platpat.wait_for_rate_limit('long', 1, 1, 1, '1 day');
EXCEPTION WHEN query_canceled THEN
	RAISE NOTICE 'cancelled';
END $$;
RESET statement_timeout;
SELECT date_trunc('hour', retry_after + '5 min') AS retry_after FROM platpat.peek_rate_limit('long', 1, 1, 1, '1 day');

-- bad input
SELECT platpat.allow_request(NULL::text, 1, 1);
SELECT platpat.allow_request(NULL::uuid, 1, 1);
SELECT platpat.allow_request(NULL::bigint, 1, 1);
SELECT platpat.allow_request('', 1, 1);
SELECT platpat.allow_request('x', NULL, 1);
SELECT platpat.allow_request('x', 1, NULL);
SELECT platpat.allow_request('x', 1, 1, NULL);
SELECT platpat.allow_request('x', 1, 1, 1, NULL);
SELECT platpat.allow_request('x', 0, 1);
SELECT platpat.allow_request('x', -1, 1);
SELECT platpat.allow_request('x', 'NaN', 1);
SELECT platpat.allow_request('x', 'Infinity', 1);
SELECT platpat.allow_request('x', 1, 0);
SELECT platpat.allow_request('x', 1, -1);
SELECT platpat.allow_request('x', 1, 'NaN');
SELECT platpat.allow_request('x', 1, 'Infinity');
SELECT platpat.allow_request('x', 1, 1, -1);
SELECT platpat.allow_request('x', 1, 1, 'NaN');
SELECT platpat.allow_request('x', 1, 1, 'Infinity');
SELECT platpat.allow_request('x', 1, 1, 1.5);
SELECT platpat.allow_request('x', 1, 1, 1, '0');
SELECT platpat.allow_request('x', 1, 1, 1, '-1 s');
SELECT platpat.allow_request('x', 1, 102, 1, '1 year');
SELECT platpat.allow_request('x', 1e-300, 1);
SELECT platpat.allow_request('x', 1, 1e300);
SELECT platpat.allow_request('x', 1, 1, 1, '178000000 years');
SELECT platpat.allow_request('tiny', 1e300, 1e-5, 1e-300), platpat.allow_request('tiny', 1e300, 1e300, 1e300);
SELECT platpat.consume_rate_limit(NULL::text, 1, 1);
SELECT platpat.enforce_rate_limit('', 1, 1);
SELECT platpat.peek_rate_limit('x', 1, 1, 2);
SELECT platpat.wait_for_rate_limit('x', 1, NULL);
SELECT platpat.refund_rate_limit('x', 1, 1, -1);
SELECT platpat.reset_rate_limit('');
SELECT platpat.reset_rate_limit(NULL::text);
-- long and strange keys are keys like any other
SELECT platpat.allow_request('D-aaaEaa', 1, 1, 1, '1 day'), platpat.allow_request(U&'\00ACrx`\00BE)', 1, 1, 1, '1 day');
SELECT platpat.allow_request(repeat('x', 1000000), 1, 1, 1, '1 day'), platpat.allow_request(repeat('x', 1000000), 1, 1, 1, '1 day'),
	platpat.allow_request(repeat('x', 999999), 1, 1, 1, '1 day');
SELECT platpat.allow_request(E'\u202e\u0301 '';--\n', 1, 1, 1, '1 day'), platpat.allow_request(' ', 1, 1, 1, '1 day');
SELECT platpat.allow_request(repeat('ä', 100), 1, 1, 1, '1 day');
SELECT left(key, 3), octet_length(key), length(key), allowed, denied FROM platpat.stat_rate_limits
WHERE key ~ '^(xxx|ä)' ORDER BY 1, 4, 5;

-- errors for people and for programs
\set VERBOSITY default
DO $$
DECLARE
	state text; message text; detail text; hint text;
	wanted text;
BEGIN
	PERFORM platpat.allow_request('say "no"', 1, 10, 10, '1 hour');
	FOREACH wanted IN ARRAY '{native, postgrest}'::text[] LOOP
		PERFORM set_config('platpat.limit_error_style', wanted, true);
		BEGIN
			PERFORM platpat.enforce_rate_limit('say "no"', 1, 10, 1, '1 hour');
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
				detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
			RAISE NOTICE '% %', state, CASE wanted WHEN 'native' THEN message
				ELSE ((message::jsonb - 'details' - 'hint')::text) END;
			IF wanted = 'native' THEN
				RAISE NOTICE '%, 3599 to 3600 s: %', detail::jsonb - 'retry_after' - 'remaining',
					(detail::jsonb ->> 'retry_after')::float8 BETWEEN 3599 AND 3600;
				RAISE NOTICE '%', hint ~ '^Try again in 3(599|600)\.\d{3} seconds\.$';
			ELSE
				RAISE NOTICE '%', detail::jsonb;
				RAISE NOTICE '% %', (message::jsonb ->> 'details')::jsonb ->> 'limit', message::jsonb ->> 'hint' ~ '^Try again in ';
			END IF;
		END;
	END LOOP;
END $$;
SELECT platpat.enforce_rate_limit('fresh', 1, 1);
\set VERBOSITY terse

-- headers
SELECT platpat.rate_limit_headers(true, 19.9, '0', '0.1 s', 10, 20);
SELECT platpat.rate_limit_headers(false, 0.3, '1.000001 s', '2 s', 10, 20);
SELECT platpat.rate_limit_headers(false, 0.3, '0', '2 s', 10, 20);
SELECT platpat.rate_limit_headers(false, 0, NULL, '2 s', 1, 100, '1 day', 'daily');
SELECT platpat.rate_limit_headers(true, 20, '0', '0', 10, 20);
SELECT platpat.rate_limit_headers(true, 1e300, '0', '0', 1e299, 1e300);
SELECT platpat.rate_limit_headers(NULL, 1, '0', '0', 10, 20);
SELECT platpat.rate_limit_headers(true, NULL, '0', '0', 10, 20);
SELECT platpat.rate_limit_headers(true, 'NaN', '0', '0', 10, 20);
SELECT platpat.rate_limit_headers(true, 1, '0', '-1 s', 10, 20);
SELECT platpat.rate_limit_headers(false, 1, '-1 s', '0', 10, 20);
SELECT platpat.rate_limit_headers(true, 1, '0', '0', 0, 20);
SELECT platpat.rate_limit_headers(true, 1, '0', '0', 10, 20, '1 s', 'a"b');
SELECT platpat.rate_limit_headers(true, 1, '0', '0', 10, 20, '1 s', 'täglich');

-- (f()).* calls once for each column, which is what FROM is for
SELECT (platpat.consume_rate_limit('star', 1, 10, 1, '1 day')).*  \gset star_
SELECT round(remaining::numeric) FROM platpat.peek_rate_limit('star', 1, 10, 1, '1 day');

-- counts
SELECT allowed, denied, last_denied IS NOT NULL AS was_denied, debt > '19 days' AS has_debt
FROM platpat.stat_rate_limits WHERE key = 'burst';
SELECT platpat.reset_stats();
SELECT allowed, denied, last_denied IS NOT NULL AS was_denied, debt > '19 days' AS has_debt
FROM platpat.stat_rate_limits WHERE key = 'burst';
SELECT platpat.reset_rate_limits() > 30 AS many;
SELECT count(*) FROM platpat.stat_rate_limits;
SELECT platpat.allow_request('burst', 1, 20, 20, '1 day');
SELECT name, labels, type FROM platpat.metrics() WHERE name LIKE 'platpat_limit%' ORDER BY name, labels;
