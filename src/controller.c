/*
 * controller.c
 *		Controllers: making, changing, dropping and waking them.
 *
 * A controller is two relations and a function: what shall be, what is, and
 * what is called for each key where they differ.  It knows levels and not
 * events: whatever has brought a difference about, and whatever was missed,
 * the next comparison finds it.
 *
 * The functions run as their owners, wherever that happens, and with the
 * rights of the owner of apply both relations are read.  So only who owns the
 * functions can make a controller of them.
 *
 * Nothing here is shared; wakings travel in the table of worker_table.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "config_table.h"
#include "controller.h"
#include "sql.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(plat_controller_create);
PG_FUNCTION_INFO_V1(plat_controller_alter);
PG_FUNCTION_INFO_V1(plat_controller_drop);
PG_FUNCTION_INFO_V1(plat_controller_wake);
PG_FUNCTION_INFO_V1(plat_controller_wake_trigger);

static const char *const admin_grants[] = {
	"SELECT ON platpat.controllers, platpat.controller_states,"
	" platpat.controller_keys, platpat.controller_status, platpat.conditions",
	"EXECUTE ON FUNCTION"
	" platpat.create_controller(text, regclass, regclass, regprocedure, regprocedure, text, interval, boolean),"
	" platpat.alter_controller(text, boolean, text, interval, boolean, regclass, regclass, regprocedure, regprocedure),"
	" platpat.drop_controller(text), platpat.drift(text),"
	" platpat.reconcile(text, boolean), platpat.wait_ready(text, interval),"
	" platpat.wake_controller(text), platpat.wake_controller()",
	NULL
};

const PlatModule plat_controller_module = {
	.name = "controller",
	.admin_grants = admin_grants,
	.serve = plat_controller_serve,
	.put_metrics = plat_controller_put_metrics,
};

/*
 * Raise 22023 for a mode or a period that cannot be. Arguments may be NULL.
 */
static void
check_mode_and_period(FunctionCallInfo fcinfo, int mode, int period)
{
	if (!PG_ARGISNULL(mode))
	{
		char	   *word = text_to_cstring(PG_GETARG_TEXT_PP(mode));

		if (strcmp(word, "enforce") != 0 && strcmp(word, "observe") != 0)
			plat_refuse_value(psprintf("mode is \"%s\"", plat_clip(word)),
							  "It is enforce or observe.");
	}
	if (!PG_ARGISNULL(period))
	{
		double		ns = plat_interval_ns(PG_GETARG_INTERVAL_P(period));

		if (!(ns >= PLAT_SECOND && ns <= 366.0 * 86400 * PLAT_SECOND))
			plat_refuse_value("period is out of range",
							  "It is an interval from a second to a year.");
	}
}

/*
 * Who reads the relations of a controller with that function.
 */
static Oid
owner_of(const char *apply)
{
	return plat_function_find(apply).owner;
}

/*
 * platpat.create_controller(controller text, desired regclass, actual regclass,
 * apply regprocedure, plan regprocedure, mode text, period interval, prune
 * boolean) returns void: VOLATILE, for administrators who own the functions.
 *
 * Raises 0A000, 22004, 22023, 42501, 42710, 42809, 42883, 42P01.
 */
Datum
plat_controller_create(PG_FUNCTION_ARGS)
{
	static const char *const whats[] = {"controller", "desired", "actual",
	"apply", NULL, "mode", "period", "prune"};
	char	   *name = plat_controller_name(fcinfo);
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INTERVALOID, BOOLOID};
	Datum		values[8];
	char		nulls[] = "        ";
	char	   *apply;
	Oid			reader;

	for (int i = 1; i < lengthof(whats); i++)
		if (whats[i])
			plat_refuse_null(fcinfo, i, whats[i]);
	check_mode_and_period(fcinfo, 5, 6);
	apply = plat_controller_check_apply(PG_GETARG_OID(3));
	reader = owner_of(apply);
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(plat_controller_check_relation(PG_GETARG_OID(1), "desired", reader));
	values[2] = CStringGetTextDatum(plat_controller_check_relation(PG_GETARG_OID(2), "actual", reader));
	values[3] = CStringGetTextDatum(apply);
	nulls[4] = PG_ARGISNULL(4) ? 'n' : ' ';
	values[4] = PG_ARGISNULL(4) ? (Datum) 0 :
		CStringGetTextDatum(plat_controller_check_plan(PG_GETARG_OID(4)));
	for (int i = 5; i < 8; i++)
		values[i] = PG_GETARG_DATUM(i);
	SPI_connect();
	/* The trigger that serves restores merges rows of the same name. */
	if (plat_controller_get(name, true) ||
		plat_sql_as_owner("controllers",
						  "INSERT INTO platpat.controllers (controller, desired, actual, apply, plan, mode, period, prune)"
						  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
						  8, types, values, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("controller \"%s\" already exists", plat_clip(name))));
	plat_controller_start(name);
	plat_controller_judge(name);
	SPI_finish();
	plat_worker_wake_at_commit(name);
	PG_RETURN_VOID();
}

/*
 * Raise unless the caller may change what a controller does: 42501 for one
 * whose function is another's, 55000 for one of our own.
 */
static void
check_may_redefine(const PlatController *controller)
{
	if (controller->is_builtin)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("controller \"%s\" came with platpat", controller->name),
				 errhint("paused, mode and period can be changed.")));
	plat_function_check_owner(controller->apply, "controller");
}

/*
 * The text to store for an argument of alter_controller that names a relation
 * or function; NULL leaves it as it is.
 */
static Datum
relation_arg(FunctionCallInfo fcinfo, int argno, const char *what, Oid reader,
			 char *null)
{
	*null = PG_ARGISNULL(argno) ? 'n' : ' ';
	return PG_ARGISNULL(argno) ? (Datum) 0 :
		CStringGetTextDatum(plat_controller_check_relation(PG_GETARG_OID(argno), what, reader));
}

/*
 * Change what a controller does, as far as arguments 4 to 8 say; the values
 * before were checked.
 */
static void
redefine(FunctionCallInfo fcinfo, const PlatController *controller)
{
	Oid			types[] = {TEXTOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID};
	Datum		values[7];
	char		nulls[] = "       ";
	char	   *apply = controller->apply;
	Oid			reader;

	check_may_redefine(controller);
	if (!PG_ARGISNULL(7))
		apply = plat_controller_check_apply(PG_GETARG_OID(7));
	reader = owner_of(apply);
	values[0] = CStringGetTextDatum(controller->name);
	values[1] = PG_GETARG_DATUM(4);
	nulls[1] = PG_ARGISNULL(4) ? 'n' : ' ';
	values[2] = relation_arg(fcinfo, 5, "desired", reader, &nulls[2]);
	values[3] = relation_arg(fcinfo, 6, "actual", reader, &nulls[3]);
	values[4] = CStringGetTextDatum(apply);
	values[6] = BoolGetDatum(!PG_ARGISNULL(8));
	nulls[5] = PG_ARGISNULL(8) || PG_GETARG_OID(8) == InvalidOid ? 'n' : ' ';
	values[5] = nulls[5] == 'n' ? (Datum) 0 :
		CStringGetTextDatum(plat_controller_check_plan(PG_GETARG_OID(8)));
	(void) plat_sql_as_owner("controllers",
							 "UPDATE platpat.controllers SET prune = coalesce($2, prune),"
							 " desired = coalesce($3, desired), actual = coalesce($4, actual),"
							 " apply = $5, plan = CASE WHEN $7 THEN $6 ELSE plan END"
							 " WHERE controller = $1",
							 7, types, values, nulls);
}

/*
 * Have a controller rest, work, repair or observe, as arguments 1 to 3 say.
 */
static void
adjust(FunctionCallInfo fcinfo, const char *name)
{
	Oid			types[] = {TEXTOID, BOOLOID, TEXTOID, INTERVALOID, BOOLOID};
	Datum		values[5];
	char		nulls[] = "     ";
	bool		is_definition = false;

	values[0] = CStringGetTextDatum(name);
	for (int i = 1; i < 4; i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	for (int i = 2; i < 9; i++)
		is_definition |= !PG_ARGISNULL(i);
	values[4] = BoolGetDatum(is_definition);
	(void) plat_sql_as_owner("controllers",
							 "UPDATE platpat.controllers SET paused = coalesce($2, paused),"
							 " mode = coalesce($3, mode), period = coalesce($4, period),"
							 " generation = generation + $5::int"
							 " WHERE controller = $1",
							 5, types, values, nulls);
}

/*
 * platpat.alter_controller(controller text, paused boolean, mode text, period
 * interval, prune boolean, desired regclass, actual regclass, apply
 * regprocedure, plan regprocedure) returns void: VOLATILE, for administrators;
 * from prune on for who owns the function apply.
 *
 * What changes more than paused counts the generation up.  Raises what
 * create_controller() does, 42704, and 55000 for one of our own.
 */
Datum
plat_controller_alter(PG_FUNCTION_ARGS)
{
	char	   *name = plat_controller_name(fcinfo);
	PlatController *controller;
	bool		redefines = false;

	check_mode_and_period(fcinfo, 2, 3);
	SPI_connect();
	controller = plat_controller_get(name, false);
	for (int i = 4; i < 9; i++)
		redefines |= !PG_ARGISNULL(i);
	if (redefines)
		redefine(fcinfo, controller);
	adjust(fcinfo, name);

	/*
	 * One that came with a restore works from when it is told to. Who has it
	 * rest does not wait for what it is at.
	 */
	if (PG_ARGISNULL(1) ? !controller->is_restored : !PG_GETARG_BOOL(1))
		plat_controller_start(name);
	plat_controller_judge(name);
	SPI_finish();
	plat_worker_wake_at_commit(name);
	PG_RETURN_VOID();
}

/*
 * platpat.drop_controller(controller text) returns void: VOLATILE, for
 * administrators. Raises 22004, 42704, and 55000 for one of our own.
 */
Datum
plat_controller_drop(PG_FUNCTION_ARGS)
{
	static const char *const tables[] = {"controllers", "controller_states",
	"controller_keys", "conditions"};
	char	   *name = plat_controller_name(fcinfo);
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	SPI_connect();
	if (plat_controller_get(name, false)->is_builtin)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("controller \"%s\" came with platpat", name),
				 errhint("platpat.alter_controller(controller, paused => true) has it rest.")));
	for (int i = 0; i < lengthof(tables); i++)
		(void) plat_sql_as_owner(tables[i],
								 psprintf("DELETE FROM platpat.%s WHERE controller = $1", tables[i]),
								 1, types, values, NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * platpat.wake_controller(controller text) returns void: VOLATILE, for
 * administrators.
 *
 * Does nothing where there is no worker. Raises 22004 and 42704.
 */
Datum
plat_controller_wake(PG_FUNCTION_ARGS)
{
	char	   *name = plat_controller_name(fcinfo);

	SPI_connect();
	(void) plat_controller_get(name, false);
	SPI_finish();
	plat_worker_wake_at_commit(name);
	PG_RETURN_VOID();
}

/*
 * Trigger: wakes the controllers that its arguments name. Those that do not
 * exist are nobody's harm: a change of data must not fail for that.
 */
Datum
plat_controller_wake_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);

	for (int i = 0; i < trigger->tg_trigger->tgnargs; i++)
		plat_worker_wake_at_commit(trigger->tg_trigger->tgargs[i]);
	/* What a BEFORE trigger returns is what happens. */
	if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event) && TRIGGER_FIRED_BEFORE(trigger->tg_event))
		return PointerGetDatum(plat_trigger_row(trigger));
	return PointerGetDatum(NULL);
}
