/*
 * platpat.c
 *		Loading the library, the table of modules, and platpat.status().
 *
 * What is shared between backends is the business of shmem.c and of the
 * modules.  A library that is preloaded has shared memory and a worker, and
 * defines its settings before the first login, so that nobody can make
 * placeholders of their names.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_namespace.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "admin.h"
#include "breaker.h"
#include "bulkhead.h"
#include "compat.h"
#include "controller.h"
#include "event.h"
#include "limit.h"
#include "metrics.h"
#include "module.h"
#include "policy.h"
#include "ring.h"
#include "shmem.h"
#include "sql.h"
#include "tenant.h"
#include "worker.h"

PLAT_MODULE_MAGIC;

/*
 * Every module, in the order in which they are initialised. This is the one
 * place that names them all: removing a module is deleting its files and its
 * row here.
 */
static const PlatModule *const modules[] = {
	&plat_tenant_module,
	&plat_admin_module,
	&plat_policy_module,
	&plat_ring_module,
	&plat_limit_module,
	&plat_breaker_module,
	&plat_bulkhead_module,
	&plat_event_module,
	&plat_controller_module,
	&plat_worker_module,
	NULL
};

static ProcessUtility_hook_type previous_utility = NULL;

extern void _PG_init(void);

PG_FUNCTION_INFO_V1(plat_check_install);
PG_FUNCTION_INFO_V1(plat_status);

/*
 * Apply the settings of the login role and of the database once more, as the
 * login did.
 *
 * A session that loads the library itself may have got placeholders from the
 * options of its connection.  They outranked the stored settings at login,
 * and being refused now they would leave the defaults: a role that is bound
 * to a tenant would be free.  Settings of others keep the value they have,
 * because each is applied with the rank of where it is stored.
 */
static void
apply_stored_settings(void)
{
	Oid			role = GetAuthenticatedUserId();
	bool		own_transaction = !IsTransactionState();
	Relation	rel;
	Snapshot	snapshot;

	if (own_transaction)
		StartTransactionCommand();
	rel = table_open(DbRoleSettingRelationId, AccessShareLock);
	snapshot = RegisterSnapshot(GetCatalogSnapshot(DbRoleSettingRelationId));
	ApplySetting(snapshot, MyDatabaseId, role, rel, PGC_S_DATABASE_USER);
	ApplySetting(snapshot, InvalidOid, role, rel, PGC_S_USER);
	ApplySetting(snapshot, MyDatabaseId, InvalidOid, rel, PGC_S_DATABASE);
	ApplySetting(snapshot, InvalidOid, InvalidOid, rel, PGC_S_GLOBAL);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	if (own_transaction)
		CommitTransactionCommand();
}

/*
 * ProcessUtility_hook: DISCARD ALL makes a session new, for the next client of
 * a pool, so what modules keep for a session ends with it.
 */
static void
utility(PlannedStmt *statement, const char *query, bool read_only_tree,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *environment, DestReceiver *receiver,
		QueryCompletion *completion)
{
	bool		is_discard = IsA(statement->utilityStmt, DiscardStmt) &&
	((DiscardStmt *) statement->utilityStmt)->target == DISCARD_ALL;

	if (previous_utility)
		previous_utility(statement, query, read_only_tree, context, params,
						 environment, receiver, completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context, params,
								environment, receiver, completion);
	for (const PlatModule *const *m = modules; is_discard && *m; m++)
		if ((*m)->discard)
			(*m)->discard();
}

/*
 * Library load: in the postmaster, or in the first session that needs us. It
 * must not fail: an error in the postmaster would keep the server from
 * starting, and one in a session would break pg_upgrade and restores.
 */
void
_PG_init(void)
{
	bool		preload = process_shared_preload_libraries_in_progress;

	for (const PlatModule *const *m = modules; *m; m++)
		if ((*m)->define_settings)
			(*m)->define_settings(preload);
	plat_admin_know_modules(modules);
	plat_metrics_init(modules);
	plat_shmem_init(modules, preload);
	if (preload)
		plat_worker_init(modules);
	MarkGUCPrefixReserved("platpat");
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;

	/* A parallel worker gets the settings of its leader in a moment. */
	if (!preload && OidIsValid(MyDatabaseId) && !IsParallelWorker())
		apply_stored_settings();
}

/*
 * The owner of schema platpat. The install script runs with the schema there:
 * CREATE EXTENSION makes it, or finds one that somebody made before.
 */
static Oid
schema_owner(void)
{
	Oid			schema = get_namespace_oid("platpat", false);
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID,
										ObjectIdGetDatum(schema));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for schema %u", schema);
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * platpat.check_install(version text) returns void
 *
 * Called first by the install and upgrade scripts.  Refuses a schema that
 * another role owns, who could drop it with everything in it, and a library
 * that is older or newer than the script.  A worker looks into the database
 * when they have committed.
 */
Datum
plat_check_install(PG_FUNCTION_ARGS)
{
	const char *version = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			owner = schema_owner();

	if (owner != GetUserId() && !superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("schema platpat belongs to role \"%s\"",
						GetUserNameFromId(owner, false)),
				 errdetail("Its owner could drop the extension."),
				 errhint("ALTER SCHEMA platpat OWNER TO a superuser, or drop the schema.")));
	if (strcmp(version, PLAT_VERSION) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the loaded library is platpat %s, the SQL script is for %s",
						PLAT_VERSION, version),
				 errhint("Install the files of one version, and restart the server if it preloads the library.")));
	plat_worker_wake_at_commit(NULL);
	PG_RETURN_VOID();
}

/*
 * Add one row of status(); hint may be NULL, which means that all is well.
 */
static void
put_status(FunctionCallInfo fcinfo, const char *item, const char *value,
		   const char *hint)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[3];
	bool		nulls[3] = {false, false, hint == NULL};

	values[0] = CStringGetTextDatum(item);
	values[1] = CStringGetTextDatum(value);
	values[2] = hint ? CStringGetTextDatum(hint) : (Datum) 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * The version of the extension's SQL objects in this database, in the
 * caller's memory context; "none" where only the library is loaded. It
 * differs from the library's between the installation of new files and ALTER
 * EXTENSION UPDATE or the restart of the server.
 */
static const char *
sql_version(void)
{
	MemoryContext caller = CurrentMemoryContext;
	const char *version = "none";

	SPI_connect();
	if (plat_sql_query("SELECT extversion FROM pg_catalog.pg_extension"
					   " WHERE extname OPERATOR(pg_catalog.=) 'platpat'",
					   0, NULL, NULL, NULL) > 0)
		version = MemoryContextStrdup(caller, plat_sql_value(0, 1));
	SPI_finish();
	return version;
}

/*
 * platpat.status() returns table (item text, value text, hint text)
 *
 * One row per thing that decides whether platpat can keep its promises in
 * this session; hint is NULL where all is well.
 */
Datum
plat_status(PG_FUNCTION_ARGS)
{
	const char *sql = sql_version();
	Oid			role = GetOuterUserId();
	bool		bypass = has_bypassrls_privilege(role);
	bool		preloaded = plat_shmem_is_preloaded();
	bool		memory = plat_shmem_attach();
	const char *problem = plat_admin_role_problem();

	InitMaterializedSRF(fcinfo, 0);
	put_status(fcinfo, "library version", PLAT_VERSION, NULL);
	put_status(fcinfo, "sql version", sql,
			   strcmp(sql, PLAT_VERSION) == 0 ? NULL :
			   "Run ALTER EXTENSION platpat UPDATE, or restart the server to load the new library.");
	put_status(fcinfo, "preloaded", preloaded ? "yes" : "no",
			   preloaded ? NULL :
			   "Add platpat to shared_preload_libraries and restart the server.");
	put_status(fcinfo, "shared memory", memory ? "ready" : "none",
			   memory ? NULL :
			   "Rate limits, circuit breakers and bulkheads need it; preloading the library makes it.");
	put_status(fcinfo, "worker", plat_worker_state(),
			   preloaded ? NULL :
			   "Without preloading nobody saves quotas and open breakers over a restart.");
	put_status(fcinfo, "row security",
			   psprintf("%s for role \"%s\"", bypass ? "bypassed" : "applies",
						GetUserNameFromId(role, false)),
			   bypass ? "SET ROLE to an application role before working for a tenant." : NULL);
	put_status(fcinfo, "admin role", problem ? problem : "ready",
			   problem ? "A superuser makes or mends it with platpat.grant_admin(role)." : NULL);
	return (Datum) 0;
}
