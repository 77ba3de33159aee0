-- The tenant follows transactions, savepoints and sessions as a setting does.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE regress_app;
RESET client_min_messages;
SET ROLE regress_app;

-- no tenant
SELECT platpat.current_tenant_or_null() IS NULL AS none;
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT platpat.current_tenant();
\set VERBOSITY terse

-- of a transaction
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT platpat.current_tenant(), platpat.current_tenant_or_null();
COMMIT;
SELECT platpat.current_tenant_or_null() IS NULL AS none;
BEGIN;
SELECT platpat.set_tenant('acme');
ROLLBACK;
SELECT platpat.current_tenant_or_null() IS NULL AS none;

-- a statement of its own: a warning, and no tenant afterwards
\set VERBOSITY default
SELECT platpat.set_tenant('acme');
SELECT * FROM platpat.set_tenant('acme');
\set VERBOSITY terse
SELECT platpat.current_tenant_or_null() IS NULL AS none;
-- not when a table is read by the same statement, nor inside functions
SELECT platpat.set_tenant('acme'), count(*) > 0 AS rows FROM pg_catalog.pg_class;
DO $$ BEGIN PERFORM platpat.set_tenant('acme'); ASSERT platpat.current_tenant() = 'acme'; END $$;
SELECT platpat.current_tenant_or_null() IS NULL AS none;

-- of a session
SELECT platpat.set_tenant('acme', false);
SELECT platpat.current_tenant();
BEGIN;
SELECT platpat.set_tenant('globex');
SELECT platpat.current_tenant();
COMMIT;
SELECT platpat.current_tenant();
BEGIN;
SELECT platpat.set_tenant('globex', false);
ROLLBACK;
SELECT platpat.current_tenant();
SELECT platpat.reset_tenant();
SELECT platpat.current_tenant_or_null() IS NULL AS none;

-- DISCARD ALL and RESET ALL leave no tenant
SELECT platpat.set_tenant('acme', false);
RESET ALL;
SELECT platpat.current_tenant_or_null() IS NULL AS none;
SELECT platpat.set_tenant('acme', false);
RESET ROLE;
DISCARD ALL;
SELECT platpat.current_tenant_or_null() IS NULL AS none;
\set VERBOSITY terse
SET ROLE regress_app;

-- savepoints
BEGIN;
SAVEPOINT a;
SELECT platpat.set_tenant('acme');
ROLLBACK TO a;
SELECT platpat.current_tenant_or_null() IS NULL AS none;
SELECT platpat.set_tenant('globex');    -- the transaction stays acme's
ROLLBACK TO a;
SELECT platpat.set_tenant('acme');
RELEASE a;
SELECT platpat.current_tenant();
COMMIT;

-- a subtransaction that fails inside a function
BEGIN;
DO $$
BEGIN
    PERFORM platpat.set_tenant('acme');
    RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
    ASSERT platpat.current_tenant_or_null() IS NULL;
END $$;
SELECT platpat.current_tenant_or_null() IS NULL AS none;
COMMIT;

-- write once
BEGIN;
SELECT platpat.set_tenant('acme');
SAVEPOINT a;
\set VERBOSITY default
SELECT platpat.set_tenant('globex');
\set VERBOSITY terse
ROLLBACK TO a;
SELECT platpat.reset_tenant();
SELECT platpat.current_tenant_or_null() IS NULL AS none;
SAVEPOINT b;
SELECT platpat.set_tenant('globex');
ROLLBACK TO b;
RESET ALL;
SELECT platpat.set_tenant('globex');
ROLLBACK TO b;
SELECT platpat.set_tenant('acme'), platpat.set_tenant('acme');
COMMIT;
SELECT count(platpat.set_tenant(t)) FROM (VALUES ('acme'), ('globex')) v(t);
SELECT platpat.current_tenant_or_null() IS NULL AS none;

-- unless switching is free
RESET ROLE;
SET platpat.tenant_switching = 'free';
SET ROLE regress_app;
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT platpat.set_tenant('globex');
SELECT platpat.current_tenant();
COMMIT;
-- what was read before a switch stays what it was, within one statement too
BEGIN;
SELECT platpat.current_tenant_or_null() AS before,
       platpat.set_tenant('acme') AS set1, platpat.current_tenant() AS then1,
       platpat.set_tenant('globex') AS set2, platpat.current_tenant() AS then2,
       (SELECT count(*) FROM (SELECT platpat.set_tenant('t' || i) FROM generate_series(1, 20) i) s) AS twenty,
       platpat.current_tenant() AS last;
COMMIT;
RESET ROLE;
RESET platpat.tenant_switching;
SET ROLE regress_app;

-- cursors: no change of tenant while one is open
SELECT platpat.set_tenant('acme', false);
BEGIN;
DECLARE c CURSOR FOR SELECT i, platpat.current_tenant() FROM generate_series(1, 3) i;
FETCH c;
SAVEPOINT a;
\set VERBOSITY default
SELECT platpat.set_tenant('globex');
\set VERBOSITY terse
ROLLBACK TO a;
SELECT platpat.set_tenant('acme');
FETCH c;
CLOSE c;
COMMIT;
BEGIN;
DECLARE c CURSOR FOR SELECT platpat.current_tenant();
CLOSE c;
SELECT platpat.set_tenant('globex');
COMMIT;
-- not by way of no tenant either
BEGIN;
DECLARE c CURSOR FOR SELECT i, platpat.current_tenant() FROM generate_series(1, 3) i;
FETCH c;
SELECT platpat.reset_tenant();
SAVEPOINT a;
SELECT platpat.set_tenant('globex');
ROLLBACK TO a;
RESET ALL;
SELECT platpat.set_tenant('globex');
ROLLBACK;
SELECT platpat.set_tenant('acme', false);
DO $$
DECLARE i int;
BEGIN
    FOR i IN SELECT generate_series(1, 3) LOOP
        PERFORM platpat.set_tenant('globex');
    END LOOP;
END $$;
SELECT platpat.reset_tenant();

-- prepared statements follow the tenant, also with a generic plan
SET plan_cache_mode = force_generic_plan;
PREPARE who AS SELECT platpat.current_tenant();
BEGIN;
SELECT platpat.set_tenant('acme');
EXECUTE who;
COMMIT;
BEGIN;
SELECT platpat.set_tenant('globex');
EXECUTE who;
COMMIT;
EXECUTE who;
DEALLOCATE who;
RESET plan_cache_mode;

-- functions: PL/pgSQL and SQL, inlined or not
CREATE FUNCTION pg_temp.in_plpgsql() RETURNS text LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN platpat.current_tenant(); END';
CREATE FUNCTION pg_temp.in_sql() RETURNS text LANGUAGE sql STABLE AS
    'SELECT platpat.current_tenant()';
CREATE FUNCTION pg_temp.in_sql_strict(int) RETURNS SETOF text LANGUAGE sql STRICT AS
    'SELECT platpat.current_tenant() FROM generate_series(1, $1)';
CREATE FUNCTION pg_temp.sets_local_work_mem() RETURNS text LANGUAGE plpgsql SET work_mem = '1MB' AS
    'BEGIN RETURN platpat.set_tenant(''acme''); END';
BEGIN;
SELECT pg_temp.sets_local_work_mem();
SELECT pg_temp.in_plpgsql(), pg_temp.in_sql(), (SELECT max(t) FROM pg_temp.in_sql_strict(2) t);
COMMIT;
BEGIN;
SELECT platpat.set_tenant('globex');
SELECT pg_temp.in_plpgsql(), pg_temp.in_sql(), (SELECT max(t) FROM pg_temp.in_sql_strict(2) t);
COMMIT;
SELECT pg_temp.in_plpgsql();

-- a SECURITY DEFINER wrapper acts for its caller
RESET ROLE;
CREATE FUNCTION wrapped_set(text) RETURNS text LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS 'SELECT platpat.set_tenant($1)';
BEGIN;
SAVEPOINT a;
CREATE ROLE regress_super SUPERUSER;
SET ROLE regress_super;
SELECT wrapped_set('acme');     -- a superuser outside
ROLLBACK;
SET ROLE regress_app;
BEGIN;
SELECT wrapped_set('acme');
SELECT platpat.current_tenant();
COMMIT;

-- procedures with transaction control
CREATE PROCEDURE pg_temp.two() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM platpat.set_tenant('acme');
    ASSERT platpat.current_tenant() = 'acme';
    COMMIT;
    ASSERT platpat.current_tenant_or_null() IS NULL;
    PERFORM platpat.set_tenant('globex');
    ASSERT platpat.current_tenant() = 'globex';
END $$;
CALL pg_temp.two();
SELECT platpat.current_tenant_or_null() IS NULL AS none;
-- an argument outlives the transactions of the procedure
CREATE PROCEDURE pg_temp.keeps(t text) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 3 LOOP
        COMMIT;
        PERFORM platpat.set_tenant('other' || i, false);
    END LOOP;
    COMMIT;
    RAISE NOTICE 'argument %, tenant %', t, platpat.current_tenant();
END $$;
SELECT platpat.set_tenant('acme', false);
CALL pg_temp.keeps(platpat.current_tenant());
SELECT platpat.reset_tenant();

-- a chained transaction starts without a tenant
BEGIN;
SELECT platpat.set_tenant('acme');
COMMIT AND CHAIN;
SELECT platpat.current_tenant_or_null() IS NULL AS none;
SELECT platpat.set_tenant('globex');
ROLLBACK;

-- read only transactions
BEGIN READ ONLY;
SELECT platpat.set_tenant('acme');
SELECT platpat.current_tenant();
COMMIT;

-- parallel workers know the tenant
RESET ROLE;
CREATE TABLE many AS SELECT i, CASE i % 2 WHEN 0 THEN 'acme' ELSE 'globex' END AS t
    FROM generate_series(1, 20000) i;
ALTER TABLE many SET (parallel_workers = 2);
GRANT SELECT ON many TO regress_app;
SET ROLE regress_app;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
BEGIN;
SELECT platpat.set_tenant('acme');
EXPLAIN (COSTS OFF) SELECT count(*) FROM many WHERE t = platpat.current_tenant();
SELECT count(*) FROM many WHERE t = platpat.current_tenant();
COMMIT;
SELECT count(*) FROM many WHERE t = platpat.current_tenant();
SELECT platpat.set_tenant('globex', false);
SELECT count(*), min(t) FROM many WHERE t = platpat.current_tenant();
RESET ALL;

-- on_missing_tenant = empty shows nothing instead
RESET ROLE;
SET platpat.on_missing_tenant = 'empty';
SET ROLE regress_app;
SELECT platpat.current_tenant() IS NULL AS t, platpat.current_tenant_uuid() IS NULL AS u,
       platpat.current_tenant_bigint() IS NULL AS b, platpat.tenant_prefix() IS NULL AS p;
SELECT count(*) FROM many WHERE t = platpat.current_tenant();
RESET ROLE;
RESET platpat.on_missing_tenant;

-- session_tenant = off keeps the session clean
SET platpat.session_tenant = off;
SET ROLE regress_app;
\set VERBOSITY default
SELECT platpat.set_tenant('acme', false);
\set VERBOSITY terse
BEGIN;
SELECT platpat.set_tenant('acme');
COMMIT;
RESET ROLE;
RESET platpat.session_tenant;

-- roles that policies do not apply to
CREATE ROLE regress_super SUPERUSER;
CREATE ROLE regress_bypass BYPASSRLS;
SET ROLE regress_bypass;
SELECT platpat.set_tenant('acme', false);
RESET ROLE;
SET ROLE regress_super;
\set VERBOSITY default
SELECT platpat.set_tenant('acme', false);
\set VERBOSITY terse
SET platpat.allow_bypass_role = on;
SELECT platpat.set_tenant('acme', false);
SELECT platpat.reset_tenant();
RESET platpat.allow_bypass_role;
RESET ROLE;

DROP TABLE many;
DROP FUNCTION wrapped_set;
DROP OWNED BY regress_app;
DROP ROLE regress_app, regress_super, regress_bypass;
