/*
 * event_projection.c
 *		Projections: making, changing and dropping them, and applying inline
 *		ones.
 *
 * A projection is a function that is called with a range of positions and
 * brings its read model up to date.  It runs as its owner, wherever that
 * happens: in the background, by run_projections(), or inline in the
 * transaction that appends.  So only the owner of a function can make a
 * projection of it.
 *
 * Who appends looks at the projections after it has locked the log, and who
 * makes one inline locks the log against appends: whatever was not applied by
 * the one is by the other.
 *
 * Nothing here is shared; what a backend knows of projections is read anew
 * when they, a function or a role change.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "config_table.h"
#include "event.h"
#include "sql.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(plat_event_create_projection);
PG_FUNCTION_INFO_V1(plat_event_alter_projection);
PG_FUNCTION_INFO_V1(plat_event_drop_projection);
PG_FUNCTION_INFO_V1(plat_event_projections_changed);

/* The array of names to store for tables that are given as parameter $7. */
#define NAMES_OF_TABLES \
	"(SELECT coalesce(array_agg(format('%I.%I', n.nspname, c.relname) ORDER BY t.i), '{}')" \
	" FROM unnest($7) WITH ORDINALITY t(oid, i)" \
	" JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace)"

/* What a session that appends knows of the projections. */
static MemoryContext known_context = NULL;
static List *known_inline = NIL;	/* of PlatProjection */
static bool known_async = false;	/* whether there are any */
static Oid	known_relid = InvalidOid;	/* of platpat.projections */
static uint64 known_at = 0;		/* changes that it takes into account */
static uint64 changes = 1;		/* to what it was read from */
static int	appending = 0;		/* calls that use it now */

/*
 * The name of a projection that the first argument is.
 */
static char *
name_arg(FunctionCallInfo fcinfo)
{
	return plat_event_name(fcinfo, 0, "projection");
}

/*
 * Relcache and syscache callbacks: what is known may not be true any more.
 */
static void
forget_on_relation(Datum arg, Oid relid)
{
	if (relid == known_relid || relid == InvalidOid)
		changes++;
}

static void
forget_on_catalog(Datum arg, int cacheid, uint32 hashvalue)
{
	changes++;
}

/*
 * Be told of changes, from the first use on.
 */
static void
watch_caches(void)
{
	static bool is_watching = false;

	if (is_watching)
		return;
	CacheRegisterRelcacheCallback(forget_on_relation, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, forget_on_catalog, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, forget_on_catalog, (Datum) 0);
	is_watching = true;
}

/*
 * Read the projections for appends to come, as they are committed now and not
 * when the transaction took its snapshot. What invalidates them meanwhile is
 * seen afterwards.
 */
static void
know_projections(void)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64		at = changes;
	ListCell   *cell;

	watch_caches();
	if (known_context == NULL)
		known_context = AllocSetContextCreate(CacheMemoryContext,
											  "platpat projections",
											  ALLOCSET_SMALL_SIZES);
	MemoryContextReset(known_context);
	known_inline = NIL;
	known_async = false;
	known_relid = plat_our_table("projections");
	foreach(cell, plat_event_all_projections(known_context))
	{
		PlatProjection *projection = lfirst(cell);

		known_async |= !projection->is_inline;
		if (!projection->is_inline)
			continue;
		MemoryContextSwitchTo(known_context);
		projection->apply = plat_function_find(projection->apply.signature);
		known_inline = lappend(known_inline, projection);
		MemoryContextSwitchTo(caller);
	}
	known_at = at;
}

/*
 * Whether a projection wants events of a type.
 */
static bool
wants(const PlatProjection *projection, const text * type)
{
	Datum	   *types;
	bool	   *nulls;
	int			ntypes;

	if (!projection->has_types)
		return true;
	deconstruct_array(DatumGetArrayTypeP(projection->types), TEXTOID, -1, false,
					  TYPALIGN_INT, &types, &nulls, &ntypes);
	for (int i = 0; i < ntypes; i++)
	{
		const		text *one = DatumGetTextPP(types[i]);

		if (!nulls[i] && VARSIZE_ANY_EXHDR(one) == VARSIZE_ANY_EXHDR(type) &&
			memcmp(VARDATA_ANY(one), VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)) == 0)
			return true;
	}
	return false;
}

/*
 * Apply an event that was just appended to the inline projections.
 */
static void
apply_inline(const text * type, const char *tenant, int64 position)
{
	ListCell   *cell;

	foreach(cell, known_inline)
	{
		PlatProjection *projection = lfirst(cell);

		if (!wants(projection, type) || (projection->is_per_tenant && !tenant))
			continue;
		plat_event_check_sight(projection, projection->apply.owner);
		plat_event_call_apply(&projection->apply, projection->apply.search_path,
							  NULL, position, position);
	}
}

/*
 * What follows an append: inline projections, whose errors are the append's,
 * and the worker, for the others. tenant is NULL for none.
 *
 * A projection may itself append; it uses what the outer append knows.
 */
void
plat_event_appended(const text * type, const char *tenant, int64 position)
{
	if (known_at != changes && appending == 0)
		know_projections();
	if (known_async)
		plat_worker_wake_at_commit(NULL);
	if (known_inline == NIL)
		return;
	appending++;
	PG_TRY();
	{
		apply_inline(type, tenant, position);
	}
	PG_FINALLY();
	{
		appending--;
	}
	PG_END_TRY();
}

/*
 * An argument that must be one of two words (22023); NULL for SQL NULL.
 */
static void
check_word(FunctionCallInfo fcinfo, int argno, const char *what,
		   const char *one, const char *other)
{
	char	   *word;

	if (PG_ARGISNULL(argno))
		return;
	word = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strcmp(word, one) != 0 && strcmp(word, other) != 0)
		plat_refuse_value(psprintf("%s is \"%s\"", what, plat_clip(word)),
						  psprintf("It is %s or %s.", one, other));
}

/*
 * Check what create and alter have in common; arguments may be NULL.
 */
static void
check_arguments(FunctionCallInfo fcinfo)
{
	check_word(fcinfo, 3, "mode", "async", "inline");
	check_word(fcinfo, 6, "on_error", "park", "stop");
	if (!PG_ARGISNULL(5) && (PG_GETARG_INT32(5) < 1 || PG_GETARG_INT32(5) > 1000000))
		plat_refuse_value(psprintf("batch_size is %d", PG_GETARG_INT32(5)),
						  "It is a number from 1 to 1000000.");
	for (int i = 2; i < 8; i += 5)
		if (!PG_ARGISNULL(i) && (ARR_NDIM(PG_GETARG_ARRAYTYPE_P(i)) > 1 ||
								 array_contains_nulls(PG_GETARG_ARRAYTYPE_P(i))))
			plat_refuse_value(psprintf("%s is not a list", i == 2 ? "types" : "read_models"),
							  "It has one dimension and no null.");
}

/*
 * Check a projection as it is stored now, whose function and read models were
 * checked by themselves: 42501 for one that would not see its events.
 */
static void
check_projection(const PlatProjection *projection)
{
	PlatUserFunction apply = plat_function_find(projection->apply.signature);

	plat_event_check_sight(projection, apply.owner);
	if (projection->is_inline && projection->is_paused)
		plat_refuse_value("an inline projection cannot be paused",
						  "The events that are appended meanwhile would be lost to it.");
}

/*
 * Check the tables that a projection is to fill when it is rebuilt, which
 * empties them by the rights of the owner of its function: tables of users
 * (42809) that this role owns (42501).
 */
static void
check_read_models(FunctionCallInfo fcinfo, Oid owner)
{
	Datum	   *tables;
	int			ntables;

	if (PG_ARGISNULL(7))
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(7), REGCLASSOID, sizeof(Oid), true,
					  TYPALIGN_INT, &tables, NULL, &ntables);
	for (int i = 0; i < ntables; i++)
	{
		Oid			table = DatumGetObjectId(tables[i]);
		char		kind = get_rel_relkind(table);

		if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) ||
			IsCatalogNamespace(get_rel_namespace(table)) ||
			getExtensionOfObject(RelationRelationId, table) != InvalidOid)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("a read model must be a table of your own")));
		if (!object_ownercheck(RelationRelationId, table, owner))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("role \"%s\" must own read model \"%s\"",
							GetUserNameFromId(owner, false), get_rel_name(table)),
					 errdetail("It owns the function that fills it.")));
	}
}

/*
 * The text to store for the function argument; NULL for SQL NULL.
 */
static Datum
apply_arg(FunctionCallInfo fcinfo, bool *isnull)
{
	static const Oid types[] = {INT8OID, INT8OID};

	*isnull = PG_ARGISNULL(1);
	return *isnull ? (Datum) 0 :
		CStringGetTextDatum(plat_function_check(PG_GETARG_OID(1), 2, types,
												"a function (first bigint, last bigint)",
												true));
}

/*
 * Apply to a projection all there is, in this transaction, with the log
 * locked against appends.  55000 if it does not come to the end.
 */
static void
catch_up(const char *name)
{
	int64		mark = plat_event_mark(0);
	PlatRun		run = {.is_behind = true};

	while (run.is_behind)
	{
		memset(&run, 0, sizeof(run));
		if (!plat_event_run_once(name, mark, true, &run))
			break;
	}
	if (run.position < mark)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" cannot be brought up to date", plat_clip(name)),
				 run.error ? errdetail("%s", run.error) :
				 errdetail("It is paused or has stopped, or another session is at it.")));
}

/*
 * Write the mode of a projection and how far it is.
 */
static void
store_mode(const char *name, const char *mode)
{
	Oid			types[] = {TEXTOID, TEXTOID, INT8OID};
	Datum		values[] = {CStringGetTextDatum(name), CStringGetTextDatum(mode),
	Int64GetDatum(plat_event_mark(0))};

	(void) plat_sql_as_owner("projections",
							 "UPDATE platpat.projections SET mode = $2 WHERE projection = $1",
							 2, types, values, NULL);
	(void) plat_sql_as_owner("projection_positions",
							 "UPDATE platpat.projection_positions SET position = $3 WHERE projection = $1",
							 3, types, values, NULL);
}

/*
 * Have a projection be of another mode from now on, with nothing applied
 * twice or not at all: no append runs meanwhile.
 */
static void
change_mode(const PlatProjection *projection, bool to_inline)
{
	LockRelationOid(plat_our_table("events"), ShareRowExclusiveLock);
	if (to_inline)
		catch_up(projection->name);
	store_mode(projection->name, to_inline ? "inline" : "async");
}

/*
 * Whether an argument says inline.
 */
static bool
is_inline_arg(FunctionCallInfo fcinfo)
{
	return strcmp(text_to_cstring(PG_GETARG_TEXT_PP(3)), "inline") == 0;
}

/*
 * platpat.create_projection(projection text, apply regprocedure, types text[],
 * mode text, per_tenant boolean, batch_size int, on_error text, read_models
 * regclass[]) returns void: VOLATILE, for administrators.
 *
 * An inline one is brought up to date at once, while appends wait.  Raises
 * 22004, 22023, 42501, 42710, 42809, 42883, 55000.
 */
Datum
plat_event_create_projection(PG_FUNCTION_ARGS)
{
	static const char *const whats[] = {"projection", "apply", "types", "mode",
	"per_tenant", "batch_size", "on_error", "read_models"};
	char	   *name = name_arg(fcinfo);
	Oid			types[] = {TEXTOID, TEXTOID, TEXTARRAYOID, BOOLOID, INT4OID, TEXTOID, REGCLASSARRAYOID};
	Datum		values[7];
	char		nulls[] = "       ";
	bool		isnull;

	for (int i = 1; i < lengthof(whats); i++)
		if (i != 2)
			plat_refuse_null(fcinfo, i, whats[i]);
	check_arguments(fcinfo);
	values[0] = CStringGetTextDatum(name);
	values[1] = apply_arg(fcinfo, &isnull);
	check_read_models(fcinfo, plat_function_find(TextDatumGetCString(values[1])).owner);
	values[2] = PG_GETARG_DATUM(2);
	nulls[2] = PG_ARGISNULL(2) ? 'n' : ' ';
	for (int i = 4; i < 8; i++)
		values[i - 1] = PG_GETARG_DATUM(i);
	SPI_connect();
	if (plat_sql_as_owner("projections",
						  "INSERT INTO platpat.projections VALUES"
						  " ($1, $2, nullif($3, '{}'), 'async', $4, $5, $6, " NAMES_OF_TABLES ") ON CONFLICT DO NOTHING",
						  7, types, values, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("projection \"%s\" already exists", plat_clip(name))));
	check_projection(plat_event_get_projection(name, false));
	(void) plat_sql_as_owner("projection_positions",
							 "INSERT INTO platpat.projection_positions VALUES ($1, 0)",
							 1, types, values, NULL);
	if (is_inline_arg(fcinfo))
		change_mode(plat_event_get_projection(name, false), true);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * platpat.alter_projection(projection text, ...) returns void: VOLATILE, for
 * administrators.
 *
 * What has been applied stays: another function or other types count from
 * here on.  Raises 22004, 22023, 42501, 42704, 42809, 42883, 55000.
 */
Datum
plat_event_alter_projection(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	Oid			types[] = {TEXTOID, TEXTOID, TEXTARRAYOID, BOOLOID, INT4OID, TEXTOID, REGCLASSARRAYOID, BOOLOID};
	Datum		values[8];
	char		nulls[] = "        ";
	bool		isnull;
	PlatProjection *before;

	check_arguments(fcinfo);
	values[0] = CStringGetTextDatum(name);
	values[1] = apply_arg(fcinfo, &isnull);
	nulls[1] = isnull ? 'n' : ' ';
	for (int i = 2; i < 9; i++)
	{
		/* mode is not written here, and so has no place */
		int			place = i < 3 ? i : i - 1;

		if (i == 3)
			continue;
		values[place] = PG_GETARG_DATUM(i);
		nulls[place] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	SPI_connect();
	before = plat_event_get_projection(name, false);
	if (!PG_ARGISNULL(1) || !PG_ARGISNULL(4) || !PG_ARGISNULL(7))
		plat_function_check_owner(before->apply.signature, "projection");
	check_read_models(fcinfo, isnull ? plat_function_find(before->apply.signature).owner :
					  plat_function_find(TextDatumGetCString(values[1])).owner);
	(void) plat_sql_as_owner("projections",
							 "UPDATE platpat.projections SET apply = coalesce($2, apply),"
							 " types = nullif(coalesce($3, types), '{}'),"
							 " per_tenant = coalesce($4, per_tenant),"
							 " batch_size = coalesce($5, batch_size),"
							 " on_error = coalesce($6, on_error),"
							 " read_models = CASE WHEN $7 IS NULL THEN read_models ELSE " NAMES_OF_TABLES " END,"
							 " paused = coalesce($8, paused) WHERE projection = $1",
							 8, types, values, nulls);
	check_projection(plat_event_get_projection(name, false));
	(void) plat_sql_as_owner("projection_positions",
							 "UPDATE platpat.projection_positions SET stopped = false,"
							 " failures = 0, next_attempt = NULL WHERE projection = $1",
							 1, types, values, NULL);
	if (!PG_ARGISNULL(3) && is_inline_arg(fcinfo) != before->is_inline)
		change_mode(before, is_inline_arg(fcinfo));
	check_projection(plat_event_get_projection(name, false));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * platpat.drop_projection(projection text) returns void: VOLATILE, for
 * administrators. Waits for a batch that is being applied. Raises 22004 and
 * 42704.
 */
Datum
plat_event_drop_projection(PG_FUNCTION_ARGS)
{
	char	   *name = name_arg(fcinfo);
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	SPI_connect();
	(void) plat_sql_as_owner("projection_positions",
							 "DELETE FROM platpat.projection_positions WHERE projection = $1",
							 1, types, values, NULL);
	(void) plat_sql_as_owner("dead_events",
							 "DELETE FROM platpat.dead_events WHERE projection = $1",
							 1, types, values, NULL);
	if (plat_sql_as_owner("projections",
						  "DELETE FROM platpat.projections WHERE projection = $1",
						  1, types, values, NULL) == 0)
		plat_event_no_projection(name);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * AFTER statement trigger of platpat.projections: sessions read them anew, and
 * the worker has a look.
 */
Datum
plat_event_projections_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);

	CacheInvalidateRelcache(trigger->tg_relation);
	plat_worker_wake_at_commit(NULL);
	return PointerGetDatum(NULL);
}
