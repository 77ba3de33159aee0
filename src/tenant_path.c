/*
 * tenant_path.c
 *		Where a tenant's objects live in a bucket or a file tree.
 *
 * Every object of tenant T has a key below "tenants/T/".  The rules for ids
 * (tenant_id.c) make T one segment, so no tenant's prefix is a prefix of
 * another's.
 *
 * Pure but for the current tenant, which is read through the reader of
 * tenant.c; nothing is shared and no lock is taken.  All three functions are
 * STABLE and PARALLEL SAFE and may be called by PUBLIC.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "compat.h"
#include "sql.h"
#include "tenant.h"
#include "tenant_id.h"

/* What comes before the tenant in every key. */
#define PREFIX "tenants/"

PG_FUNCTION_INFO_V1(plat_tenant_prefix);
PG_FUNCTION_INFO_V1(plat_tenant_path);
PG_FUNCTION_INFO_V1(plat_tenant_owns_path);

/*
 * Why the len bytes at path cannot follow a prefix: a constant that completes
 * "A path ...", or NULL when they can.  Nothing is normalised: a path is
 * taken as it is or refused, because "a//b", "a/./b" and "a/b" are one file
 * to some stores and three to others.
 *
 * A trailing slash counts as an empty segment and is refused.
 */
static const char *
path_problem(const char *path, size_t len)
{
	const char *end = path + len;
	const char *segment = path;

	if (len == 0)
		return "must not be empty";
	if (path[0] == '/')
		return "must not be absolute";
	if (memchr(path, '\\', len) ||
		plat_text_has_control(path, len, GetDatabaseEncoding()))
		return "must not contain backslashes, control or invisible characters";

	/* A slash or the end of the path closes a segment; hence p <= end. */
	for (const char *p = path; p <= end; p++)
	{
		size_t		size = p - segment;

		if (p < end && *p != '/')
			continue;
		if (size == 0)
			return "must not have empty segments";
		if (segment[0] == '.' &&
			(size == 1 || (size == 2 && segment[1] == '.')))
			return "must not have \".\" or \"..\" as a segment";
		segment = p + 1;
	}
	return NULL;
}

/*
 * The prefix of the current tenant, in the caller's memory context; NULL if
 * there is no tenant and platpat.on_missing_tenant is "empty".  With "error"
 * that raises 42501, as current_tenant() does.
 */
static const char *
current_prefix(void)
{
	LOCAL_FCINFO(fcinfo, 0);
	Datum		tenant;

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	tenant = plat_tenant_current_text(fcinfo);
	if (fcinfo->isnull)
		return NULL;
	return psprintf(PREFIX "%s/", TextDatumGetCString(tenant));
}

/*
 * platpat.tenant_prefix() returns text
 *
 * 'tenants/<id>/' of the current tenant.  STABLE, PARALLEL SAFE and
 * LEAKPROOF, for it has no argument to leak.  Without a tenant 42501, or NULL
 * where platpat.on_missing_tenant is "empty".
 */
Datum
plat_tenant_prefix(PG_FUNCTION_ARGS)
{
	const char *prefix = current_prefix();

	if (prefix == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(prefix));
}

/*
 * platpat.tenant_path(path text) returns text
 *
 * 'tenants/<id>/<path>' of the current tenant.  STABLE and PARALLEL SAFE, but
 * not LEAKPROOF: its message quotes the argument.  Errors: 22004 for a NULL
 * or empty path, 22023 for one that path_problem() refuses, 42501 without a
 * tenant, which is NULL instead where platpat.on_missing_tenant is "empty".
 * Not STRICT, so that a NULL path is an error and not a NULL key.
 */
Datum
plat_tenant_path(PG_FUNCTION_ARGS)
{
	const char *prefix;
	const char *problem;
	char	   *path;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("path must not be null")));
	path = text_to_cstring(PG_GETARG_TEXT_PP(0));

	/*
	 * The path is judged before the tenant is asked for, so that a bad path
	 * is the same error whether or not a tenant is set.
	 */
	problem = path_problem(path, strlen(path));
	if (problem)
		ereport(ERROR,
				(errcode(path[0] ? ERRCODE_INVALID_PARAMETER_VALUE :
						 ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("invalid path \"%s\"", plat_clip(path)),
				 errdetail("A path %s.", problem)));
	prefix = current_prefix();
	if (prefix == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s%s", prefix, path)));
}

/*
 * platpat.owns_path(path text) returns boolean
 *
 * Whether path is a well-formed key below the current tenant's prefix; the
 * prefix alone is not.  STABLE, PARALLEL SAFE and LEAKPROOF.
 *
 * For policies on tables of objects, hence never an error and never NULL:
 * without a tenant, without a path or with a malformed one the answer is
 * false, whatever platpat.on_missing_tenant says.  Not STRICT for the same
 * reason.
 */
Datum
plat_tenant_owns_path(PG_FUNCTION_ARGS)
{
	const char *tenant = plat_tenant_current();
	text	   *arg;
	const char *path;
	size_t		len;
	size_t		tenant_len;
	size_t		prefix_len;

	if (tenant == NULL || PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	arg = PG_GETARG_TEXT_PP(0);
	/* Compared in place, not as a C string: a policy calls this per row. */
	path = VARDATA_ANY(arg);
	len = VARSIZE_ANY_EXHDR(arg);
	tenant_len = strlen(tenant);
	prefix_len = strlen(PREFIX) + tenant_len + 1;

	PG_RETURN_BOOL(len > prefix_len &&
				   memcmp(path, PREFIX, strlen(PREFIX)) == 0 &&
				   memcmp(path + strlen(PREFIX), tenant, tenant_len) == 0 &&
				   path[prefix_len - 1] == '/' &&
				   path_problem(path + prefix_len, len - prefix_len) == NULL);
}
