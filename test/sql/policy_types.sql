-- Column types that can hold a tenant, with index and pruning; and those that cannot.
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE ROLE regress_app;
CREATE TABLE t_uuid (tenant_id uuid, id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE t_bigint (tenant_id bigint, id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE t_int (tenant_id int, id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE t_text (tenant_id text, id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE t_varchar (tenant_id varchar(50), id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE t_c (tenant_id text COLLATE "C", id int, PRIMARY KEY (tenant_id, id));
INSERT INTO t_uuid VALUES ('11111111-1111-1111-1111-111111111111', 1), ('22222222-2222-2222-2222-222222222222', 2);
INSERT INTO t_bigint VALUES (1, 1), (2, 2);
INSERT INTO t_int VALUES (1, 1), (2, 2);
INSERT INTO t_text VALUES ('1', 1), ('2', 2);
INSERT INTO t_varchar VALUES ('1', 1), ('2', 2);
INSERT INTO t_c VALUES ('1', 1), ('2', 2);
SELECT object, statement FROM unnest('{t_uuid,t_bigint,t_int,t_text,t_varchar,t_c}'::regclass[]) t, platpat.protect(t)
 WHERE statement ~ '^(CREATE POLICY platpat_tenant|ALTER.*DEFAULT)';
-- nothing is left to do for any of them
SELECT count(*) FROM unnest('{t_uuid,t_bigint,t_int,t_text,t_varchar,t_c}'::regclass[]) t, platpat.protect(t);
SELECT table_name, protected, tenant_default, not_null, tenant_index FROM platpat.protected_tables ORDER BY table_name::text;
GRANT SELECT, INSERT ON t_uuid, t_bigint, t_int, t_text, t_varchar, t_c TO regress_app;
SET ROLE regress_app;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT platpat.set_tenant('11111111-1111-1111-1111-111111111111', false);
SELECT * FROM t_uuid;
INSERT INTO t_uuid (id) VALUES (3) RETURNING *;
INSERT INTO t_uuid VALUES ('22222222-2222-2222-2222-222222222222', 4);
EXPLAIN (COSTS OFF) SELECT id FROM t_uuid WHERE id = 1;
SELECT * FROM t_bigint;     -- a tenant that is no number
SELECT platpat.set_tenant(1, false);
SELECT * FROM t_uuid;       -- a tenant that is no uuid
SELECT * FROM t_bigint, t_int, t_text, t_varchar, t_c;
INSERT INTO t_bigint (id) VALUES (3) RETURNING *;
INSERT INTO t_int (id) VALUES (3) RETURNING *;
INSERT INTO t_text (id) VALUES (3) RETURNING *;
INSERT INTO t_varchar (id) VALUES (3) RETURNING *;
INSERT INTO t_c (id) VALUES (3) RETURNING *;
INSERT INTO t_bigint VALUES (2, 4);
INSERT INTO t_int VALUES (2, 4);
INSERT INTO t_text VALUES ('2', 4);
INSERT INTO t_varchar VALUES ('2', 4);
INSERT INTO t_c VALUES ('2', 4);
EXPLAIN (COSTS OFF) SELECT id FROM t_bigint WHERE id = 1;
EXPLAIN (COSTS OFF) SELECT id FROM t_int WHERE id = 1;
EXPLAIN (COSTS OFF) SELECT id FROM t_text WHERE id = 1;
EXPLAIN (COSTS OFF) SELECT id FROM t_varchar WHERE id = 1;
EXPLAIN (COSTS OFF) SELECT id FROM t_c WHERE id = 1;
-- a tenant that does not fit into the column is nobody there, and cannot write
SELECT platpat.set_tenant(4294967297, false);
SELECT * FROM t_int;
INSERT INTO t_int (id) VALUES (5);
SELECT platpat.set_tenant(repeat('x', 60), false);
SELECT * FROM t_varchar;
INSERT INTO t_varchar (id) VALUES (5);
RESET ALL;
RESET ROLE;

-- types that cannot
CREATE DOMAIN tenant AS uuid;
CREATE TYPE color AS ENUM ('red');
CREATE COLLATION loose (provider = icu, locale = 'und', deterministic = false);
CREATE TABLE bad (a smallint, b numeric, c char(8), d tenant, e color, f jsonb, g uuid[], h text COLLATE loose,
    i int GENERATED ALWAYS AS IDENTITY, k text GENERATED ALWAYS AS ('x') STORED, l name, m timestamptz);
CREATE FUNCTION pg_temp.try(col name) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM platpat.protect('bad', col);
    RETURN 'protected';
EXCEPTION WHEN feature_not_supported THEN RETURN SQLSTATE;
END $$;
SELECT attname, pg_temp.try(attname) FROM pg_attribute WHERE attrelid = 'bad'::regclass AND attnum > 0 ORDER BY attnum;
\set VERBOSITY default
SELECT platpat.protect('bad', 'a');
SELECT platpat.protect('bad', 'h');
SELECT platpat.protect('bad', 'i');
\set VERBOSITY terse

-- large tables: what takes long is left to the owner
CREATE TABLE large (tenant_id text, id int, filler text);
ALTER TABLE large ALTER COLUMN filler SET STORAGE PLAIN;
INSERT INTO large SELECT 'acme', i, repeat('x', 7000) FROM generate_series(1, 8200) i;
SELECT pg_relation_size('large') >= 64 * 1024 * 1024 AS large;
SELECT action, statement FROM platpat.protect('large') WHERE action !~ 'policy|security|default|trigger';
SELECT action FROM platpat.protect('large');
SELECT protected, not_null, tenant_index FROM platpat.protected_tables WHERE table_name = 'large'::regclass;
INSERT INTO large VALUES (NULL, 0);
ALTER TABLE large VALIDATE CONSTRAINT platpat_tenant_not_null;
SELECT action, statement FROM platpat.protect('large');
CREATE INDEX CONCURRENTLY ON large (tenant_id);
SELECT action FROM platpat.protect('large');
SELECT protected, not_null, tenant_index FROM platpat.protected_tables WHERE table_name = 'large'::regclass;
SELECT count(*) FROM pg_constraint WHERE conrelid = 'large'::regclass AND contype = 'c';

SET client_min_messages = warning;
DROP TABLE t_uuid, t_bigint, t_int, t_text, t_varchar, t_c, bad, large;
DROP DOMAIN tenant;
DROP TYPE color;
DROP COLLATION loose;
DROP OWNED BY regress_app;
DROP ROLE regress_app;
