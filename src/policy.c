/*
 * policy.c
 *		Protected tables: the SQL functions, and the TRUNCATE guard.
 *
 * protect() installs row-level security that compares the tenant column with
 * the current tenant: a restrictive policy, which no later policy can widen,
 * and a permissive one with the same condition instead of "true", so that
 * nothing is visible when both go with the functions or the column that they
 * stand on.  Nothing is shared between backends.
 */
#include "postgres.h"

#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "compat.h"
#include "policy.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(plat_policy_protect);
PG_FUNCTION_INFO_V1(plat_policy_unprotect);
PG_FUNCTION_INFO_V1(plat_policy_protect_schema);
PG_FUNCTION_INFO_V1(plat_policy_unprotect_schema);
PG_FUNCTION_INFO_V1(plat_policy_state);
PG_FUNCTION_INFO_V1(plat_policy_refuse_truncate);

const PlatModule plat_policy_module = {
	.name = "policy",
	.define_settings = plat_policy_define_settings,
};

/*
 * Return the actions as rows (object, action, statement), those left to the
 * user among them: the statement is what was run or is to be run.
 */
static void
put_actions(FunctionCallInfo fcinfo, List *actions)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *cell;

	foreach(cell, actions)
	{
		PlatAction *action = lfirst(cell);
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		values[0] = CStringGetTextDatum(action->object);
		values[1] = CStringGetTextDatum(action->action);
		values[2] = CStringGetTextDatum(action->statement);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/*
 * An oid argument that must not be NULL: 22004, naming what it is. That there
 * is such an object is checked where it is opened.
 */
static Oid
oid_arg(FunctionCallInfo fcinfo, int argno, const char *what)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	return PG_GETARG_OID(argno);
}

/*
 * platpat.protect(table_name regclass, tenant_column name, access boolean)
 * returns table (object text, action text, statement text): VOLATILE, PARALLEL
 * UNSAFE, PUBLIC, for the owner of the table and of all that inherits from it.
 *
 * access NULL leaves platpat_access as it was decided before, or decides by
 * the policies that are there.  One row per action; none when all was right.
 * Raises 22004, 23502 for rows without a tenant, 42501, 42703, 42809, 42P01,
 * 55000 for another column than before, 0A000 for what cannot be protected.
 */
Datum
plat_policy_protect(PG_FUNCTION_ARGS)
{
	Oid			relid = oid_arg(fcinfo, 0, "table");
	const char *column = plat_name_arg(fcinfo, 1, "tenant column");
	bool		access = PG_ARGISNULL(2) ? false : PG_GETARG_BOOL(2);

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	put_actions(fcinfo,
				plat_policy_install(relid, column,
									PG_ARGISNULL(2) ? NULL : &access, false));
	SPI_finish();
	return (Datum) 0;
}

/*
 * platpat.unprotect(table_name regclass)
 * returns table (object text, action text, statement text): VOLATILE, PARALLEL
 * UNSAFE, PUBLIC, for the owner.
 *
 * A table that is not protected gives no rows.  Raises 22004, 42501, 42809,
 * and 55000 for a table that is protected through its parent.
 */
Datum
plat_policy_unprotect(PG_FUNCTION_ARGS)
{
	Oid			relid = oid_arg(fcinfo, 0, "table");

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	put_actions(fcinfo, plat_policy_remove(relid));
	SPI_finish();
	return (Datum) 0;
}

/*
 * The name of a schema that the caller owns: 3F000 if there is none of this
 * oid, 42501 if it is another's. Superusers own everything here.
 */
static char *
own_schema(Oid schema)
{
	char	   *name = get_namespace_name(schema);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA),
				 errmsg("schema with OID %u does not exist", schema)));
	if (!object_ownercheck(NamespaceRelationId, schema, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_SCHEMA, name);
	return name;
}

/*
 * The oids of a query's first column, copied out before the next query
 * replaces the result.
 */
static List *
query_oids(const char *command, int nargs, Oid *types, Datum *values)
{
	uint64		rows = plat_sql_query(command, nargs, types, values, NULL);
	List	   *oids = NIL;

	for (uint64 i = 0; i < rows; i++)
		oids = lappend_oid(oids, atooid(plat_sql_value(i, 1)));
	return oids;
}

/*
 * The tables of a schema that have the column, without those that come with
 * a parent in the same list.
 */
static List *
schema_tables(Oid schema, const char *column)
{
	Oid			types[] = {OIDOID, NAMEOID};
	Datum		values[2];

	values[0] = ObjectIdGetDatum(schema);
	values[1] = DirectFunctionCall1(namein, CStringGetDatum(column));
	return query_oids("SELECT c.oid"
					  " FROM pg_catalog.pg_class c"
					  " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid"
					  " WHERE c.relnamespace = $1 AND a.attname = $2"
					  " AND a.attnum > 0 AND NOT a.attisdropped"
					  " AND c.relkind IN ('r', 'p', 'f')"
					  " AND c.relpersistence <> 't'"
					  " AND NOT EXISTS (SELECT FROM pg_inherits i"
					  "  JOIN pg_class p ON p.oid = i.inhparent"
					  "  JOIN pg_attribute pa ON pa.attrelid = p.oid"
					  "  WHERE i.inhrelid = c.oid AND p.relnamespace = $1"
					  "  AND p.relkind <> 'f'"
					  "  AND pa.attname = $2 AND NOT pa.attisdropped)"
					  " ORDER BY c.relname",
					  2, types, values);
}

/*
 * Remember that new tables of the schema are to be protected. By name and not
 * by oid: pg_upgrade refuses columns of type regnamespace, and a dump has
 * only names. The event trigger follows renames.
 */
static void
record_schema(const char *schema, const char *column)
{
	Oid			types[] = {NAMEOID, NAMEOID};
	Datum		values[2];

	values[0] = DirectFunctionCall1(namein, CStringGetDatum(schema));
	values[1] = DirectFunctionCall1(namein, CStringGetDatum(column));
	plat_sql_as_owner("protected_schemas",
					  "INSERT INTO platpat.protected_schemas AS s"
					  " (schema_name, tenant_column) VALUES ($1, $2)"
					  " ON CONFLICT (schema_name) DO UPDATE"
					  " SET tenant_column = excluded.tenant_column"
					  " WHERE s.tenant_column <> excluded.tenant_column",
					  2, types, values, NULL);
}

/*
 * platpat.protect_schema(schema_name regnamespace, tenant_column name)
 * returns table (object text, action text, statement text): VOLATILE, PARALLEL
 * UNSAFE, PUBLIC, for the owner of the schema and its tables.
 *
 * Raises what protect() raises, for the first table by name that cannot be
 * protected, and then nothing is done; foreign tables are a WARNING.
 */
Datum
plat_policy_protect_schema(PG_FUNCTION_ARGS)
{
	Oid			schema = oid_arg(fcinfo, 0, "schema");
	const char *column = plat_name_arg(fcinfo, 1, "tenant column");
	const char *name = own_schema(schema);
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	foreach(cell, schema_tables(schema, column))
	{
		Oid			relid = lfirst_oid(cell);

		if (get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE)
			plat_policy_warn_foreign(relid);
		else
			put_actions(fcinfo,
						plat_policy_install(relid, column, NULL, false));
	}
	record_schema(name, column);
	SPI_finish();
	return (Datum) 0;
}

/*
 * platpat.unprotect_schema(schema_name regnamespace)
 * returns table (object text, action text, statement text): VOLATILE, PARALLEL
 * UNSAFE, PUBLIC, for the owner of the schema and its tables.
 *
 * Forgets the schema first, so that its own DDL protects nothing again.
 * Raises 22004, 42501, 3F000.
 */
Datum
plat_policy_unprotect_schema(PG_FUNCTION_ARGS)
{
	Oid			schema = oid_arg(fcinfo, 0, "schema");
	const char *name = own_schema(schema);
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(schema)};
	Oid			name_types[] = {NAMEOID};
	Datum		name_values[1];
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	name_values[0] = DirectFunctionCall1(namein, CStringGetDatum(name));
	plat_sql_as_owner("protected_schemas",
					  "DELETE FROM platpat.protected_schemas"
					  " WHERE schema_name = $1",
					  1, name_types, name_values, NULL);
	foreach(cell, query_oids("SELECT p.table_name::oid"
							 " FROM platpat.protections p"
							 " JOIN pg_catalog.pg_class c"
							 "  ON c.oid = p.table_name"
							 " WHERE c.relnamespace = $1 ORDER BY c.relname",
							 1, types, values))
		put_actions(fcinfo, plat_policy_remove(lfirst_oid(cell)));
	SPI_finish();
	return (Datum) 0;
}

/*
 * Return one row of protection_state(): what the catalogs say, part by part,
 * and whether the parts that isolation rests on are all there.
 */
static void
put_state(FunctionCallInfo fcinfo, const PlatTable *table, const char *column)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[11];
	bool		nulls[11] = {0};
	int			i = 0;

	values[i++] = ObjectIdGetDatum(table->relid);
	values[i++] = DirectFunctionCall1(namein, CStringGetDatum(column));
	values[i++] = BoolGetDatum(plat_policy_is_protected(table));
	values[i++] = BoolGetDatum(table->row_security);
	values[i++] = BoolGetDatum(table->forced);
	values[i++] = BoolGetDatum(table->tenant_policy == PLAT_RIGHT);
	values[i++] = BoolGetDatum(table->access_policy == PLAT_RIGHT);
	values[i++] = BoolGetDatum(plat_policy_has_default(table));
	values[i++] = BoolGetDatum(table->not_null);
	values[i++] = BoolGetDatum(table->indexed);
	values[i++] = BoolGetDatum(table->guard == PLAT_RIGHT);
	Assert(i == lengthof(values));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * platpat.protection_state() returns one row per table that is protected, or
 * should be, or inherits from one that should be, as the catalogs say now.
 */
Datum
plat_policy_state(PG_FUNCTION_ARGS)
{
	uint64		rows;
	Oid		   *relids;
	char	  **columns;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	/* what a policy compares counts more than what was recorded once */
	rows = plat_sql_query("WITH RECURSIVE tree(relid, tenant_column) AS ("
						  " SELECT p.table_name::oid, p.tenant_column"
						  " FROM platpat.protections p"
						  " UNION SELECT i.inhrelid, tree.tenant_column"
						  " FROM tree JOIN pg_inherits i"
						  "  ON i.inhparent = tree.relid),"
						  " policed(relid, tenant_column) AS ("
						  " SELECT p.polrelid, min(a.attname::text)::name"
						  " FROM pg_policy p"
						  " JOIN pg_depend d"
						  "  ON d.classid = 'pg_policy'::regclass"
						  "  AND d.objid = p.oid"
						  "  AND d.refclassid = 'pg_class'::regclass"
						  "  AND d.refobjid = p.polrelid AND d.refobjsubid > 0"
						  " JOIN pg_attribute a ON a.attrelid = p.polrelid"
						  "  AND a.attnum = d.refobjsubid"
						  " WHERE p.polname = '" PLAT_TENANT_POLICY "'"
						  " GROUP BY p.polrelid)"
						  " SELECT relid, tenant_column FROM policed"
						  " UNION SELECT relid, tenant_column FROM tree"
						  " WHERE relid NOT IN (SELECT relid FROM policed)"
						  " ORDER BY 1",
						  0, NULL, NULL, NULL);
	relids = palloc(sizeof(Oid) * rows + 1);
	columns = palloc(sizeof(char *) * rows + 1);
	for (uint64 i = 0; i < rows; i++)
	{
		relids[i] = atooid(plat_sql_value(i, 1));
		columns[i] = plat_sql_value(i, 2);
	}
	for (uint64 i = 0; i < rows; i++)
	{
		PlatTable  *table = plat_policy_inspect(relids[i], columns[i], true);

		if (table)
			put_state(fcinfo, table, columns[i]);
	}
	SPI_finish();
	return (Datum) 0;
}

/*
 * BEFORE TRUNCATE trigger: TRUNCATE knows no policies, so a role that is
 * subject to them may not use it.
 */
Datum
plat_policy_refuse_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	rel;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("platpat.refuse_truncate() must be called as a trigger")));
	rel = trigger->tg_relation;
	if (check_enable_rls(RelationGetRelid(rel), InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot truncate protected table \"%s\"",
						RelationGetRelationName(rel)),
				 errdetail("TRUNCATE would remove the rows of every tenant."),
				 errhint("DELETE removes the rows of the current tenant.")));
	return PointerGetDatum(NULL);
}
