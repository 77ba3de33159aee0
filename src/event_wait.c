/*
 * event_wait.c
 *		What readers of the log tell each other: waiting for a projection, and
 *		marks.
 *
 * Shared is one condition variable for all databases and projections, which
 * guards itself: a commit that moves a projection on wakes all who wait, and
 * they look at its position again.  They also look from time to time, which
 * has to do where there is no shared memory.
 *
 * And shared is the highest mark that a reader of each log has come to, so
 * that none knows less than another: behind a pool one connection fetches and
 * another acknowledges.  A place in the table is taken by the first reader of
 * a log and kept; its mark only grows.  Both are atomic.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "compat.h"
#include "event.h"
#include "shmem.h"
#include "sql.h"

/* Milliseconds between two looks: told of changes, and not. */
#define LOOK_MS 100
#define BLIND_LOOK_MS 5

/* Logs that have a place in the table; those of more databases do without. */
#define LOGS 64

/* The mark of a log: its database and oid, 0 for none. */
typedef struct PlatSharedMark
{
	pg_atomic_uint64 log;
	pg_atomic_uint64 mark;
} PlatSharedMark;

typedef struct PlatSharedWait
{
	ConditionVariable moved;
	PlatSharedMark marks[LOGS];
} PlatSharedWait;

static PlatSharedWait *shared = NULL;

/* Whether the commit of this transaction is to wake those who wait. */
static bool is_telling = false;

PG_FUNCTION_INFO_V1(plat_event_wait_for_projection);

Size
plat_event_wait_size(void)
{
	return sizeof(PlatSharedWait);
}

void
plat_event_wait_fill(void *part, Size size)
{
	PlatSharedWait *wait = part;

	ConditionVariableInit(&wait->moved);
	for (int i = 0; i < LOGS; i++)
	{
		pg_atomic_init_u64(&wait->marks[i].log, 0);
		pg_atomic_init_u64(&wait->marks[i].mark, 0);
	}
}

void
plat_event_wait_adopt(void *part)
{
	shared = part;
}

/*
 * The place of a log of this database; NULL when there is none.
 */
static PlatSharedMark *
find_mark(Oid log)
{
	uint64		key = (uint64) MyDatabaseId << 32 | log;

	(void) plat_shmem_attach();
	for (int i = 0; shared && i < LOGS; i++)
	{
		uint64		found = 0;

		if (pg_atomic_compare_exchange_u64(&shared->marks[i].log, &found, key) ||
			found == key)
			return &shared->marks[i];
	}
	return NULL;
}

/*
 * The highest mark that was told for a log, 0 for none.
 */
int64
plat_event_told_mark(Oid log)
{
	PlatSharedMark *place = find_mark(log);

	return place ? (int64) pg_atomic_read_u64(&place->mark) : 0;
}

/*
 * Tell others of a mark.  It must be decided for them, too.
 */
void
plat_event_tell_mark(Oid log, int64 mark)
{
	PlatSharedMark *place = find_mark(log);
	uint64		before = place ? pg_atomic_read_u64(&place->mark) : PG_UINT64_MAX;

	while (before < (uint64) mark &&
		   !pg_atomic_compare_exchange_u64(&place->mark, &before, mark))
		;
}

/*
 * Transaction callback: what was done is visible now, or undone.
 */
static void
end_transaction(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	if (is_telling && event == XACT_EVENT_COMMIT && shared)
		ConditionVariableBroadcast(&shared->moved);
	is_telling = false;
}

/*
 * Wake those who wait for a projection when this transaction commits.
 */
void
plat_event_tell_waiting(void)
{
	static bool is_registered = false;

	if (!is_registered)
		RegisterXactCallback(end_transaction, NULL);
	is_registered = true;
	is_telling = true;
}

/*
 * Whether a projection has come to a position, by what is committed now. Its
 * name is of type text.  42704 if there is none, 55000 if it has stopped
 * before and so will not come there by itself.
 */
static bool
has_come(Datum name, int64 up_to)
{
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[] = {name, Int64GetDatum(up_to)};
	char	   *state;
	bool		is_there;

	PushActiveSnapshot(GetLatestSnapshot());
	if (plat_sql_read("projections",
					  "SELECT CASE WHEN p.mode = 'inline' OR s.position >= $2 THEN 'come'"
					  "  WHEN p.paused THEN 'is paused' WHEN s.stopped THEN 'has stopped'"
					  "  ELSE 'coming' END"
					  " FROM platpat.projections p JOIN platpat.projection_positions s"
					  "  USING (projection) WHERE projection = $1",
					  2, types, values) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("projection \"%s\" does not exist",
						plat_clip(TextDatumGetCString(name)))));
	state = plat_sql_value(0, 1);
	PopActiveSnapshot();
	is_there = strcmp(state, "come") == 0;
	if (!is_there && strcmp(state, "coming") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" %s", plat_clip(TextDatumGetCString(name)), state),
				 errhint("See platpat.stat_projections; platpat.alter_projection(projection, paused => false) has it go on.")));
	SPI_freetuptable(SPI_tuptable);
	return is_there;
}

/*
 * Sleep until there is reason to look again, at most so many milliseconds.
 */
static void
sleep_until_moved(long ms)
{
	if (shared)
		(void) ConditionVariableTimedSleep(&shared->moved, Min(ms, LOOK_MS),
										   PG_WAIT_EXTENSION);
	else
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(ms, BLIND_LOOK_MS), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Wait for a projection; false when the nanoseconds are over.
 */
static bool
wait_for(Datum name, int64 up_to, double timeout)
{
	uint64		start = plat_clock();

	(void) plat_shmem_attach();
	if (shared)
		ConditionVariablePrepareToSleep(&shared->moved);
	while (!has_come(name, up_to))
	{
		double		left = timeout - (double) (plat_clock() - start);

		if (left <= 0)
		{
			ConditionVariableCancelSleep();
			return false;
		}
		sleep_until_moved((long) Min(left / 1e6 + 1, 1e6));
	}
	ConditionVariableCancelSleep();
	return true;
}

/*
 * platpat.wait_for_projection(projection text, up_to bigint, timeout interval)
 * returns boolean: VOLATILE, for PUBLIC.
 *
 * Waits until the read model has the event at a position, as append_event()
 * has returned it, for whoever looks next; false when the time is over.
 * Raises 22004, 22023, 42704, and 55000 if it will not come there: it is
 * paused or has stopped, or the caller's own transaction has yet to commit.
 */
Datum
plat_event_wait_for_projection(PG_FUNCTION_ARGS)
{
	Datum		name = CStringGetTextDatum(plat_event_name(fcinfo, 0, "projection"));
	double		timeout;
	bool		has_it;

	plat_refuse_null(fcinfo, 1, "up_to");
	plat_refuse_null(fcinfo, 2, "timeout");
	timeout = plat_interval_ns(PG_GETARG_INTERVAL_P(2));
	if (!(timeout >= 0) || timeout > (double) PLAT_MAX_INTERVAL_NS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must be between 0 and 100 years")));
	SPI_connect();
	has_it = has_come(name, PG_GETARG_INT64(1));
	if (!has_it && plat_locks_relation(plat_our_table("events"), RowExclusiveLock))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for a projection in a transaction that appends events"),
				 errhint("COMMIT first.")));
	if (!has_it)
		has_it = wait_for(name, PG_GETARG_INT64(1), timeout);
	SPI_finish();
	PG_RETURN_BOOL(has_it);
}
