/*
 * event_run.c
 *		Running projections: batches, and what fails in them.
 *
 * A batch is applied in the transaction that moves the projection's position
 * on, so that both happen or neither does, whatever is killed when.  The row
 * with the position is also what makes sure that only one session works at a
 * projection: who does not get its lock leaves it alone.
 *
 * What fails is found by halving the batch, each part in a subtransaction of
 * its own.  An event that fails alone is parked or stops the projection; see
 * retry_core.c for what counts as an event's own failure.  A failure that is
 * not one undoes the batch, and the projection is tried again later.
 *
 * The function of a projection runs as its owner, in a restricted security
 * context, with nothing on its search_path but its own schema.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "attempt.h"
#include "compat.h"
#include "event.h"
#include "retry_core.h"
#include "sql.h"
#include "tenant.h"
#include "worker.h"

/*
 * Positions that one search for a batch looks at: of a type that is rare it
 * may find nothing in them.
 */
#define SEARCH 100000

PG_FUNCTION_INFO_V1(plat_event_run_projections);
PG_FUNCTION_INFO_V1(plat_event_replay_dead);
PG_FUNCTION_INFO_V1(plat_event_discard_dead);

/* A projection at work on a batch. */
typedef struct Work
{
	PlatProjection *projection;
	int64		parked;
	int64		stopped_at;		/* the event that failed, if it is to stop */
	ErrorData  *error;			/* the last one */
} Work;

/* What a part of a batch has come to. */
typedef enum Outcome
{
	APPLIED,					/* or parked */
	STOPPED,					/* at stopped_at */
	FAILED						/* not for an event */
} Outcome;

/*
 * Call the function of a projection for a range of positions, as its owner.
 * tenant is whose context it gets; NULL leaves that as it is.
 */
void
plat_event_call_apply(const PlatUserFunction *apply, const char *search_path,
					  const char *tenant, int64 first, int64 last)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo	function;
	PlatTenantScope tenant_scope;
	PlatFunctionScope scope;

	plat_function_enter(apply, search_path, &scope);
	if (tenant)
		plat_tenant_enter(tenant, &tenant_scope);
	PushActiveSnapshot(GetTransactionSnapshot());
	fmgr_info(apply->oid, &function);
	InitFunctionCallInfoData(*fcinfo, &function, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = Int64GetDatum(first);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = Int64GetDatum(last);
	fcinfo->args[1].isnull = false;
	(void) FunctionCallInvoke(fcinfo);
	PopActiveSnapshot();
	CommandCounterIncrement();
	if (tenant)
		plat_tenant_leave(&tenant_scope);
	plat_function_leave(&scope);
}

/* A range to apply, for plat_attempt(). */
typedef struct Range
{
	const PlatProjection *projection;
	const char *tenant;
	int64		first;
	int64		last;
} Range;

/*
 * Find the function of a projection and call it for a range.
 */
static void
apply_as_owner(void *arg)
{
	const Range *range = arg;
	PlatUserFunction apply = plat_function_find(range->projection->apply.signature);

	plat_event_check_sight(range->projection, apply.owner);
	plat_event_call_apply(&apply, apply.search_path, range->tenant,
						  range->first, range->last);
}

/*
 * Find the function and call it in a subtransaction; returns NULL, or the
 * error that it came to, after all was undone.  Being canceled is the event's
 * fault only if it has taken too long.
 */
static ErrorData *
try_apply(const Work *work, const char *tenant, int64 first, int64 last)
{
	Range		range = {work->projection, tenant, first, last};
	PlatTenantScope scope;
	ErrorData  *error;

	plat_tenant_note(&scope);
	error = plat_attempt(apply_as_owner, &range);
	if (error)
		plat_tenant_leave(&scope);
	plat_heed_cancel(error);
	return error;
}

/*
 * Parameters for the statements about a range: first, last, types, tenant, a
 * limit, and whether events of nobody count.
 */
static const Oid range_types[] = {INT8OID, INT8OID, TEXTARRAYOID, TEXTOID,
INT4OID, BOOLOID};

#define IN_RANGE \
	" FROM platpat.events WHERE position >= $1 AND position <= $2" \
	" AND ($3 IS NULL OR type = ANY ($3)) AND ($4 IS NULL OR tenant = $4)" \
	" AND ($6 OR tenant IS NOT NULL)"

static uint64
query_range(const PlatProjection *projection, const char *command,
			const char *tenant, int64 first, int64 last, int32 limit)
{
	Datum		values[] = {Int64GetDatum(first), Int64GetDatum(last),
		projection->types, tenant ? CStringGetTextDatum(tenant) : (Datum) 0,
	Int32GetDatum(limit), BoolGetDatum(!projection->is_per_tenant)};
	char		nulls[] = {' ', ' ', projection->has_types ? ' ' : 'n',
	tenant ? ' ' : 'n', ' ', ' ', '\0'};
	int			level = NewGUCNestLevel();
	uint64		rows;

	/* Each partition has an index in this order, whatever its statistics say. */
	(void) set_config_option("enable_sort", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	rows = plat_sql_as_owner("events", command, lengthof(range_types), (Oid *) range_types, values, nulls);
	AtEOXact_GUC(false, level);
	return rows;
}

/*
 * The value of a column of type bigint, in the first row; 0 for NULL.
 */
static int64
number(int column)
{
	char	   *text = plat_sql_value(0, column);

	return text ? pg_strtoint64(text) : 0;
}

/*
 * Put an event aside that has failed by itself.
 */
static void
park(Work *work, int64 position)
{
	Oid			types[] = {TEXTOID, INT8OID, TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(work->projection->name),
		Int64GetDatum(position),
		CStringGetTextDatum(unpack_sql_state(work->error->sqlerrcode)),
	CStringGetTextDatum(work->error->message)};

	(void) plat_sql_as_owner("dead_events",
							 "INSERT INTO platpat.dead_events"
							 " (projection, position, tenant, sqlstate, error)"
							 " SELECT $1, $2, e.tenant, $3, $4 FROM platpat.events e"
							 " WHERE e.position = $2"
							 " ON CONFLICT (projection, position) DO UPDATE"
							 " SET sqlstate = excluded.sqlstate, error = excluded.error,"
							 " attempts = dead_events.attempts + 1, failed_at = excluded.failed_at",
							 4, types, values, NULL);
	work->parked++;
}

/*
 * Apply a range of positions, of which it is known that there are events in
 * it; halve it until the events that fail are alone.  tenant is whose context
 * that happens in, NULL for nobody's.
 */
static Outcome
apply_range(Work *work, const char *tenant, int64 first, int64 last)
{
	ErrorData  *error = try_apply(work, tenant, first, last);
	int64		middle;
	Outcome		outcome;

	if (error == NULL)
		return APPLIED;
	work->error = error;
	if (plat_retry_blame(error->sqlerrcode) != PLAT_BLAME_ITEM)
		return FAILED;
	(void) query_range(work->projection,
					   "SELECT count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY position)"
					   IN_RANGE, tenant, first, last, 0);
	middle = number(2);
	if (number(1) == 0)
		return FAILED;
	if (number(1) > 1)
	{
		outcome = apply_range(work, tenant, first, middle);
		return outcome == APPLIED ?
			apply_range(work, tenant, middle + 1, last) : outcome;
	}
	if (work->projection->is_parking)
	{
		park(work, middle);
		return APPLIED;
	}
	work->stopped_at = middle;
	return STOPPED;
}

/*
 * The tenants that have events in a range, as strings.
 */
static List *
list_tenants(const PlatProjection *projection, int64 first, int64 last)
{
	List	   *tenants = NIL;
	uint64		rows = query_range(projection, "SELECT DISTINCT tenant" IN_RANGE
								   " ORDER BY tenant",
								   NULL, first, last, 0);

	for (uint64 i = 0; i < rows; i++)
		tenants = lappend(tenants, plat_sql_value(i, 1));
	return tenants;
}

/*
 * Apply a range for everybody.
 */
static Outcome
apply_to_all(Work *work, int64 first, int64 last)
{
	ListCell   *cell;

	if (!work->projection->is_per_tenant)
		return apply_range(work, NULL, first, last);
	foreach(cell, list_tenants(work->projection, first, last))
	{
		Outcome		outcome = apply_range(work, lfirst(cell), first, last);

		if (outcome != APPLIED)
			return outcome;
	}
	return APPLIED;
}

/*
 * Apply a range as a whole, or nothing of it.
 *
 * What was applied beyond an event that stops the projection, for another
 * tenant perhaps, has to be undone and the part before it be applied again: it
 * may then stop earlier.  *last is where it has come to in the end.
 */
static Outcome
apply_or_undo(Work *work, int64 first, int64 *last)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext context = CurrentMemoryContext;
	Outcome		outcome = APPLIED;
	bool		has_stopped = false;

	while (*last >= first)
	{
		int64		parked = work->parked;

		BeginInternalSubTransaction(NULL);
		MemoryContextSwitchTo(context);
		outcome = apply_to_all(work, first, *last);
		if (outcome == APPLIED)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (outcome != STOPPED)
			break;
		work->parked = parked;
		has_stopped = true;
		*last = work->stopped_at - 1;
	}
	return outcome == APPLIED && has_stopped ? STOPPED : outcome;
}

/*
 * The position of a projection that can be run.  A time that is too far away
 * was set by a clock that was wrong.
 */
#define FIND_POSITION \
	"SELECT s.position FROM platpat.projection_positions s" \
	" JOIN platpat.projections p USING (projection)" \
	" WHERE projection = $1 AND p.mode = 'async'" \
	" AND NOT p.paused AND NOT s.stopped" \
	" AND ($2 OR s.next_attempt IS NULL OR s.next_attempt <= clock_timestamp()" \
	"  OR s.next_attempt > clock_timestamp() + interval '10 minutes')"

/*
 * Lock a projection that can be run, and return its position; -1 if it cannot
 * be now, and whether that is because another session is at it.  What failed
 * before waits for its time, unless it is forced.
 */
static int64
lock_position(const char *name, bool force, bool *is_busy)
{
	Oid			types[] = {TEXTOID, BOOLOID};
	Datum		values[] = {CStringGetTextDatum(name), BoolGetDatum(force)};

	*is_busy = false;
	if (plat_sql_as_owner("projection_positions",
						  FIND_POSITION " FOR UPDATE OF s SKIP LOCKED",
						  2, types, values, NULL) > 0)
		return number(1);
	*is_busy = plat_sql_as_owner("projection_positions", FIND_POSITION,
								 2, types, values, NULL) > 0;
	return -1;
}

/*
 * Wait until nobody is at a projection, and keep it from being run until the
 * end of the transaction.
 */
void
plat_event_lock_projection(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	(void) plat_sql_as_owner("projection_positions",
							 "SELECT FROM platpat.projection_positions WHERE projection = $1 FOR UPDATE",
							 1, types, values, NULL);
}

/*
 * Note how far a projection has come.
 */
static void
store_progress(const Work *work, const PlatRun *run, bool has_stopped)
{
	Oid			types[] = {TEXTOID, INT8OID, INT8OID, BOOLOID, TEXTOID, TEXTOID};
	const ErrorData *error = has_stopped ? work->error : NULL;
	Datum		values[] = {CStringGetTextDatum(work->projection->name),
		Int64GetDatum(run->position), Int64GetDatum(run->applied),
		BoolGetDatum(has_stopped),
		error ? CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)) : (Datum) 0,
	error ? CStringGetTextDatum(error->message) : (Datum) 0};

	(void) plat_sql_as_owner("projection_positions",
							 "UPDATE platpat.projection_positions SET position = $2,"
							 " applied = applied + $3,"
							 " applied_at = CASE WHEN $3 > 0 THEN clock_timestamp() ELSE applied_at END,"
							 " stopped = $4, failures = 0, next_attempt = NULL,"
							 " sqlstate = coalesce($5, sqlstate), error = coalesce($6, error),"
							 " failed_at = CASE WHEN $5 IS NULL THEN failed_at ELSE clock_timestamp() END"
							 " WHERE projection = $1",
							 6, types, values, error ? NULL : "    nn");
	plat_event_tell_waiting();
}

/*
 * Note that a projection has failed, and when it is tried again.
 */
void
plat_event_store_failure(const char *name, const ErrorData *error)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, INT8OID};
	Datum		values[4] = {CStringGetTextDatum(name),
		CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
	CStringGetTextDatum(error->message)};

	(void) plat_sql_as_owner("projection_positions",
							 "UPDATE platpat.projection_positions SET failures = failures + 1,"
							 " sqlstate = $2, error = $3, failed_at = clock_timestamp()"
							 " WHERE projection = $1 RETURNING failures",
							 3, types, values, NULL);
	values[3] = Int64GetDatum(plat_retry_backoff((int) number(1),
												 pg_prng_double(&pg_global_prng_state)));
	(void) plat_sql_as_owner("projection_positions",
							 "UPDATE platpat.projection_positions SET next_attempt ="
							 " clock_timestamp() + $4 * interval '1 microsecond'"
							 " WHERE projection = $1",
							 4, types, values, NULL);
	plat_event_tell_waiting();
}

/*
 * Find the next batch after a position, at or below another: returns how many
 * events it has, and its last position.  tenant is whose events count, NULL
 * for all that the projection wants.
 */
static int64
find_batch(const PlatProjection *projection, const char *tenant, int64 after,
		   int64 mark, int64 *last)
{
	int64		count;

	(void) query_range(projection, "SELECT count(*), max(position) FROM"
					   " (SELECT position" IN_RANGE " ORDER BY position LIMIT $5) b",
					   tenant, after + 1, mark, projection->batch_size);
	count = number(1);
	*last = count < projection->batch_size ? mark : number(2);
	return count;
}

/*
 * Apply the next batch of a projection, in this transaction; SPI is
 * connected.  Returns whether it was this session's turn, and in *run, which
 * is zero at first, what it came to.
 */
bool
plat_event_run_once(const char *name, int64 mark, bool force, PlatRun *run)
{
	Work		work = {0};
	Outcome		outcome = APPLIED;
	int64		position = lock_position(name, force, &run->is_busy);
	int64		count;
	int64		end;
	int64		last;

	run->position = position;
	work.projection = position < 0 ? NULL : plat_event_get_projection(name, true);
	/* It may have been changed while its row was looked for. */
	if (work.projection == NULL || work.projection->is_paused ||
		work.projection->is_inline)
		return false;
	if (position >= mark)
		return true;
	end = Min(mark, position + SEARCH);
	count = find_batch(work.projection, NULL, position, end, &last);
	if (count > 0)
		outcome = apply_or_undo(&work, position + 1, &last);
	if (work.error && outcome != APPLIED)
		run->error = work.error->message;
	if (outcome == FAILED)
	{
		plat_event_store_failure(name, work.error);
		return true;
	}
	if (outcome == STOPPED)
		count = find_batch(work.projection, NULL, position, last, &end);
	run->position = last;
	run->parked = work.parked;
	run->applied = count - work.parked;
	run->is_behind = outcome == APPLIED && last < mark;
	store_progress(&work, run, outcome == STOPPED);
	return true;
}

/*
 * Apply all events after a position to a projection, up to last, for a
 * tenant's events alone if that is not NULL; the function finds its tables by
 * search_path.  An event that fails is an error.  Returns how many were
 * applied.
 */
int64
plat_event_replay(PlatProjection *projection, const char *search_path,
				  const char *tenant, int64 after, int64 last)
{
	PlatUserFunction apply = plat_function_find(projection->apply.signature);
	int64		applied = 0;

	while (after < last)
	{
		int64		end;
		int64		count = find_batch(projection, tenant, after, last, &end);

		if (count > 0)
			plat_event_call_apply(&apply, search_path, tenant, after + 1, end);
		applied += count;
		after = end;
		CHECK_FOR_INTERRUPTS();
	}
	return applied;
}

/*
 * The names of the projections to run, in a memory context: of one, or of all
 * that are async.
 */
List *
plat_event_list_projections(const char *only, MemoryContext context)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {only ? CStringGetTextDatum(only) : (Datum) 0};
	uint64		rows = plat_sql_as_owner("projections",
										 "SELECT projection FROM platpat.projections"
										 " WHERE mode = 'async' AND ($1 IS NULL OR projection = $1)"
										 " ORDER BY projection",
										 1, types, values, only ? NULL : "n");
	List	   *names = NIL;

	context = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < rows; i++)
		names = lappend(names, plat_sql_value(i, 1));
	MemoryContextSwitchTo(context);
	return names;
}

/*
 * Run a projection up to the mark, and add a row to the result.
 */
static void
run_to_mark(FunctionCallInfo fcinfo, const char *name, int64 mark)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PlatRun		total = {.is_behind = true};
	Datum		values[4];
	bool		nulls[4] = {false};

	while (total.is_behind)
	{
		PlatRun		run = {0};

		if (!plat_event_run_once(name, mark, true, &run))
			return;
		total.position = run.position;
		total.applied += run.applied;
		total.parked += run.parked;
		total.is_behind = run.is_behind;
		if (run.error)
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("projection \"%s\" does not go on after position " INT64_FORMAT,
							name, run.position),
					 errdetail("%s", run.error)));
	}
	values[0] = CStringGetTextDatum(name);
	values[1] = Int64GetDatum(total.position);
	values[2] = Int64GetDatum(total.applied);
	values[3] = Int64GetDatum(total.parked);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * platpat.run_projections(projection text) returns table (name text, up_to
 * bigint, applied bigint, parked bigint): VOLATILE, for administrators.
 *
 * What the worker does, in this transaction: applies everything to one
 * projection, or with NULL to all that are async.  One that another session is
 * at, that is paused or has stopped has no row.  Raises 0A000, 25006, 42704.
 */
Datum
plat_event_run_projections(PG_FUNCTION_ARGS)
{
	char	   *only = PG_ARGISNULL(0) ? NULL : plat_event_name(fcinfo, 0, "projection");
	List	   *names;
	ListCell   *cell;
	int64		mark;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	if (only)
		(void) plat_event_get_projection(only, false);
	names = plat_event_list_projections(only, CurrentMemoryContext);
	mark = plat_event_mark(PLAT_EVENT_PATIENCE);
	foreach(cell, names)
		run_to_mark(fcinfo, lfirst(cell), mark);
	SPI_finish();
	return (Datum) 0;
}

/*
 * The dead event that the arguments name, locked; its tenant, or NULL. 42704
 * if there is none.
 */
static char *
dead_event_arg(FunctionCallInfo fcinfo, const char *name)
{
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[] = {CStringGetTextDatum(name), PG_GETARG_DATUM(1)};

	if (plat_sql_as_owner("dead_events",
						  "SELECT tenant FROM platpat.dead_events"
						  " WHERE projection = $1 AND position = $2 FOR UPDATE",
						  2, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("projection \"%s\" has no dead event at position " INT64_FORMAT,
						plat_clip(name), PG_GETARG_INT64(1))));
	return plat_sql_value(0, 1);
}

/*
 * Take an event off those that were put aside.
 */
static void
forget_dead(const char *name, int64 position)
{
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[] = {CStringGetTextDatum(name), Int64GetDatum(position)};

	(void) plat_sql_as_owner("dead_events",
							 "DELETE FROM platpat.dead_events"
							 " WHERE projection = $1 AND position = $2",
							 2, types, values, NULL);
}

/*
 * platpat.replay_dead_event(projection text, event_position bigint) returns boolean:
 * VOLATILE, for administrators.
 *
 * Applies an event that was put aside, now, after later ones; if it fails
 * again it stays where it is, with the new error.  Raises 22004, 42704, and
 * 55000 if the event itself is gone.
 */
Datum
plat_event_replay_dead(PG_FUNCTION_ARGS)
{
	char	   *name = plat_event_name(fcinfo, 0, "projection");
	Work		work = {0};
	char	   *tenant;
	int64		position;

	plat_refuse_null(fcinfo, 1, "event_position");
	position = PG_GETARG_INT64(1);
	SPI_connect();
	plat_event_lock_projection(name);
	work.projection = plat_event_get_projection(name, false);
	tenant = dead_event_arg(fcinfo, name);
	if (!work.projection->is_per_tenant)
		tenant = NULL;
	if (query_range(work.projection, "SELECT" IN_RANGE, NULL, position, position, 0) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no event at position " INT64_FORMAT " any more", position),
				 errhint("platpat.discard_dead_event(projection, event_position) gives it up.")));
	work.error = try_apply(&work, tenant, position, position);
	if (work.error)
		park(&work, position);
	else
		forget_dead(name, position);
	SPI_finish();
	PG_RETURN_BOOL(work.error == NULL);
}

/*
 * platpat.discard_dead_event(projection text, event_position bigint) returns void:
 * VOLATILE, for administrators. Raises 22004 and 42704.
 */
Datum
plat_event_discard_dead(PG_FUNCTION_ARGS)
{
	char	   *name = plat_event_name(fcinfo, 0, "projection");

	plat_refuse_null(fcinfo, 1, "event_position");
	SPI_connect();
	(void) dead_event_arg(fcinfo, name);
	forget_dead(name, PG_GETARG_INT64(1));
	SPI_finish();
	PG_RETURN_VOID();
}
