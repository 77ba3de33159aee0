-- Tricks of a role that may create things in a schema of its own.
\set VERBOSITY terse
\set SHOW_CONTEXT never
-- Nobody repairs meanwhile what is broken here.
SELECT platpat.alter_controller('protections', paused => true);
CREATE ROLE regress_owner;
CREATE ROLE regress_attacker;
CREATE SCHEMA shop AUTHORIZATION regress_owner;
CREATE SCHEMA att AUTHORIZATION regress_attacker;
GRANT USAGE ON SCHEMA shop TO regress_attacker;
GRANT USAGE ON SCHEMA att TO PUBLIC;
SET ROLE regress_owner;
CREATE TABLE shop.orders (tenant_id text, id int, PRIMARY KEY (tenant_id, id));
INSERT INTO shop.orders VALUES ('acme', 1), ('globex', 2), ('globex', 3);
SELECT count(*) > 0 AS acted FROM platpat.protect_schema('shop');
GRANT SELECT ON shop.orders TO regress_attacker;

-- operators that fit better than core's do not run as whoever calls us
SET ROLE regress_attacker;
CREATE TABLE att.ran_as (who name);
GRANT INSERT ON att.ran_as TO PUBLIC;
CREATE FUNCTION att.spy(regclass, oid) RETURNS boolean LANGUAGE plpgsql AS
    'BEGIN INSERT INTO att.ran_as VALUES (current_user); RETURN $1::oid OPERATOR(pg_catalog.=) $2; END';
CREATE FUNCTION att.spy(oid, regclass) RETURNS boolean LANGUAGE sql AS 'SELECT att.spy($2, $1)';
CREATE FUNCTION att.spy(name, name) RETURNS boolean LANGUAGE plpgsql AS
    'BEGIN INSERT INTO att.ran_as VALUES (current_user); RETURN $1::text OPERATOR(pg_catalog.=) $2::text; END';
CREATE OPERATOR att.= (LEFTARG = regclass, RIGHTARG = oid, FUNCTION = att.spy);
CREATE OPERATOR att.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = att.spy);
CREATE OPERATOR att.= (LEFTARG = name, RIGHTARG = name, FUNCTION = att.spy);
RESET ROLE;
SET search_path = shop, att, pg_catalog;
SET client_min_messages = error;
CREATE POLICY p ON orders FOR SELECT USING (true);
DROP POLICY p ON orders;
ALTER TABLE orders ADD COLUMN note text;
ALTER TABLE orders RENAME COLUMN note TO remark;
CREATE TABLE more (tenant_id text);
DROP TABLE more;
SELECT count(*) FROM platpat.protect('orders');
SELECT count(*) FROM platpat.protected_tables;
SELECT count(*) FROM platpat.unprotect_schema('shop');
SELECT count(*) FROM platpat.protect_schema('shop');
DROP EXTENSION platpat;
RESET client_min_messages;
RESET search_path;
SELECT * FROM att.ran_as;

-- how identifiers are quoted is not the caller's to decide
SET quote_all_identifiers = on;
SELECT count(*) FROM platpat.protect('shop.orders');
SELECT protected, tenant_default FROM platpat.protected_tables;
RESET quote_all_identifiers;

-- a user's cast does not run unforced while a foreign key is checked
SET ROLE regress_owner;
CREATE FUNCTION shop.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM shop.orders';
SET ROLE regress_attacker;
CREATE TABLE att.seen (n bigint);
CREATE TYPE att.key AS ENUM ('k');
CREATE FUNCTION att.to_int(att.key) RETURNS int LANGUAGE plpgsql AS
    'BEGIN INSERT INTO att.seen SELECT shop.peek(); RETURN 1; END';
CREATE CAST (att.key AS int) WITH FUNCTION att.to_int(att.key) AS IMPLICIT;
CREATE TABLE att.pk (id int PRIMARY KEY);
INSERT INTO att.pk VALUES (1);
CREATE TABLE att.fk (k att.key);
INSERT INTO att.fk VALUES ('k');
BEGIN;
SELECT platpat.set_tenant('acme');
ALTER TABLE att.fk ADD CONSTRAINT f FOREIGN KEY (k) REFERENCES att.pk NOT VALID;
ALTER TABLE att.fk VALIDATE CONSTRAINT f;
SELECT DISTINCT n FROM att.seen;
COMMIT;
-- nor under row security of their own
BEGIN;
SELECT platpat.set_tenant('acme');
ALTER TABLE att.fk ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SAVEPOINT a;
ALTER TABLE att.fk VALIDATE CONSTRAINT f;
ROLLBACK TO a;
ALTER TABLE att.fk ADD FOREIGN KEY (k) REFERENCES att.pk;
ROLLBACK;
RESET ROLE;

-- expressions that look like a comparison with a setting and are more
SET ROLE regress_owner;
CREATE FUNCTION shop.tenant_of(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE TABLE shop.members (tenant_id text NOT NULL);
SELECT count(*) > 0 AS acted FROM platpat.unprotect('shop.members');
ALTER TABLE shop.members ENABLE ROW LEVEL SECURITY;
CREATE POLICY p1 ON shop.members USING (tenant_id = shop.tenant_of(current_setting('app.u', true)));
CREATE POLICY p2 ON shop.members AS RESTRICTIVE USING (tenant_id = CASE WHEN current_user = 'bob' THEN current_setting('app.u', true) END);
CREATE POLICY p3 ON shop.members AS RESTRICTIVE USING (trim(tenant_id) = current_setting('app.u', true));
CREATE POLICY p4 ON shop.members AS RESTRICTIVE USING (tenant_id = lower(current_setting('app.u', true)));
CREATE POLICY p5 ON shop.members AS RESTRICTIVE USING (tenant_id = current_setting('app.u', true) || current_user);
CREATE POLICY p6 ON shop.members AS RESTRICTIVE USING (tenant_id = coalesce(current_setting('app.u', true), 'x'));
SELECT action, statement FROM platpat.protect('shop.members') WHERE action = 'drop policy';
SELECT action FROM platpat.protect('shop.members');
RESET ROLE;

-- rows of a child that is another's are not counted for the owner of its parent
CREATE TABLE att.family (tenant_id text, n int);
CREATE TABLE att.child () INHERITS (att.family);
ALTER TABLE att.family OWNER TO regress_owner;
INSERT INTO att.child VALUES (NULL, 1), (NULL, 2);
SET ROLE regress_owner;
SELECT count(*) FROM platpat.protect('att.family');
RESET ROLE;

-- a policy of our name on another table holds up nobody
SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
RESET client_min_messages;
CREATE POLICY platpat_tenant ON att.fk USING (true);
DROP EXTENSION platpat;
CREATE EXTENSION platpat;
-- but every policy that calls our functions does
CREATE TABLE att.mine (tenant_id text);
ALTER TABLE att.mine ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON att.mine USING (tenant_id = platpat.current_tenant());
\set VERBOSITY default
DROP EXTENSION platpat CASCADE;
\set VERBOSITY terse

SET client_min_messages = warning;
DROP SCHEMA att CASCADE;
DROP OWNED BY regress_owner, regress_attacker CASCADE;
DROP ROLE regress_owner, regress_attacker;
SELECT platpat.alter_controller('protections', paused => false);
