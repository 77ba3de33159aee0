-- The same million rows three times, one for each kind of policy: tenant 0 has
-- half of them, 999 others 500 each, all of them interleaved.  The plain
-- alternative reads the table that platpat protects, in a role that no policy
-- applies to: not even the place of the pages differs.
CREATE EXTENSION platpat;
CREATE ROLE bench_app LOGIN;
CREATE ROLE bench_plain LOGIN BYPASSRLS;

CREATE FUNCTION tenant_uuid(tenant bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('3f2504e0-4f89-41d3-9a0c-' || lpad(tenant::text, 12, '0'))::uuid;

CREATE TABLE ours (tenant_id uuid NOT NULL, id bigint, amount bigint NOT NULL, PRIMARY KEY (tenant_id, id));
INSERT INTO ours
	SELECT tenant_uuid(CASE WHEN i % 2 = 0 THEN 0 ELSE i / 2 % 999 + 1 END), i, i % 1000
	FROM generate_series(0, 999999) i;
CREATE TABLE setting (LIKE ours INCLUDING ALL);
CREATE TABLE initplan (LIKE ours INCLUDING ALL);
INSERT INTO setting SELECT * FROM ours ORDER BY id;
INSERT INTO initplan SELECT * FROM ours ORDER BY id;

SELECT count(*) FROM platpat.protect('ours');
ALTER TABLE setting ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON setting USING (tenant_id = current_setting('bench.tenant')::uuid);
ALTER TABLE initplan ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON initplan USING (tenant_id = (SELECT current_setting('bench.tenant')::uuid));

-- Keys of shard lookups, and each algorithm twice: with 16 shards and with 17.
CREATE TABLE keys AS
	SELECT i AS id, 'tenant-' || i AS key FROM generate_series(bigint '0', 999999) i;
SELECT count(platpat.create_ring(format('%s-%s', algorithm, shards), algorithm,
	shards => (SELECT array_agg('shard-' || i ORDER BY i) FROM generate_series(0, shards - 1) i)))
FROM unnest(ARRAY['md5', 'ketama', 'rendezvous', 'maglev', 'jump', 'modulo']) algorithm,
	unnest(ARRAY[16, 17]) shards;

-- 100,000 keys in random order
CREATE TABLE requests AS SELECT 'tenant-' || (random() * 99999)::int AS key FROM generate_series(1, 1000000);
-- a limiter that is a row, as one writes it by hand
CREATE UNLOGGED TABLE buckets (key text PRIMARY KEY, tokens float8, filled_at timestamptz) WITH (fillfactor = 50);
INSERT INTO buckets VALUES ('hot', 1e9, clock_timestamp());
UPDATE platpat.tiers SET rate = 1e9, burst = 1e9, daily_quota = 1e15 WHERE tier = 'free';

GRANT SELECT ON ours, setting, initplan, keys, requests TO bench_app, bench_plain;
-- A sample of all rows: the four tables then have the very same statistics.
SET default_statistics_target = 10000;
VACUUM (FREEZE, ANALYZE);

-- Point queries of tenant 1, whose 500 rows have the ids 1 + 2 * 999 * k; the
-- loop is inside the session, so nothing but the cached plan is measured.
SELECT format($$
	CREATE FUNCTION point_%1$s(n integer) RETURNS bigint LANGUAGE plpgsql AS $f$
	DECLARE total bigint := 0; found_amount bigint;
	BEGIN
		FOR i IN 1 .. n LOOP
			SELECT amount INTO STRICT found_amount FROM %2$I WHERE %3$s id = 1 + 1998 * (i %% 500);
			total := total + found_amount;
		END LOOP;
		RETURN total;
	END $f$ SET plan_cache_mode = force_generic_plan$$,
	name, coalesce(nullif(name, 'plain'), 'ours'),
	CASE name WHEN 'plain' THEN format('tenant_id = %L AND', tenant_uuid(1)) END)
FROM unnest(ARRAY['plain', 'ours', 'setting', 'initplan']) name \gexec

-- Transactions that do nothing but one call.
SELECT format($$
	CREATE PROCEDURE transactions_%s(n integer) LANGUAGE plpgsql AS $f$
	BEGIN
		FOR i IN 1 .. n LOOP
			%s;
			COMMIT;
		END LOOP;
	END $f$ $$, name, call)
FROM (VALUES
	('constant', 'PERFORM pg_backend_pid()'),
	('set_tenant', format('PERFORM platpat.set_tenant(%L)', tenant_uuid(1))),
	('set_local', format('SET LOCAL bench.tenant = %L', tenant_uuid(1))),
	('set_config', format('PERFORM set_config(%L, %L, true)', 'bench.tenant', tenant_uuid(1)))) v(name, call) \gexec

-- The event log as one writes it by hand, with the keys that a partition has.
CREATE SEQUENCE plain_position;
CREATE TABLE plain_events (
	position bigint PRIMARY KEY DEFAULT nextval('plain_position'), id uuid NOT NULL DEFAULT gen_random_uuid(),
	aggregatetype text COLLATE "C" NOT NULL, aggregateid text COLLATE "C" NOT NULL, version bigint NOT NULL,
	type text COLLATE "C" NOT NULL, payload jsonb NOT NULL, tenant text COLLATE "C", metadata jsonb,
	created_at timestamptz NOT NULL);
CREATE INDEX ON plain_events (tenant, aggregatetype, aggregateid, version);
CREATE TABLE plain_streams (tenant text COLLATE "C", aggregatetype text COLLATE "C" NOT NULL,
	aggregateid text COLLATE "C" NOT NULL, version bigint NOT NULL,
	UNIQUE NULLS NOT DISTINCT (tenant, aggregatetype, aggregateid)) WITH (fillfactor = 70);
-- Two events for each thing: one makes it, one changes it.
CREATE SEQUENCE things;
CREATE FUNCTION append_plain(n int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE next_version bigint; new_position bigint; base text := nextval('things') || '-';
BEGIN
	FOR i IN 1 .. n LOOP
		INSERT INTO plain_streams AS s VALUES (tenant_uuid(1)::text, 'order', base || i / 2, 1)
			ON CONFLICT (tenant, aggregatetype, aggregateid) DO UPDATE SET version = s.version + 1
			RETURNING version INTO next_version;
		INSERT INTO plain_events (tenant, aggregatetype, aggregateid, version, type, payload, created_at)
			VALUES (tenant_uuid(1)::text, 'order', base || i / 2, next_version, 'order.created',
				'{"order_id": 1, "customer_id": 7, "total": 12.5}', clock_timestamp())
			RETURNING position INTO new_position;
	END LOOP;
	RETURN new_position;
END $$;
CREATE FUNCTION append_ours(n int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE new_position bigint; base text := nextval('things') || '-';
BEGIN
	FOR i IN 1 .. n LOOP
		new_position := platpat.append_event('order', base || i / 2, 'order.created',
			'{"order_id": 1, "customer_id": 7, "total": 12.5}');
	END LOOP;
	RETURN new_position;
END $$;
GRANT SELECT, INSERT, UPDATE ON plain_events, plain_streams TO bench_plain;
GRANT USAGE ON SEQUENCE plain_position, things TO bench_plain, bench_app;
GRANT EXECUTE ON FUNCTION platpat.append_event(text, text, text, jsonb, bigint, jsonb) TO bench_app;
-- Read models: totals of 10,000 customers, set based and row at a time.
CREATE TABLE totals (customer bigint PRIMARY KEY, orders bigint NOT NULL, total numeric NOT NULL) WITH (fillfactor = 50);
CREATE TABLE row_totals (LIKE totals INCLUDING ALL) WITH (fillfactor = 50);
CREATE FUNCTION apply_totals(first bigint, last bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO totals AS t
		SELECT (payload ->> 'customer_id')::bigint, count(*), sum((payload ->> 'total')::numeric)
		FROM platpat.events WHERE position BETWEEN first AND last AND type = 'order.placed' GROUP BY 1
	ON CONFLICT (customer) DO UPDATE SET orders = t.orders + excluded.orders, total = t.total + excluded.total
$$;
CREATE FUNCTION apply_rows(first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE event platpat.events;
BEGIN
	FOR event IN SELECT * FROM platpat.events WHERE position BETWEEN first AND last AND type = 'order.placed' ORDER BY position LOOP
		INSERT INTO row_totals AS t VALUES ((event.payload ->> 'customer_id')::bigint, 1, (event.payload ->> 'total')::numeric)
		ON CONFLICT (customer) DO UPDATE SET orders = t.orders + 1, total = t.total + excluded.total;
	END LOOP;
END $$;
-- From the commit to whoever reads the read model.
CREATE TABLE seen (position bigint PRIMARY KEY);
CREATE FUNCTION apply_seen(first bigint, last bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO seen SELECT position FROM platpat.events WHERE position BETWEEN first AND last AND type = 'looked'
$$;
CREATE TABLE latencies (ms float8);
CREATE PROCEDURE measure_latency(n int, pause float8) LANGUAGE plpgsql AS $$
DECLARE appended bigint; committed timestamptz; done timestamptz;
BEGIN
	FOR i IN 1 .. n LOOP
		appended := platpat.append_event('look', i::text, 'looked', '{}');
		COMMIT;
		committed := clock_timestamp();
		IF NOT platpat.wait_for_projection('seen', appended, '10 s') THEN
			RAISE EXCEPTION 'not applied in 10 s';
		END IF;
		done := clock_timestamp();
		INSERT INTO latencies VALUES (extract(epoch FROM done - committed) * 1000);
		COMMIT;
		PERFORM pg_sleep(pause);
		COMMIT;
	END LOOP;
END $$;

-- How long a protected table stays open that somebody opens.
CREATE PROCEDURE measure_repair(n int, pause float8) LANGUAGE plpgsql AS $$
DECLARE committed timestamptz; done timestamptz;
BEGIN
	FOR i IN 1 .. n LOOP
		EXECUTE 'ALTER TABLE few.t DISABLE ROW LEVEL SECURITY';
		COMMIT;
		committed := clock_timestamp();
		WHILE NOT (SELECT relrowsecurity FROM pg_class WHERE oid = 'few.t'::regclass) LOOP
			IF clock_timestamp() > committed + interval '30 s' THEN
				RAISE EXCEPTION 'open for 30 s';
			END IF;
			PERFORM pg_sleep(0.0005);
		END LOOP;
		done := clock_timestamp();
		INSERT INTO latencies VALUES (extract(epoch FROM done - committed) * 1000);
		COMMIT;
		PERFORM pg_sleep(pause);
		COMMIT;
	END LOOP;
END $$;
