/*
 * limit.c
 *		Token buckets by key: who may act now, and who must wait how long.
 *
 * A bucket is one slot of the shared table; limit_charge.c charges it and
 * limit_core.c does the arithmetic.  Here are the settings of the module and
 * the SQL functions that take a key, a rate and a burst.
 *
 * Nothing here is undone by ROLLBACK: who rolls back has acted all the same.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "limit.h"
#include "limit_arg.h"
#include "shmem.h"
#include "sql.h"

/* Most keys of one call of allow_requests(). */
#define MAX_KEYS 1000

PG_FUNCTION_INFO_V1(plat_limit_allow);
PG_FUNCTION_INFO_V1(plat_limit_consume);
PG_FUNCTION_INFO_V1(plat_limit_enforce);
PG_FUNCTION_INFO_V1(plat_limit_peek);
PG_FUNCTION_INFO_V1(plat_limit_wait);
PG_FUNCTION_INFO_V1(plat_limit_refund);
PG_FUNCTION_INFO_V1(plat_limit_reset);
PG_FUNCTION_INFO_V1(plat_limit_reset_all);
PG_FUNCTION_INFO_V1(plat_limit_allow_all);

/* Settings; docs/settings.md describes them. */
int			plat_limit_slots = 131072;
int			plat_limit_flush_interval = 1000;

static const struct config_enum_entry on_full_options[] = {
	{"evict", PLAT_ON_FULL_EVICT, false},
	{"deny", PLAT_ON_FULL_DENY, false},
	{"allow", PLAT_ON_FULL_ALLOW, false},
	{NULL, 0, false}
};

/*
 * Define the settings of the module.  The size of the table is decided at the
 * start of the server; a session that loads the library itself may not define
 * a setting of that context, and it only counts there for who makes the
 * table.
 */
static void
define_settings(bool preload)
{
	DefineCustomIntVariable("platpat.limit_slots",
							"Entries of the shared table of rate limits and quotas.",
							"Rounded up to a power of two; 200 bytes each.",
							&plat_limit_slots, 131072, 1024, 16777216,
							preload ? PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomEnumVariable("platpat.limit_on_full",
							 "What happens to a new key when its place in the table is full of live ones.",
							 NULL,
							 &plat_limit_on_full, PLAT_ON_FULL_EVICT,
							 on_full_options, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("platpat.limit_flush_interval",
							"Time between two writes of the quotas to disk.",
							"What a crash can lose.",
							&plat_limit_flush_interval, 1000, 10, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	plat_limit_define_tier_setting();
	plat_limit_define_error_setting();
	plat_limit_watch_executor();
}

static Size
shmem_size(void)
{
	return plat_slots_size(plat_limit_slots);
}

/*
 * Make a new table, with a seed that callers cannot know. Without a source of
 * randomness the time has to do.
 */
static void
shmem_fill(void *part, Size size)
{
	PlatSeed	seed;

	if (!pg_strong_random(&seed, sizeof(seed)))
		seed = (PlatSeed)
	{
		plat_clock(), ~plat_clock()
	};
	plat_slots_fill(part, size, seed);
}

static const char *const admin_grants[] = {
	"EXECUTE ON FUNCTION platpat.refund_rate_limit(text, float8, float8, float8, interval)",
	"EXECUTE ON FUNCTION platpat.refund_rate_limit(uuid, float8, float8, float8, interval)",
	"EXECUTE ON FUNCTION platpat.refund_rate_limit(bigint, float8, float8, float8, interval)",
	"EXECUTE ON FUNCTION platpat.reset_rate_limit(text)",
	"EXECUTE ON FUNCTION platpat.reset_rate_limit(uuid)",
	"EXECUTE ON FUNCTION platpat.reset_rate_limit(bigint)",
	"EXECUTE ON FUNCTION platpat.reset_rate_limits()",
	"EXECUTE ON FUNCTION platpat.set_tier(text, text)",
	"EXECUTE ON FUNCTION platpat.set_tier(uuid, text)",
	"EXECUTE ON FUNCTION platpat.set_tier(bigint, text)",
	"EXECUTE ON FUNCTION platpat.reset_tenant_limit(text)",
	"EXECUTE ON FUNCTION platpat.reset_tenant_limit(uuid)",
	"EXECUTE ON FUNCTION platpat.reset_tenant_limit(bigint)",
	"EXECUTE ON FUNCTION platpat.reset_stats()",
	"EXECUTE ON FUNCTION platpat.metrics()",
	"EXECUTE ON FUNCTION platpat.limit_state()",
	"INSERT, UPDATE, DELETE ON platpat.tiers",
	"SELECT, INSERT, UPDATE, DELETE ON platpat.tenants",
	"SELECT ON platpat.stat_rate_limits, platpat.stat_tenants, platpat.quota_usage",
	NULL
};

const PlatModule plat_limit_module = {
	.name = "limit",
	.define_settings = define_settings,
	.admin_grants = admin_grants,
	.shmem_size = shmem_size,
	.shmem_fill = shmem_fill,
	.shmem_adopt = plat_slots_adopt,
	.shmem_start = plat_limit_start,
	.work = plat_limit_work,
	.put_metrics = plat_limit_put_metrics,
	.reset_stats = plat_limit_reset_stats,
};

/*
 * The tokens that are left after a charge, or that there are without it.
 */
static double
remaining(const PlatLimitSite *site, const PlatCharge *charge)
{
	uint64		left = charge->limit - Min(charge->level, charge->limit);

	return plat_rate_tokens(&site->rate, left);
}

/*
 * The data of a row (allowed, remaining, retry_after, reset_after) without
 * nulls, as PostgreSQL lays it out.
 */
typedef struct OutcomeRow
{
	bool		allowed;
	double		remaining;
	Interval	retry_after;
	Interval	reset_after;
} OutcomeRow;

StaticAssertDecl(offsetof(OutcomeRow, remaining) == 8 &&
				 offsetof(OutcomeRow, retry_after) == 16 &&
				 offsetof(OutcomeRow, reset_after) == 32,
				 "columns are aligned as their types want");

/*
 * Form a row the usual way; retry_after is NULL for a wait that nobody knows.
 */
static HeapTupleHeader
form_row(FunctionCallInfo fcinfo, PlatLimitSite *site, OutcomeRow *row,
		 bool knows_wait)
{
	Datum		values[4];
	bool		nulls[4] = {false, false, !knows_wait, false};
	MemoryContext caller;

	if (site->desc == NULL)
	{
		caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		if (get_call_result_type(fcinfo, NULL, &site->desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		site->desc = BlessTupleDesc(site->desc);
		MemoryContextSwitchTo(caller);
	}
	values[0] = BoolGetDatum(row->allowed);
	values[1] = Float8GetDatum(row->remaining);
	values[2] = IntervalPGetDatum(&row->retry_after);
	values[3] = IntervalPGetDatum(&row->reset_after);
	return DatumGetHeapTupleHeader(HeapTupleGetDatum(heap_form_tuple(site->desc,
																	 values, nulls)));
}

/*
 * The outcome of a charge as a row.  Rows of a call site differ in nothing but
 * their data, so all but the first are copies of a form with the data filled
 * in.
 */
static Datum
outcome(FunctionCallInfo fcinfo, PlatLimitSite *site, const PlatCharge *charge,
		bool allowed)
{
	bool		knows_wait = allowed || charge->wait != PLAT_LIMIT_NEVER;
	OutcomeRow	row = {
		.allowed = allowed,
		.remaining = remaining(site, charge),
		.retry_after.time = plat_ns_to_us(allowed ? 0 : charge->wait),
		.reset_after.time = plat_ns_to_us(charge->level),
	};
	HeapTupleHeader tuple;

	if (unlikely(!knows_wait))
		return HeapTupleHeaderGetDatum(form_row(fcinfo, site, &row, false));
	if (unlikely(site->form == NULL))
	{
		tuple = form_row(fcinfo, site, &row, true);
		site->form = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt,
										HeapTupleHeaderGetDatumLength(tuple));
		memcpy(site->form, tuple, HeapTupleHeaderGetDatumLength(tuple));
	}
	tuple = palloc(HeapTupleHeaderGetDatumLength(site->form));
	memcpy(tuple, site->form, HeapTupleHeaderGetDatumLength(site->form));
	memcpy((char *) tuple + tuple->t_hoff, &row, sizeof(row));
	return PointerGetDatum(tuple);
}

/*
 * platpat.allow_request(key, rate float8, burst float8, cost float8, per
 * interval) returns boolean: VOLATILE, PARALLEL RESTRICTED, for PUBLIC.
 *
 * Whether cost tokens were taken from the bucket of the key. Raises 22004,
 * 22023, 55000.
 */
Datum
plat_limit_allow(PG_FUNCTION_ARGS)
{
	PlatLimitSite *site = plat_limit_site(fcinfo);
	PlatCharge	charge;

	plat_limit_read_charge(fcinfo, site, &charge);
	PG_RETURN_BOOL(plat_charge(&charge, plat_clock(), 0));
}

/*
 * platpat.consume_rate_limit(the same) returns (allowed boolean, remaining
 * float8, retry_after interval, reset_after interval): likewise.
 */
Datum
plat_limit_consume(PG_FUNCTION_ARGS)
{
	PlatLimitSite *site = plat_limit_site(fcinfo);
	PlatCharge	charge;
	bool		allowed;

	plat_limit_read_charge(fcinfo, site, &charge);
	allowed = plat_charge(&charge, plat_clock(), 0);
	return outcome(fcinfo, site, &charge, allowed);
}

/*
 * platpat.peek_rate_limit(the same) returns the same row, as a call of
 * consume_rate_limit() would begin with: remaining is before the charge, and
 * nothing is charged.
 */
Datum
plat_limit_peek(PG_FUNCTION_ARGS)
{
	PlatLimitSite *site = plat_limit_site(fcinfo);
	PlatCharge	charge;

	plat_limit_read_charge(fcinfo, site, &charge);
	plat_charge_peek(&charge, plat_clock(), 0);
	return outcome(fcinfo, site, &charge, charge.wait == 0);
}

/*
 * platpat.enforce_rate_limit(the same) returns boolean: true, or raises
 * 53400, in the style of platpat.limit_error_style.
 */
Datum
plat_limit_enforce(PG_FUNCTION_ARGS)
{
	PlatLimitSite *site = plat_limit_site(fcinfo);
	PlatCharge	charge;
	PlatRefusal refusal;

	plat_limit_read_charge(fcinfo, site, &charge);
	if (plat_charge(&charge, plat_clock(), 0))
		PG_RETURN_BOOL(true);
	refusal = (PlatRefusal)
	{
		.what = "rate limit",
			.key_label = "key",
			.key = plat_clip(pnstrdup(charge.key.name, charge.key.len)),
			.policy = "default",
			.limit = site->rate.burst,
			.remaining = remaining(site, &charge),
			.window = site->burst_ns,
			.wait = charge.wait,
			.no_place = charge.no_place,
	};
	plat_limit_raise(&refusal);
}

/*
 * Give a reservation back: the callback of a wait that did not end well.
 */
static void
cancel_reservation(int code, Datum charge)
{
	plat_charge_undo((PlatCharge *) DatumGetPointer(charge), plat_clock());
}

/*
 * Sleep until a time of plat_clock(), open to cancellation.
 */
static void
sleep_until(uint64 when)
{
	for (;;)
	{
		uint64		now = plat_clock();
		uint64		ms = when > now ? (when - now + 999999) / 1000000 : 0;

		CHECK_FOR_INTERRUPTS();
		if (ms == 0)
			return;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) Min(ms, 3600000), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/*
 * The longest that wait_for_rate_limit() may wait, in nanoseconds: 22023 if
 * negative, no end if NULL.
 */
static double
max_wait_arg(FunctionCallInfo fcinfo)
{
	double		ns;

	if (PG_ARGISNULL(5))
		return (double) PLAT_LIMIT_MAX_NS;
	ns = plat_interval_ns(PG_GETARG_INTERVAL_P(5));
	if (ns < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_wait must not be negative")));
	return ns;
}

/*
 * Whether statement_timeout will end the statement before ns nanoseconds are
 * over.
 */
static bool
outlasts_statement(uint64 ns)
{
	TimestampTz end;

	if (!get_timeout_active(STATEMENT_TIMEOUT))
		return false;
	end = get_timeout_finish_time(STATEMENT_TIMEOUT);
	return (double) (end - GetCurrentTimestamp()) * 1000 < (double) ns;
}

/*
 * platpat.wait_for_rate_limit(key, rate, burst, cost, per, max_wait interval)
 * returns boolean: VOLATILE, PARALLEL RESTRICTED, for PUBLIC.
 *
 * Takes a place in the queue at once and sleeps until it comes up: true.
 * False, without sleeping and without a charge, if that would take longer
 * than max_wait.  Those who wait come up in the order in which they called,
 * and others are refused meanwhile.  A cancelled wait gives its place back
 * unless somebody has queued up behind it.  So one that statement_timeout is
 * sure to end takes no place: the queue would fill with the places of the
 * dead.
 */
Datum
plat_limit_wait(PG_FUNCTION_ARGS)
{
	PlatLimitSite *site = plat_limit_site(fcinfo);
	double		max_wait = max_wait_arg(fcinfo);
	PlatCharge	charge;
	uint64		now;

	plat_limit_read_charge(fcinfo, site, &charge);
	now = plat_clock();
	plat_charge_peek(&charge, now, 0);
	if ((double) charge.wait > max_wait)
		PG_RETURN_BOOL(plat_charge(&charge, now, 0));
	while (charge.wait > 0 && outlasts_statement(charge.wait))
	{
		sleep_until(now + charge.wait);
		now = plat_clock();
		plat_charge_peek(&charge, now, 0);
	}
	plat_charge_reserve(&charge, now);
	if (charge.slot == NULL)
		PG_RETURN_BOOL(charge.no_place &&
					   plat_limit_on_full == PLAT_ON_FULL_ALLOW);
	if ((double) charge.wait > max_wait)
	{
		plat_charge_undo(&charge, plat_clock());
		PG_RETURN_BOOL(false);
	}
	PG_ENSURE_ERROR_CLEANUP(cancel_reservation, PointerGetDatum(&charge));
	{
		sleep_until(now + charge.wait);
	}
	PG_END_ENSURE_ERROR_CLEANUP(cancel_reservation, PointerGetDatum(&charge));
	PG_RETURN_BOOL(true);
}

/*
 * platpat.refund_rate_limit(key, rate, burst, cost, per) returns float8, the
 * tokens there are then: for administrators.
 *
 * Gives tokens back; the bucket is full at most. Raises 22004, 22023, 55000.
 */
Datum
plat_limit_refund(PG_FUNCTION_ARGS)
{
	PlatLimitSite *site = plat_limit_site(fcinfo);
	PlatCharge	charge;
	uint64		now;

	plat_limit_read_charge(fcinfo, site, &charge);
	now = plat_clock();
	plat_charge_refund(&charge, now);
	plat_charge_peek(&charge, now, 0);
	PG_RETURN_FLOAT8(remaining(site, &charge));
}

/*
 * platpat.reset_rate_limit(key) returns boolean: for administrators.
 *
 * Fills the bucket of a key; false if there was none. Raises 22004, 55000.
 */
Datum
plat_limit_reset(PG_FUNCTION_ARGS)
{
	PlatLimitSite *site = plat_limit_site(fcinfo);
	PlatSlotKey key;

	plat_limit_read_key(fcinfo, site, &key);
	PG_RETURN_BOOL(plat_slots_clear(key.hash, plat_clock(),
									PLAT_EPOCH_KEY));
}

/*
 * platpat.reset_rate_limits() returns bigint: for administrators.
 *
 * Fills the buckets of all keys of the current database, by taking them out of
 * the table; returns how many there were. Raises 55000.
 */
Datum
plat_limit_reset_all(PG_FUNCTION_ARGS)
{
	plat_shmem_require();
	PG_RETURN_INT64(plat_slots_remove(MyDatabaseId, PLAT_SPACE_KEY));
}

/*
 * The elements of an array argument; 22004 if it or one of them is NULL,
 * 22023 if it has more than one dimension.
 */
static Datum *
array_arg(FunctionCallInfo fcinfo, int argno, const char *what, Oid type,
		  int *count)
{
	ArrayType  *array;
	Datum	   *values;
	bool	   *nulls;
	int16		len;
	bool		by_value;
	char		align;

	plat_refuse_null(fcinfo, argno, what);
	array = PG_GETARG_ARRAYTYPE_P(argno);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must have one dimension", what)));
	get_typlenbyvalalign(type, &len, &by_value, &align);
	deconstruct_array(array, type, len, by_value, align, &values, &nulls, count);
	for (int i = 0; i < *count; i++)
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not contain nulls", what)));
	return values;
}

/*
 * One of the charges of allow_requests().
 */
static PlatCharge
make_charge(text * key, const PlatRate *rate, double cost)
{
	PlatCharge	charge = {0};

	plat_limit_refuse(plat_rate_problem(rate, cost), rate, cost);
	charge.key.space = PLAT_SPACE_KEY;
	charge.key.name = VARDATA_ANY(key);
	charge.key.len = VARSIZE_ANY_EXHDR(key);
	if (charge.key.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key must not be empty")));
	charge.key.hash = plat_slots_hash(MyDatabaseId, PLAT_SPACE_KEY,
									  charge.key.name, charge.key.len);
	charge.cost = plat_rate_ns(rate, cost);
	charge.limit = plat_rate_ns(rate, rate->burst);
	return charge;
}

/*
 * platpat.allow_requests(keys text[], rates float8[], bursts float8[], cost
 * float8) returns boolean: VOLATILE, PARALLEL RESTRICTED, for PUBLIC.
 *
 * Whether cost tokens were taken from each of the buckets; if one has not
 * enough none is charged. Rates are per second. Raises 22004, 22023, 55000.
 */
Datum
plat_limit_allow_all(PG_FUNCTION_ARGS)
{
	int			nkeys;
	int			nrates;
	int			nbursts;
	Datum	   *keys = array_arg(fcinfo, 0, "keys", TEXTOID, &nkeys);
	Datum	   *rates = array_arg(fcinfo, 1, "rates", FLOAT8OID, &nrates);
	Datum	   *bursts = array_arg(fcinfo, 2, "bursts", FLOAT8OID, &nbursts);
	PlatCharge *charges;

	plat_refuse_null(fcinfo, 3, "cost");
	plat_shmem_require();
	if (nkeys == 0 || nkeys > MAX_KEYS || nrates != nkeys || nbursts != nkeys)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%d keys, %d rates and %d bursts", nkeys, nrates, nbursts),
				 errdetail("There must be as many of each, and 1 to %d.", MAX_KEYS)));
	charges = palloc(sizeof(PlatCharge) * nkeys);
	for (int i = 0; i < nkeys; i++)
	{
		PlatRate	rate = {
			.rate = DatumGetFloat8(rates[i]),
			.burst = DatumGetFloat8(bursts[i]),
			.per_ns = 1e9,
		};

		charges[i] = make_charge(DatumGetTextPP(keys[i]), &rate,
								 PG_GETARG_FLOAT8(3));
	}
	PG_RETURN_BOOL(plat_charge_all(charges, nkeys, plat_clock(), 0));
}
