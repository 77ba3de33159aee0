/*
 * tenant_path.c
 *		Where a tenant's objects live in a bucket or a file tree.
 *
 * Every object of tenant T has a key below "tenants/T/".  The functions are
 * pure but for the current tenant; nothing is shared.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "compat.h"
#include "sql.h"
#include "tenant.h"
#include "tenant_id.h"

#define PREFIX "tenants/"

PG_FUNCTION_INFO_V1(plat_tenant_prefix);
PG_FUNCTION_INFO_V1(plat_tenant_path);
PG_FUNCTION_INFO_V1(plat_tenant_owns_path);

/*
 * Why path cannot follow a prefix: a constant that completes "A path ...", or
 * NULL when it can.
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
 * The prefix of the current tenant, or NULL if there is none and
 * platpat.on_missing_tenant allows that.
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

/* platpat.tenant_prefix() returns text: 'tenants/<id>/' */
Datum
plat_tenant_prefix(PG_FUNCTION_ARGS)
{
	const char *prefix = current_prefix();

	if (prefix == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(prefix));
}

/* platpat.tenant_path(path text) returns text: 'tenants/<id>/<path>' */
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
 * Whether path is a well-formed key below the current tenant's prefix.  For
 * policies on tables of objects, hence never an error and never NULL: without
 * a tenant, without a path or with a malformed one the answer is false.
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
