/*
 * controller_apply.c
 *		Doing something about a difference: the actions that it takes, and
 *		calling the functions of users for them.
 *
 * Each call is a subtransaction of its own, so that an action that was done
 * stays done when the next one fails.  What a function does, it does with the
 * rights of its owner and for no tenant; it may set one.  Nothing here is
 * shared.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "attempt.h"
#include "controller.h"
#include "sql.h"
#include "tenant.h"

/* A call under way, for plat_attempt(). */
typedef struct Call
{
	const PlatController *controller;
	const PlatDifference *difference;
	const char *action;			/* NULL for all */
	bool		takes_actions;	/* found out: apply is called for each */
	MemoryContext context;		/* of the result */
	List	   *actions;		/* of char *, what plan has returned */
} Call;

/*
 * Run a call of a function with key and states as parameters $1 to $3, and an
 * action as $4 if there is one, as its owner.
 */
static uint64
run_as_owner(const Call *call, const PlatUserFunction *function, const char *query)
{
	const PlatDifference *difference = call->difference;
	Oid			types[] = {TEXTOID, JSONBOID, JSONBOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(difference->key),
		difference->desired, difference->actual,
	call->action ? CStringGetTextDatum(call->action) : (Datum) 0};
	char		nulls[] = {' ', difference->has_desired ? ' ' : 'n',
	difference->has_actual ? ' ' : 'n', ' '};
	PlatFunctionScope scope;
	PlatTenantScope tenant;
	int			code;

	plat_function_enter(function, function->search_path, &scope);
	plat_tenant_clear(&tenant);
	code = SPI_execute_with_args(query, call->action ? 4 : 3, types, values, nulls,
								 false, 0);
	plat_tenant_leave(&tenant);
	plat_function_leave(&scope);
	if (code < 0)
		elog(ERROR, "SPI_execute_with_args failed with %s for: %s",
			 SPI_result_code_string(code), query);
	return SPI_processed;
}

/*
 * Call function plan.
 */
static void
call_plan(void *arg)
{
	Call	   *call = arg;
	PlatUserFunction plan;
	MemoryContext caller;
	uint64		rows;

	SPI_connect();
	plan = plat_function_find(call->controller->plan);
	rows = run_as_owner(call, &plan, plat_controller_plan_query(plan.oid));
	caller = MemoryContextSwitchTo(call->context);
	for (uint64 i = 0; i < rows; i++)
	{
		char	   *action = plat_sql_value(i, 1);

		if (action)
			call->actions = lappend(call->actions, action);
	}
	MemoryContextSwitchTo(caller);
	SPI_finish();
}

/*
 * Find out how function apply wants to be called.
 */
static void
find_apply(void *arg)
{
	Call	   *call = arg;

	call->takes_actions =
		plat_controller_applies_actions(plat_function_find(call->controller->apply).oid);
}

/*
 * Call function apply.
 */
static void
call_apply(void *arg)
{
	Call	   *call = arg;
	PlatUserFunction apply;

	SPI_connect();
	apply = plat_function_find(call->controller->apply);
	(void) run_as_owner(call, &apply,
						psprintf("SELECT %s($1, $2, $3%s)",
								 quote_qualified_identifier(get_namespace_name(get_func_namespace(apply.oid)),
															get_func_name(apply.oid)),
								 call->action ? ", $4" : ""));
	SPI_finish();
}

/*
 * Call one of these; whatever was bound to a tenant is so again afterwards.
 */
static ErrorData *
try_call(Call *call, void (*function) (void *arg), bool keep)
{
	PlatTenantScope tenant;
	ErrorData  *error;

	plat_tenant_note(&tenant);
	error = keep ? plat_attempt(function, call) : plat_attempt_and_undo(function, call);
	plat_tenant_leave(&tenant);
	plat_heed_cancel(error);
	return error;
}

/*
 * Add a step to a list.
 */
static List *
add_step(List *steps, const char *action, const char *outcome, ErrorData *error)
{
	PlatStep   *step = palloc(sizeof(PlatStep));

	step->action = action;
	step->outcome = error ? "failed" : outcome;
	step->error = error;
	return lappend(steps, step);
}

/*
 * Call function apply for each action, in their order, until one fails.
 */
static List *
apply_each(Call *call)
{
	List	   *steps = NIL;
	ErrorData  *error = NULL;
	ListCell   *cell;

	foreach(cell, call->actions)
	{
		bool		is_skipped = error != NULL;

		call->action = lfirst(cell);
		if (!is_skipped)
			error = try_call(call, call_apply, true);
		steps = is_skipped ? add_step(steps, call->action, "skipped", NULL) :
			add_step(steps, call->action, "done", error);
	}
	return steps;
}

/*
 * Call function apply once for all actions, which succeed or fail together.
 */
static List *
apply_all(Call *call)
{
	List	   *steps = NIL;
	ErrorData  *error = try_call(call, call_apply, true);
	ListCell   *cell;

	foreach(cell, call->actions)
		steps = add_step(steps, lfirst(cell), "done", error);
	return steps;
}

/*
 * Do what a difference takes, or only find out what that is; returns the steps,
 * in the current memory context.  Without a function plan there is one action,
 * called like the kind of the difference.  A plan without actions waits for
 * something.
 */
List *
plat_controller_apply(const PlatController *controller,
					  PlatDifference *difference, bool is_dry)
{
	Call		call = {controller, difference, NULL, false, CurrentMemoryContext, NIL};
	ErrorData  *error = NULL;
	List	   *steps = NIL;
	ListCell   *cell;

	if (controller->plan == NULL)
		call.actions = list_make1(unconstify(char *, difference->kind));
	else
		error = try_call(&call, call_plan, !is_dry);
	if (error)
		return add_step(NIL, "plan", NULL, error);
	if (call.actions == NIL)
		return add_step(NIL, difference->kind, "waiting", NULL);
	if (is_dry)
	{
		foreach(cell, call.actions)
			steps = add_step(steps, lfirst(cell), "planned", NULL);
		return steps;
	}
	error = try_call(&call, find_apply, true);
	if (error)
		return add_step(NIL, difference->kind, NULL, error);
	return call.takes_actions ? apply_each(&call) : apply_all(&call);
}
