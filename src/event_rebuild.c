/*
 * event_rebuild.c
 *		Filling the read models of a projection anew.
 *
 * The function of the projection is run over all events, but finds temporary
 * tables in the place of its read models, because they come first on the
 * search_path; then the rows of these replace those of the read models.  All
 * that is one transaction: whoever reads meanwhile sees the old rows, and
 * waits for nothing.
 *
 * Everything is done as the owner of the function and so by its rights, under
 * the context of each tenant if the projection is of that kind.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/varlena.h"

#include "compat.h"
#include "event.h"
#include "sql.h"
#include "tenant.h"

PG_FUNCTION_INFO_V1(plat_event_rebuild_projection);

/* A projection that is rebuilt. */
typedef struct Rebuild
{
	PlatProjection *projection;
	Oid		   *tables;			/* the read models */
	Oid			owner;
	char	   *search_path;	/* with the temporary tables in front */
	bool		is_divided;		/* read models, by policies */
	bool		has_swapped;	/* some rows already */
	int64		applied;
} Rebuild;

/* What is done to a read model and to its temporary table, the shadow. */
typedef enum Step
{
	MAKE_SHADOW,
	DELETE_ROWS,
	INSERT_ROWS,
	EMPTY_SHADOW
} Step;

/*
 * The columns of a table that can be written, as a list of SQL.
 */
static char *
columns_of(Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};

	(void) plat_sql_query("SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)"
						  " FROM pg_attribute WHERE attrelid = $1 AND attnum > 0"
						  " AND NOT attisdropped AND attgenerated = ''",
						  1, types, values, NULL);
	return plat_sql_value(0, 1);
}

/*
 * The command of a step.
 */
static char *
command_of(Step step, Oid table)
{
	const char *name = quote_identifier(get_rel_name(table));
	const char *live = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
												  get_rel_name(table));
	const char *columns;

	switch (step)
	{
		case MAKE_SHADOW:
			return psprintf("CREATE TEMPORARY TABLE %s (LIKE %s INCLUDING ALL) ON COMMIT DROP",
							name, live);
		case DELETE_ROWS:
			return psprintf("DELETE FROM %s", live);
		case INSERT_ROWS:
			columns = columns_of(table);
			return psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM pg_temp.%s",
							live, columns, columns, name);
		case EMPTY_SHADOW:
			return psprintf("TRUNCATE pg_temp.%s", name);
	}
	return NULL;
}

/*
 * Do a step with each read model, as the owner of the function, and under the
 * context of a tenant unless that is NULL.
 */
static void
take_step(const Rebuild *rebuild, Step step, const char *tenant)
{
	const PlatProjection *projection = rebuild->projection;
	PlatTenantScope scope;
	int			level = NewGUCNestLevel();
	Oid			user;
	int			context;

	if (tenant)
		plat_tenant_enter(tenant, &scope);
	for (int i = 0; i < projection->nread_models; i++)
	{
		char	   *command = command_of(step, rebuild->tables[i]);

		GetUserIdAndSecContext(&user, &context);
		SetUserIdAndSecContext(rebuild->owner, context | SECURITY_LOCAL_USERID_CHANGE |
							   (step == MAKE_SHADOW ? 0 : SECURITY_RESTRICTED_OPERATION));
		plat_sql_run(command);
		SetUserIdAndSecContext(user, context);
	}
	if (tenant)
		plat_tenant_leave(&scope);
	AtEOXact_GUC(false, level);
}

/*
 * Replace the rows of the read models by those of the shadows.
 */
static void
swap(Rebuild *rebuild, const char *tenant)
{
	take_step(rebuild, DELETE_ROWS, tenant);
	take_step(rebuild, INSERT_ROWS, tenant);
	rebuild->has_swapped = true;
}

/*
 * Refuse, with 55000, a projection whose function has written to a read model
 * itself: it names the schema, or was bound to the table when it was made.
 * Whoever writes a table has a lock on it to the end of the transaction.
 */
static void
check_untouched(const Rebuild *rebuild)
{
	const PlatProjection *projection = rebuild->projection;

	for (int i = 0; i < projection->nread_models; i++)
		if (plat_locks_relation(rebuild->tables[i], RowExclusiveLock))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cannot rebuild read model \"%s\" beside the one in use",
							get_rel_name(rebuild->tables[i])),
					 errdetail("This transaction has written to it: function %s does not find it by search_path, or something before did.",
							   projection->apply.signature),
					 errhint("Let the function name it without a schema, have the function in the same schema, and do not give it a search_path.")));
}

/*
 * Apply the events after a position up to another to the shadows.
 */
static void
replay(Rebuild *rebuild, const char *tenant, int64 after, int64 last)
{
	rebuild->applied += plat_event_replay(rebuild->projection, rebuild->search_path,
										  tenant, after, last);
	if (!rebuild->has_swapped)
		check_untouched(rebuild);
}

/*
 * Whether policies keep the owner of the function to one tenant in the read
 * models; 55000 if they do in some.
 */
static bool
are_divided(const Rebuild *rebuild)
{
	const PlatProjection *projection = rebuild->projection;
	int			divided = 0;

	for (int i = 0; i < projection->nread_models; i++)
		divided += check_enable_rls(rebuild->tables[i], rebuild->owner,
									true) == RLS_ENABLED;
	if (divided > 0 && divided < projection->nread_models)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot rebuild read models of which only some have policies")));
	return divided > 0;
}

/*
 * Rebuild tenant by tenant.  Where policies divide the read models each
 * tenant's rows are replaced under its context, otherwise all at the end.
 */
static void
rebuild_tenants(Rebuild *rebuild, int64 mark)
{
	uint64		rows = plat_sql_as_owner("events", "SELECT DISTINCT tenant FROM platpat.events"
										 " WHERE tenant IS NOT NULL ORDER BY tenant",
										 0, NULL, NULL, NULL);
	char	  **tenants = palloc(sizeof(char *) * Max(rows, 1));

	for (uint64 i = 0; i < rows; i++)
		tenants[i] = plat_sql_value(i, 1);
	for (uint64 i = 0; i < rows; i++)
	{
		replay(rebuild, tenants[i], 0, mark);
		if (!rebuild->is_divided)
			continue;
		swap(rebuild, tenants[i]);
		take_step(rebuild, EMPTY_SHADOW, NULL);
	}
	if (!rebuild->is_divided)
		swap(rebuild, NULL);
}

/*
 * Rebuild for everybody at once. Returns the mark that it has come to: an
 * inline projection is brought to the end while appends wait.
 */
static int64
rebuild_all(Rebuild *rebuild, int64 mark)
{
	int64		end = mark;

	replay(rebuild, NULL, 0, mark);
	if (rebuild->projection->is_inline)
	{
		LockRelationOid(plat_our_table("events"), ShareRowExclusiveLock);
		end = plat_event_mark(0);
		replay(rebuild, NULL, mark, end);
	}
	swap(rebuild, NULL);
	return end;
}

/*
 * Find the read models and keep them from being dropped: 42P01 for one that is
 * gone, 42501 for one that the owner of the function does not own any more.
 */
static void
find_tables(Rebuild *rebuild)
{
	const PlatProjection *projection = rebuild->projection;

	rebuild->tables = palloc(sizeof(Oid) * projection->nread_models);
	for (int i = 0; i < projection->nread_models; i++)
	{
		RangeVar   *name = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(projection->read_models[i])));

		rebuild->tables[i] = RangeVarGetRelid(name, AccessShareLock, false);
		if (!object_ownercheck(RelationRelationId, rebuild->tables[i], rebuild->owner))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("role \"%s\" must own read model \"%s\"",
							GetUserNameFromId(rebuild->owner, false),
							projection->read_models[i]),
					 errdetail("It owns the function that fills it.")));
	}
}

/*
 * Lock the projection against runs, and note what there is to know of it.
 */
static void
begin_rebuild(Rebuild *rebuild, const char *name, bool partial)
{
	PlatUserFunction apply;

	plat_event_lock_projection(name);
	rebuild->projection = plat_event_get_projection(name, false);
	if (rebuild->projection->nread_models == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" has no read models", plat_clip(name)),
				 errhint("Name its tables with platpat.alter_projection(projection, read_models => ...).")));
	if (!partial && plat_sql_as_owner("event_drops", "SELECT FROM platpat.event_drops LIMIT 1",
									  0, NULL, NULL, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the first events are no longer there"),
				 errdetail("Table platpat.event_drops lists the partitions that were dropped."),
				 errhint("Use partial => true if the later ones are enough.")));
	plat_function_check_owner(rebuild->projection->apply.signature, "projection");
	apply = plat_function_find(rebuild->projection->apply.signature);
	rebuild->owner = apply.owner;
	find_tables(rebuild);
	rebuild->search_path = psprintf("pg_temp, %s", apply.search_path);
	rebuild->is_divided = are_divided(rebuild);
	check_untouched(rebuild);
}

/*
 * Note how far the projection is now. What it had put aside is applied.
 */
static void
end_rebuild(const Rebuild *rebuild, int64 mark)
{
	Oid			types[] = {TEXTOID, INT8OID, INT8OID};
	Datum		values[] = {CStringGetTextDatum(rebuild->projection->name),
	Int64GetDatum(mark), Int64GetDatum(rebuild->applied)};

	(void) plat_sql_as_owner("dead_events",
							 "DELETE FROM platpat.dead_events WHERE projection = $1",
							 1, types, values, NULL);
	(void) plat_sql_as_owner("projection_positions",
							 "UPDATE platpat.projection_positions SET position = $2, applied = $3,"
							 " applied_at = clock_timestamp(), stopped = false, failures = 0,"
							 " next_attempt = NULL, sqlstate = NULL, error = NULL, failed_at = NULL"
							 " WHERE projection = $1",
							 3, types, values, NULL);
	plat_event_tell_waiting();
}

/*
 * platpat.rebuild_projection(projection text, partial boolean) returns bigint:
 * VOLATILE, for administrators.
 *
 * Fills the read models anew, and returns how many events were applied.  It
 * waits for a batch that is being applied, and batches wait for it; appends
 * wait only for the end of it, and only if the projection is inline.  An event
 * that fails is an error.  Raises 0A000, 22004, 25006, 42501, 42704, 42883,
 * 55000, and what the function raises.
 */
Datum
plat_event_rebuild_projection(PG_FUNCTION_ARGS)
{
	char	   *name = plat_event_name(fcinfo, 0, "projection");
	Rebuild		rebuild = {0};
	int64		mark;

	plat_refuse_null(fcinfo, 1, "partial");
	plat_event_check_reader();
	SPI_connect();
	begin_rebuild(&rebuild, name, PG_GETARG_BOOL(1));
	if (rebuild.projection->is_per_tenant && rebuild.projection->is_inline)
		LockRelationOid(plat_our_table("events"), ShareRowExclusiveLock);
	mark = plat_event_mark(PLAT_EVENT_PATIENCE);
	take_step(&rebuild, MAKE_SHADOW, NULL);
	if (rebuild.projection->is_per_tenant)
		rebuild_tenants(&rebuild, mark);
	else
		mark = rebuild_all(&rebuild, mark);
	end_rebuild(&rebuild, mark);
	SPI_finish();
	PG_RETURN_INT64(rebuild.applied);
}
