-- Partitions and inheritance children: protected with their parent, now and later.
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_owner;
CREATE ROLE regress_app;
CREATE SCHEMA shop AUTHORIZATION regress_owner;
GRANT USAGE ON SCHEMA shop TO regress_app;
SET ROLE regress_owner;
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLES TO regress_app;

-- by hash of the tenant, in two levels
CREATE TABLE shop.items (tenant_id bigint, id int, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id);
CREATE TABLE shop.items_0 PARTITION OF shop.items FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE shop.items_1 PARTITION OF shop.items FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE shop.items_2 PARTITION OF shop.items FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE shop.items_3 PARTITION OF shop.items FOR VALUES WITH (MODULUS 4, REMAINDER 3) PARTITION BY RANGE (id);
CREATE TABLE shop.items_3a PARTITION OF shop.items_3 FOR VALUES FROM (0) TO (1000);
INSERT INTO shop.items SELECT t, i FROM generate_series(1, 40) t, generate_series(1, 5) i;
SELECT object, action FROM platpat.protect('shop.items') ORDER BY object, action;
SELECT count(*) FROM platpat.protect('shop.items');
SELECT * FROM platpat.protections;
SELECT table_name, protected, access_policy, tenant_default, not_null, tenant_index
  FROM platpat.protected_tables ORDER BY table_name::text;

SET ROLE regress_app;
SELECT platpat.set_tenant(7, false);
SELECT count(*), min(tenant_id), max(tenant_id) FROM shop.items;
-- plan: pruned at executor start
EXPLAIN (COSTS OFF) SELECT * FROM shop.items WHERE id = 1;
-- each partition by its own name
SELECT tableoid::regclass, tenant_id FROM shop.items_0
UNION ALL SELECT tableoid::regclass, tenant_id FROM shop.items_1
UNION ALL SELECT tableoid::regclass, tenant_id FROM shop.items_2
UNION ALL SELECT tableoid::regclass, tenant_id FROM shop.items_3
UNION ALL SELECT tableoid::regclass, tenant_id FROM shop.items_3a ORDER BY 2 LIMIT 1;
SELECT count(*) FROM shop.items_0 WHERE tenant_id <> 7;
SELECT count(*) FROM shop.items_3a WHERE tenant_id <> 7;
DELETE FROM shop.items_0 WHERE tenant_id <> 7;
INSERT INTO shop.items_3a VALUES (8, 77);
TRUNCATE shop.items;
TRUNCATE shop.items_0;
TRUNCATE shop.items_3a;
INSERT INTO shop.items (id) VALUES (500) RETURNING tenant_id;
RESET ROLE;

-- later partitions: created, attached, by another schema owner, with other column order
SET ROLE regress_owner;
CREATE TABLE shop.items_3b PARTITION OF shop.items_3 FOR VALUES FROM (1000) TO (2000);
CREATE TABLE shop.loose (id int NOT NULL, extra int, tenant_id bigint NOT NULL);
ALTER TABLE shop.loose DROP COLUMN extra;
ALTER TABLE shop.items_3 ATTACH PARTITION shop.loose FOR VALUES FROM (2000) TO (3000);
CREATE TABLE shop.deep (LIKE shop.items INCLUDING ALL) PARTITION BY LIST (id);
CREATE TABLE shop.deep_1 PARTITION OF shop.deep FOR VALUES IN (4000);
ALTER TABLE shop.items_3 ATTACH PARTITION shop.deep FOR VALUES FROM (4000) TO (5000);
SELECT table_name, protected, tenant_default, not_null, tenant_index
  FROM platpat.protected_tables WHERE table_name::text ~ '3b|loose|deep' ORDER BY table_name::text;
SELECT count(*) FROM platpat.protect('shop.items');
SET ROLE regress_app;
TRUNCATE shop.loose;
TRUNCATE shop.deep_1;
SELECT count(*) FROM shop.deep;
RESET ROLE;

-- a partition is unprotected through its parent only, and stays protected when detached
SET ROLE regress_owner;
SELECT platpat.unprotect('shop.items_0');
ALTER TABLE shop.items DETACH PARTITION shop.items_0;
SELECT protected FROM platpat.protected_tables WHERE table_name = 'shop.items_0'::regclass;
SET ROLE regress_app;
SELECT count(*) FROM shop.items_0 WHERE tenant_id <> 7;
SET ROLE regress_owner;
SELECT count(*) > 0 AS acted FROM platpat.unprotect('shop.items_0');
SELECT count(*) > 0 AS acted FROM platpat.unprotect('shop.items');
SELECT count(*) FROM platpat.protected_tables;

-- access => false reaches every partition; a partition's own policies are kept
CREATE TABLE shop.part (tenant_id text NOT NULL, id int) PARTITION BY LIST (id);
CREATE TABLE shop.part_1 PARTITION OF shop.part FOR VALUES IN (1);
CREATE TABLE shop.part_2 PARTITION OF shop.part FOR VALUES IN (2);
ALTER TABLE shop.part_2 ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.part_2 USING (id > 0);
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.part');
SELECT table_name, access_policy FROM platpat.protected_tables ORDER BY table_name::text;
SELECT object, action FROM platpat.protect('shop.part', access => false);
SELECT table_name, access_policy FROM platpat.protected_tables ORDER BY table_name::text;
SELECT count(*) FROM platpat.protect('shop.part');
SELECT object, action FROM platpat.protect('shop.part', access => true);
DROP TABLE shop.part;

-- rows without a tenant in a partition are counted through the parent
CREATE TABLE shop.part (tenant_id text, id int) PARTITION BY LIST (id);
CREATE TABLE shop.part_1 PARTITION OF shop.part FOR VALUES IN (1);
CREATE TABLE shop.part_2 PARTITION OF shop.part FOR VALUES IN (2);
INSERT INTO shop.part VALUES (NULL, 1), (NULL, 2), ('a', 2);
SELECT platpat.protect('shop.part');
DROP TABLE shop.part;

-- inheritance
CREATE TABLE shop.parent (tenant_id text, id int);
CREATE TABLE shop.child (more int) INHERITS (shop.parent);
INSERT INTO shop.parent VALUES ('acme', 1), ('globex', 2);
INSERT INTO shop.child VALUES ('acme', 3, 3), ('globex', 4, 4);
SELECT object, action FROM platpat.protect('shop.parent') ORDER BY 1, 2;
CREATE TABLE shop.grandchild () INHERITS (shop.child);
CREATE TABLE shop.adopted (tenant_id text NOT NULL, id int);
ALTER TABLE shop.adopted INHERIT shop.parent;
SELECT table_name, protected, tenant_default, not_null, tenant_index FROM platpat.protected_tables ORDER BY table_name::text;
SELECT count(*) FROM platpat.protect('shop.parent');
SET ROLE regress_app;
SELECT platpat.set_tenant('acme', false);
SELECT tableoid::regclass, * FROM shop.parent ORDER BY id;
SELECT * FROM shop.child;
SELECT * FROM ONLY shop.parent;
RESET ROLE;

-- a child of a parent that is not protected stands for itself
RESET ROLE;
SET ROLE regress_owner;
SELECT count(*) > 0 AS acted FROM platpat.unprotect('shop.parent');
CREATE TABLE shop.base (id int);
CREATE TABLE shop.heir (tenant_id text) INHERITS (shop.base);
INSERT INTO shop.heir VALUES (1, NULL);
SELECT platpat.protect('shop.heir');
DELETE FROM shop.heir;
SELECT action FROM platpat.protect('shop.heir');
SELECT count(*) > 0 AS acted FROM platpat.unprotect('shop.heir');
-- two parents: each protection stays while the other goes
CREATE TABLE shop.mother (tenant_id text NOT NULL);
CREATE TABLE shop.father (tenant_id text NOT NULL, org text NOT NULL);
CREATE TABLE shop.both () INHERITS (shop.mother, shop.father);
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.mother');
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.father');
SELECT DISTINCT object FROM platpat.unprotect('shop.mother');
SELECT table_name, protected FROM platpat.protected_tables ORDER BY table_name::text;
SELECT DISTINCT object FROM platpat.unprotect('shop.father') ORDER BY 1;
-- but not by different columns
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.mother');
SELECT platpat.protect('shop.father', 'org');
SELECT count(*) > 0 AS acted FROM platpat.unprotect('shop.mother');
-- a partition with a protection of its own keeps it
CREATE TABLE shop.era (tenant_id text NOT NULL, id int) PARTITION BY LIST (id);
CREATE TABLE shop.era_1 (tenant_id text NOT NULL, id int);
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.era_1');
ALTER TABLE shop.era ATTACH PARTITION shop.era_1 FOR VALUES IN (1);
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.era');
ALTER TABLE shop.era ATTACH PARTITION shop.era_1 FOR VALUES IN (1);
ALTER TABLE shop.era RENAME COLUMN tenant_id TO customer;
SELECT * FROM platpat.protections ORDER BY table_name::text;
SELECT DISTINCT object FROM platpat.unprotect('shop.era');
SELECT table_name, tenant_column, protected FROM platpat.protected_tables ORDER BY table_name::text;
SELECT count(*) > 0 AS acted FROM platpat.unprotect('shop.era_1');
RESET ROLE;

-- foreign partitions are refused, at once and later
CREATE FOREIGN DATA WRAPPER regress_dummy;
CREATE SERVER regress_server FOREIGN DATA WRAPPER regress_dummy;
CREATE TABLE shop.mixed (tenant_id text NOT NULL, id int) PARTITION BY LIST (id);
CREATE FOREIGN TABLE shop.mixed_f PARTITION OF shop.mixed FOR VALUES IN (1) SERVER regress_server;
\set VERBOSITY default
SELECT platpat.protect('shop.mixed');
SELECT platpat.protect('shop.mixed_f');
DROP FOREIGN TABLE shop.mixed_f;
SELECT count(*) > 0 AS acted FROM platpat.protect('shop.mixed');
CREATE FOREIGN TABLE shop.mixed_f PARTITION OF shop.mixed FOR VALUES IN (1) SERVER regress_server;
-- not protected by its own parent, it could still serve rows to the tree
CREATE FOREIGN TABLE shop.mixed_f (tenant_id text NOT NULL, id int) SERVER regress_server;
ALTER TABLE shop.mixed ATTACH PARTITION shop.mixed_f FOR VALUES IN (1);
\set VERBOSITY terse
SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'shop.mixed'::regclass;

-- a child of a foreign table in a protected schema is protected for itself
CREATE SCHEMA web;
CREATE FOREIGN TABLE web.feed (tenant_id text NOT NULL) SERVER regress_server;
CREATE TABLE web.cache () INHERITS (web.feed);
SELECT DISTINCT object FROM platpat.protect_schema('web');
-- a check that is no proof for the children is none
CREATE TABLE shop.stem (tenant_id text, CHECK (tenant_id IS NOT NULL) NO INHERIT);
CREATE TABLE shop.leaf () INHERITS (shop.stem);
INSERT INTO shop.leaf VALUES (NULL);
SELECT platpat.protect('shop.stem');

-- partitions made together with a schema
CREATE SCHEMA annex CREATE TABLE mixed_2 PARTITION OF shop.mixed FOR VALUES IN (2);
SELECT table_name, protected FROM platpat.protected_tables WHERE table_name::text LIKE '%mixed%' ORDER BY table_name::text;

SET client_min_messages = warning;
DROP SCHEMA shop, annex, web CASCADE;
DROP FOREIGN DATA WRAPPER regress_dummy CASCADE;
DROP OWNED BY regress_owner, regress_app;
DROP ROLE regress_owner, regress_app;
