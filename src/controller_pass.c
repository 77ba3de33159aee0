/*
 * controller_pass.c
 *		Reconciling: comparing, doing something about what differs, and
 *		comparing again, because what says that it was done is not what is.
 *
 * By hand a pass is one transaction, in the worker one for each key.  A row of
 * the controller's state is locked in each of them; see controller_state.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "clock.h"
#include "controller.h"
#include "sql.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(plat_controller_reconcile);
PG_FUNCTION_INFO_V1(plat_controller_drift);

/*
 * Whether this session reconciles by hand.  A function that it calls cannot,
 * nor can one that the worker calls.
 */
static bool is_reconciling = false;

/*
 * Read a controller for a pass, in the pass's memory context; NULL if it
 * rests or is gone.  It is as it is now: the snapshot of who has waited for the
 * lock is older.
 */
static PlatController *
get_for_pass(PlatPass *pass)
{
	MemoryContext caller = MemoryContextSwitchTo(pass->context);
	PlatController *controller;

	PushActiveSnapshot(GetLatestSnapshot());
	controller = plat_controller_get(pass->name, true);
	PopActiveSnapshot();
	MemoryContextSwitchTo(caller);
	return controller && !controller->is_paused ? controller : NULL;
}

/*
 * Say by a WARNING what could not be compared.
 */
static void
warn(const PlatController *controller, const ErrorData *error,
	 const PlatComparison *comparison)
{
	if (error)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("controller \"%s\" cannot compare: %s",
						controller->name, error->message)));
	else if (comparison->complaint)
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("controller \"%s\": %s", controller->name, comparison->complaint)));
}

/*
 * Compare for somebody who looks; false, after a WARNING, if that is not
 * possible.
 */
static bool
compare_only(const PlatController *controller, PlatComparison *comparison)
{
	ErrorData  *error = plat_controller_compare(controller, true, comparison);

	warn(controller, error, comparison);
	return error == NULL;
}

/*
 * Compare for a pass, with the result in its memory context; an error is
 * written down, and the result false.
 */
static bool
compare(PlatPass *pass, PlatComparison *comparison)
{
	MemoryContext caller = MemoryContextSwitchTo(pass->context);
	ErrorData  *error = plat_controller_compare(pass->controller,
												pass->controller->is_builtin, comparison);

	MemoryContextSwitchTo(caller);
	if (pass->by_hand)
		warn(pass->controller, error, comparison);
	if (error)
		plat_controller_note_failure(pass->name, error);
	return error == NULL;
}

/*
 * Begin a pass: lock the controller, compare, and choose what is going to be
 * attempted.  name, by_hand and context of the pass are given.  SPI is
 * connected.
 */
PlatTurn
plat_controller_begin_pass(PlatPass *pass)
{
	PlatTurn	turn = plat_controller_lock(pass->name, pass->by_hand);

	if (turn != PLAT_TURN_OURS)
		return turn;
	pass->controller = get_for_pass(pass);
	if (pass->controller == NULL)
		return PLAT_TURN_NONE;
	pass->started = GetCurrentTimestamp();
	if (!compare(pass, &pass->comparison))
		return PLAT_TURN_NONE;
	plat_controller_choose(pass);
	return PLAT_TURN_OURS;
}

/*
 * Add a row to the result of reconcile().
 */
static void
put_step(FunctionCallInfo fcinfo, const PlatController *controller,
		 const PlatDifference *difference, const PlatStep *step)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[7];
	bool		nulls[7] = {0};

	values[0] = CStringGetTextDatum(controller->name);
	values[1] = CStringGetTextDatum(difference->key);
	values[2] = CStringGetTextDatum(step->action);
	values[3] = difference->desired;
	values[4] = difference->actual;
	values[5] = CStringGetTextDatum(step->outcome);
	values[6] = step->error ? CStringGetTextDatum(step->error->message) : (Datum) 0;
	nulls[3] = !difference->has_desired;
	nulls[4] = !difference->has_actual;
	nulls[6] = step->error == NULL;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Add the rows of some steps, unless nobody wants them.
 */
static void
put_steps(FunctionCallInfo fcinfo, const PlatController *controller,
		  const PlatDifference *difference, List *steps)
{
	ListCell   *cell;

	if (fcinfo == NULL)
		return;
	foreach(cell, steps)
		put_step(fcinfo, controller, difference, lfirst(cell));
}

/*
 * The step of a key that could not even be looked at.
 */
static List *
failed_look(const PlatDifference *difference, ErrorData *error)
{
	PlatStep   *step = palloc0(sizeof(PlatStep));

	step->action = difference->kind;
	step->outcome = "failed";
	step->error = error;
	return list_make1(step);
}

/*
 * The steps of a difference, done or only planned: NIL if there is no
 * difference any more.
 */
static List *
do_steps(const PlatController *controller, PlatDifference *difference, bool is_dry)
{
	bool		is_there;
	ErrorData  *error = plat_controller_look(controller, difference, &is_there);

	if (error)
		return failed_look(difference, error);
	if (!is_there)
		return NIL;
	return plat_controller_apply(controller, difference, is_dry);
}

/*
 * Whether a controller is still what the pass began with.
 */
static bool
is_same(PlatPass *pass)
{
	PlatController *now = get_for_pass(pass);

	return now && now->generation == pass->controller->generation &&
		now->is_observing == pass->controller->is_observing;
}

/*
 * Go on to the next difference of a pass, or leave what is left to another one
 * if others have waited long enough.
 */
static void
advance(PlatPass *pass)
{
	pass->position++;
	if (pass->turn_ends != 0 && plat_clock() > pass->turn_ends)
		pass->due = list_truncate(pass->due, pass->position);
	plat_controller_note_attempt(pass);
}

/*
 * Do something about the next difference of a pass. False if the pass cannot go
 * on: the controller was dropped, changed or paused, or another session is at
 * it.  SPI is connected.
 */
bool
plat_controller_run_next(PlatPass *pass)
{
	PlatDifference *difference = list_nth(pass->due, pass->position);
	List	   *steps;

	if (plat_controller_lock(pass->name, pass->by_hand) != PLAT_TURN_OURS ||
		!is_same(pass))
		return false;
	steps = do_steps(pass->controller, difference, false);
	plat_controller_note_steps(pass, difference, steps);
	put_steps(pass->result, pass->controller, difference, steps);
	advance(pass);
	return true;
}

/*
 * End a pass: compare again if something was done, and write down what is left.
 * False if another session is at it by now, or the controller is another.  SPI
 * is connected.
 */
bool
plat_controller_end_pass(PlatPass *pass)
{
	PlatComparison left = pass->comparison;

	if (plat_controller_lock(pass->name, pass->by_hand) != PLAT_TURN_OURS ||
		!is_same(pass))
		return false;
	if (pass->due == NIL || compare(pass, &left))
		plat_controller_note_pass(pass, &left);
	return true;
}

/*
 * Reconcile one controller in this transaction.
 */
static void
reconcile(FunctionCallInfo fcinfo, char *name)
{
	PlatPass	pass = {.name = name,.by_hand = true,.context = CurrentMemoryContext,.result = fcinfo};
	bool		goes_on;

	if (plat_controller_begin_pass(&pass) != PLAT_TURN_OURS)
		return;
	while (pass.position < list_length(pass.due))
	{
		CHECK_FOR_INTERRUPTS();
		/* What each key takes of memory goes with its own connection. */
		SPI_connect();
		goes_on = plat_controller_run_next(&pass);
		SPI_finish();
		if (!goes_on)
			return;
	}
	(void) plat_controller_end_pass(&pass);
}

/*
 * Find out what reconciling one controller would do.
 */
static void
plan_only(FunctionCallInfo fcinfo, const PlatController *controller)
{
	PlatComparison comparison;
	ListCell   *cell;

	if (!compare_only(controller, &comparison))
		return;
	foreach(cell, comparison.differences)
	{
		PlatDifference *difference = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		put_steps(fcinfo, controller, difference, do_steps(controller, difference, true));
	}
}

/*
 * Say that a controller that was named rests.
 */
static void
say_paused(const PlatController *controller)
{
	ereport(NOTICE,
			(errmsg("controller \"%s\" is paused", controller->name),
			 errdetail(controller->is_restored ? "It came with a restore." : "Nothing is done about what differs."),
			 errhint("platpat.alter_controller(controller, paused => false) has it go on.")));
}

/*
 * The controllers that the first argument names, or all.
 */
static List *
controllers_arg(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		return plat_controller_list();
	return list_make1(plat_controller_get(plat_controller_name(fcinfo), false));
}

/*
 * The work of plat_controller_reconcile.
 */
static void
reconcile_all(FunctionCallInfo fcinfo, bool is_dry)
{
	ListCell   *cell;

	foreach(cell, controllers_arg(fcinfo))
	{
		PlatController *controller = lfirst(cell);

		if (is_dry)
			plan_only(fcinfo, controller);
		else if (!controller->is_paused)
			reconcile(fcinfo, controller->name);
		else if (!PG_ARGISNULL(0))
			say_paused(controller);
	}
}

/*
 * platpat.reconcile(controller text, dry_run boolean) returns table (controller
 * text, key text, action text, desired jsonb, actual jsonb, outcome text,
 * message text): VOLATILE, for administrators.
 *
 * Does at once what the worker would do in time, whatever has failed before.
 * Waits for another session that is at it.  Raises 22004, 42704, and 55000 for
 * a function of a controller that calls it, and in the worker.
 */
Datum
plat_controller_reconcile(PG_FUNCTION_ARGS)
{
	plat_refuse_null(fcinfo, 1, "dry_run");
	if (is_reconciling || plat_worker_is_this())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot reconcile while reconciling"),
				 errdetail("A function that platpat calls has called platpat.reconcile().")));
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	is_reconciling = true;
	PG_TRY();
	{
		reconcile_all(fcinfo, PG_GETARG_BOOL(1));
	}
	PG_FINALLY();
	{
		is_reconciling = false;
	}
	PG_END_TRY();
	SPI_finish();
	return (Datum) 0;
}

/*
 * platpat.drift(controller text) returns table (controller text, key text,
 * action text, desired jsonb, actual jsonb): VOLATILE, for administrators.
 *
 * Compares now, of paused controllers as well, and changes nothing.
 */
Datum
plat_controller_drift(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	foreach(cell, controllers_arg(fcinfo))
	{
		PlatController *controller = lfirst(cell);
		PlatComparison comparison;
		ListCell   *inner;

		if (!compare_only(controller, &comparison))
			continue;
		foreach(inner, comparison.differences)
		{
			PlatDifference *difference = lfirst(inner);
			Datum		values[] = {CStringGetTextDatum(controller->name),
				CStringGetTextDatum(difference->key), CStringGetTextDatum(difference->kind),
			difference->desired, difference->actual};
			bool		nulls[] = {false, false, false, !difference->has_desired,
			!difference->has_actual};

			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
	}
	SPI_finish();
	return (Datum) 0;
}
