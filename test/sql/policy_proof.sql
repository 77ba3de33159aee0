-- Two tenants and every way to the other one's rows, as an application role.
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_owner;
CREATE ROLE regress_app;
CREATE SCHEMA shop AUTHORIZATION regress_owner;
GRANT USAGE ON SCHEMA shop TO regress_app;
SET ROLE regress_owner;
CREATE TABLE shop.orders (tenant_id text, id int, note text, PRIMARY KEY (tenant_id, id));
INSERT INTO shop.orders SELECT t, i, t || i FROM unnest('{acme,globex}'::text[]) t, generate_series(1, 3) i;
CREATE TABLE shop.lines (tenant_id text, order_id int, line int, PRIMARY KEY (tenant_id, order_id, line),
    FOREIGN KEY (tenant_id, order_id) REFERENCES shop.orders ON DELETE CASCADE);
INSERT INTO shop.lines SELECT tenant_id, id, 1 FROM shop.orders;
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.orders');
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.lines');
CREATE VIEW shop.invoker WITH (security_invoker = true) AS SELECT * FROM shop.orders;
CREATE VIEW shop.owned AS SELECT * FROM shop.orders;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA shop TO regress_app;

-- the owner is no exception
SELECT * FROM shop.orders;
SET ROLE regress_app;

-- without a tenant nothing works
SELECT * FROM shop.orders;
INSERT INTO shop.orders VALUES ('acme', 10, 'x');
UPDATE shop.orders SET note = 'x';
DELETE FROM shop.orders;
COPY shop.orders TO stdout;

SELECT platpat.set_tenant('acme', false);
-- SELECT
SELECT * FROM shop.orders ORDER BY id;
SELECT * FROM shop.orders WHERE tenant_id = 'globex';
SELECT * FROM shop.orders WHERE tenant_id = 'globex' OR true ORDER BY id;
SELECT count(*) FROM shop.orders o FULL JOIN shop.lines l ON true WHERE o.tenant_id = 'globex' OR l.tenant_id = 'globex';
WITH o AS MATERIALIZED (SELECT * FROM shop.orders) SELECT count(*) FROM o;
WITH RECURSIVE r AS (SELECT id FROM shop.orders UNION SELECT id + 1 FROM r WHERE id < 5) SELECT count(*) FROM r;
SELECT count(*) FROM shop.orders, LATERAL (SELECT 1 FROM shop.lines l WHERE l.order_id = orders.id) s;
SELECT (SELECT string_agg(note, ',' ORDER BY note) FROM shop.orders);
SELECT count(*) FROM shop.invoker;
SELECT count(*) FROM shop.owned;
SELECT count(*) FROM shop.orders TABLESAMPLE BERNOULLI (100);
SELECT * FROM shop.orders WHERE id = 2 FOR UPDATE;
TABLE shop.lines;
-- a leaky function does not see the other tenant's rows
CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
    'BEGIN RAISE NOTICE ''saw %'', $1; RETURN true; END';
SELECT count(*) FROM shop.orders WHERE pg_temp.leak(note);
-- nor does an error message tell of them
SELECT * FROM shop.orders WHERE 1 / (CASE WHEN tenant_id = 'acme' THEN 1 ELSE 0 END) > 0 ORDER BY id;
-- nor statistics
SELECT count(*) FROM pg_stats WHERE schemaname = 'shop';

-- INSERT, with and without the column
INSERT INTO shop.orders (id, note) VALUES (10, 'mine') RETURNING *;
INSERT INTO shop.orders VALUES (DEFAULT, 11, 'mine') RETURNING *;
INSERT INTO shop.orders VALUES ('acme', 12, 'mine') RETURNING *;
INSERT INTO shop.orders VALUES ('globex', 13, 'theirs');
INSERT INTO shop.orders VALUES (NULL, 13, 'nobody''s');
INSERT INTO shop.orders SELECT 'globex', 14, 'theirs';
INSERT INTO shop.invoker VALUES ('globex', 14, 'theirs');
INSERT INTO shop.owned VALUES ('globex', 14, 'theirs');
-- UPDATE
UPDATE shop.orders SET note = 'changed';
UPDATE shop.orders SET note = 'changed' WHERE tenant_id = 'globex';
UPDATE shop.orders SET tenant_id = 'globex' WHERE id = 10;
UPDATE shop.orders SET tenant_id = 'globex', id = 100 WHERE id = 10 RETURNING *;
-- ON CONFLICT
INSERT INTO shop.orders VALUES ('acme', 10, 'x') ON CONFLICT (tenant_id, id) DO UPDATE SET note = 'upserted' RETURNING *;
INSERT INTO shop.orders VALUES ('acme', 10, 'x') ON CONFLICT (tenant_id, id) DO UPDATE SET tenant_id = 'globex', id = 200;
INSERT INTO shop.orders VALUES ('globex', 1, 'x') ON CONFLICT (tenant_id, id) DO UPDATE SET note = 'stolen';
INSERT INTO shop.orders VALUES ('globex', 1, 'x') ON CONFLICT DO NOTHING;
-- MERGE
MERGE INTO shop.orders o USING (VALUES ('acme', 10), ('globex', 1)) v(t, i) ON o.tenant_id = v.t AND o.id = v.i
    WHEN MATCHED THEN UPDATE SET note = 'merged' WHEN NOT MATCHED THEN DO NOTHING;
MERGE INTO shop.orders o USING (VALUES (1)) v(i) ON o.id = 10
    WHEN MATCHED THEN UPDATE SET tenant_id = 'globex', id = 300;
MERGE INTO shop.orders o USING (VALUES (1)) v(i) ON false
    WHEN NOT MATCHED THEN INSERT VALUES ('globex', 400, 'x');
MERGE INTO shop.orders o USING (VALUES ('globex')) v(t) ON o.tenant_id = v.t WHEN MATCHED THEN DELETE;
-- DELETE
DELETE FROM shop.orders WHERE tenant_id = 'globex' RETURNING *;
DELETE FROM shop.orders o USING shop.lines l WHERE l.tenant_id = 'globex';
DELETE FROM shop.orders WHERE id >= 10;
-- COPY
COPY shop.orders TO stdout;
COPY (SELECT * FROM shop.orders WHERE tenant_id = 'globex') TO stdout;
\set VERBOSITY default
\copy shop.orders FROM /dev/null
\set VERBOSITY terse
-- TRUNCATE
TRUNCATE shop.orders CASCADE;
TRUNCATE shop.lines;
-- foreign keys with the tenant in them
INSERT INTO shop.lines VALUES ('acme', 1, 2);
INSERT INTO shop.lines VALUES ('acme', 99, 1);
DELETE FROM shop.orders WHERE id = 1;
TABLE shop.lines;

-- row_security = off makes errors, not rows
SET row_security = off;
SELECT * FROM shop.orders;
RESET row_security;

-- prepared plans across a change of tenant
PREPARE orders AS SELECT count(*), min(tenant_id), max(tenant_id) FROM shop.orders;
PREPARE one(int) AS SELECT tenant_id, note FROM shop.orders WHERE id = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE orders;
EXECUTE one(2);
SELECT platpat.set_tenant('globex', false);
EXECUTE orders;
EXECUTE one(2);
SELECT platpat.reset_tenant();
EXECUTE orders;
RESET plan_cache_mode;
CREATE FUNCTION pg_temp.notes() RETURNS SETOF text LANGUAGE plpgsql AS
    'BEGIN RETURN QUERY SELECT DISTINCT tenant_id FROM shop.orders; END';
CREATE FUNCTION pg_temp.tenant_of(int) RETURNS text LANGUAGE sql STABLE AS
    'SELECT max(tenant_id) FROM shop.orders WHERE id = $1';
BEGIN; SELECT platpat.set_tenant('acme'); SELECT pg_temp.notes(), pg_temp.tenant_of(2); COMMIT;
BEGIN; SELECT platpat.set_tenant('globex'); SELECT pg_temp.notes(), pg_temp.tenant_of(2); COMMIT;

-- cursors: one tenant from OPEN to CLOSE, held ones too
BEGIN;
SELECT platpat.set_tenant('acme');
DECLARE c CURSOR FOR SELECT tenant_id, id FROM shop.orders ORDER BY id;
FETCH 1 FROM c;
SELECT platpat.set_tenant('globex');
ROLLBACK;
BEGIN;
SELECT platpat.set_tenant('acme');
DECLARE h CURSOR WITH HOLD FOR SELECT tenant_id, id FROM shop.orders ORDER BY id;
COMMIT;
FETCH ALL FROM h;
CLOSE h;
RESET ROLE;
SET platpat.tenant_switching = 'free';
SET ROLE regress_app;
BEGIN;
SELECT platpat.set_tenant('acme');
DECLARE c CURSOR FOR SELECT tenant_id FROM shop.orders ORDER BY id;
FETCH 1 FROM c;
SELECT platpat.set_tenant('globex');
SELECT DISTINCT tenant_id FROM shop.orders;
COMMIT;
RESET ROLE;
RESET platpat.tenant_switching;

-- a permissive policy that comes later widens nothing
SET client_min_messages = error;
CREATE POLICY wide ON shop.orders USING (true) WITH CHECK (true);
CREATE POLICY wider ON shop.orders FOR SELECT TO regress_app USING (true);
RESET client_min_messages;
SET ROLE regress_app;
SELECT platpat.set_tenant('acme', false);
SELECT DISTINCT tenant_id FROM shop.orders;
INSERT INTO shop.orders VALUES ('globex', 20, 'theirs');
UPDATE shop.orders SET tenant_id = 'globex' WHERE id = 2;
SELECT platpat.reset_tenant();
SELECT DISTINCT tenant_id FROM shop.orders;
RESET ROLE;
-- nor does a missing tenant with on_missing_tenant = empty
SET platpat.on_missing_tenant = 'empty';
SET ROLE regress_app;
SELECT * FROM shop.orders;
INSERT INTO shop.orders VALUES ('acme', 30, 'x');
INSERT INTO shop.orders VALUES (DEFAULT, 30, 'x');
UPDATE shop.orders SET note = 'x';
DELETE FROM shop.orders;
RESET ROLE;
RESET platpat.on_missing_tenant;

-- what was there is still there
SELECT tenant_id, count(*) FROM shop.orders GROUP BY 1 ORDER BY 1;
SELECT tenant_id, count(*) FROM shop.lines GROUP BY 1 ORDER BY 1;

SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
DROP OWNED BY regress_owner, regress_app;
DROP ROLE regress_owner, regress_app;
