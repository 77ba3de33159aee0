/*
 * tenant.h
 *		The current tenant, for other modules.
 *
 * Backend-local; each function is described in tenant.c.
 */
#ifndef PLAT_TENANT_H
#define PLAT_TENANT_H

#include "fmgr.h"

#include "module.h"
#include "tenant_id.h"

/* What a transaction was bound to, to go back to. */
typedef struct PlatTenantScope
{
	LocalTransactionId locked_in;
	char		locked_id[PLAT_TENANT_MAX + 1];
	Oid			acting;
} PlatTenantScope;

/* tenant.c */
extern const PlatModule plat_tenant_module;
extern const char *plat_tenant_current(void);
extern const char *plat_tenant_required(void);
extern void plat_tenant_note(PlatTenantScope *scope);
extern void plat_tenant_enter(const char *id, PlatTenantScope *scope);
extern void plat_tenant_clear(PlatTenantScope *scope);
extern void plat_tenant_leave(const PlatTenantScope *scope);
extern void plat_tenant_id_arg(const char *value, char *id);
extern bool plat_tenant_missing_is_error(void);
extern void plat_tenant_explain_missing(const char *hint);
extern Datum plat_tenant_current_text(PG_FUNCTION_ARGS);
extern void plat_warn_if_statement_local(FunctionCallInfo fcinfo,
										 const char *what);

#endif							/* PLAT_TENANT_H */
