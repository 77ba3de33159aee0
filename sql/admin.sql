-- admin: work across tenants, and the trace that it leaves

CREATE FUNCTION platpat.guard_table() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_admin_guard_table';
COMMENT ON FUNCTION platpat.guard_table() IS
    'Trigger: only the owner of a table of platpat writes it.';
REVOKE ALL ON FUNCTION platpat.guard_table() FROM PUBLIC;

CREATE TABLE platpat.admin_log (
    logged_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    role_name name NOT NULL,
    login_name name NOT NULL,
    reason text NOT NULL,
    statement_start timestamptz NOT NULL
);
COMMENT ON TABLE platpat.admin_log IS 'One row per committed call of platpat.as_admin().';
COMMENT ON COLUMN platpat.admin_log.logged_at IS 'When the call was made.';
COMMENT ON COLUMN platpat.admin_log.role_name IS 'The role that called.';
COMMENT ON COLUMN platpat.admin_log.login_name IS 'The role that had logged in.';
COMMENT ON COLUMN platpat.admin_log.reason IS 'The reason given.';
COMMENT ON COLUMN platpat.admin_log.statement_start IS 'When the calling statement began, to find it in the server log.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON platpat.admin_log EXECUTE FUNCTION platpat.guard_table();
COMMENT ON TRIGGER guard ON platpat.admin_log IS 'Only platpat.as_admin() writes.';
SELECT pg_catalog.pg_extension_config_dump('platpat.admin_log', '');

CREATE FUNCTION platpat.as_admin(reason text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_admin_enter';
COMMENT ON FUNCTION platpat.as_admin(text) IS
    'Lets the rest of the transaction read and write the rows of all tenants, and logs who and why. Errors: 22004, 42501, 55000.';
REVOKE ALL ON FUNCTION platpat.as_admin(text) FROM PUBLIC;

CREATE FUNCTION platpat.grant_admin(role_name name) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_admin_grant';
COMMENT ON FUNCTION platpat.grant_admin(name) IS
    'Lets a role administer platpat and call as_admin(); makes the role platpat_admin if it is not there. For superusers.';
REVOKE ALL ON FUNCTION platpat.grant_admin(name) FROM PUBLIC;

CREATE FUNCTION platpat.revoke_admin(role_name name) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_admin_revoke';
COMMENT ON FUNCTION platpat.revoke_admin(name) IS
    'Takes back what grant_admin() gave. For superusers.';
REVOKE ALL ON FUNCTION platpat.revoke_admin(name) FROM PUBLIC;
