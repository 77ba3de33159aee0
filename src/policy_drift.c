/*
 * policy_drift.c
 *		What differs between how tables shall be protected and how they are, and
 *		bringing it back: behind the views and functions of the controllers
 *		"protections" and "foreign_policies".
 *
 * What shall be is what is, with all done that protect() would do at once: a
 * step that is left to users because it takes long is no difference.
 *
 * Repairs run as the owner of the extension, because the owner of a table may
 * have lost the right to repair it.  What may call functions that others have
 * written, as SET NOT NULL does to see whether a CHECK implies it, runs as the
 * owner of the table.
 *
 * Nothing is shared between backends.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "attempt.h"
#include "policy.h"
#include "sql.h"

/* Milliseconds that a look at all tables waits for those that are locked. */
#define PATIENCE_MS 100

PG_FUNCTION_INFO_V1(plat_policy_specs);
PG_FUNCTION_INFO_V1(plat_policy_apply);
PG_FUNCTION_INFO_V1(plat_policy_refuse_foreign);

/* A table to look at. */
typedef struct Member
{
	Oid			relid;
	bool		parent_not_null;
	PlatProtection known;
} Member;

/* A look at one after the other. */
typedef struct Look
{
	FunctionCallInfo fcinfo;
	int			patience;		/* milliseconds that are left, for all */
	Member	   *member;
} Look;

/* What there is of something, by PlatPresence. */
static const char *const presences[] = {"missing", "altered", "present"};

/*
 * Add a pair to a JSON object: text, or null.
 */
static void
put_text(JsonbParseState **state, const char *key, const char *text)
{
	JsonbValue	name = {.type = jbvString};
	JsonbValue	value = {.type = text ? jbvString : jbvNull};

	name.val.string.val = unconstify(char *, key);
	name.val.string.len = strlen(key);
	if (text)
	{
		value.val.string.val = unconstify(char *, text);
		value.val.string.len = strlen(text);
	}
	pushJsonbValue(state, WJB_KEY, &name);
	pushJsonbValue(state, WJB_VALUE, &value);
}

/*
 * Add a pair to a JSON object: true or false.
 */
static void
put_bool(JsonbParseState **state, const char *key, bool truth)
{
	JsonbValue	name = {.type = jbvString};
	JsonbValue	value = {.type = jbvBool};

	name.val.string.val = unconstify(char *, key);
	name.val.string.len = strlen(key);
	value.val.boolean = truth;
	pushJsonbValue(state, WJB_KEY, &name);
	pushJsonbValue(state, WJB_VALUE, &value);
}

/*
 * How NOT NULL stands, or what stands in for it on a large table.
 */
static const char *
nullness(bool not_null, bool checked)
{
	return not_null ? "not null" : checked ? "checked" : "nullable";
}

/*
 * What is.
 */
static Datum
actual_spec(const PlatTable *table, const char *column)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	put_text(&state, "tenant_column", table->attnum ? column : NULL);
	put_bool(&state, "row_security", table->row_security);
	put_bool(&state, "forced", table->forced);
	put_text(&state, "tenant_policy", table->tenant_policy_text);
	put_text(&state, "access_policy", table->access_policy_text);
	put_text(&state, "tenant_default", table->default_text);
	put_text(&state, "tenant_nulls", nullness(table->not_null, table->own_null_check));
	put_bool(&state, "tenant_index", table->indexed);
	put_text(&state, "truncate_guard", presences[table->guard]);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/*
 * What shall be: what is, once the actions are run.  Without its column nothing
 * else can be said of a table than that it shall have it, and be closed.
 */
static Datum
desired_spec(const PlatTable *table, const char *column, bool access, List *actions)
{
	JsonbParseState *state = NULL;
	bool		gone = table->attnum == 0;
	bool		not_null = table->not_null || plat_policy_runs(actions, "set not null");
	bool		checked = table->own_null_check || plat_policy_runs(actions, "add check");

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	put_text(&state, "tenant_column", column);
	put_bool(&state, "row_security", true);
	put_bool(&state, "forced", true);
	put_text(&state, "tenant_policy", gone ? table->tenant_policy_text :
			 plat_policy_describe(table, false));
	put_text(&state, "access_policy", gone ? table->access_policy_text :
			 access ? plat_policy_describe(table, true) : NULL);
	put_text(&state, "tenant_default", gone ? NULL : table->reader);
	put_text(&state, "tenant_nulls", nullness(not_null, checked));
	put_bool(&state, "tenant_index", table->indexed || plat_policy_runs(actions, "create index"));
	put_text(&state, "truncate_guard", gone ? presences[table->guard] : "present");
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/*
 * A state of a table that cannot be looked at, or shall be: one pair.
 */
static Datum
problem_spec(const char *key, const char *text)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	put_text(&state, key, text);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/*
 * Return the row of protection_specs() for a table that cannot be looked at
 * now.  That is a difference: what has become of it has to be found out.
 */
static void
put_problem(FunctionCallInfo fcinfo, const Member *member, const char *key, const char *text)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *name = get_rel_name(member->relid);
	Datum		values[4];
	bool		nulls[4] = {0};

	if (name == NULL)
		return;
	values[0] = CStringGetTextDatum(quote_qualified_identifier(get_namespace_name(get_rel_namespace(member->relid)), name));
	values[1] = ObjectIdGetDatum(member->known.relid);
	values[2] = problem_spec(key, NULL);
	values[3] = problem_spec(key, text ? text : "by another session");
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Lock a table for a look, if that can be done within the milliseconds of
 * patience that are left: one that somebody keeps locked must not keep us from
 * looking after all others.
 */
static bool
lock_soon(Oid relid, int *patience)
{
	while (!ConditionalLockRelationOid(relid, AccessShareLock))
	{
		if (*patience <= 0)
			return false;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000);
		(*patience)--;
	}
	return true;
}

/*
 * Return one row of protection_specs().
 */
static void
put_specs(FunctionCallInfo fcinfo, const Member *member)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PlatTable  *table = plat_policy_inspect(member->relid, member->known.column, true);
	Datum		values[4];
	bool		nulls[4] = {0};
	List	   *actions;
	bool		access;

	if (table == NULL)
		return;
	actions = plat_policy_plan_repair(table, &member->known, member->parent_not_null, &access);
	values[0] = CStringGetTextDatum(table->name);
	values[1] = ObjectIdGetDatum(member->known.relid);
	values[2] = desired_spec(table, member->known.column, access, actions);
	values[3] = actual_spec(table, member->known.column);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * The tables that shall be protected, with everything that inherits from them,
 * each once, by the protection that is nearest.  A column that was renamed
 * behind our back is what the policy compares.
 */
static List *
list_members(void)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *members = NIL;
	uint64		rows = plat_sql_query("WITH RECURSIVE tree(relid, root, depth) AS ("
									  " SELECT table_name::oid, table_name::oid, 0 FROM platpat.protections"
									  " UNION SELECT i.inhrelid, tree.root, tree.depth + 1"
									  "  FROM tree JOIN pg_inherits i ON i.inhparent = tree.relid)"
									  " SELECT DISTINCT ON (t.relid) t.relid, t.root, p.access, p.tenant_column,"
									  "  EXISTS (SELECT FROM pg_inherits i JOIN pg_attribute a ON a.attrelid = i.inhparent"
									  "   WHERE i.inhrelid = t.relid AND a.attname = p.tenant_column)"
									  "  AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_attribute a ON a.attrelid = i.inhparent"
									  "   WHERE i.inhrelid = t.relid AND a.attname = p.tenant_column AND NOT a.attnotnull),"
									  "  EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.root"
									  "   AND a.attname = p.tenant_column AND NOT a.attisdropped)"
									  " FROM tree t JOIN platpat.protections p ON p.table_name = t.root"
									  " JOIN pg_class c ON c.oid = t.relid AND c.relpersistence <> 't'"
									  " ORDER BY t.relid, t.depth, t.root",
									  0, NULL, NULL, NULL);

	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < rows; i++)
	{
		Member	   *member = palloc0(sizeof(Member));

		member->relid = atooid(plat_sql_value(i, 1));
		member->known.relid = atooid(plat_sql_value(i, 2));
		member->known.access = plat_sql_value(i, 3)[0] == 't';
		strlcpy(member->known.column, plat_sql_value(i, 4), NAMEDATALEN);
		member->parent_not_null = plat_sql_value(i, 5)[0] == 't';
		member->known.is_stale = plat_sql_value(i, 6)[0] != 't';
		members = lappend(members, member);
	}
	return members;
}

/*
 * Look at a table, for plat_attempt().
 */
static void
look(void *arg)
{
	Look	   *look = arg;
	Member	   *member = look->member;

	SPI_connect();
	if (member->known.is_stale)
		(void) plat_policy_lookup(member->relid, &member->known);
	if (lock_soon(member->relid, &look->patience))
	{
		put_specs(look->fcinfo, member);
		UnlockRelationOid(member->relid, AccessShareLock);
	}
	else
		put_problem(look->fcinfo, member, "locked", NULL);
	SPI_finish();
}

/*
 * Return the row of protection_specs() for a table.  One that cannot be looked
 * at, for a policy that is too deep say, keeps nobody from looking at others.
 */
static void
put_member(Look *it, Member *member)
{
	ErrorData  *error;

	it->member = member;
	error = plat_attempt(look, it);
	plat_heed_cancel(error);
	if (error)
		put_problem(it->fcinfo, member, "error", plat_clip(error->message));
}

/*
 * platpat.protection_specs() returns table (key text, root regclass, desired
 * jsonb, actual jsonb): VOLATILE, for PUBLIC.
 *
 * One row for each table that shall be protected, by the catalogs as they are
 * now.  Of one that somebody has locked it says only that.
 */
Datum
plat_policy_specs(PG_FUNCTION_ARGS)
{
	Look		it = {.fcinfo = fcinfo,.patience = PATIENCE_MS};
	MemoryContext each;
	MemoryContext caller;
	ListCell   *cell;
	int			level;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	each = AllocSetContextCreate(CurrentMemoryContext, "platpat table",
								 ALLOCSET_DEFAULT_SIZES);
	level = plat_sql_pin();
	foreach(cell, list_members())
	{
		CHECK_FOR_INTERRUPTS();
		caller = MemoryContextSwitchTo(each);
		put_member(&it, lfirst(cell));
		MemoryContextSwitchTo(caller);
		MemoryContextReset(each);
	}
	plat_sql_unpin(level);
	SPI_finish();
	return (Datum) 0;
}

/*
 * The oid of a table by its key, or InvalidOid if it is gone.
 */
static Oid
table_of(FunctionCallInfo fcinfo)
{
	plat_refuse_null(fcinfo, 0, "key");
	return RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(PG_GETARG_TEXT_PP(0))),
							NoLock, true);
}

/*
 * Repair a table, for plat_attempt().
 */
static void
repair(void *arg)
{
	Oid			relid = *(Oid *) arg;
	PlatProtection known;

	SPI_connect();
	plat_policy_repair(relid);
	/* Only one that is complete or was adopted before is desired at all. */
	if (plat_policy_lookup(relid, &known))
		plat_policy_adopt(known.relid);
	SPI_finish();
}

/*
 * platpat.apply_protection(key text, desired jsonb, actual jsonb) returns void:
 * VOLATILE, for the controller alone.
 *
 * Looks for itself what is missing, whatever the states say. One that cannot be
 * repaired is closed, and if it is that already, raises what protect() does.
 */
Datum
plat_policy_apply(PG_FUNCTION_ARGS)
{
	Oid			relid = table_of(fcinfo);
	ErrorData  *error;

	if (!OidIsValid(relid))
		PG_RETURN_VOID();
	error = plat_attempt(repair, &relid);
	plat_heed_cancel(error);
	if (error)
	{
		SPI_connect();
		if (!plat_policy_close(relid))
			ReThrowError(error);
		SPI_finish();
	}
	PG_RETURN_VOID();
}

/*
 * platpat.refuse_foreign_policy(key text, desired jsonb, actual jsonb) returns
 * void: raises 0A000.
 */
Datum
plat_policy_refuse_foreign(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("platpat does not drop policies of others"),
			 errhint("DROP POLICY as the owner of the table, or set the controller's mode to observe.")));
	PG_RETURN_VOID();
}
