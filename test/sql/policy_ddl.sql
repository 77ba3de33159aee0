-- Protection and DDL: schemas, new tables, renames, drops, foreign keys.
\set VERBOSITY terse
\set SHOW_CONTEXT never
-- Nobody repairs meanwhile what is broken here.
SELECT platpat.alter_controller('protections', paused => true);
CREATE ROLE regress_owner;
CREATE ROLE regress_app;
CREATE SCHEMA shop AUTHORIZATION regress_owner;
CREATE SCHEMA elsewhere AUTHORIZATION regress_owner;
SET ROLE regress_owner;

-- every table of a schema that has the column, and each new one
CREATE TABLE shop.a (tenant_id text NOT NULL, id int);
CREATE TABLE shop.b (tenant_id text NOT NULL, id int) PARTITION BY LIST (id);
CREATE TABLE shop.b_1 PARTITION OF shop.b FOR VALUES IN (1);
CREATE TABLE shop.shared (id int);
SELECT DISTINCT object FROM platpat.protect_schema('shop') ORDER BY 1;
SELECT count(*) FROM platpat.protect_schema('shop');
SELECT * FROM platpat.protected_schemas;
CREATE TABLE shop.c (tenant_id text, id int);
CREATE TABLE shop.no_tenant (id int);
CREATE TABLE shop.d AS SELECT 'acme'::text AS tenant_id, 1 AS id;
SELECT 'acme'::text AS tenant_id, 1 AS id INTO shop.e;
CREATE TABLE shop.f (id int);
ALTER TABLE shop.f ADD COLUMN tenant_id text;
CREATE TABLE shop.g (owner_id text);
ALTER TABLE shop.g RENAME COLUMN owner_id TO tenant_id;
CREATE TABLE elsewhere.h (tenant_id text);
ALTER TABLE elsewhere.h SET SCHEMA shop;
CREATE TABLE shop.i (LIKE shop.a);
CREATE TABLE shop.j (tenant_id text, id int) PARTITION BY LIST (id);
CREATE TABLE shop.j_1 PARTITION OF shop.j FOR VALUES IN (1);
CREATE TEMP TABLE k (tenant_id text);
CREATE TABLE elsewhere.l (tenant_id text);
BEGIN;
CREATE TABLE shop.rolled_back (tenant_id text);
ROLLBACK;
SELECT table_name, protected, not_null, tenant_index FROM platpat.protected_tables ORDER BY table_name::text;
SELECT table_name FROM platpat.protections ORDER BY table_name::text;

-- a new table whose rows have no tenant is closed to all, and says so
\set VERBOSITY default
CREATE TABLE shop.m AS SELECT NULL::text AS tenant_id FROM generate_series(1, 3);
\set VERBOSITY terse
SELECT protected, not_null FROM platpat.protected_tables WHERE table_name = 'shop.m'::regclass;
-- a column that cannot hold a tenant is refused
CREATE TABLE shop.n (tenant_id numeric);
ALTER TABLE shop.f ADD COLUMN note text;
RESET ROLE;
DELETE FROM shop.m;
CREATE FOREIGN DATA WRAPPER regress_dummy;
CREATE SERVER regress_server FOREIGN DATA WRAPPER regress_dummy;
CREATE FOREIGN TABLE shop.foreign_table (tenant_id text) SERVER regress_server;
SELECT object, action FROM platpat.protect_schema('shop');
DROP FOREIGN DATA WRAPPER regress_dummy CASCADE;
SET ROLE regress_owner;

-- renames are followed
ALTER TABLE shop.a RENAME COLUMN tenant_id TO customer;
SELECT tenant_column FROM platpat.protections WHERE table_name = 'shop.a'::regclass;
SELECT count(*) FROM platpat.protect('shop.a', 'customer');
SELECT protected FROM platpat.protected_tables WHERE table_name = 'shop.a'::regclass;
ALTER TABLE shop.a RENAME TO a2;
SELECT protected FROM platpat.protected_tables WHERE table_name = 'shop.a2'::regclass;
ALTER TABLE shop.b RENAME COLUMN tenant_id TO customer;
SELECT table_name, protected FROM platpat.protected_tables WHERE table_name::text ~ 'shop.b' ORDER BY 1;
RESET ROLE;
ALTER SCHEMA shop RENAME TO store;
SELECT * FROM platpat.protected_schemas;
SET ROLE regress_owner;
CREATE TABLE store.after_rename (tenant_id text);
SELECT protected FROM platpat.protected_tables WHERE table_name = 'store.after_rename'::regclass;
RESET ROLE;
ALTER SCHEMA store RENAME TO shop;
ALTER SCHEMA platpat RENAME TO other;
SET ROLE regress_owner;

-- also by other names of the command, and a column that is gone is no error
ALTER VIEW shop.e RENAME COLUMN tenant_id TO customer;
ALTER TABLE shop.e ADD COLUMN more int;
SELECT tenant_column, protected FROM platpat.protected_tables WHERE table_name = 'shop.e'::regclass;
SET client_min_messages = error;
ALTER TABLE shop.i DROP COLUMN tenant_id CASCADE;
SET client_min_messages = notice;
\set VERBOSITY default
ALTER TABLE shop.i ADD COLUMN more int;
\set VERBOSITY terse
-- tables whose parent is elsewhere are of the schema too
CREATE TABLE elsewhere.base (id int);
CREATE TABLE shop.heir (tenant_id text) INHERITS (elsewhere.base);
SELECT protected FROM platpat.protected_tables WHERE table_name = 'shop.heir'::regclass;
SELECT count(*) > 0 AS acted FROM platpat.unprotect('shop.heir');
SELECT DISTINCT object FROM platpat.protect_schema('shop');

-- what is dropped is forgotten
DROP TABLE shop.c, shop.d;
SELECT count(*) FROM platpat.protections WHERE table_name::text ~ '^[0-9]+$';
SELECT count(*) > 0 AS acted FROM platpat.unprotect_schema('shop');
SELECT count(*) FROM platpat.protections;
SELECT count(*) FROM platpat.protected_schemas;
CREATE TABLE shop.free (tenant_id text);
SELECT count(*) FROM platpat.protected_tables;
SELECT count(*) FROM platpat.protect_schema('elsewhere');
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA elsewhere CASCADE;
RESET client_min_messages;
SELECT count(*) FROM platpat.protections;
SELECT count(*) FROM platpat.protected_schemas;
SET ROLE regress_owner;

-- foreign keys are validated over the rows of every tenant
CREATE TABLE shop.customers (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE shop.orders (tenant_id text NOT NULL, id int, customer int, PRIMARY KEY (tenant_id, id));
INSERT INTO shop.customers VALUES ('acme', 1), ('globex', 1);
INSERT INTO shop.orders VALUES ('acme', 1, 1), ('globex', 1, 99);
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.customers');
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.orders');
ALTER TABLE shop.orders ADD CONSTRAINT fk FOREIGN KEY (tenant_id, customer) REFERENCES shop.customers;
BEGIN;
SELECT platpat.set_tenant('acme');
ALTER TABLE shop.orders ADD CONSTRAINT fk FOREIGN KEY (tenant_id, customer) REFERENCES shop.customers;
ROLLBACK;
-- the owner is subject to the policies again
SELECT count(*) FROM shop.orders;
ALTER TABLE shop.orders ADD CONSTRAINT fk FOREIGN KEY (tenant_id, customer) REFERENCES shop.customers NOT VALID;
ALTER TABLE shop.orders VALIDATE CONSTRAINT fk;
SELECT count(*) FROM shop.orders;
BEGIN;
SELECT platpat.set_tenant('globex');
UPDATE shop.orders SET customer = 1;
ALTER TABLE shop.orders VALIDATE CONSTRAINT fk;
SELECT count(*) FROM shop.orders;
COMMIT;
SELECT convalidated FROM pg_constraint WHERE conname = 'fk' AND conrelid = 'shop.orders'::regclass;
SELECT count(*) FROM shop.orders;
ALTER TABLE shop.orders DROP CONSTRAINT fk;
DO $$
BEGIN
    ALTER TABLE shop.orders ADD CONSTRAINT fk FOREIGN KEY (tenant_id, customer) REFERENCES shop.customers;
    BEGIN
        PERFORM count(*) FROM shop.orders;
        RAISE 'not subject';
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
END $$;

-- a foreign key beside other things is not half checked for one tenant
BEGIN;
SELECT platpat.set_tenant('acme');
SAVEPOINT a;
\set VERBOSITY default
ALTER TABLE shop.orders ADD COLUMN x int, ADD CONSTRAINT fk2 FOREIGN KEY (tenant_id, customer) REFERENCES shop.customers;
\set VERBOSITY terse
ROLLBACK TO a;
ALTER TABLE shop.orders ADD COLUMN x int DEFAULT 99 REFERENCES shop.shared;
ROLLBACK TO a;
CREATE TABLE shop.keys (id int PRIMARY KEY);
ALTER TABLE shop.orders ADD COLUMN x serial REFERENCES shop.keys;
ROLLBACK;
CREATE TABLE shop.keys (id int PRIMARY KEY);
ALTER TABLE shop.orders ADD COLUMN x int REFERENCES shop.keys;
\set VERBOSITY default
ALTER TABLE shop.orders ADD COLUMN y int DEFAULT 99 REFERENCES shop.keys;
\set VERBOSITY terse
ALTER TABLE shop.orders ALTER COLUMN customer TYPE bigint;
SELECT count(*) FROM shop.orders;
ALTER TABLE shop.orders ADD COLUMN z int, ADD CONSTRAINT fk2 FOREIGN KEY (tenant_id, customer) REFERENCES shop.customers;
-- the hint is over with the command, after ROLLBACK TO as well
BEGIN;
SAVEPOINT a;
ALTER TABLE shop.orders ADD COLUMN z int, ADD CONSTRAINT fk2 FOREIGN KEY (tenant_id, customer) REFERENCES shop.customers;
ROLLBACK TO a;
\set VERBOSITY default
SELECT count(*) FROM shop.orders;
\set VERBOSITY terse
ROLLBACK;
-- a partition brings its own foreign key, checked before it is attached
CREATE TABLE shop.parts (tenant_id text NOT NULL, id int, customer int,
    FOREIGN KEY (tenant_id, customer) REFERENCES shop.customers) PARTITION BY LIST (id);
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.parts');
CREATE TABLE shop.part_1 (tenant_id text NOT NULL, id int, customer int);
INSERT INTO shop.part_1 VALUES ('acme', 1, 1), ('globex', 1, 1);
ALTER TABLE shop.parts ATTACH PARTITION shop.part_1 FOR VALUES IN (1);
BEGIN;
SELECT platpat.set_tenant('acme');
ALTER TABLE shop.parts ATTACH PARTITION shop.part_1 FOR VALUES IN (1);
ROLLBACK;
ALTER TABLE shop.part_1 ADD FOREIGN KEY (tenant_id, customer) REFERENCES shop.customers;
ALTER TABLE shop.parts ATTACH PARTITION shop.part_1 FOR VALUES IN (1);
SELECT protected FROM platpat.protected_tables WHERE table_name = 'shop.part_1'::regclass;
-- no expression of a user runs unforced: a SECURITY DEFINER function of the
-- owner shows an application role one tenant, in DDL as anywhere
CREATE FUNCTION shop.all_orders() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM shop.orders';
RESET ROLE;
CREATE SCHEMA app AUTHORIZATION regress_app;
GRANT USAGE ON SCHEMA shop TO regress_app;
SET ROLE regress_app;
CREATE TABLE app.key (id bigint PRIMARY KEY);
INSERT INTO app.key VALUES (0), (1), (2);
CREATE TABLE app.spy (id int);
INSERT INTO app.spy VALUES (1);
ALTER TABLE app.spy ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON app.spy USING (true);
ALTER TABLE app.spy ADD COLUMN seen bigint DEFAULT shop.all_orders() REFERENCES app.key;
BEGIN;
SELECT platpat.set_tenant('acme');
ALTER TABLE app.spy ADD COLUMN seen bigint DEFAULT shop.all_orders() REFERENCES app.key;
ROLLBACK;
ALTER TABLE app.spy ADD COLUMN other bigint DEFAULT 1;
ALTER TABLE app.spy ADD COLUMN seen bigint DEFAULT shop.all_orders(), ADD FOREIGN KEY (other) REFERENCES app.key;
ALTER TABLE app.spy ADD CONSTRAINT c CHECK (other <> shop.all_orders()) NOT VALID;
ALTER TABLE app.spy VALIDATE CONSTRAINT c;
ALTER TABLE app.spy ADD FOREIGN KEY (other) REFERENCES app.key NOT VALID, VALIDATE CONSTRAINT c;
BEGIN;
SELECT platpat.set_tenant('acme');
ALTER TABLE app.spy NO FORCE ROW LEVEL SECURITY;
ALTER TABLE app.spy ADD COLUMN seen bigint DEFAULT shop.all_orders() REFERENCES app.key;
SELECT seen FROM app.spy;
ROLLBACK;
RESET ROLE;

-- the extension and its schema stay while tables are protected
RESET ROLE;
\set VERBOSITY default
DROP EXTENSION platpat;
\set VERBOSITY terse
DROP EXTENSION platpat CASCADE;
DROP EXTENSION IF EXISTS plpgsql, platpat CASCADE;
DROP SCHEMA platpat CASCADE;
DROP SCHEMA shop, platpat CASCADE;
DROP FUNCTION platpat.current_tenant() CASCADE;
SET ROLE regress_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO regress_app;
-- without the column: nothing is visible
ALTER TABLE shop.customers DROP COLUMN tenant_id;
SET client_min_messages = warning;
ALTER TABLE shop.customers DROP COLUMN tenant_id CASCADE;
RESET client_min_messages;
SELECT protected, row_security, forced, tenant_policy FROM platpat.protected_tables WHERE table_name = 'shop.customers'::regclass;
SET ROLE regress_app;
SELECT count(*) FROM shop.customers;
RESET ROLE;
-- forced: nothing is visible
SET client_min_messages = warning;
BEGIN;
SET LOCAL platpat.allow_drop = on;
DROP EXTENSION platpat CASCADE;
SET LOCAL ROLE regress_app;
SELECT count(*) FROM shop.orders;
INSERT INTO shop.orders VALUES ('acme', 9, 1);
ROLLBACK;
DROP SCHEMA shop, app CASCADE;
DROP OWNED BY regress_owner, regress_app;
DROP ROLE regress_owner, regress_app;
-- with nothing protected it goes, and comes again
DROP EXTENSION platpat;
CREATE EXTENSION platpat;
SELECT platpat.alter_controller('protections', paused => false);
