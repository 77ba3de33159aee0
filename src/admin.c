/*
 * admin.c
 *		Work across tenants: who may do it, and the trace that it leaves.
 *
 * as_admin() turns the current user into platpat_admin, a role that bypasses
 * row security, until the end of the transaction.  Nobody is a member of that
 * role, so this function, which logs first, is the way in; EXECUTE on it is
 * what grant_admin() gives.  (Superusers need no way in, and on PostgreSQL 15
 * a role with CREATEROLE can make itself a member of any role.)  DDL is
 * refused meanwhile: a view or a SECURITY DEFINER function that belonged to
 * that role would be a way in for later.
 *
 * Nothing is shared between backends but the table admin_log.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "admin.h"
#include "compat.h"
#include "sql.h"
#include "tenant.h"

#define ADMIN_ROLE "platpat_admin"

/*
 * The role that as_admin() has entered, and whom to go back to. saved_user is
 * valid from as_admin() to the end of the transaction, even if a ROLLBACK TO
 * has left the role before: is_admin_now() tells.
 */
static Oid	admin_user = InvalidOid;
static Oid	saved_user = InvalidOid;
static int	saved_context = 0;
static bool callback_registered = false;

/*
 * Every module, for what grant_admin() hands out. The library's init hands
 * the table down, so that no module needs to know the init.
 */
static const PlatModule *const *known_modules = NULL;

PG_FUNCTION_INFO_V1(plat_admin_enter);
PG_FUNCTION_INFO_V1(plat_admin_grant);
PG_FUNCTION_INFO_V1(plat_admin_revoke);
PG_FUNCTION_INFO_V1(plat_admin_guard_table);

static const char *const admin_grants[] = {
	"EXECUTE ON FUNCTION platpat.as_admin(text)",
	"EXECUTE ON FUNCTION platpat.status()",
	"SELECT ON platpat.admin_log",
	NULL
};

const PlatModule plat_admin_module = {
	.name = "admin",
	.admin_grants = admin_grants,
};

/*
 * Called once by the library's init with the table of modules, closed by
 * NULL; it is not copied.
 */
void
plat_admin_know_modules(const PlatModule *const *modules)
{
	known_modules = modules;
}

/*
 * Whether anybody is a member of role. A member can SET ROLE to it without
 * passing as_admin(). Indirect members are members of a member, so one look
 * is enough.
 */
static bool
has_members(Oid role)
{
	Relation	rel = table_open(AuthMemRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&key, Anum_pg_auth_members_roleid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(role));
	scan = systable_beginscan(rel, AuthMemRoleMemIndexId, true, NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * What is wrong with the admin role: a constant that completes "Role
 * "platpat_admin" ...", or NULL when it is as it should be.
 */
const char *
plat_admin_role_problem(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHNAME, CStringGetDatum(ADMIN_ROLE));
	Form_pg_authid role;
	const char *problem = NULL;

	if (!HeapTupleIsValid(tuple))
		return "does not exist";
	role = (Form_pg_authid) GETSTRUCT(tuple);
	if (role->rolsuper)
		problem = "is a superuser";
	else if (role->rolcanlogin)
		problem = "can log in";
	else if (!role->rolbypassrls)
		problem = "does not have BYPASSRLS";
	else if (has_members(role->oid))
		problem = "has members, who can enter it without a trace";
	ReleaseSysCache(tuple);
	return problem;
}

/*
 * Whether as_admin() is in force, and no other user in front of it: inside a
 * SECURITY DEFINER function its owner is, and acts for itself. The flag of
 * the context tells our change of user from a SET ROLE, which a superuser
 * could do.
 */
static bool
is_admin_now(void)
{
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	return OidIsValid(saved_user) && user == admin_user &&
		(context & SECURITY_LOCAL_USERID_CHANGE) != 0;
}

/*
 * Go back to the user of before as_admin() when the transaction is over.  A
 * prepared transaction belongs to that user too, who may want to finish it.
 * An error or a ROLLBACK TO has gone back already.
 */
static void
leave_admin(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (is_admin_now())
				SetUserIdAndSecContext(saved_user, saved_context);
			saved_user = InvalidOid;
			break;
		case XACT_EVENT_ABORT:
			saved_user = InvalidOid;
			break;
		default:
			break;
	}
}

/*
 * Called before any DDL: raises 42501 if it would be done as the admin role.
 * Temporary objects count, too: a function in pg_temp would outlive the
 * transaction.
 */
void
plat_admin_refuse_ddl(void)
{
	if (!is_admin_now())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("cannot change the schema across tenants"),
			 errdetail("platpat.as_admin() is for rows: what it created would belong to role \"%s\".",
					   ADMIN_ROLE),
			 errhint("Do this before platpat.as_admin(), or in another transaction.")));
}

/*
 * Write the trace of one call into admin_log and the server log. The row is
 * gone after a ROLLBACK, and so is all that was done; the line stays. In a
 * read-only transaction the row cannot be written, and 25006 refuses the
 * call. LOG_SERVER_ONLY, because a client could turn its messages off.
 */
static void
log_entry(const char *reason)
{
	Oid			types[] = {NAMEOID, NAMEOID, TEXTOID, TIMESTAMPTZOID};
	const char *caller = GetUserNameFromId(GetOuterUserId(), false);
	const char *login = GetUserNameFromId(GetSessionUserId(), false);
	Datum		values[4];

	values[0] = DirectFunctionCall1(namein, CStringGetDatum(caller));
	values[1] = DirectFunctionCall1(namein, CStringGetDatum(login));
	values[2] = CStringGetTextDatum(reason);
	values[3] = TimestampTzGetDatum(GetCurrentStatementStartTimestamp());

	SPI_connect();
	plat_sql_as_owner("admin_log",
					  "INSERT INTO platpat.admin_log"
					  " (role_name, login_name, reason, statement_start)"
					  " VALUES ($1, $2, $3, $4)",
					  4, types, values, NULL);
	SPI_finish();
	ereport(LOG_SERVER_ONLY,
			(errmsg("role \"%s\" (logged in as \"%s\") works across tenants",
					caller, login),
			 errdetail("Reason: %s", reason)));
}

/*
 * The reason that as_admin() was given: 22004 unless it has a character that
 * is not blank. That is all a program can ask of a reason.
 */
static const char *
reason_arg(FunctionCallInfo fcinfo)
{
	char	   *reason;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("reason must not be null")));
	reason = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (reason[strspn(reason, " \t\r\n")] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("reason must not be empty")));
	return reason;
}

/*
 * platpat.as_admin(reason text) returns void
 *
 * Lets the rest of the transaction read and write the rows of all tenants.
 * The row in admin_log shares the fate of the transaction, the server log
 * line stays.  Refused inside SECURITY DEFINER functions: there the caller
 * would not be the one who was granted the right.
 */
Datum
plat_admin_enter(PG_FUNCTION_ARGS)
{
	const char *reason = reason_arg(fcinfo);
	const char *problem = plat_admin_role_problem();
	Oid			admin;
	Oid			user;
	int			context;

	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot work across tenants"),
				 errdetail("Role \"%s\" %s.", ADMIN_ROLE, problem),
				 errhint("A superuser makes the role with platpat.grant_admin(role).")));
	admin = get_role_oid(ADMIN_ROLE, false);
	GetUserIdAndSecContext(&user, &context);

	if (is_admin_now())
	{
		log_entry(reason);
		PG_RETURN_VOID();
	}
	if (user != GetOuterUserId() || context != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("platpat.as_admin() cannot be called from a SECURITY DEFINER function")));

	log_entry(reason);
	plat_warn_if_statement_local(fcinfo, "platpat.as_admin(reason)");
	if (!callback_registered)
		RegisterXactCallback(leave_admin, NULL);
	callback_registered = true;
	admin_user = admin;
	saved_user = user;
	saved_context = context;
	SetUserIdAndSecContext(admin, SECURITY_LOCAL_USERID_CHANGE);
	PG_RETURN_VOID();
}

/*
 * Make the admin role, or refuse one that somebody else has made badly
 * (55000): a role of that name with a password or with members, made before
 * the first grant_admin(), would be a trap. A role that is right is taken,
 * because roles are the cluster's and another database may have made it.
 */
static void
ensure_admin_role(void)
{
	const char *problem;

	if (!OidIsValid(get_role_oid(ADMIN_ROLE, true)))
	{
		plat_sql_run("CREATE ROLE " ADMIN_ROLE " NOLOGIN BYPASSRLS");
		plat_sql_run("GRANT pg_read_all_data, pg_write_all_data TO " ADMIN_ROLE);
	}
	problem = plat_admin_role_problem();
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" %s", ADMIN_ROLE, problem),
				 errhint("Mend or drop the role, and call platpat.grant_admin(role) again.")));
}

/*
 * Run GRANT or REVOKE of all that administrators get, for role, as the
 * superuser who called. The words come from constants, the role is quoted.
 */
static void
change_grants(const char *command, const char *preposition, const char *role)
{
	const char *quoted = quote_identifier(role);

	for (const PlatModule *const *m = known_modules; *m; m++)
	{
		const char *const *grant = (*m)->admin_grants;

		for (; grant && *grant; grant++)
			plat_sql_run(psprintf("%s %s %s %s",
								  command, *grant, preposition, quoted));
	}
}

/*
 * The role argument of grant_admin and revoke_admin: 22004 if it is NULL or
 * empty, 42704 if there is no such role, 42501 unless a superuser calls.
 * EXECUTE is revoked from PUBLIC, but somebody might grant it, and only a
 * superuser may make a role with BYPASSRLS.
 */
static const char *
admin_role_arg(FunctionCallInfo fcinfo)
{
	const char *role = plat_name_arg(fcinfo, 0, "role");

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to change who administers platpat")));
	(void) get_role_oid(role, false);
	return role;
}

/*
 * platpat.grant_admin(role_name name) returns void: VOLATILE, for superusers.
 *
 * Granting twice is no error. Raises 22004, 42501, 42704, 55000.
 */
Datum
plat_admin_grant(PG_FUNCTION_ARGS)
{
	const char *role = admin_role_arg(fcinfo);

	SPI_connect();
	ensure_admin_role();
	change_grants("GRANT", "TO", role);
	/* Inside as_admin() the caller is that role, and still administers. */
	change_grants("GRANT", "TO", ADMIN_ROLE);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * platpat.revoke_admin(role_name name) returns void: VOLATILE, for
 * superusers.
 *
 * A transaction that is in as_admin() already goes on to its end. Raises
 * 22004, 42501, 42704.
 */
Datum
plat_admin_revoke(PG_FUNCTION_ARGS)
{
	const char *role = admin_role_arg(fcinfo);

	SPI_connect();
	change_grants("REVOKE", "FROM", role);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * Trigger on our own tables: only their owner and superusers write them.
 * Privileges alone would not do, because platpat_admin may write all data.
 */
Datum
plat_admin_guard_table(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	rel;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("platpat.guard_table() must be called as a trigger")));
	rel = trigger->tg_relation;
	if (!object_ownercheck(RelationRelationId, RelationGetRelid(rel),
						   GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot write table platpat.%s",
						RelationGetRelationName(rel)),
				 errhint("The functions of platpat maintain it.")));
	return PointerGetDatum(NULL);
}
