/*
 * bulkhead.c
 *		Bulkheads that all backends share, so many at a time, the others wait:
 *		settings of the module, and the SQL functions.
 *
 * bulkhead_queue.c has the slots in shared memory, bulkhead_hold.c those that
 * this backend has.
 *
 * The deadlock detector sees no slots.  So a transaction that others may have
 * to wait for, because it has written something, does not wait for one unless
 * it is told to, and who has a slot waits for another only so long.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "compat.h"
#include "bulkhead.h"
#include "clock.h"
#include "config_table.h"
#include "sql.h"
#include "statement.h"
#include "worker.h"

/* Longest wait for a slot without an end of those who have another. */
#define BOUNDED_WAIT (5 * PLAT_SECOND)

/* platpat.bulkhead_entries and platpat.bulkhead_wait_with_xid */
static int	bulkhead_entries = 256;
static bool wait_with_xid = false;

PG_FUNCTION_INFO_V1(plat_bulkhead_acquire);
PG_FUNCTION_INFO_V1(plat_bulkhead_try_acquire);
PG_FUNCTION_INFO_V1(plat_bulkhead_release);
PG_FUNCTION_INFO_V1(plat_bulkhead_call);
PG_FUNCTION_INFO_V1(plat_bulkhead_create);
PG_FUNCTION_INFO_V1(plat_bulkhead_alter);
PG_FUNCTION_INFO_V1(plat_bulkhead_drop);
PG_FUNCTION_INFO_V1(plat_bulkhead_check_row);
PG_FUNCTION_INFO_V1(plat_bulkhead_changed);

static void
define_settings(bool preload)
{
	DefineCustomIntVariable("platpat.bulkhead_entries",
							"Bulkheads that shared memory has room for.",
							"1.5 kB each; bulkheads that nobody uses share.",
							&bulkhead_entries, 256, 16, 65536,
							preload ? PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("platpat.bulkhead_wait_with_xid",
							 "Whether a transaction that has written something may wait for a slot.",
							 "Only for a bounded time: the deadlock detector sees no slots.",
							 &wait_with_xid, false, PGC_USERSET, 0,
							 NULL, NULL, NULL);
}

static Size
shmem_size(void)
{
	return plat_bulkhead_size(bulkhead_entries);
}

static void
shmem_adopt(void *part)
{
	plat_bulkhead_adopt(part);
	plat_bulkhead_watch_transactions();
}

static const char *const admin_grants[] = {
	"EXECUTE ON FUNCTION platpat.create_bulkhead(text, int, int, jsonb, text)",
	"EXECUTE ON FUNCTION platpat.alter_bulkhead(text, int, int, jsonb, text)",
	"EXECUTE ON FUNCTION platpat.drop_bulkhead(text)",
	"EXECUTE ON FUNCTION platpat.bulkhead_stats()",
	"EXECUTE ON FUNCTION platpat.bulkhead_places()",
	"EXECUTE ON FUNCTION platpat.bulkhead_rules(boolean), platpat.bulkhead_orphans()",
	"INSERT, UPDATE, DELETE ON platpat.bulkheads",
	"SELECT ON platpat.stat_bulkheads, platpat.bulkhead_holders,"
	" platpat.desired_bulkheads, platpat.actual_bulkheads",
	NULL
};

const PlatModule plat_bulkhead_module = {
	.name = "bulkhead",
	.define_settings = define_settings,
	.admin_grants = admin_grants,
	.shmem_size = shmem_size,
	.shmem_fill = plat_bulkhead_fill,
	.shmem_adopt = shmem_adopt,
	.discard = plat_bulkhead_discard,
	.put_metrics = plat_bulkhead_put_metrics,
	.reset_stats = plat_bulkhead_reset_stats,
};

/*
 * The longest wait of an argument: 22023 if negative, no end for NULL.
 */
static uint64
wait_arg(FunctionCallInfo fcinfo, int argno)
{
	double		ns;

	if (PG_ARGISNULL(argno))
		return PG_UINT64_MAX;
	ns = plat_interval_ns(PG_GETARG_INTERVAL_P(argno));
	if (ns < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	return ns >= (double) PLAT_MAX_INTERVAL_NS ? PG_UINT64_MAX : (uint64) ns;
}

/*
 * How long a request may really wait: lock_timeout holds, too; a transaction
 * that has written may not wait, or not without an end, and nor may one that
 * has other slots.
 */
static void
limit_wait(PlatSlotRequest *request)
{
	bool		has_written = TransactionIdIsValid(GetTopTransactionIdIfAny());

	if (LockTimeout > 0)
		request->wait = Min(request->wait, (uint64) LockTimeout * 1000000);
	if (request->wait == PG_UINT64_MAX && (has_written || plat_bulkhead_has_slots()))
		request->wait = BOUNDED_WAIT;
	request->is_forbidden = request->wait > 0 && has_written && !wait_with_xid;
	if (request->is_forbidden)
		request->wait = 0;
}

/*
 * A request of a function: its first argument is the bulkhead, its class that
 * of the argument. 22004, 22023, 42704, 54000, 55000.
 */
static PlatSlotRequest
request_of(FunctionCallInfo fcinfo, int class, uint64 wait)
{
	PlatSlotRequest request = {
		.definition = (PlatBulkheadDefinition *)
		plat_named_arg(&plat_bulkheads, fcinfo),
		.wait = wait,
	};
	text	   *name;

	plat_refuse_null(fcinfo, class, "class");
	name = PG_GETARG_TEXT_PP(class);
	request.class = PLAT_STANDARD;
	if (VARSIZE_ANY_EXHDR(name) != strlen("standard") ||
		memcmp(VARDATA_ANY(name), "standard", strlen("standard")) != 0)
		request.class = plat_class_of(text_to_cstring(name));
	limit_wait(&request);
	return request;
}

/*
 * platpat.acquire_slot(bulkhead text, timeout interval, class text) returns
 * boolean: VOLATILE, PARALLEL RESTRICTED, for PUBLIC.
 *
 * True with a slot, for which it waits at most so long; NULL is as long as
 * lock_timeout and statement_timeout allow.  Raises 22004, 22023, 42704,
 * 54000, 55000, 55P03, 57014.
 */
Datum
plat_bulkhead_acquire(PG_FUNCTION_ARGS)
{
	PlatSlotRequest request = request_of(fcinfo, 2, wait_arg(fcinfo, 1));

	PG_RETURN_BOOL(plat_bulkhead_take(&request, request.definition->scope, true));
}

/*
 * platpat.try_acquire_slot(bulkhead text, class text) returns boolean:
 * likewise; false if there is no slot now.
 */
Datum
plat_bulkhead_try_acquire(PG_FUNCTION_ARGS)
{
	PlatSlotRequest request = request_of(fcinfo, 1, 0);

	PG_RETURN_BOOL(plat_bulkhead_take(&request, request.definition->scope, false));
}

/*
 * platpat.release_slot(bulkhead text) returns boolean: likewise.
 *
 * Ends the last acquisition of this session; the slot is free with the first.
 * False if there is none.  A slot goes by the name that it was taken under,
 * also if the bulkhead was dropped since.
 */
Datum
plat_bulkhead_release(PG_FUNCTION_ARGS)
{
	int			place = PG_ARGISNULL(0) ? -1 :
	plat_bulkhead_find_hold_by_name(PG_GETARG_TEXT_PP(0));
	PlatNamed  *definition;

	if (place >= 0)
		PG_RETURN_BOOL(plat_bulkhead_release_place(place, plat_bulkhead_ticket_of(place), false));
	definition = plat_named_arg(&plat_bulkheads, fcinfo);
	PG_RETURN_BOOL(plat_bulkhead_release_place(plat_bulkhead_find_hold(definition),
											   definition->ticket, false));
}

/*
 * platpat.bulkhead_call(bulkhead text, command text, timeout interval, class
 * text, VARIADIC args text[]) returns setof jsonb: VOLATILE, PARALLEL UNSAFE,
 * for PUBLIC.
 *
 * Runs the command as breaker_call() does, with a slot that it gives back
 * afterwards, whatever the scope.  Raises what the command raises and what
 * acquire_slot() does.
 */
Datum
plat_bulkhead_call(PG_FUNCTION_ARGS)
{
	PlatStatement statement;
	PlatSlotRequest request;
	ErrorData  *error;
	uint64		ticket;

	plat_statement_args(fcinfo, 1, 4, &statement);
	request = request_of(fcinfo, 3, wait_arg(fcinfo, 2));
	(void) plat_bulkhead_take(&request, PLAT_SCOPE_CALL, true);
	ticket = plat_bulkhead_ticket_of(request.place);
	error = plat_statement_run(fcinfo, &statement);
	(void) plat_bulkhead_release_place(request.place, ticket, true);
	if (error)
		ReThrowError(error);
	return (Datum) 0;
}

/*
 * platpat.create_bulkhead(...) returns void: for administrators; the arguments
 * are the columns of platpat.bulkheads. Raises 22004, 22023, 42710.
 */
Datum
plat_bulkhead_create(PG_FUNCTION_ARGS)
{
	plat_named_create(&plat_bulkheads, fcinfo);
	PG_RETURN_VOID();
}

/*
 * platpat.alter_bulkhead(...) returns void: likewise; NULL leaves a column as
 * it is.  Those who wait are let in at its commit if there is room by then.
 * Raises 22004, 22023, 42704.
 */
Datum
plat_bulkhead_alter(PG_FUNCTION_ARGS)
{
	plat_named_alter(&plat_bulkheads, fcinfo);
	PG_RETURN_VOID();
}

/*
 * platpat.drop_bulkhead(bulkhead text) returns void: likewise. Who waits gets
 * 42704 at its commit, who has a slot is not disturbed. Raises 22004, 22023,
 * 42704.
 */
Datum
plat_bulkhead_drop(PG_FUNCTION_ARGS)
{
	plat_named_drop(&plat_bulkheads, fcinfo);
	PG_RETURN_VOID();
}

/*
 * BEFORE INSERT OR UPDATE row trigger of platpat.bulkheads. New rules of one
 * that there is are for shared memory, at the commit.
 */
Datum
plat_bulkhead_check_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	PlatNamed  *definition = plat_named_check_row(&plat_bulkheads, fcinfo);

	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		plat_bulkhead_note_rules((PlatBulkheadDefinition *) definition);
	return PointerGetDatum(plat_trigger_row(trigger));
}

/*
 * AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE trigger: every session reads
 * its bulkheads anew, and those who wait are woken for it at the commit, as is
 * the controller.
 */
Datum
plat_bulkhead_changed(PG_FUNCTION_ARGS)
{
	plat_bulkhead_note_change();
	plat_worker_wake_at_commit("bulkheads");
	return plat_config_changed(fcinfo);
}
