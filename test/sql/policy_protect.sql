-- protect() and unprotect(): what they do, and that repeating them does nothing.
\set VERBOSITY terse
\set SHOW_CONTEXT never
-- Nobody repairs meanwhile what is broken here.
SELECT platpat.alter_controller('protections', paused => true);
CREATE ROLE regress_owner;
CREATE ROLE regress_app;
CREATE SCHEMA shop AUTHORIZATION regress_owner;
GRANT USAGE ON SCHEMA shop TO regress_app;
SET ROLE regress_owner;
CREATE TABLE shop.orders (tenant_id text, id int, note text DEFAULT 'none', PRIMARY KEY (id));
INSERT INTO shop.orders VALUES ('acme', 1), ('globex', 2);
\x
SELECT * FROM platpat.protect('shop.orders');
\x
SELECT * FROM platpat.protect('shop.orders');
SELECT polname, polcmd, polpermissive, polroles, pg_get_expr(polqual, polrelid) AS qual,
       pg_get_expr(polwithcheck, polrelid) AS wcheck
  FROM pg_policy WHERE polrelid = 'shop.orders'::regclass ORDER BY polname;
SELECT * FROM platpat.protections;
\x
SELECT * FROM platpat.protected_tables;
\x

-- one filter, not two; no tenant, no plan
EXPLAIN (COSTS OFF) SELECT * FROM shop.orders WHERE note = 'x';
BEGIN;
SELECT platpat.set_tenant('acme');
EXPLAIN (COSTS OFF) SELECT * FROM shop.orders WHERE note = 'x';
COMMIT;

-- each part that somebody breaks is mended by calling it again
ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY;
SELECT action FROM platpat.protect('shop.orders');
ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY;
SELECT action FROM platpat.protect('shop.orders');
ALTER POLICY platpat_tenant ON shop.orders USING (true);
SELECT protected, tenant_policy FROM platpat.protected_tables;
SELECT action FROM platpat.protect('shop.orders');
ALTER POLICY platpat_tenant ON shop.orders WITH CHECK (true);
SELECT action FROM platpat.protect('shop.orders');
ALTER POLICY platpat_tenant ON shop.orders TO regress_app;
SELECT action FROM platpat.protect('shop.orders');
DROP POLICY platpat_access ON shop.orders;
SELECT action FROM platpat.protect('shop.orders');
ALTER POLICY platpat_access ON shop.orders USING (true);
SELECT action FROM platpat.protect('shop.orders');
ALTER TABLE shop.orders ALTER COLUMN tenant_id DROP DEFAULT;
SELECT action FROM platpat.protect('shop.orders');
ALTER TABLE shop.orders ALTER COLUMN tenant_id SET DEFAULT 'acme';
SELECT action FROM platpat.protect('shop.orders');
ALTER TABLE shop.orders ALTER COLUMN tenant_id DROP NOT NULL;
SELECT action FROM platpat.protect('shop.orders');
DROP INDEX shop.orders_tenant_id_idx;
SELECT action FROM platpat.protect('shop.orders');
DROP TRIGGER platpat_truncate ON shop.orders;
SELECT action FROM platpat.protect('shop.orders');
ALTER TABLE shop.orders DISABLE TRIGGER platpat_truncate;
SELECT action FROM platpat.protect('shop.orders');
SELECT action FROM platpat.protect('shop.orders');
-- an index that does not serve every row does not count
DROP INDEX shop.orders_tenant_id_idx;
CREATE INDEX orders_partial ON shop.orders (tenant_id) WHERE id > 0;
CREATE INDEX orders_second ON shop.orders (id, tenant_id);
SELECT action FROM platpat.protect('shop.orders');
DROP INDEX shop.orders_tenant_id_idx;
CREATE INDEX orders_lead ON shop.orders (tenant_id, id);
SELECT action FROM platpat.protect('shop.orders');

-- the permissive policy: dropped for good, and back
SELECT action, statement FROM platpat.protect('shop.orders', access => false);
SELECT action FROM platpat.protect('shop.orders');
SELECT action FROM platpat.protect('shop.orders', access => true);
SELECT access FROM platpat.protections;

-- another column only after unprotect
ALTER TABLE shop.orders ADD COLUMN other text DEFAULT 'x' NOT NULL;
\set VERBOSITY default
SELECT platpat.protect('shop.orders', 'other');
\set VERBOSITY terse

-- unprotect takes away what was put on
SELECT * FROM platpat.unprotect('shop.orders');
SELECT * FROM platpat.unprotect('shop.orders');
SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'shop.orders'::regclass;
SELECT count(*) FROM platpat.protections;
SELECT count(*) FROM platpat.protected_tables;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'shop.orders'::regclass;
SELECT count(*) FROM shop.orders;

-- rows without a tenant: counted, refused, and nothing is done
CREATE TABLE shop.nulls (tenant_id text, id int);
INSERT INTO shop.nulls VALUES (NULL, 1), (NULL, 2), ('acme', 3);
\set VERBOSITY default
SELECT platpat.protect('shop.nulls');
\set VERBOSITY terse
SELECT relrowsecurity FROM pg_class WHERE oid = 'shop.nulls'::regclass;
UPDATE shop.nulls SET tenant_id = 'globex' WHERE tenant_id IS NULL;
SELECT count(*) FROM platpat.protect('shop.nulls');
SELECT count(*) FROM platpat.unprotect('shop.nulls');

-- policies of its own are kept, and then platpat_access stays away
CREATE TABLE shop.own (tenant_id text NOT NULL, id int, secret boolean DEFAULT false, PRIMARY KEY (tenant_id, id));
ALTER TABLE shop.own ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON shop.own USING (NOT secret);
SELECT action, statement FROM platpat.protect('shop.own');
SELECT action FROM platpat.protect('shop.own');
SELECT access FROM platpat.protections;
SELECT action FROM platpat.unprotect('shop.own');
SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'shop.own'::regclass;

-- row security without a permissive policy denies everything, and goes on doing so
CREATE TABLE shop.closed (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
ALTER TABLE shop.closed ENABLE ROW LEVEL SECURITY;
\set VERBOSITY default
SELECT action FROM platpat.protect('shop.closed');
\set VERBOSITY terse
SELECT action FROM platpat.protect('shop.closed');
SELECT action FROM platpat.protect('shop.closed', access => true);

-- hand-written policies that compare the column with a setting are replaced
CREATE TABLE shop.hand1 (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
ALTER TABLE shop.hand1 ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON shop.hand1 USING (tenant_id = current_setting('app.current_tenant')::uuid);
SELECT action, statement FROM platpat.protect('shop.hand1');
CREATE TABLE shop.hand2 (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
ALTER TABLE shop.hand2 ENABLE ROW LEVEL SECURITY;
CREATE POLICY p1 ON shop.hand2 FOR SELECT USING (tenant_id = nullif(current_setting('app.t', true), '')::uuid);
CREATE POLICY p2 ON shop.hand2 FOR INSERT WITH CHECK (tenant_id = (SELECT current_setting('app.t')::uuid));
CREATE POLICY p3 ON shop.hand2 FOR UPDATE USING (tenant_id::text = current_setting('app.t'));
CREATE POLICY p4 ON shop.hand2 FOR DELETE USING ((current_setting('request.jwt.claims', true)::json ->> 'tenant')::uuid = tenant_id);
SELECT action, statement FROM platpat.protect('shop.hand2');
-- but not if that would open commands, roles or rows that they kept closed
CREATE TABLE shop.hand3 (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
ALTER TABLE shop.hand3 ENABLE ROW LEVEL SECURITY;
CREATE POLICY reading ON shop.hand3 FOR SELECT USING (tenant_id = current_setting('app.t'));
SELECT action FROM platpat.protect('shop.hand3');
CREATE TABLE shop.hand4 (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
ALTER TABLE shop.hand4 ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON shop.hand4 TO regress_app USING (tenant_id = current_setting('app.t'));
SELECT action FROM platpat.protect('shop.hand4');
CREATE TABLE shop.hand5 (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
ALTER TABLE shop.hand5 ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON shop.hand5 USING (tenant_id = current_setting('app.t') AND id > 0);
SELECT action FROM platpat.protect('shop.hand5');
CREATE TABLE shop.hand6 (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
ALTER TABLE shop.hand6 ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON shop.hand6 USING (tenant_id = (SELECT max(o.note) FROM shop.orders o WHERE o.note = current_setting('app.t')));
SELECT action FROM platpat.protect('shop.hand6');
SELECT polrelid::regclass, array_agg(polname ORDER BY polname) FROM pg_policy
	WHERE polrelid NOT IN (SELECT oid FROM pg_class WHERE relnamespace = 'platpat'::regnamespace) GROUP BY 1 ORDER BY 1::text;

-- a permissive policy that comes later
\set VERBOSITY default
CREATE POLICY later ON shop.hand1 FOR SELECT USING (id > 0);
CREATE POLICY narrow ON shop.hand1 AS RESTRICTIVE USING (id > 0);
CREATE POLICY later ON shop.own USING (true);
\set VERBOSITY terse

-- views that read past the policies
CREATE VIEW shop.bare AS SELECT * FROM shop.hand1;
CREATE VIEW shop.invoker WITH (security_invoker) AS SELECT * FROM shop.hand1;
CREATE VIEW shop.above AS SELECT * FROM shop.bare;
CREATE MATERIALIZED VIEW shop.stored AS SELECT * FROM shop.hand1 WITH NO DATA;
\set VERBOSITY default
SELECT action FROM platpat.protect('shop.hand1');
ALTER VIEW shop.bare SET (security_invoker = true);
ALTER VIEW shop.above SET (security_invoker = on);
SELECT action FROM platpat.protect('shop.hand1');
\set VERBOSITY terse

-- who may not, and what cannot be
SET ROLE regress_app;
SELECT platpat.protect('shop.orders');
SELECT platpat.unprotect('shop.hand1');
SELECT platpat.protect_schema('shop');
SELECT platpat.unprotect_schema('shop');
RESET ROLE;
\set VERBOSITY sqlstate
SELECT platpat.protect(NULL);
SELECT platpat.protect('shop.orders', NULL);
SELECT platpat.protect('shop.orders', '');
SELECT platpat.protect('shop.nowhere');
SELECT platpat.protect(4294967295::oid::regclass);
SELECT platpat.protect('shop.orders', 'nowhere');
SELECT platpat.protect('shop.orders', 'ctid');
SELECT platpat.protect('shop.bare');
SELECT platpat.protect('shop.stored');
SELECT platpat.protect('pg_class', 'relname');
SELECT platpat.protect('platpat.protections', 'tenant_column');
SELECT platpat.unprotect(NULL);
SELECT platpat.unprotect('shop.bare');
SELECT platpat.protect_schema(NULL);
SELECT platpat.protect_schema('shop', '');
SELECT platpat.unprotect_schema(NULL);
CREATE TEMP TABLE temporary (tenant_id text);
SELECT platpat.protect('temporary');
\set VERBOSITY terse

-- names that need quoting
CREATE SCHEMA "Odd "" schema'";
CREATE TABLE "Odd "" schema'"."ta""ble; --" ("ten'ant ""id" bigint, id int);
SELECT action, statement FROM platpat.protect($$"Odd "" schema'"."ta""ble; --"$$, 'ten''ant "id');
SELECT action FROM platpat.protect($$"Odd "" schema'"."ta""ble; --"$$, 'ten''ant "id');
SELECT table_name, protected FROM platpat.protected_tables WHERE tenant_column LIKE 'ten''%';
CREATE POLICY "la""ter" ON "Odd "" schema'"."ta""ble; --" USING (true);
SELECT action FROM platpat.unprotect($$"Odd "" schema'"."ta""ble; --"$$);
DROP SCHEMA "Odd "" schema'" CASCADE;

-- a hostile search_path changes nothing
CREATE SCHEMA evil;
CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
CREATE TABLE shop.path (tenant_id text, id int);
SET search_path = evil, platpat, shop, pg_catalog;
SELECT count(*) FROM protect('path');
SELECT count(*) FROM protect('path');
SHOW search_path;
RESET search_path;
SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = 'shop.path'::regclass;
DROP SCHEMA evil CASCADE;

SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
SELECT count(*) FROM platpat.protections;
DROP OWNED BY regress_owner, regress_app;
DROP ROLE regress_owner, regress_app;
SELECT platpat.alter_controller('protections', paused => false);
