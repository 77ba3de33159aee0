/*
 * controller_definition.c
 *		What rows of platpat.controllers say, and the relations and functions of
 *		users that they name.
 *
 * Both are stored by name, so what one is now is found out in each pass.
 * Nothing here is shared.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "controller.h"
#include "sql.h"

/*
 * Raise 42704: there is no controller of that name.
 */
void
plat_controller_missing(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("controller \"%s\" does not exist", plat_clip(name))));
}

/*
 * The name of a controller that the first argument is: 22004 for NULL and for
 * the empty string, 22023 for one that is too long.
 */
char *
plat_controller_name(FunctionCallInfo fcinfo)
{
	return text_to_cstring(plat_text_arg(fcinfo, 0, "controller",
										 PLAT_CONTROLLER_NAME_MAX));
}

#define CONTROLLER_COLUMNS \
	"SELECT c.controller, c.desired, c.actual, c.apply, c.plan," \
	" c.mode = 'observe', c.prune, c.paused, c.builtin, c.generation," \
	" s.controller IS NULL" \
	" FROM platpat.controllers c" \
	" LEFT JOIN platpat.controller_states s USING (controller)"

/*
 * Whether a boolean column of the last query's result is true.
 */
static bool
is_true(uint64 row, int column)
{
	return plat_sql_value(row, column)[0] == 't';
}

/*
 * The controller in a row of the last query, in the current memory context.
 */
static PlatController *
read_controller(uint64 row)
{
	PlatController *controller = palloc0(sizeof(PlatController));

	controller->name = plat_sql_value(row, 1);
	controller->desired = plat_sql_value(row, 2);
	controller->actual = plat_sql_value(row, 3);
	controller->apply = plat_sql_value(row, 4);
	controller->plan = plat_sql_value(row, 5);
	controller->is_observing = is_true(row, 6);
	controller->prunes = is_true(row, 7);
	controller->is_builtin = is_true(row, 9);
	controller->generation = pg_strtoint64(plat_sql_value(row, 10));
	controller->is_restored = is_true(row, 11);
	controller->is_paused = is_true(row, 8) || controller->is_restored;
	return controller;
}

/*
 * A controller as it is now, in the memory context that is current here: 42704
 * if there is none, unless missing_ok, when the result is NULL. SPI is
 * connected.
 */
PlatController *
plat_controller_get(const char *name, bool missing_ok)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	MemoryContext caller = CurrentMemoryContext;
	uint64		rows = plat_sql_read("controllers", CONTROLLER_COLUMNS
									 " WHERE c.controller = $1", 1, types, values);

	if (rows == 0 && !missing_ok)
		plat_controller_missing(name);
	MemoryContextSwitchTo(caller);
	return rows == 0 ? NULL : read_controller(0);
}

/*
 * All controllers in the order of their names, likewise.
 */
List *
plat_controller_list(void)
{
	List	   *controllers = NIL;
	MemoryContext caller = CurrentMemoryContext;
	uint64		rows = plat_sql_read("controllers", CONTROLLER_COLUMNS
									 " ORDER BY c.controller", 0, NULL, NULL);

	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < rows; i++)
		controllers = lappend(controllers, read_controller(i));
	return controllers;
}

/*
 * The oid of a relation by the text that it is stored as: 42P01 if there is
 * none now.
 */
static Oid
find_relation(const char *name)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		oid;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(name);
	fcinfo->args[0].isnull = false;
	oid = to_regclass(fcinfo);
	if (fcinfo->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation %s does not exist", name)));
	return DatumGetObjectId(oid);
}

/*
 * Raise 22023 unless a relation has a column of that name and type.
 */
static void
check_column(Oid relation, const char *column, Oid type)
{
	HeapTuple	tuple = SearchSysCacheAttName(relation, column);
	Oid			found = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		found = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
		ReleaseSysCache(tuple);
	}
	if (found != type)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("relation \"%s\" has no column \"%s\" of type %s",
						get_rel_name(relation), column, format_type_be(type)),
				 errdetail("What controllers compare has columns key text and spec jsonb.")));
}

/*
 * Raise 42501 for a relation whose owner could have functions run with rights
 * that he has not: by a view, or an expression that the planner evaluates.
 */
static void
check_relation_owner(Oid oid, Oid reader)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(oid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", oid)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (!superuser_arg(owner) && !has_privs_of_role(owner, reader))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" owns relation \"%s\" and has not the rights of role \"%s\"",
						GetUserNameFromId(owner, false), get_rel_name(oid),
						GetUserNameFromId(reader, false)),
				 errdetail("The latter owns the function apply, with whose rights the relation is read."),
				 errhint("Let the same role own both.")));
}

/*
 * The quoted name of a relation by the text that it is stored as, for a
 * query of a reader: 42P01 if there is none now, 22023 if it has not the
 * columns, 42501 if its owner is not to be trusted with the reader's rights.
 */
char *
plat_controller_relation(const char *name, Oid reader)
{
	Oid			oid = find_relation(name);

	check_relation_owner(oid, reader);

	check_column(oid, "key", TEXTOID);
	check_column(oid, "spec", JSONBOID);
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(oid)),
									  get_rel_name(oid));
}

/*
 * Check a relation that a caller gives us: it must exist (42P01), be one that
 * has rows (42809) and the columns (22023), outlive the session (0A000), and be
 * readable to who will read it (42501).  Returns the text to store.
 */
char *
plat_controller_check_relation(Oid oid, const char *what, Oid reader)
{
	char		kind = get_rel_relkind(oid);
	const char *schema;
	char	   *name;

	if (kind == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("%s relation with OID %u does not exist", what, oid)));
	if (kind != RELKIND_RELATION && kind != RELKIND_VIEW &&
		kind != RELKIND_MATVIEW && kind != RELKIND_PARTITIONED_TABLE &&
		kind != RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table or view", get_rel_name(oid))));
	if (get_rel_persistence(oid) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s relation \"%s\" is temporary", what, get_rel_name(oid)),
				 errdetail("The background worker cannot see it.")));
	schema = get_namespace_name(get_rel_namespace(oid));
	name = quote_qualified_identifier(schema, get_rel_name(oid));
	(void) plat_controller_relation(name, reader);
	if (pg_class_aclcheck(oid, reader, ACL_SELECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not read %s relation \"%s\"",
						GetUserNameFromId(reader, false), what, get_rel_name(oid)),
				 errdetail("It owns the function apply, with whose rights it is read.")));
	return name;
}

static const Oid apply_types[] = {TEXTOID, JSONBOID, JSONBOID, TEXTOID};

/*
 * Whether function apply wants to be called for each action.
 */
bool
plat_controller_applies_actions(Oid apply)
{
	return plat_function_takes(apply, 4, apply_types);
}

/*
 * Raise 22023 for a STRICT function, which would not be called for what is to
 * be created or deleted.
 */
static void
refuse_strict(Oid oid)
{
	if (func_strict(oid))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("function %s is STRICT", format_procedure(oid)),
				 errdetail("It has to be called with a null for what is to be created or deleted, too.")));
}

/*
 * Check the function apply that a caller gives us: 22023, 42501, 42883.
 * Returns the text to store.
 */
char *
plat_controller_check_apply(Oid oid)
{
	char	   *name = plat_function_check(oid, plat_function_takes(oid, 4, apply_types) ? 4 : 3,
										   apply_types,
										   "a function (key text, desired jsonb, actual jsonb), and perhaps (..., action text)",
										   true);

	refuse_strict(oid);
	return name;
}

/*
 * The query that calls function plan with parameters $1 to $3 and returns a
 * row for each action; NULL if it returns something else.
 */
static char *
plan_query(Oid plan)
{
	Oid			result = get_func_rettype(plan);
	char	   *call = psprintf("%s($1, $2, $3)",
								quote_qualified_identifier(get_namespace_name(get_func_namespace(plan)),
														   get_func_name(plan)));

	if (result == TEXTOID)
		return psprintf("SELECT p.action FROM %s p(action)", call);
	if (get_func_retset(plan))
		return NULL;
	if (result == TEXTARRAYOID)
		return psprintf("SELECT p.action FROM pg_catalog.unnest(%s) p(action)", call);
	if (result == JSONBOID)
		return psprintf("SELECT p.action FROM pg_catalog.jsonb_array_elements_text(%s) p(action)", call);
	return NULL;
}

/*
 * Raise 22023 with what a function plan is to be.
 */
static void
refuse_plan(Oid oid)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("function %s does not fit", format_procedure(oid)),
			 errdetail("It is to be a function (key text, desired jsonb, actual jsonb) that returns names of actions as text[], setof text, or a jsonb array.")));
}

/*
 * The query that calls function plan with parameters $1 to $3, one row for
 * each action: 22023 if it returns no names.
 */
char *
plat_controller_plan_query(Oid plan)
{
	char	   *query = plan_query(plan);

	if (query == NULL)
		refuse_plan(plan);
	return query;
}

/*
 * Check the function plan that a caller gives us: 22023, 42501, 42883.
 * Returns the text to store.
 */
char *
plat_controller_check_plan(Oid oid)
{
	if (!plat_function_takes(oid, 3, apply_types))
		refuse_plan(oid);
	(void) plat_controller_plan_query(oid);
	refuse_strict(oid);
	plat_function_check_caller(oid);
	return format_procedure_qualified(oid);
}
