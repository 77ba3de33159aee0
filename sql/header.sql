\echo Use "CREATE EXTENSION platpat" to load this file. \quit

CREATE FUNCTION platpat.check_install(version text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
    AS 'MODULE_PATHNAME', 'plat_check_install';
COMMENT ON FUNCTION platpat.check_install(text) IS
    'Refuses a schema that another role owns and a library of another version; the install and upgrade scripts call it first.';
REVOKE ALL ON FUNCTION platpat.check_install(text) FROM PUBLIC;

SELECT platpat.check_install('@VERSION@'::pg_catalog.text);

COMMENT ON SCHEMA platpat IS
    'Multi-tenant isolation: tenant context and protected tables.';
GRANT USAGE ON SCHEMA platpat TO PUBLIC;

CREATE FUNCTION platpat.status(OUT item text, OUT value text, OUT hint text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_status';
COMMENT ON FUNCTION platpat.status() IS
    'What decides whether platpat can keep its promises in this session; hint is null where all is well.';
REVOKE ALL ON FUNCTION platpat.status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platpat.status() TO pg_monitor;
