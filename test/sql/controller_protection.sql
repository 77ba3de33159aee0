-- Protected tables: whatever is taken away of their protection is found, and
-- comes back.
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_owner;
CREATE ROLE regress_app;
SELECT platpat.alter_controller('protections', paused => true);
CREATE SCHEMA shop AUTHORIZATION regress_owner;
SET ROLE regress_owner;
GRANT USAGE ON SCHEMA shop TO regress_app;
CREATE TABLE shop.orders (tenant_id text, id int);
CREATE TABLE shop.lines (tenant_id uuid, id int) PARTITION BY RANGE (id);
CREATE TABLE shop.lines_1 PARTITION OF shop.lines FOR VALUES FROM (0) TO (100);
CREATE TABLE shop.old (tenant_id varchar(20), id bigint);
CREATE TABLE shop.old_child () INHERITS (shop.old);
CREATE TABLE shop.own (tenant_id bigint, id int);
CREATE POLICY mine ON shop.own USING (id > 0);
SELECT DISTINCT tenant_column FROM platpat.protect_schema('shop'), platpat.protected_tables;
RESET ROLE;

-- One way to see what differs of a table, and to repair it in a transaction
-- that keeps the worker out.
CREATE FUNCTION pg_temp.changes(OUT key text, OUT part text, OUT wanted text, OUT found text) RETURNS SETOF record LANGUAGE sql AS $$
    SELECT d.key, e.key, e.value #>> '{}', d.actual ->> e.key
      FROM platpat.drift('protections') d, jsonb_each(d.desired) e
     WHERE e.value IS DISTINCT FROM d.actual -> e.key ORDER BY 1, 2 $$;
CREATE FUNCTION pg_temp.repair(OUT key text, OUT outcome text, OUT message text) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    PERFORM platpat.alter_controller('protections', paused => false);
    RETURN QUERY SELECT r.key, r.outcome, r.message FROM platpat.reconcile('protections') r;
    PERFORM platpat.alter_controller('protections', paused => true);
END $$;
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.repair();

-- each part
SET ROLE regress_owner;
ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY;
ALTER TABLE shop.lines NO FORCE ROW LEVEL SECURITY;
ALTER POLICY platpat_tenant ON shop.lines_1 USING (true);
DROP POLICY platpat_tenant ON shop.old;
DROP POLICY platpat_access ON shop.orders;
ALTER POLICY platpat_access ON shop.lines TO regress_app;
ALTER POLICY platpat_tenant ON shop.own RENAME TO something_else;
ALTER TABLE shop.orders ALTER tenant_id DROP NOT NULL;
ALTER TABLE shop.orders ALTER tenant_id SET DEFAULT 'acme';
ALTER TABLE shop.old ALTER tenant_id DROP DEFAULT;
DROP INDEX shop.orders_tenant_id_idx;
DROP TRIGGER platpat_truncate ON shop.lines_1;
ALTER TABLE shop.old_child DISABLE TRIGGER platpat_truncate;
RESET ROLE;
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.repair();
SELECT * FROM pg_temp.changes();
SELECT table_name, protected, access_policy, tenant_default, not_null, tenant_index FROM platpat.protected_tables ORDER BY table_name::text;
SELECT polname FROM pg_policy WHERE polrelid = 'shop.own'::regclass ORDER BY 1;
DROP POLICY something_else ON shop.own;

-- an owner who takes rights from himself
SET ROLE regress_owner;
REVOKE ALL ON shop.orders FROM regress_owner;
DROP TRIGGER platpat_truncate ON shop.orders;
ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY;
RESET ROLE;
SELECT * FROM pg_temp.repair();
-- what he has written runs with his rights only, whoever repairs
CREATE FUNCTION shop.spy(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RAISE 'called as a superuser'; END IF;
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION shop.spy TO regress_owner;
ALTER TABLE shop.orders ALTER tenant_id DROP NOT NULL;
SET ROLE regress_owner;
ALTER TABLE shop.orders ADD CHECK (shop.spy(1));
RESET ROLE;
SELECT * FROM pg_temp.repair();
-- nor does a protected table get a parent that shows its rows
CREATE TABLE shop.window (LIKE shop.orders);
SELECT platpat.unprotect('shop.window') IS NOT NULL AS unprotected LIMIT 1;
ALTER TABLE shop.orders INHERIT shop.window;
DROP TABLE shop.window;
-- a partition of another owner
CREATE ROLE regress_landlord;
ALTER TABLE shop.lines_1 OWNER TO regress_landlord;
ALTER TABLE shop.lines_1 NO FORCE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.repair();
-- a partition that has come without protection
ALTER EVENT TRIGGER platpat_command_end DISABLE;
CREATE TABLE shop.lines_2 PARTITION OF shop.lines FOR VALUES FROM (100) TO (200);
ALTER EVENT TRIGGER platpat_command_end ENABLE;
SELECT key, part FROM pg_temp.changes();
SELECT * FROM pg_temp.repair();
-- renamed columns and tables
ALTER TABLE shop.orders RENAME tenant_id TO customer;
ALTER TABLE shop.orders RENAME TO "Orders; --";
ALTER TABLE shop."Orders; --" DISABLE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.repair();
ALTER TABLE shop."Orders; --" RENAME TO orders;

-- what cannot be repaired says so, and harms no other
INSERT INTO shop.old (tenant_id, id) VALUES ('acme', 1);
ALTER TABLE shop.old ALTER tenant_id DROP NOT NULL;
UPDATE shop.old SET tenant_id = NULL;
ALTER TABLE shop.own DROP tenant_id CASCADE;
ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.repair();
SELECT drift, failing, sqlstate FROM platpat.controller_status WHERE controller = 'protections';
-- not even by leaving nothing to be repaired: it is closed
ALTER TABLE shop.own DISABLE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.repair();
SELECT relrowsecurity FROM pg_class WHERE oid = 'shop.own'::regclass;
SELECT * FROM pg_temp.repair();
UPDATE shop.old SET tenant_id = 'acme';
SELECT platpat.unprotect('shop.own');
SELECT * FROM pg_temp.repair();

-- a large table: what protect() leaves to its owner is no difference, and what
-- it does at once comes back
CREATE SCHEMA barn;
CREATE TABLE barn.large (tenant_id text, filler text);
ALTER TABLE barn.large ALTER filler SET STORAGE PLAIN;
INSERT INTO barn.large SELECT 'acme', repeat('x', 8000) FROM generate_series(1, 8300);
SELECT action FROM platpat.protect('barn.large') WHERE statement !~ 'POLICY|ROW LEVEL';
SELECT * FROM pg_temp.changes();
ALTER TABLE barn.large DROP CONSTRAINT platpat_tenant_not_null, ALTER tenant_id DROP DEFAULT;
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.repair();
SELECT * FROM pg_temp.changes();
DROP SCHEMA barn CASCADE;

-- policies of others are reported, never dropped; those of a table that has its
-- own are no news
CREATE POLICY everything ON shop.orders USING (true);
CREATE POLICY by_hand ON shop.lines_1 USING (tenant_id = current_setting('app.tenant')::uuid);
CREATE POLICY narrower ON shop.lines AS RESTRICTIVE USING (id > 1);
SELECT key, action, actual FROM platpat.drift('foreign_policies');
SELECT * FROM platpat.reconcile('foreign_policies');
SELECT status, drift FROM platpat.controller_status WHERE controller = 'foreign_policies';
SELECT key, desired, actual FROM platpat.drift('protections');
SELECT * FROM pg_temp.repair();
SELECT tablename, policyname FROM pg_policies WHERE schemaname = 'shop' AND policyname !~ '^platpat' ORDER BY 1, 2;
BEGIN;
SELECT platpat.alter_controller('foreign_policies', mode => 'enforce');
SELECT key, outcome, message FROM platpat.reconcile('foreign_policies');
ROLLBACK;

-- a table that was never complete here, as in a restore, is left in peace
SELECT platpat.unprotect('shop.orders') IS NOT NULL AS unprotected LIMIT 1;
DROP POLICY everything ON shop.orders;
SELECT count(*) > 0 AS protected FROM platpat.protect('shop.orders', 'customer');
BEGIN;
DELETE FROM platpat.adopted_tables WHERE table_name = 'shop.orders'::regclass;
ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.repair();
SELECT row_security FROM platpat.protected_tables WHERE table_name = 'shop.orders'::regclass;
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.repair();
ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.repair();
SELECT row_security FROM platpat.protected_tables WHERE table_name = 'shop.orders'::regclass;
COMMIT;

-- everybody can read both views, and nobody can call what repairs
SET ROLE regress_app;
SELECT count(*) FROM platpat.desired_protections JOIN platpat.actual_protections USING (key, spec);
SELECT platpat.apply_protection('shop.orders', NULL, NULL);
SELECT platpat.refuse_foreign_policy('shop.orders', NULL, NULL);
INSERT INTO platpat.adopted_tables VALUES ('shop.orders');
RESET ROLE;
SET client_min_messages = warning;
SELECT count(*) > 0 AS unprotected FROM platpat.unprotect_schema('shop');
DROP SCHEMA shop CASCADE;
SELECT count(*) FROM platpat.adopted_tables;
SELECT platpat.alter_controller('protections', paused => false);
DROP ROLE regress_owner, regress_app, regress_landlord;
