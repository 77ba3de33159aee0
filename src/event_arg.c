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
#include "sql.h"
#include "tenant.h"

/*
 * The name of a projection, a consumer or a command: 22004 for NULL and for
 * the empty string, 22023 for one that is too long.
 */
char *
plat_event_name(FunctionCallInfo fcinfo, int argno, const char *what)
{
	return text_to_cstring(plat_text_arg(fcinfo, argno, what, PLAT_EVENT_NAME_MAX));
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
