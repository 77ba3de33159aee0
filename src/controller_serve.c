/*
 * controller_serve.c
 *		What the worker of a database does for controllers.
 *
 * Each key has a transaction of its own, so that no more is locked than what
 * is being repaired, and what fails in one controller is noted and keeps no
 * other from its turn.  Nothing here is shared.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "controller.h"
#include "sql.h"
#include "worker.h"

/* Milliseconds until another look at what another session is at. */
#define BUSY_MS 1000

/* Milliseconds until a look at what a function of users has changed in here. */
#define OWN_MS 100

/*
 * The time after which a pass leaves what is left to the next one, so that
 * other controllers and modules have their turn.
 */
#define TURN PLAT_SECOND

/* A step of the worker, in a transaction of its own. */
typedef struct Work
{
	PlatPass   *pass;
	PlatTurn	turn;
	ErrorData  *error;			/* that the last one came to, or NULL */
} Work;

static void
begin_pass(void *arg)
{
	Work	   *work = arg;

	work->turn = plat_controller_begin_pass(work->pass);
}

static void
run_next(void *arg)
{
	Work	   *work = arg;

	if (!plat_controller_run_next(work->pass))
		work->turn = PLAT_TURN_BUSY;
}

static void
end_pass(void *arg)
{
	Work	   *work = arg;

	if (!plat_controller_end_pass(work->pass))
		work->turn = PLAT_TURN_BUSY;
}

/*
 * Note that a controller has come to an error of ours, or of the moment.  Who
 * works at it by now comes to its own result.
 */
static void
note_failure(void *arg)
{
	Work	   *work = arg;

	if (plat_controller_lock(work->pass->name, false) == PLAT_TURN_OURS)
		plat_controller_note_failure(work->pass->name, work->error);
}

/*
 * Do a step in a transaction; an error is noted as the controller's. True if
 * there was none, and the pass can go on.
 */
static bool
try_step(void (*step) (void *arg), Work *work)
{
	bool		is_done;

	work->error = plat_worker_try(step, work, &is_done);
	if (work->error)
		(void) plat_worker_run(note_failure, work);
	return is_done && work->turn == PLAT_TURN_OURS;
}

/*
 * Reconcile a controller; false if another session is at it, or has changed
 * it meanwhile.
 */
static bool
reconcile(char *name)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "platpat pass",
												  ALLOCSET_DEFAULT_SIZES);
	PlatPass	pass = {.name = name,.context = context};
	Work		work = {&pass, PLAT_TURN_OURS, NULL};
	bool		goes_on = try_step(begin_pass, &work);

	pass.turn_ends = plat_clock() + TURN;
	while (goes_on && pass.position < list_length(pass.due))
		goes_on = try_step(run_next, &work);
	if (goes_on)
		(void) try_step(end_pass, &work);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return work.turn != PLAT_TURN_BUSY;
}

/*
 * The names of controllers that are due, or that somebody has asked for, in
 * the current memory context: our own first, then who has waited longest.  A
 * time that is too far away was set by a clock that was wrong.
 *
 * One of users' that is asked for again and again rests as long as its last
 * pass has taken; then *rests says that somebody has yet to come back to it.
 */
static List *
list_due(uint64 topics, bool *rests)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *names = NIL;
	uint64		rows;

	if (!plat_worker_begin())
		return NIL;
	SPI_connect();
	rows = plat_sql_as_owner("controllers",
							 "SELECT controller, coalesce(next_reconcile <= clock_timestamp()"
							 "  OR next_reconcile > clock_timestamp() + c.period + interval '10 minutes', false),"
							 " coalesce(NOT c.builtin AND clock_timestamp() BETWEEN last_reconciled AND"
							 "  last_reconciled + least(last_reconciled - started_at, interval '10 s'), false)"
							 " FROM platpat.controllers c JOIN platpat.controller_states s USING (controller)"
							 " WHERE NOT c.paused ORDER BY NOT c.builtin, next_reconcile, controller",
							 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < rows; i++)
	{
		char	   *name = plat_sql_value(i, 1);
		bool		is_due = plat_sql_value(i, 2)[0] == 't';

		if (!is_due && !plat_worker_has_topic(topics, name))
			continue;
		if (!is_due && plat_sql_value(i, 3)[0] == 't')
		{
			plat_worker_wake_database(name);
			*rests = true;
			continue;
		}
		MemoryContextSwitchTo(caller);
		names = lappend(names, pstrdup(name));
	}
	SPI_finish();
	plat_worker_commit();
	return names;
}

/*
 * The milliseconds until the next controller is due.
 */
static long
next_due(void)
{
	long		until = PLAT_SERVE_NEVER;
	char	   *text;

	if (!plat_worker_begin())
		return until;
	SPI_connect();
	(void) plat_sql_as_owner("controllers",
							 "SELECT ceil(extract(epoch FROM min(next_reconcile) - clock_timestamp()) * 1000)::bigint"
							 " FROM platpat.controllers c JOIN platpat.controller_states s USING (controller)"
							 " WHERE NOT c.paused",
							 0, NULL, NULL, NULL);
	text = plat_sql_value(0, 1);
	if (text)
		until = Max(atol(text), 1);
	SPI_finish();
	plat_worker_commit();
	return until;
}

/*
 * Reconcile those that are due, one after the other.  Returns the milliseconds
 * after which there is more to do, or 0 if it is not known when.
 *
 * When somebody asks for one meanwhile, the others are left to the next round,
 * which begins with our own: a table that was opened waits for one turn of
 * another controller and not for all.
 */
static long
reconcile_all(List *names, bool rests)
{
	long		until = rests ? OWN_MS : 0;
	bool		is_asked = false;
	ListCell   *cell;

	foreach(cell, names)
	{
		if (!is_asked && reconcile(lfirst(cell)))
		{
			is_asked = !rests && plat_worker_has_topics();
			continue;
		}
		plat_worker_wake_database(lfirst(cell));
		if (!is_asked)
			until = BUSY_MS;
	}
	return is_asked ? OWN_MS : until;
}

/*
 * The module's part of the worker of a database.  Returns the milliseconds
 * until the next call.  Others wake the database for other things, and then
 * this has nothing to look up.
 */
long
plat_controller_serve(void)
{
	static uint64 due_at = 0;
	uint64		topics = plat_worker_take_topics();
	uint64		now = plat_clock();
	bool		rests = false;
	long		until;
	List	   *names;

	if (topics == 0 && now < due_at)
		return due_at == PG_UINT64_MAX ? PLAT_SERVE_NEVER : (long) ((due_at - now) / 1000000 + 1);
	names = list_due(topics, &rests);
	until = reconcile_all(names, rests);
	/* One that another session is at is still due. */
	if (until == 0)
		until = plat_worker_has_topics() ? OWN_MS : next_due();
	due_at = until == PLAT_SERVE_NEVER ? PG_UINT64_MAX : plat_clock() + (uint64) until * 1000000;
	return until;
}
