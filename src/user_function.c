/*
 * user_function.c
 *		Functions that users have given us: projections, handlers, controllers.
 *
 * They are stored by name, so what one is now is found out each time, and
 * whose it is with it.  One that we call by ourselves runs as its owner, in a
 * restricted security context, with nothing on its search_path but its own
 * schema; what it has SET for its session is undone.  So only its owner can
 * give it to us.  Nothing here is shared.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "compat.h"
#include "user_function.h"

/*
 * The oid of a function by the text that it is stored as; InvalidOid if there
 * is none now, be it for want of its schema or of a type.
 */
static Oid
find_oid(const char *signature)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		oid;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(signature);
	fcinfo->args[0].isnull = false;
	oid = to_regprocedure(fcinfo);
	return fcinfo->isnull ? InvalidOid : DatumGetObjectId(oid);
}

/*
 * A function by the text that it is stored as: 42883 if there is none now.
 */
PlatUserFunction
plat_function_find(const char *signature)
{
	PlatUserFunction function;
	HeapTuple	tuple;
	Form_pg_proc proc;

	function.signature = pstrdup(signature);
	function.oid = find_oid(signature);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function.oid));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s does not exist", signature)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	function.owner = proc->proowner;
	function.search_path = psprintf("%s, pg_temp",
									quote_identifier(get_namespace_name(proc->pronamespace)));
	ReleaseSysCache(tuple);
	return function;
}

/*
 * Whether a function takes these arguments and no others.  42883 if there is
 * none.
 */
bool
plat_function_takes(Oid oid, int nargs, const Oid *types)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	Form_pg_proc proc;
	bool		fits;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with oid %u does not exist", oid)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	fits = proc->prokind == PROKIND_FUNCTION && proc->pronargs == nargs &&
		memcmp(proc->proargtypes.values, types, nargs * sizeof(Oid)) == 0;
	ReleaseSysCache(tuple);
	return fits;
}

/*
 * Raise 22023 with what a function is to be.
 */
static void
refuse_function(Oid oid, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("function %s does not fit", format_procedure(oid)),
			 errdetail("It is to be %s.", wanted)));
}

/*
 * Raise 42501 unless the caller owns a function that he gives us.
 */
void
plat_function_check_caller(Oid oid)
{
	if (!object_ownercheck(ProcedureRelationId, oid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of function %s", format_procedure(oid)),
				 errdetail("It will run with the rights of its owner.")));
}

/*
 * Check a function that a caller gives us: it must exist (42883), be the
 * caller's own (42501), take these arguments and return one value (22023).
 * Returns the text to store.
 */
char *
plat_function_check(Oid oid, int nargs, const Oid *types, const char *wanted,
					bool owned)
{
	if (!plat_function_takes(oid, nargs, types) || get_func_retset(oid))
		refuse_function(oid, wanted);
	if (owned)
		plat_function_check_caller(oid);
	return format_procedure_qualified(oid);
}

/*
 * Raise 42501 unless the caller has the rights of the owner of a stored
 * function: what decides on what that owner does is the owner's to change.
 * One that is gone is for superusers.  what is whose function it is.
 */
void
plat_function_check_owner(const char *signature, const char *what)
{
	if (superuser() ||
		object_ownercheck(ProcedureRelationId, plat_function_find(signature).oid,
						  GetUserId()))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of function %s", signature),
			 errdetail("The %s has the rights of its owner.", what)));
}

/*
 * Become the owner of a function, to call it with that search_path.  An error
 * restores all but the memory of who calls with the (sub)transaction.
 */
void
plat_function_enter(const PlatUserFunction *function, const char *search_path,
					PlatFunctionScope *scope)
{
	scope->level = NewGUCNestLevel();
	(void) set_config_option("search_path", search_path, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	GetUserIdAndSecContext(&scope->user, &scope->context);
	SetUserIdAndSecContext(function->owner,
						   scope->context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
}

/*
 * Be again who plat_function_enter() was called by.
 */
void
plat_function_leave(const PlatFunctionScope *scope)
{
	SetUserIdAndSecContext(scope->user, scope->context);
	AtEOXact_GUC(false, scope->level);
}
