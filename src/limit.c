/*
 * limit.c
 *		Token buckets by key: who may act now, and who must wait how long.
 *
 * A bucket is one slot of the shared table; limit_charge.c charges it and
 * limit_core.c does the arithmetic.  Here are the settings of the module and
 * the SQL functions that take a key, a rate and a burst.  What a call site
 * computed from its arguments is kept for its next call, because they are
 * mostly the same.
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
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "limit.h"
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
		plat_limit_clock(), ~plat_limit_clock()
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
 * Raise 22004 for an argument that must not be NULL. The functions are not
 * STRICT, because NULL must never read as "allowed".
 */
void
plat_limit_refuse_null(FunctionCallInfo fcinfo, int argno, const char *what)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
}

/*
 * Raise 22023 for a limit or a cost that cannot be; PLAT_LIMIT_FINE passes.
 */
void
plat_limit_refuse(PlatLimitProblem problem, const PlatRate *rate, double cost)
{
	switch (problem)
	{
		case PLAT_LIMIT_FINE:
			return;
		case PLAT_LIMIT_BAD_RATE:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("rate is %g", rate->rate),
					 errdetail("It is a positive, finite number of tokens per time.")));
			break;
		case PLAT_LIMIT_BAD_BURST:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("burst is %g", rate->burst),
					 errdetail("It is a positive, finite number of tokens.")));
			break;
		case PLAT_LIMIT_BAD_PER:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the time that the rate is for must be positive and finite")));
			break;
		case PLAT_LIMIT_BAD_COST:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("cost is %g", cost),
					 errdetail("It is a finite number of tokens and not negative.")));
			break;
		case PLAT_LIMIT_TOO_SLOW:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a bucket of %g tokens would take more than 100 years to fill",
							rate->burst)));
			break;
		case PLAT_LIMIT_COST_TOO_HIGH:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("cost %g is more than burst %g", cost, rate->burst),
					 errdetail("It could never be granted.")));
			break;
	}
}

/*
 * The length of an interval in nanoseconds: months of 30 days, days of 24
 * hours, as intervals compare. Infinity for either infinite interval.
 */
double
plat_interval_ns(const Interval *interval)
{
	double		days = interval->month * (double) DAYS_PER_MONTH + interval->day;

	if (INTERVAL_NOT_FINITE(interval))
		return get_float8_infinity();
	return (days * USECS_PER_DAY + interval->time) * 1000;
}

/*
 * Make what the call site keeps between calls, in the memory of its
 * expression, and look up of which type its key is: text, uuid or bigint.
 */
PlatLimitSite *
plat_limit_make_site(FunctionCallInfo fcinfo)
{
	PlatLimitSite *site;
	Oid		   *types;
	int			nargs;

	plat_shmem_require();
	site = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(PlatLimitSite));
	(void) get_func_signature(fcinfo->flinfo->fn_oid, &types, &nargs);
	site->key_type = types[0];
	fcinfo->flinfo->fn_extra = site;
	return site;
}

/*
 * Read the first argument as a key of callers: 22004 for NULL and for the
 * empty string. The text stays where it is.
 */
static pg_attribute_always_inline void
read_key(FunctionCallInfo fcinfo, PlatLimitSite *site, PlatSlotKey *key)
{
	if (unlikely(PG_ARGISNULL(0)))
		plat_limit_refuse_null(fcinfo, 0, "key");
	if (likely(site->key_type == TEXTOID))
	{
		text	   *value = PG_GETARG_TEXT_PP(0);

		key->name = VARDATA_ANY(value);
		key->len = VARSIZE_ANY_EXHDR(value);
	}
	else if (site->key_type == UUIDOID)
	{
		plat_print_uuid(PG_GETARG_UUID_P(0), site->key);
		key->name = site->key;
		key->len = 36;
	}
	else
	{
		key->name = site->key;
		key->len = pg_lltoa(PG_GETARG_INT64(0), site->key);
	}
	if (unlikely(key->len == 0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key must not be empty")));
	key->space = PLAT_SPACE_KEY;
	key->hash = plat_slots_hash(MyDatabaseId, PLAT_SPACE_KEY,
								key->name, key->len);
}

/*
 * Compute what the call site keeps from its arguments: 22004 for NULL, 22023
 * for a limit or a cost that cannot be.
 */
static void
read_rate(FunctionCallInfo fcinfo, PlatLimitSite *site)
{
	static const char *const names[] = {"key", "rate", "burst", "cost", "per"};

	for (int i = 1; i < 5; i++)
		plat_limit_refuse_null(fcinfo, i, names[i]);
	site->has_rate = false;
	site->rate.rate = PG_GETARG_FLOAT8(1);
	site->rate.burst = PG_GETARG_FLOAT8(2);
	site->cost = PG_GETARG_FLOAT8(3);
	site->per = *PG_GETARG_INTERVAL_P(4);
	site->rate.per_ns = plat_interval_ns(&site->per);
	plat_limit_refuse(plat_rate_problem(&site->rate, site->cost),
					  &site->rate, site->cost);
	site->cost_ns = plat_rate_ns(&site->rate, site->cost);
	site->burst_ns = plat_rate_ns(&site->rate, site->rate.burst);
	site->has_rate = true;
}

/*
 * Whether the arguments are those that the call site has computed from.
 */
static inline bool
is_same_rate(FunctionCallInfo fcinfo, const PlatLimitSite *site)
{
	if (!site->has_rate || PG_ARGISNULL(1) || PG_ARGISNULL(2) ||
		PG_ARGISNULL(3) || PG_ARGISNULL(4))
		return false;
	return site->rate.rate == PG_GETARG_FLOAT8(1) &&
		site->rate.burst == PG_GETARG_FLOAT8(2) &&
		site->cost == PG_GETARG_FLOAT8(3) &&
		memcmp(&site->per, PG_GETARG_INTERVAL_P(4), sizeof(Interval)) == 0;
}

/*
 * Read the arguments (key, rate, burst, cost, per) as a charge.
 */
static pg_attribute_always_inline void
read_charge(FunctionCallInfo fcinfo, PlatLimitSite *site, PlatCharge *charge)
{
	read_key(fcinfo, site, &charge->key);
	plat_slots_prefetch(charge->key.hash);
	if (unlikely(!is_same_rate(fcinfo, site)))
		read_rate(fcinfo, site);
	charge->cost = site->cost_ns;
	charge->limit = site->burst_ns;
	charge->epoch = PLAT_EPOCH_KEY;
}

/*
 * The same, for what is not the hot path.
 */
void
plat_limit_read_charge(FunctionCallInfo fcinfo, PlatLimitSite *site,
					   PlatCharge *charge)
{
	read_charge(fcinfo, site, charge);
}

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

	read_charge(fcinfo, site, &charge);
	PG_RETURN_BOOL(plat_charge(&charge, plat_limit_clock(), 0));
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

	read_charge(fcinfo, site, &charge);
	allowed = plat_charge(&charge, plat_limit_clock(), 0);
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
	plat_charge_peek(&charge, plat_limit_clock(), 0);
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
	if (plat_charge(&charge, plat_limit_clock(), 0))
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
	plat_charge_undo((PlatCharge *) DatumGetPointer(charge), plat_limit_clock());
}

/*
 * Sleep until a time of plat_limit_clock(), open to cancellation.
 */
static void
sleep_until(uint64 when)
{
	for (;;)
	{
		uint64		now = plat_limit_clock();
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
 * platpat.wait_for_rate_limit(key, rate, burst, cost, per, max_wait interval)
 * returns boolean: VOLATILE, PARALLEL RESTRICTED, for PUBLIC.
 *
 * Takes a place in the queue at once and sleeps until it comes up: true.
 * False, without sleeping and without a charge, if that would take longer
 * than max_wait.  Those who wait come up in the order in which they called,
 * and others are refused meanwhile.  A cancelled wait gives its place back.
 */
Datum
plat_limit_wait(PG_FUNCTION_ARGS)
{
	PlatLimitSite *site = plat_limit_site(fcinfo);
	double		max_wait = max_wait_arg(fcinfo);
	PlatCharge	charge;
	uint64		now;

	plat_limit_read_charge(fcinfo, site, &charge);
	now = plat_limit_clock();
	plat_charge_peek(&charge, now, 0);
	if ((double) charge.wait > max_wait)
		PG_RETURN_BOOL(plat_charge(&charge, now, 0));
	plat_charge_reserve(&charge, now);
	if (charge.slot == NULL)
		PG_RETURN_BOOL(charge.no_place &&
					   plat_limit_on_full == PLAT_ON_FULL_ALLOW);
	if ((double) charge.wait > max_wait)
	{
		plat_charge_undo(&charge, plat_limit_clock());
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
	now = plat_limit_clock();
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

	read_key(fcinfo, site, &key);
	PG_RETURN_BOOL(plat_slots_clear(key.hash, plat_limit_clock(),
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

	plat_limit_refuse_null(fcinfo, argno, what);
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

	plat_limit_refuse_null(fcinfo, 3, "cost");
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
	PG_RETURN_BOOL(plat_charge_all(charges, nkeys, plat_limit_clock(), 0));
}
