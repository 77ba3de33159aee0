/*
 * controller_compare.c
 *		What differs between the desired and the actual state.
 *
 * Both are relations of users, read with the rights of who owns the function
 * apply, for no tenant, and with row_security off: a policy that would hide
 * rows is an error, because what is hidden would look like something to create
 * or to delete.  Nothing here is shared.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "attempt.h"
#include "controller.h"
#include "sql.h"
#include "tenant.h"

/* A comparison under way, for plat_attempt(). */
typedef struct Comparing
{
	const PlatController *controller;
	bool		with_states;
	MemoryContext context;		/* of the result */
	PlatComparison *comparison;
} Comparing;

/* A key that is looked at, likewise. */
typedef struct Looking
{
	const PlatController *controller;
	MemoryContext context;
	PlatDifference *difference;
	bool		is_there;
} Looking;

/*
 * Become the reader of a controller's relations.
 */
static void
enter(const PlatController *controller, PlatFunctionScope *scope,
	  PlatTenantScope *tenant)
{
	PlatUserFunction apply = plat_function_find(controller->apply);

	plat_function_enter(&apply, apply.search_path, scope);
	plat_tenant_clear(tenant);
	(void) set_config_option("row_security", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

static void
leave(const PlatFunctionScope *scope, const PlatTenantScope *tenant)
{
	plat_tenant_leave(tenant);
	plat_function_leave(scope);
}

/*
 * Read a state of the current result into a memory context.
 */
static bool
read_state(uint64 row, int column, MemoryContext context, Datum *state)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row],
									  SPI_tuptable->tupdesc, column, &isnull);

	if (isnull)
		return false;
	context = MemoryContextSwitchTo(context);
	*state = datumCopy(value, false, -1);
	MemoryContextSwitchTo(context);
	return true;
}

/*
 * The query that compares.  Its first row is the number of desired keys.  What
 * is not desired counts only for a controller that deletes; a state that is
 * null is null in JSON, because no state is something else.
 */
static char *
make_query(const PlatController *controller, bool with_states)
{
	Oid			reader = plat_function_find(controller->apply).owner;
	const char *states = with_states ? "d.spec, a.spec" : "NULL, NULL";

	return psprintf("WITH d AS MATERIALIZED (SELECT true AS here, key, coalesce(spec, 'null') AS spec FROM %s),"
					" a AS MATERIALIZED (SELECT true AS here, key, coalesce(spec, 'null') AS spec FROM %s)"
					" SELECT NULL, NULL, pg_catalog.count(*), NULL, NULL FROM d"
					" UNION ALL (SELECT coalesce(d.key, a.key),"
					"  CASE WHEN a.here IS NULL THEN '" PLAT_CREATE "'"
					"  WHEN d.here IS NULL THEN '" PLAT_DELETE "' ELSE '" PLAT_UPDATE "' END,"
					"  pg_catalog.hash_record_extended(ROW(d.spec, a.spec), 0), %s"
					"  FROM d %s JOIN a ON d.key COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) a.key"
					"  WHERE d.here IS NULL OR a.here IS NULL OR d.spec IS DISTINCT FROM a.spec"
					"  ORDER BY coalesce(d.key, a.key) COLLATE pg_catalog.\"C\")",
					plat_controller_relation(controller->desired, reader),
					plat_controller_relation(controller->actual, reader),
					states, controller->prunes ? "FULL" : "LEFT");
}

/*
 * The constant for the kind of a difference.
 */
static const char *
kind_of(const char *text)
{
	return text[0] == 'c' ? PLAT_CREATE : text[0] == 'd' ? PLAT_DELETE : PLAT_UPDATE;
}

/*
 * Read a difference from a row of the result; NULL, with a complaint, for a key
 * that cannot be one.
 */
static PlatDifference *
read_difference(const Comparing *comparing, uint64 row)
{
	char	   *key = plat_sql_value(row, 1);
	PlatDifference *difference;

	if (key == NULL || strlen(key) > PLAT_CONTROLLER_KEY_MAX)
	{
		comparing->comparison->complaint = key == NULL ? "there is a row whose key is null" :
			"there is a key of more than 1000 bytes";
		return NULL;
	}
	difference = palloc0(sizeof(PlatDifference));
	difference->key = key;
	difference->kind = kind_of(plat_sql_value(row, 2));
	difference->hash = pg_strtoint64(plat_sql_value(row, 3));
	difference->has_desired = read_state(row, 4, comparing->context, &difference->desired);
	difference->has_actual = read_state(row, 5, comparing->context, &difference->actual);
	return difference;
}

/*
 * Read the result of the query. A key that is there several times is one
 * difference.
 */
static void
read_result(const Comparing *comparing)
{
	PlatComparison *comparison = comparing->comparison;
	MemoryContext caller = MemoryContextSwitchTo(comparing->context);
	PlatDifference *last = NULL;

	comparison->keys = pg_strtoint64(plat_sql_value(0, 3));
	for (uint64 i = 1; i < SPI_processed; i++)
	{
		PlatDifference *next = read_difference(comparing, i);

		if (next == NULL || (last && strcmp(last->key, next->key) == 0))
			continue;
		comparison->differences = lappend(comparison->differences, next);
		last = next;
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Run a query of users' relations with a snapshot of now; returns the number
 * of rows.
 */
static uint64
run(const char *query, int nargs, Oid *types, Datum *values)
{
	int			code = SPI_execute_with_args(query, nargs, types, values, NULL,
											 false, 0);

	if (code < 0)
		elog(ERROR, "SPI_execute_with_args failed with %s for: %s",
			 SPI_result_code_string(code), query);
	return SPI_processed;
}

/*
 * The work of plat_controller_compare.
 */
static void
compare(void *arg)
{
	Comparing  *comparing = arg;
	PlatFunctionScope scope;
	PlatTenantScope tenant;
	char	   *query;

	SPI_connect();
	query = make_query(comparing->controller, comparing->with_states);
	enter(comparing->controller, &scope, &tenant);
	(void) run(query, 0, NULL, NULL);
	leave(&scope, &tenant);
	read_result(comparing);
	SPI_finish();
}

/*
 * Compare what shall be with what is; the result is in the current memory
 * context, with the states themselves if they are wanted.  Returns NULL or the
 * error that it came to.  What a view has written meanwhile is undone.
 */
ErrorData *
plat_controller_compare(const PlatController *controller, bool with_states,
						PlatComparison *comparison)
{
	Comparing	comparing = {controller, with_states, CurrentMemoryContext, comparison};
	PlatTenantScope tenant;
	ErrorData  *error;

	memset(comparison, 0, sizeof(PlatComparison));
	plat_tenant_note(&tenant);
	error = plat_attempt_and_undo(compare, &comparing);
	plat_tenant_leave(&tenant);
	plat_heed_cancel(error);
	return error;
}

/*
 * Read the state of a key from one relation; false if it is not there. 21000
 * if it is there several times.
 */
static bool
look_up(const Looking *looking, const char *relation, Datum *state)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(looking->difference->key)};
	uint64		rows = run(psprintf("SELECT coalesce(spec, 'null') FROM %s WHERE key OPERATOR(pg_catalog.=) $1"
									" AND key COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) $1 LIMIT 2",
									relation),
						   1, types, values);

	if (rows > 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("relation %s has the key more than once", relation)));
	return rows == 1 && read_state(0, 1, looking->context, state);
}

/*
 * The work of plat_controller_look.
 */
static void
look(void *arg)
{
	Looking    *looking = arg;
	PlatDifference *difference = looking->difference;
	Oid			reader = plat_function_find(looking->controller->apply).owner;
	char	   *desired = plat_controller_relation(looking->controller->desired, reader);
	char	   *actual = plat_controller_relation(looking->controller->actual, reader);
	PlatFunctionScope scope;
	PlatTenantScope tenant;

	SPI_connect();
	enter(looking->controller, &scope, &tenant);
	difference->has_desired = look_up(looking, desired, &difference->desired);
	difference->has_actual = look_up(looking, actual, &difference->actual);
	leave(&scope, &tenant);
	SPI_finish();
	difference->kind = !difference->has_actual ? PLAT_CREATE :
		!difference->has_desired ? PLAT_DELETE : PLAT_UPDATE;
	looking->is_there = difference->has_desired != difference->has_actual ||
		(difference->has_desired &&
		 DatumGetInt32(DirectFunctionCall2(jsonb_cmp, difference->desired, difference->actual)) != 0);
	if (!difference->has_desired && !looking->controller->prunes)
		looking->is_there = false;
}

/*
 * Look at a difference again, right before something is done about it, so
 * that nothing is deleted or made that was wanted otherwise meanwhile: fills
 * in the states, and whether there is still a difference.  Returns NULL or the
 * error that it came to.
 *
 * Our own controllers look by themselves, and know both states already.
 */
ErrorData *
plat_controller_look(const PlatController *controller,
					 PlatDifference *difference, bool *is_there)
{
	Looking		looking = {controller, CurrentMemoryContext, difference, true};
	PlatTenantScope tenant;
	ErrorData  *error;

	*is_there = true;
	if (controller->is_builtin)
		return NULL;
	plat_tenant_note(&tenant);
	error = plat_attempt_and_undo(look, &looking);
	plat_tenant_leave(&tenant);
	plat_heed_cancel(error);
	*is_there = looking.is_there;
	return error;
}
