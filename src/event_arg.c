/*
 * event_arg.c
 *		Arguments of the functions of module event, and for whom they act.
 *
 * Nothing here is shared.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "compat.h"
#include "event.h"
#include "tenant.h"

/*
 * A text argument that must be neither NULL nor empty (22004) nor longer than
 * so many bytes (22023), as it was given.
 */
text *
plat_event_text(FunctionCallInfo fcinfo, int argno, const char *what, int max)
{
	text	   *value = PG_ARGISNULL(argno) ? NULL : PG_GETARG_TEXT_PP(argno);

	if (value == NULL || VARSIZE_ANY_EXHDR(value) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null or empty", what)));
	if (VARSIZE_ANY_EXHDR(value) > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is too long", what),
				 errdetail("It has %d bytes, of at most %d.",
						   (int) VARSIZE_ANY_EXHDR(value), max)));
	return value;
}

/*
 * The name of a projection, a consumer or a command: 22004 for NULL and for
 * the empty string, 22023 for one that is too long.
 */
char *
plat_event_name(FunctionCallInfo fcinfo, int argno, const char *what)
{
	return text_to_cstring(plat_event_text(fcinfo, argno, what, PLAT_EVENT_NAME_MAX));
}

/*
 * The tenant of what the caller does, NULL for none: 42501 for a role that
 * policies apply to, whose events would be nobody's.
 */
const char *
plat_event_tenant(void)
{
	if (plat_tenant_current() == NULL && has_bypassrls_privilege(GetUserId()))
		return NULL;
	return plat_tenant_required();
}
