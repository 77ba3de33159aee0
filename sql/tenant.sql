-- tenant: who the current tenant is

CREATE FUNCTION platpat.set_tenant(tenant text, is_local boolean DEFAULT true)
    RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_tenant_set_text';
COMMENT ON FUNCTION platpat.set_tenant(text, boolean) IS
    'Sets the tenant of the transaction, or of the session if is_local is false; returns it. Errors: 22004, 22023, 42501.';

CREATE FUNCTION platpat.set_tenant(tenant uuid, is_local boolean DEFAULT true)
    RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_tenant_set_uuid';
COMMENT ON FUNCTION platpat.set_tenant(uuid, boolean) IS
    'Sets the tenant of the transaction, or of the session if is_local is false; returns it. Errors: 22004, 22023, 42501.';

CREATE FUNCTION platpat.set_tenant(tenant bigint, is_local boolean DEFAULT true)
    RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_tenant_set_bigint';
COMMENT ON FUNCTION platpat.set_tenant(bigint, boolean) IS
    'Sets the tenant of the transaction, or of the session if is_local is false; returns it. Errors: 22004, 22023, 42501.';

CREATE FUNCTION platpat.reset_tenant() RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_tenant_reset';
COMMENT ON FUNCTION platpat.reset_tenant() IS
    'Takes the tenant of the transaction and of the session away, or goes back to the one that a role or database setting gives.';

CREATE FUNCTION platpat.current_tenant() RETURNS text
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF
    AS 'MODULE_PATHNAME', 'plat_tenant_current_text';
COMMENT ON FUNCTION platpat.current_tenant() IS
    'The current tenant; 42501 if none is set, or null if platpat.on_missing_tenant is empty.';

CREATE FUNCTION platpat.current_tenant_uuid() RETURNS uuid
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF
    AS 'MODULE_PATHNAME', 'plat_tenant_current_uuid';
COMMENT ON FUNCTION platpat.current_tenant_uuid() IS
    'The current tenant as uuid; 22023 if it is not the canonical spelling of one, otherwise like current_tenant().';

CREATE FUNCTION platpat.current_tenant_bigint() RETURNS bigint
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF
    AS 'MODULE_PATHNAME', 'plat_tenant_current_bigint';
COMMENT ON FUNCTION platpat.current_tenant_bigint() IS
    'The current tenant as bigint; 22023 if it is not the canonical spelling of one, otherwise like current_tenant().';

CREATE FUNCTION platpat.current_tenant_or_null() RETURNS text
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF
    AS 'MODULE_PATHNAME', 'plat_tenant_current_or_null';
COMMENT ON FUNCTION platpat.current_tenant_or_null() IS
    'The current tenant, or null if none is set; for applications that want to look.';

CREATE FUNCTION platpat.tenant_prefix() RETURNS text
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF
    AS 'MODULE_PATHNAME', 'plat_tenant_prefix';
COMMENT ON FUNCTION platpat.tenant_prefix() IS
    'Where the objects of the current tenant live in storage: tenants/<id>/.';

CREATE FUNCTION platpat.tenant_path(path text) RETURNS text
    LANGUAGE C STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_tenant_path';
COMMENT ON FUNCTION platpat.tenant_path(text) IS
    'The storage key of a relative path of the current tenant: tenants/<id>/<path>. 22023 for .., absolute paths, empty segments and control characters.';

CREATE FUNCTION platpat.owns_path(path text) RETURNS boolean
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF
    AS 'MODULE_PATHNAME', 'plat_tenant_owns_path';
COMMENT ON FUNCTION platpat.owns_path(text) IS
    'Whether a storage key belongs to the current tenant; for policies, so false instead of an error or null.';

GRANT EXECUTE ON FUNCTION
    platpat.set_tenant(text, boolean),
    platpat.set_tenant(uuid, boolean),
    platpat.set_tenant(bigint, boolean),
    platpat.reset_tenant(),
    platpat.current_tenant(),
    platpat.current_tenant_uuid(),
    platpat.current_tenant_bigint(),
    platpat.current_tenant_or_null(),
    platpat.tenant_prefix(),
    platpat.tenant_path(text),
    platpat.owns_path(text)
    TO PUBLIC;
