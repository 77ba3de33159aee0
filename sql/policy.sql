-- policy: protected tables

CREATE TABLE platpat.protections (
    table_name regclass PRIMARY KEY,
    tenant_column name NOT NULL,
    access boolean NOT NULL
);
COMMENT ON TABLE platpat.protections IS
    'Tables that shall be protected, with everything that inherits from them; written by protect() and unprotect().';
COMMENT ON COLUMN platpat.protections.table_name IS 'The table.';
COMMENT ON COLUMN platpat.protections.tenant_column IS 'Its column that holds the tenant.';
COMMENT ON COLUMN platpat.protections.access IS 'Whether policy platpat_access opens it to the current tenant.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON platpat.protections EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.protections IS 'Only protect() and unprotect() write.';
-- A table dropped while event triggers were off must not break a restore.
SELECT pg_catalog.pg_extension_config_dump('platpat.protections',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) table_name)');
GRANT SELECT ON platpat.protections TO PUBLIC;

-- Not dumped: a restore brings protections before the policies themselves.
CREATE TABLE platpat.adopted_tables (
    table_name regclass PRIMARY KEY
);
COMMENT ON TABLE platpat.adopted_tables IS
    'Tables whose protection has been complete in this database: what is missing of it was taken away.';
COMMENT ON COLUMN platpat.adopted_tables.table_name IS 'The table.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON platpat.adopted_tables EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.adopted_tables IS 'Only the functions of platpat write.';
GRANT SELECT ON platpat.adopted_tables TO PUBLIC;

CREATE TABLE platpat.protected_schemas (
    schema_name name PRIMARY KEY,
    tenant_column name NOT NULL
);
COMMENT ON TABLE platpat.protected_schemas IS
    'Schemas whose new tables shall be protected; written by protect_schema() and unprotect_schema().';
COMMENT ON COLUMN platpat.protected_schemas.schema_name IS 'The schema.';
COMMENT ON COLUMN platpat.protected_schemas.tenant_column IS 'The column that makes a table of it a tenant table.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON platpat.protected_schemas EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.protected_schemas IS 'Only protect_schema() and unprotect_schema() write.';
SELECT pg_catalog.pg_extension_config_dump('platpat.protected_schemas', '');
GRANT SELECT ON platpat.protected_schemas TO PUBLIC;

CREATE FUNCTION platpat.protect(
    table_name regclass,
    tenant_column name DEFAULT 'tenant_id',
    access boolean DEFAULT NULL,
    OUT object text, OUT action text, OUT statement text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_protect';
COMMENT ON FUNCTION platpat.protect(regclass, name, boolean) IS
    'Isolates the rows of a table by tenant; for its owner. One row per action; calling it again changes nothing. Errors: 22004, 23502, 42501, 42703, 0A000.';

CREATE FUNCTION platpat.unprotect(
    table_name regclass,
    OUT object text, OUT action text, OUT statement text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_unprotect';
COMMENT ON FUNCTION platpat.unprotect(regclass) IS
    'Takes off what protect() put on a table, NOT NULL and the index excepted; for its owner. One row per action.';

CREATE FUNCTION platpat.protect_schema(
    schema_name regnamespace,
    tenant_column name DEFAULT 'tenant_id',
    OUT object text, OUT action text, OUT statement text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_protect_schema';
COMMENT ON FUNCTION platpat.protect_schema(regnamespace, name) IS
    'Protects every table of a schema that has the tenant column, now and in future; for the owner of the schema and its tables.';

CREATE FUNCTION platpat.unprotect_schema(
    schema_name regnamespace,
    OUT object text, OUT action text, OUT statement text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_unprotect_schema';
COMMENT ON FUNCTION platpat.unprotect_schema(regnamespace) IS
    'Unprotects every table of a schema and leaves its future tables alone; for the owner of the schema and its tables.';

CREATE FUNCTION platpat.protection_state(
    OUT table_name regclass,
    OUT tenant_column name,
    OUT protected boolean,
    OUT row_security boolean,
    OUT forced boolean,
    OUT tenant_policy boolean,
    OUT access_policy boolean,
    OUT tenant_default boolean,
    OUT not_null boolean,
    OUT tenant_index boolean,
    OUT truncate_guard boolean)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_state';
COMMENT ON FUNCTION platpat.protection_state() IS
    'What the catalogs say about each table that is or should be protected; view protected_tables shows it.';

CREATE VIEW platpat.protected_tables AS
    SELECT table_name, tenant_column, protected, row_security, forced,
           tenant_policy, access_policy, tenant_default, not_null,
           tenant_index, truncate_guard
      FROM platpat.protection_state();
COMMENT ON VIEW platpat.protected_tables IS
    'What is true now of each table that is or should be protected, partitions included.';
COMMENT ON COLUMN platpat.protected_tables.table_name IS 'The table.';
COMMENT ON COLUMN platpat.protected_tables.tenant_column IS 'Its column that holds the tenant.';
COMMENT ON COLUMN platpat.protected_tables.protected IS 'Whether row_security, forced, tenant_policy and truncate_guard are all true.';
COMMENT ON COLUMN platpat.protected_tables.row_security IS 'Row security is enabled.';
COMMENT ON COLUMN platpat.protected_tables.forced IS 'Row security holds for the owner too.';
COMMENT ON COLUMN platpat.protected_tables.tenant_policy IS 'Restrictive policy platpat_tenant is there and says what it should.';
COMMENT ON COLUMN platpat.protected_tables.access_policy IS 'Permissive policy platpat_access is there and says what it should.';
COMMENT ON COLUMN platpat.protected_tables.tenant_default IS 'The default of the tenant column is the current tenant.';
COMMENT ON COLUMN platpat.protected_tables.not_null IS 'The tenant column is NOT NULL.';
COMMENT ON COLUMN platpat.protected_tables.tenant_index IS 'A valid B-tree index over all rows leads with the tenant column.';
COMMENT ON COLUMN platpat.protected_tables.truncate_guard IS 'The trigger that refuses TRUNCATE is there and enabled.';
GRANT SELECT ON platpat.protected_tables TO PUBLIC;

-- The controllers of protected tables, and of what others add to them.

CREATE FUNCTION platpat.protection_specs(
    OUT key text,
    OUT root regclass,
    OUT desired jsonb,
    OUT actual jsonb)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_specs';
COMMENT ON FUNCTION platpat.protection_specs() IS
    'What shall be and what is of each table that shall be protected, partitions included.';

CREATE VIEW platpat.desired_protections AS
    SELECT s.key, s.desired || '{"adopted": true}' AS spec
      FROM (SELECT p.key, p.desired, a.table_name IS NOT NULL AS adopted,
                   pg_catalog.bool_and(p.desired = p.actual) OVER (PARTITION BY p.root) AS complete
              FROM platpat.protection_specs() p
              LEFT JOIN platpat.adopted_tables a ON a.table_name = p.root) s
     WHERE s.adopted OR s.complete;
COMMENT ON VIEW platpat.desired_protections IS
    'What shall be of each protected table. One that a restore has brought counts from when its protection is complete.';
COMMENT ON COLUMN platpat.desired_protections.key IS 'The table.';
COMMENT ON COLUMN platpat.desired_protections.spec IS 'Its protection, part by part.';

CREATE VIEW platpat.actual_protections AS
    SELECT p.key, p.actual || pg_catalog.jsonb_build_object('adopted', a.table_name IS NOT NULL) AS spec
      FROM platpat.protection_specs() p
      LEFT JOIN platpat.adopted_tables a ON a.table_name = p.root;
COMMENT ON VIEW platpat.actual_protections IS 'What is of each table that shall be protected, as the catalogs say now.';
COMMENT ON COLUMN platpat.actual_protections.key IS 'The table.';
COMMENT ON COLUMN platpat.actual_protections.spec IS 'Its protection, part by part.';

CREATE FUNCTION platpat.apply_protection(key text, desired jsonb, actual jsonb) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_apply';
COMMENT ON FUNCTION platpat.apply_protection(text, jsonb, jsonb) IS
    'Brings back what is missing of a table''s protection; for the controller protections.';
REVOKE ALL ON FUNCTION platpat.apply_protection(text, jsonb, jsonb) FROM PUBLIC;

INSERT INTO platpat.controllers (controller, desired, actual, apply, builtin)
    VALUES ('protections', 'platpat.desired_protections', 'platpat.actual_protections',
            'platpat.apply_protection(pg_catalog.text,pg_catalog.jsonb,pg_catalog.jsonb)', true);

CREATE VIEW platpat.desired_foreign_policies AS
    SELECT NULL::text AS key, NULL::jsonb AS spec WHERE false;
COMMENT ON VIEW platpat.desired_foreign_policies IS 'No policy of others is desired on a table that platpat opens to its tenant.';
COMMENT ON COLUMN platpat.desired_foreign_policies.key IS 'The table and the policy.';
COMMENT ON COLUMN platpat.desired_foreign_policies.spec IS 'The policy.';

CREATE VIEW platpat.actual_foreign_policies AS
    WITH RECURSIVE tree(relid) AS (
         SELECT p.table_name::oid FROM platpat.protections p
         UNION SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.relid)
    SELECT pg_catalog.format('%I.%I: %I', n.nspname, c.relname, p.polname) AS key,
           pg_catalog.jsonb_build_object(
               'command', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                        WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
               'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
               'with_check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) AS spec
      FROM tree t
      JOIN pg_catalog.pg_policy p ON p.polrelid = t.relid
      JOIN pg_catalog.pg_class c ON c.oid = t.relid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE p.polpermissive AND p.polname <> 'platpat_access'
       AND EXISTS (SELECT FROM pg_catalog.pg_policy o WHERE o.polrelid = t.relid AND o.polname = 'platpat_access');
COMMENT ON VIEW platpat.actual_foreign_policies IS
    'Permissive policies of others on tables that platpat opens to their tenant: they narrow nothing, and cannot reach beyond the tenant.';
COMMENT ON COLUMN platpat.actual_foreign_policies.key IS 'The table and the policy.';
COMMENT ON COLUMN platpat.actual_foreign_policies.spec IS 'The policy.';
GRANT SELECT ON platpat.desired_protections, platpat.actual_protections,
    platpat.desired_foreign_policies, platpat.actual_foreign_policies TO PUBLIC;

CREATE FUNCTION platpat.refuse_foreign_policy(key text, desired jsonb, actual jsonb) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_refuse_foreign';
COMMENT ON FUNCTION platpat.refuse_foreign_policy(text, jsonb, jsonb) IS
    'Raises an error: policies of others are reported, and dropped by nobody but their owners.';
REVOKE ALL ON FUNCTION platpat.refuse_foreign_policy(text, jsonb, jsonb) FROM PUBLIC;

INSERT INTO platpat.controllers (controller, desired, actual, apply, mode, prune, builtin)
    VALUES ('foreign_policies', 'platpat.desired_foreign_policies', 'platpat.actual_foreign_policies',
            'platpat.refuse_foreign_policy(pg_catalog.text,pg_catalog.jsonb,pg_catalog.jsonb)', 'observe', true, true);
INSERT INTO platpat.controller_states (controller) VALUES ('protections'), ('foreign_policies');

CREATE FUNCTION platpat.refuse_truncate() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_refuse_truncate';
COMMENT ON FUNCTION platpat.refuse_truncate() IS
    'Trigger: refuses TRUNCATE to roles that row security applies to.';

GRANT EXECUTE ON FUNCTION
    platpat.protect(regclass, name, boolean),
    platpat.unprotect(regclass),
    platpat.protect_schema(regnamespace, name),
    platpat.unprotect_schema(regnamespace),
    platpat.protection_state(),
    platpat.protection_specs(),
    platpat.refuse_truncate()
    TO PUBLIC;

CREATE FUNCTION platpat.on_command_start() RETURNS event_trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_on_command_start';
COMMENT ON FUNCTION platpat.on_command_start() IS
    'Event trigger: refuses to drop what policies stand on and DDL under as_admin(), and lets foreign keys be validated over all rows.';
REVOKE ALL ON FUNCTION platpat.on_command_start() FROM PUBLIC;

CREATE FUNCTION platpat.on_command_end() RETURNS event_trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_on_command_end';
COMMENT ON FUNCTION platpat.on_command_end() IS
    'Event trigger: protects new partitions and new tables of protected schemas, and follows renames.';
REVOKE ALL ON FUNCTION platpat.on_command_end() FROM PUBLIC;

CREATE FUNCTION platpat.on_drop() RETURNS event_trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_policy_on_drop';
COMMENT ON FUNCTION platpat.on_drop() IS
    'Event trigger: forgets protected tables and schemas that are gone.';
REVOKE ALL ON FUNCTION platpat.on_drop() FROM PUBLIC;

CREATE EVENT TRIGGER platpat_command_start ON ddl_command_start
    EXECUTE FUNCTION platpat.on_command_start();
COMMENT ON EVENT TRIGGER platpat_command_start IS
    'Guards platpat against DROP, foreign keys against row security, and the schema against as_admin().';

CREATE EVENT TRIGGER platpat_command_end ON ddl_command_end
    WHEN TAG IN ('ALTER FOREIGN TABLE', 'ALTER POLICY', 'ALTER SCHEMA', 'ALTER TABLE', 'ALTER TRIGGER',
                 'CREATE FOREIGN TABLE', 'CREATE POLICY', 'CREATE SCHEMA', 'CREATE TABLE', 'CREATE TABLE AS',
                 'CREATE TRIGGER', 'IMPORT FOREIGN SCHEMA', 'SELECT INTO')
    EXECUTE FUNCTION platpat.on_command_end();
COMMENT ON EVENT TRIGGER platpat_command_end IS
    'Protects new tables where protection is due, and wakes the controllers that look after protected ones.';

CREATE EVENT TRIGGER platpat_drop ON sql_drop
    EXECUTE FUNCTION platpat.on_drop();
COMMENT ON EVENT TRIGGER platpat_drop IS
    'Forgets protected tables and schemas that are dropped.';
