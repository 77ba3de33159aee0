/*
 * event_serve.c
 *		What the worker of a database does for events: run projections, and
 *		forget old answers to commands.
 *
 * Each projection has transactions of its own, and what fails in one, or in
 * the maintenance, is noted and does not keep the others from theirs.  The
 * partitions of the log are the controller's; see event_controller.c.  Nothing
 * here is shared.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "clock.h"
#include "compat.h"
#include "event.h"
#include "sql.h"
#include "worker.h"

/* Milliseconds between two looks at what holds projections up. */
#define FIRST_LOOK_MS 1
#define LAST_LOOK_MS 1000

/* Milliseconds between two looks at a log that is being restored. */
#define RESTORE_MS 10000

/* Nanoseconds between two maintenances. */
#define MAINTENANCE (3600 * PLAT_SECOND)

/* What a round has come to. */
typedef struct Round
{
	bool		is_behind;		/* there is more to do at once */
	bool		is_held;		/* by a writer, or another session */
} Round;

/* A batch to run, or what has become of it. */
typedef struct Batch
{
	const char *name;			/* of the projection */
	Round	   *round;
	ErrorData  *error;
} Batch;

/*
 * Run one batch of a projection.
 */
static void
run_batch(void *arg)
{
	Batch	   *batch = arg;
	PlatRun		run = {0};
	int64		mark = plat_event_mark(PLAT_EVENT_PATIENCE);

	(void) plat_event_run_once(batch->name, mark, false, &run);
	batch->round->is_held |= run.is_busy || mark < plat_event_last();
	batch->round->is_behind |= run.is_behind;
}

/*
 * Note that a projection could not be run at all.
 */
static void
note_failure(void *arg)
{
	Batch	   *batch = arg;

	plat_event_store_failure(batch->name, batch->error);
}

/*
 * Run one batch of a projection; an error is noted as its own.
 */
static void
try_batch(const char *name, Round *round)
{
	Batch		batch = {name, round, NULL};
	bool		is_done;

	batch.error = plat_worker_try(run_batch, &batch, &is_done);
	if (batch.error)
		(void) plat_worker_run(note_failure, &batch);
}

/*
 * Wake the controller of the log's partitions if it sleeps although there are
 * some: a restore makes them, and a prepared transaction, and neither wakes it.
 */
static void
wake_controller(void)
{
	if (plat_sql_as_owner("events",
						  "SELECT FROM platpat.controller_states"
						  " WHERE controller = 'event_partitions' AND next_reconcile IS NULL"
						  " AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'platpat.events'::regclass)",
						  0, NULL, NULL, NULL) > 0)
		plat_worker_wake_database("event_partitions");
}

/*
 * What is to be done from time to time.
 */
static void
maintain(void *arg)
{
	(void) plat_event_forget_answers();
	wake_controller();
}

/*
 * The same, but an error is for the log of the server: nobody waits for this,
 * and it is done again in an hour.
 */
static void
try_maintenance(void)
{
	bool		is_done;
	ErrorData  *error = plat_worker_try(maintain, NULL, &is_done);

	if (error)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("the event log could not be looked after: %s", error->message)));
}

/*
 * The projections that could be run, in the current memory context; *until is
 * the milliseconds until the next look if that is not up to them.
 */
static List *
look_around(long *until)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *names = NIL;

	*until = PLAT_SERVE_NEVER;
	if (!plat_worker_begin())
		return NIL;
	if (plat_event_log_is_whole(plat_our_table("events")))
	{
		SPI_connect();
		names = plat_event_list_projections(NULL, caller);
		SPI_finish();
	}
	else
		*until = RESTORE_MS;
	plat_worker_commit();
	return names;
}

/*
 * The milliseconds until a projection that has failed is due, or there may be
 * answers to forget.
 */
static long
next_due(void)
{
	long		until = PLAT_SERVE_NEVER;
	char	   *text;

	if (!plat_worker_begin())
		return until;
	SPI_connect();
	(void) plat_sql_as_owner("projection_positions",
							 "SELECT least((SELECT extract(epoch FROM min(next_attempt)"
							 "   - clock_timestamp()) * 1000 FROM platpat.projection_positions"
							 "  WHERE next_attempt > clock_timestamp()),"
							 " (SELECT 3600000 FROM platpat.command_results LIMIT 1))::bigint",
							 0, NULL, NULL, NULL);
	text = plat_sql_value(0, 1);
	if (text)
		until = Max(atol(text), FIRST_LOOK_MS);
	SPI_finish();
	plat_worker_commit();
	return until;
}

/*
 * The module's part of the worker of a database: projections first, the rest
 * when there is nothing else to do, though perhaps to wait for.  Returns the
 * milliseconds until the next call.
 */
long
plat_event_serve(void)
{
	static uint64 maintained = 0;
	static long pause = FIRST_LOOK_MS;
	Round		round = {0};
	long		until;
	List	   *names = look_around(&until);
	ListCell   *cell;

	if (until != PLAT_SERVE_NEVER)
		return until;
	foreach(cell, names)
		try_batch(lfirst(cell), &round);
	if (round.is_behind)
		return 0;
	if (maintained == 0 || plat_clock() - maintained > MAINTENANCE)
	{
		maintained = plat_clock();
		try_maintenance();
	}
	until = next_due();
	pause = round.is_held ? Min(pause * 2, LAST_LOOK_MS) : FIRST_LOOK_MS;
	return round.is_held ? Min(pause, until) : until;
}
