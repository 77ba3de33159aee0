-- What may be a tenant id, and that no tenant has two spellings.
\set VERBOSITY terse
CREATE ROLE regress_app;
SET ROLE regress_app;

-- NULL and empty must never read as "allowed"
\set VERBOSITY sqlstate
SELECT platpat.set_tenant(NULL);
SELECT platpat.set_tenant(NULL::uuid);
SELECT platpat.set_tenant(NULL::bigint);
SELECT platpat.set_tenant('acme', NULL);
SELECT platpat.set_tenant('');

-- the rules of ids
SELECT platpat.set_tenant(t) FROM (VALUES
    ('a/b')) v(t);
SELECT platpat.set_tenant('a\b');
SELECT platpat.set_tenant('.');
SELECT platpat.set_tenant('..');
SELECT platpat.set_tenant(' a');
SELECT platpat.set_tenant('a ');
SELECT platpat.set_tenant(E'a\tb');
SELECT platpat.set_tenant(E'a\nb');
SELECT platpat.set_tenant(E'\x7f');
SELECT platpat.set_tenant(repeat('x', 129));
SELECT platpat.set_tenant(repeat('x', 1000000));
\set VERBOSITY default
SELECT platpat.set_tenant('a/b');
SELECT platpat.set_tenant(repeat('x', 1000));
\set VERBOSITY terse
BEGIN;
SELECT length(platpat.set_tenant(repeat('x', 128)));
COMMIT;
-- names that only look dangerous are taken as they are
RESET ROLE;
SET platpat.tenant_switching = 'free';
SET ROLE regress_app;
BEGIN;
SELECT id, platpat.set_tenant(id) = id AS taken, platpat.current_tenant() = id AS current
  FROM unnest(ARRAY['...', 'a.b', 'a b', 'A', '%', '''; DROP TABLE x; --', '"', '$1', '{}', 'NULL', '0']) id;
COMMIT;
RESET ROLE;
RESET platpat.tenant_switching;
SET ROLE regress_app;

-- case, padding and lookalikes are other tenants or none
BEGIN;
SELECT platpat.set_tenant('acme');
SELECT platpat.set_tenant('ACME');
ROLLBACK;

-- the typed readers accept canonical spellings only
SELECT platpat.set_tenant('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', false);
SELECT platpat.current_tenant_uuid(), pg_typeof(platpat.current_tenant_uuid());
SELECT platpat.current_tenant_bigint();
SELECT platpat.set_tenant('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', false);
\set VERBOSITY default
SELECT platpat.current_tenant_uuid();
\set VERBOSITY terse
SELECT platpat.set_tenant('{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', false);
SELECT platpat.current_tenant_uuid();
SELECT platpat.set_tenant('a0eebc999c0b4ef8bb6d6bb9bd380a11', false);
SELECT platpat.current_tenant_uuid();
SELECT platpat.set_tenant('42', false);
SELECT platpat.current_tenant_bigint(), pg_typeof(platpat.current_tenant_bigint());
SELECT platpat.set_tenant('042', false);
SELECT platpat.current_tenant_bigint();
SELECT platpat.set_tenant('+42', false);
SELECT platpat.current_tenant_bigint();
SELECT platpat.set_tenant('-0', false);
SELECT platpat.current_tenant_bigint();
SELECT platpat.set_tenant('9223372036854775807', false);
SELECT platpat.current_tenant_bigint();
SELECT platpat.set_tenant('-9223372036854775808', false);
SELECT platpat.current_tenant_bigint();
SELECT platpat.set_tenant('9223372036854775808', false);
SELECT platpat.current_tenant_bigint();
SELECT platpat.set_tenant('-9223372036854775809', false);
SELECT platpat.current_tenant_bigint();
SELECT platpat.set_tenant('acme', false);
SELECT platpat.current_tenant_bigint();

-- overloads
SELECT platpat.set_tenant('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid, false);
SELECT platpat.current_tenant_uuid();
SELECT platpat.set_tenant(42, false), platpat.set_tenant(42::smallint, false), platpat.set_tenant(42::bigint, false);
SELECT platpat.current_tenant(), platpat.current_tenant_bigint();
SELECT platpat.set_tenant('acme'::varchar, false), platpat.set_tenant('acme'::name, false);

-- tenant_type makes one spelling of many, or refuses
RESET ROLE;
SET platpat.tenant_type = 'uuid';
SET ROLE regress_app;
SELECT platpat.set_tenant('{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}', false);
SELECT platpat.set_tenant('a0eebc999c0b4ef8bb6d6bb9bd380a11', false);
SELECT platpat.set_tenant('a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11', false);
SELECT platpat.current_tenant_uuid(), platpat.current_tenant();
SELECT platpat.set_tenant('acme', false);
SELECT platpat.set_tenant('{a0eebc999c0b4ef8bb6d6bb9bd380a11', false);
SELECT platpat.set_tenant('a0eebc999c0b4ef8bb6d6bb9bd380a11}', false);
SELECT platpat.set_tenant('a0eebc999c0b4ef8bb6d6bb9bd380a1', false);
SELECT platpat.set_tenant('a0eebc999c0b4ef8bb6d6bb9bd380a111', false);
SELECT platpat.set_tenant('a0eebc99--9c0b4ef8bb6d6bb9bd380a11', false);
SELECT platpat.set_tenant('g0eebc999c0b4ef8bb6d6bb9bd380a11', false);
SELECT platpat.set_tenant(42, false);
-- hyphens stand only between groups of four
BEGIN; SELECT platpat.set_tenant('a0eebc999c0b-4ef8-bb6d6bb9-bd380a11'); ROLLBACK;
BEGIN; SELECT platpat.set_tenant('-a0eebc999c0b4ef8bb6d6bb9bd380a11'); ROLLBACK;
BEGIN; SELECT platpat.set_tenant('a0eebc999c0b4ef8bb6d6bb9bd380a11-'); ROLLBACK;
BEGIN; SELECT platpat.set_tenant('a0-eebc999c0b4ef8bb6d6bb9bd380a11'); ROLLBACK;
RESET ROLE;
SET platpat.tenant_type = 'bigint';
SET ROLE regress_app;
SELECT platpat.set_tenant('007', false);
SELECT platpat.set_tenant('+7', false);
SELECT platpat.set_tenant('-0', false);
SELECT platpat.set_tenant('7.0', false);
SELECT platpat.set_tenant('0x7', false);
SELECT platpat.set_tenant('1e3', false);
SELECT platpat.set_tenant('-', false);
SELECT platpat.set_tenant('9223372036854775808', false);
SELECT platpat.set_tenant(-7, false);
SELECT platpat.current_tenant_bigint();
RESET ROLE;
RESET platpat.tenant_type;
SELECT platpat.reset_tenant();

-- a superuser's SET obeys the rules too
SET platpat.tenant = 'a/b';
SET platpat.tenant = 'acme';
SELECT platpat.current_tenant();
SET platpat.tenant_type = 'uuid';
SET platpat.tenant = 'acme';
SET platpat.tenant = '{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}';
SHOW platpat.tenant;
SELECT platpat.current_tenant_uuid();
RESET platpat.tenant_type;
SET platpat.tenant = '';
SELECT platpat.current_tenant_or_null() IS NULL AS none;
RESET platpat.tenant;

DROP ROLE regress_app;
