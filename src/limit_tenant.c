/*
 * limit_tenant.c
 *		What holds for a tenant: its tier, its own values, and charging them.
 *
 * The tables tiers and tenants say it.  Each backend keeps what it has read,
 * until a relcache invalidation of one of them tells it to read again; so the
 * hot path looks at no table, and a change counts from the next call on, in
 * every session, inside of running transactions too.  The tables are read as
 * catalogs are, under a snapshot of their own: a limit is what is committed
 * now, or written by this transaction, not what a REPEATABLE READ snapshot
 * remembers.
 *
 * Nothing here is shared but the slots, which limit_charge.c charges.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "compat.h"
#include "config_table.h"
#include "limit.h"
#include "limit_arg.h"
#include "shmem.h"
#include "sql.h"
#include "tenant.h"

/* Most tenants that a backend keeps. */
#define MAX_CACHED 10000

/* Longest name of a tier in bytes. */
#define TIER_MAX 255

/*
 * A row of tiers or tenants, as far as it says something; NaN, -1 and NULL
 * for what it leaves open.
 */
typedef struct LimitRow
{
	char	   *tier;
	char	   *zone;
	double		rate;
	double		burst;
	double		per_ns;
	int64		quotas[PLAT_WINDOW_UNITS];
} LimitRow;

static const char *const quota_columns[PLAT_WINDOW_UNITS] = {
	"hourly_quota", "daily_quota", "weekly_quota", "monthly_quota"
};

/* platpat.limit_default_tier */
static char *default_tier = NULL;

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;

/* Counted up by every change that this backend hears of. */
static uint64 generation = 1;

/* The tables whose invalidations count, as of the last reading. */
static Oid	tiers_relid = InvalidOid;
static Oid	tenants_relid = InvalidOid;

/* The answer of the last look, which is mostly the answer of the next. */
static PlatTenantLimits *last = NULL;

PG_FUNCTION_INFO_V1(plat_limit_allow_tenant);
PG_FUNCTION_INFO_V1(plat_limit_consume_tenant);
PG_FUNCTION_INFO_V1(plat_limit_peek_tenant);
PG_FUNCTION_INFO_V1(plat_limit_enforce_tenant);
PG_FUNCTION_INFO_V1(plat_limit_set_tier);
PG_FUNCTION_INFO_V1(plat_limit_reset_tenant);
PG_FUNCTION_INFO_V1(plat_limit_check_row);
PG_FUNCTION_INFO_V1(plat_limit_check_users);
PG_FUNCTION_INFO_V1(plat_limit_quota_window);

/*
 * Another default tier: what was read does not hold.
 */
static void
assign_default_tier(const char *value, void *extra)
{
	generation++;
}

/*
 * Part of define_settings of the module.
 */
void
plat_limit_define_tier_setting(void)
{
	DefineCustomStringVariable("platpat.limit_default_tier",
							   "The tier of tenants that have none.",
							   NULL,
							   &default_tier, "free", PGC_SUSET, 0,
							   NULL, assign_default_tier, NULL);
}

/*
 * Relcache callback; runs wherever invalidations are accepted, so it only
 * counts.
 */
static void
on_invalidation(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == tiers_relid || relid == tenants_relid)
		generation++;
}

/*
 * Make the cache anew: at the first look of this backend, and when it has
 * become too large.
 */
static void
prepare_cache(void)
{
	HASHCTL		control = {
		.keysize = PLAT_TENANT_MAX + 1,
		.entrysize = sizeof(PlatTenantLimits),
	};

	if (cache && hash_get_num_entries(cache) < MAX_CACHED)
		return;
	if (cache_context == NULL)
	{
		cache_context = AllocSetContextCreate(CacheMemoryContext,
											  "platpat limits",
											  ALLOCSET_DEFAULT_SIZES);
		CacheRegisterRelcacheCallback(on_invalidation, (Datum) 0);
	}
	last = NULL;
	cache = NULL;
	MemoryContextReset(cache_context);
	control.hcxt = cache_context;
	cache = hash_create("platpat limits", 64, &control,
						HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/*
 * Take what a row says over what *limits has from another. Rate, burst and the
 * time that they are for go together.
 */
static void
apply_row(Relation rel, HeapTuple row, LimitRow *limits)
{
	Datum		value;
	double		rate = plat_column_float(rel, row, "rate");
	double		burst = plat_column_float(rel, row, "burst");
	char	   *tier = plat_column_text(rel, row, "tier");
	char	   *zone = plat_column_text(rel, row, "time_zone");

	if (!isnan(rate))
	{
		limits->rate = rate;
		limits->burst = burst;
		limits->per_ns = 1e9;
	}
	if (plat_column(rel, row, "per", &value))
		limits->per_ns = plat_interval_ns(DatumGetIntervalP(value));
	if (tier)
		limits->tier = tier;
	if (zone)
		limits->zone = zone;
	for (int i = 0; i < PLAT_WINDOW_UNITS; i++)
		if (plat_column(rel, row, quota_columns[i], &value))
			limits->quotas[i] = DatumGetInt64(value);
}

/*
 * What plat_config_read() does with a row of tiers or tenants.
 */
static void
apply_found_row(Relation rel, HeapTuple row, void *limits)
{
	apply_row(rel, row, limits);
}

/*
 * Read what holds for a tenant: its tier, or the default one, and what the
 * row of the tenant says over it. 42704 if the tier does not exist: there is
 * no foreign key, because a parallel restore fills both tables at once.
 */
static LimitRow
read_limits(const char *tenant)
{
	LimitRow	own = {.rate = get_float8_nan(),.burst = get_float8_nan()};
	LimitRow	limits;
	bool		is_registered;

	for (int i = 0; i < PLAT_WINDOW_UNITS; i++)
		own.quotas[i] = -1;
	limits = own;
	tiers_relid = plat_our_table("tiers");
	tenants_relid = plat_our_table("tenants");
	is_registered = plat_config_read(tenants_relid, tenant, apply_found_row, &own);
	if (!plat_config_read(tiers_relid, own.tier ? own.tier : default_tier,
						  apply_found_row, &limits))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("tier \"%s\" does not exist",
						plat_clip(own.tier ? own.tier : default_tier)),
				 own.tier ? errhint("Put the tenant into another tier with platpat.set_tier(tenant, tier).") :
				 errhint("Set platpat.limit_default_tier to the tier of tenants that have none.")));
	if (is_registered)
		(void) plat_config_read(tenants_relid, tenant, apply_found_row, &limits);
	return limits;
}

/*
 * The time zone of this name; 22023 if there is none, or it has leap seconds.
 */
static pg_tz *
find_zone(const char *name)
{
	pg_tz	   *zone = pg_tzset(name);

	if (zone == NULL || !pg_tz_acceptable(zone))
		plat_refuse_value(psprintf("unknown time zone \"%s\"", plat_clip(name)),
						  "The names are those of pg_timezone_names.");
	return zone;
}

/*
 * Compile what was read into an entry of the cache.
 */
static void
compile(PlatTenantLimits *limits, const LimitRow *row)
{
	size_t		len = strlen(limits->tenant);

	strlcpy(limits->tier, row->tier, sizeof(limits->tier));
	limits->cost = -1;
	limits->rate = (PlatRate)
	{
		row->rate, row->burst, row->per_ns
	};
	limits->has_rate = !isnan(row->rate) && !isnan(row->burst);
	limits->burst_ns = 2 * PLAT_LIMIT_MAX_NS;
	if (limits->has_rate)
	{
		plat_limit_refuse(plat_rate_problem(&limits->rate, 0), &limits->rate, 0);
		limits->burst_ns = plat_rate_ns(&limits->rate, limits->rate.burst);
	}
	limits->hash = plat_slots_hash(MyDatabaseId, PLAT_SPACE_TENANT,
								   limits->tenant, len);
	limits->zone = find_zone(row->zone);
	limits->nquotas = 0;
	for (int i = 0; i < PLAT_WINDOW_UNITS; i++)
	{
		PlatQuota  *quota = &limits->quotas[limits->nquotas];

		if (row->quotas[i] < 0)
			continue;
		*quota = (PlatQuota)
		{
			.unit = (PlatWindowUnit) i,
				.tokens = row->quotas[i],
				.hash = plat_slots_hash(MyDatabaseId, PLAT_SPACE_QUOTA(i),
										limits->tenant, len),
		};
		limits->nquotas++;
	}
}

/*
 * What holds for a tenant, whose id is valid. Good until the next call.
 */
PlatTenantLimits *
plat_limits_of(const char *tenant)
{
	PlatTenantLimits *limits;
	uint64		read_at;
	LimitRow	row;

	AcceptInvalidationMessages();
	if (likely(last && last->generation == generation &&
			   strcmp(last->tenant, tenant) == 0))
		return last;
	plat_shmem_require();
	prepare_cache();
	limits = hash_search(cache, tenant, HASH_FIND, NULL);
	if (limits == NULL || limits->generation != generation)
	{
		/* Reading accepts invalidations, and those are for the next look. */
		read_at = generation;
		row = read_limits(tenant);
		limits = hash_search(cache, tenant, HASH_ENTER, NULL);
		limits->generation = 0;
		compile(limits, &row);
		limits->generation = read_at;
	}
	last = limits;
	return limits;
}

/*
 * Make sure that the window of a quota is the one that now is in. XX000 for
 * times that timestamps hardly reach.
 */
static void
look_at_calendar(PlatTenantLimits *limits, PlatQuota *quota, TimestampTz wall)
{
	if (likely(wall >= quota->start && wall < quota->end))
		return;
	if (!plat_window_bounds(quota->unit, limits->zone, wall,
							&quota->start, &quota->end))
		elog(ERROR, "cannot tell the %s of the time", plat_window_name(quota->unit));
}

/*
 * The charges of a tenant: its bucket, then its quotas. Returns how many.
 */
static int
make_charges(PlatTenantLimits *limits, TimestampTz wall, PlatCharge *charges)
{
	size_t		len = strlen(limits->tenant);

	charges[0].key = (PlatSlotKey)
	{
		limits->hash, PLAT_SPACE_TENANT, limits->tenant, len
	};
	charges[0].cost = limits->cost_ns;
	charges[0].limit = limits->burst_ns;
	charges[0].epoch = PLAT_EPOCH_TENANT;
	for (int i = 0; i < limits->nquotas; i++)
	{
		PlatQuota  *quota = &limits->quotas[i];
		PlatCharge *charge = &charges[i + 1];

		look_at_calendar(limits, quota, wall);
		charge->key = (PlatSlotKey)
		{
			quota->hash, PLAT_SPACE_QUOTA(quota->unit), limits->tenant, len
		};
		charge->cost = limits->cost_units;
		charge->limit = (uint64) quota->tokens * PLAT_QUOTA_UNIT;
		charge->epoch = (uint64) quota->end;
	}
	return limits->nquotas + 1;
}

/*
 * Compute what a cost is for a tenant; 22004 for NULL, 22023 for one that
 * cannot be. Without a rate there is a bucket all the same, which costs
 * nothing and counts.
 */
static void
read_cost(FunctionCallInfo fcinfo, PlatTenantLimits *limits)
{
	double		cost;

	plat_refuse_null(fcinfo, 0, "cost");
	cost = PG_GETARG_FLOAT8(0);
	if (likely(cost == limits->cost))
		return;
	if (limits->has_rate)
		plat_limit_refuse(plat_rate_problem(&limits->rate, cost),
						  &limits->rate, cost);
	else if (!(cost >= 0) || isinf(cost))
		plat_limit_refuse(PLAT_LIMIT_BAD_COST, &limits->rate, cost);
	limits->cost_ns = limits->has_rate ? plat_rate_ns(&limits->rate, cost) : 0;
	limits->cost_units = plat_quota_units(cost);
	limits->cost = cost;
}

/*
 * What the current tenant asks for: its limits and its charges, with the
 * times to judge them by.
 */
typedef struct Request
{
	PlatTenantLimits *limits;
	uint64		now;
	TimestampTz wall;
	int			ncharges;
	PlatCharge	charges[1 + PLAT_WINDOW_UNITS];
} Request;

static void
make_request(FunctionCallInfo fcinfo, Request *request)
{
	request->limits = plat_limits_of(plat_tenant_required());
	read_cost(fcinfo, request->limits);
	request->now = plat_clock();
	request->wall = request->limits->nquotas > 0 ? GetCurrentTimestamp() : 0;
	request->ncharges = make_charges(request->limits, request->wall,
									 request->charges);
}

/*
 * platpat.allow_tenant_request(cost float8) returns boolean: VOLATILE,
 * PARALLEL RESTRICTED, for PUBLIC.
 *
 * Whether cost tokens were taken from the bucket and from all the quotas of
 * the current tenant; if one has not enough none is charged.  Raises 22004,
 * 22023, 42501 without a tenant, 42704, 55000.
 */
Datum
plat_limit_allow_tenant(PG_FUNCTION_ARGS)
{
	Request		request;

	make_request(fcinfo, &request);
	PG_RETURN_BOOL(plat_charge_all(request.charges, request.ncharges,
								   request.now, request.wall));
}

/*
 * The charge that a refused tenant has to wait for longest.
 */
static int
longest_wait(const Request *request)
{
	int			longest = 0;

	for (int i = 1; i < request->ncharges; i++)
		if (request->charges[i].wait > request->charges[longest].wait)
			longest = i;
	return longest;
}

/*
 * The tokens of a charge that are left; infinite without a rate.
 */
static double
tokens_left(const Request *request, int i)
{
	const PlatCharge *charge = &request->charges[i];
	uint64		left = charge->limit - Min(charge->level, charge->limit);

	if (PLAT_EPOCH_IS_QUOTA(charge->epoch))
		return (double) left / PLAT_QUOTA_UNIT;
	return request->limits->has_rate ?
		plat_rate_tokens(&request->limits->rate, left) : get_float8_infinity();
}

/*
 * The quota of which least is left, 0 if there is none.
 */
static int
scarcest_quota(const Request *request)
{
	int			scarcest = 0;

	for (int i = 1; i < request->ncharges; i++)
		if (scarcest == 0 ||
			tokens_left(request, i) < tokens_left(request, scarcest))
			scarcest = i;
	return scarcest;
}

/*
 * What stopped a request, as a word: "rate", or the unit of a quota's window.
 */
static const char *
word_for(const Request *request, int i)
{
	return i == 0 ? "rate" :
		plat_window_name(request->limits->quotas[i - 1].unit);
}

/*
 * The outcome of a request as a row; see sql/limit.sql for its columns.
 */
static Datum
outcome(FunctionCallInfo fcinfo, const Request *request, bool allowed)
{
	const PlatTenantLimits *limits = request->limits;
	int			longest = longest_wait(request);
	int			scarcest = scarcest_quota(request);
	TupleDesc	desc;
	Datum		values[10];
	bool		nulls[10] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = BoolGetDatum(allowed);
	values[1] = Float8GetDatum(tokens_left(request, 0));
	values[2] = IntervalPGetDatum(plat_interval_from_ns(allowed ? 0 :
														request->charges[longest].wait));
	nulls[2] = !allowed && request->charges[longest].wait == PLAT_LIMIT_NEVER;
	values[3] = IntervalPGetDatum(plat_interval_from_ns(request->charges[0].level));
	values[4] = CStringGetTextDatum(allowed ? "" : word_for(request, longest));
	nulls[4] = allowed;
	values[5] = CStringGetTextDatum(limits->tier);
	values[6] = Float8GetDatum(limits->rate.rate);
	values[7] = Float8GetDatum(limits->rate.burst);
	nulls[6] = nulls[7] = !limits->has_rate;
	values[8] = values[9] = (Datum) 0;
	nulls[8] = nulls[9] = scarcest == 0;
	if (scarcest > 0)
	{
		values[8] = Float8GetDatum(tokens_left(request, scarcest));
		values[9] = TimestampTzGetDatum(limits->quotas[scarcest - 1].end);
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * platpat.consume_tenant_limit(cost float8) returns a row: likewise.
 */
Datum
plat_limit_consume_tenant(PG_FUNCTION_ARGS)
{
	Request		request;
	bool		allowed;

	make_request(fcinfo, &request);
	allowed = plat_charge_all(request.charges, request.ncharges,
							  request.now, request.wall);
	return outcome(fcinfo, &request, allowed);
}

/*
 * platpat.peek_tenant_limit(cost float8) returns the same row, and charges
 * nothing: what is left is before the charge.
 */
Datum
plat_limit_peek_tenant(PG_FUNCTION_ARGS)
{
	Request		request;
	bool		allowed = true;

	make_request(fcinfo, &request);
	for (int i = 0; i < request.ncharges; i++)
	{
		plat_charge_peek(&request.charges[i], request.now, request.wall);
		allowed = allowed && request.charges[i].wait == 0;
	}
	return outcome(fcinfo, &request, allowed);
}

/*
 * platpat.enforce_tenant_limit(cost float8) returns boolean: true, or raises
 * 53400, in the style of platpat.limit_error_style.
 */
Datum
plat_limit_enforce_tenant(PG_FUNCTION_ARGS)
{
	static const char *const quota_names[PLAT_WINDOW_UNITS] = {
		"hourly quota", "daily quota", "weekly quota", "monthly quota"
	};
	Request		request;
	PlatRefusal refusal = {0};
	PlatQuota  *quota;
	int			longest;

	make_request(fcinfo, &request);
	if (plat_charge_all(request.charges, request.ncharges,
						request.now, request.wall))
		PG_RETURN_BOOL(true);

	longest = longest_wait(&request);
	quota = longest > 0 ? &request.limits->quotas[longest - 1] : NULL;
	refusal.what = quota ? quota_names[quota->unit] : "rate limit";
	refusal.key_label = "tenant";
	refusal.key = request.limits->tenant;
	refusal.policy = word_for(&request, longest);
	refusal.limit = quota ? (double) quota->tokens : request.limits->rate.burst;
	refusal.remaining = tokens_left(&request, longest);
	refusal.window = quota ? (uint64) (quota->end - quota->start) * 1000 :
		request.limits->burst_ns;
	refusal.wait = request.charges[longest].wait;
	refusal.no_place = request.charges[longest].no_place;
	plat_limit_raise(&refusal);
}

/*
 * The tenant that the first argument of an administrator's function names, of
 * whichever of the three types, in its canonical spelling: 22004, 22023.
 */
static void
tenant_arg(FunctionCallInfo fcinfo, char *id)
{
	Oid		   *types;
	int			nargs;
	char		spelled[40];

	(void) get_func_signature(fcinfo->flinfo->fn_oid, &types, &nargs);
	if (PG_ARGISNULL(0))
		plat_tenant_id_arg(NULL, id);
	else if (types[0] == TEXTOID)
		plat_tenant_id_arg(text_to_cstring(PG_GETARG_TEXT_PP(0)), id);
	else
	{
		if (types[0] == UUIDOID)
			plat_print_uuid(PG_GETARG_UUID_P(0), spelled);
		else
			pg_lltoa(PG_GETARG_INT64(0), spelled);
		plat_tenant_id_arg(spelled, id);
	}
}

/*
 * Raise 22004 or 22023 for the name of a tier that cannot be.
 */
static void
check_tier_name(const char *tier)
{
	if (tier == NULL || tier[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("tier must not be null or empty")));
	if (strlen(tier) > TIER_MAX)
		plat_refuse_value(psprintf("the name \"%s\" of a tier is too long",
								   plat_clip(tier)),
						  "Names of tiers have at most 255 bytes.");
}

/*
 * platpat.set_tier(tenant, tier text) returns void: for administrators.
 *
 * Registers the tenant if it is not. Its own values over those of the tier
 * stay. Raises 22004, 22023, 42704.
 */
Datum
plat_limit_set_tier(PG_FUNCTION_ARGS)
{
	char		tenant[PLAT_TENANT_MAX + 1];
	char	   *tier;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];

	tenant_arg(fcinfo, tenant);
	tier = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	check_tier_name(tier);
	values[0] = CStringGetTextDatum(tenant);
	values[1] = CStringGetTextDatum(tier);
	SPI_connect();
	if (plat_sql_as_owner("tenants",
						  "INSERT INTO platpat.tenants (tenant, tier)"
						  " SELECT $1, tier FROM platpat.tiers WHERE tier = $2"
						  " FOR KEY SHARE"
						  " ON CONFLICT (tenant) DO UPDATE SET tier = excluded.tier",
						  2, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("tier \"%s\" does not exist", plat_clip(tier)),
				 errhint("The tiers are the rows of platpat.tiers.")));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * platpat.reset_tenant_limit(tenant) returns boolean: for administrators.
 *
 * Fills the bucket of a tenant and begins its quotas anew; false if there was
 * nothing to do. Raises 22004, 22023, 55000.
 */
Datum
plat_limit_reset_tenant(PG_FUNCTION_ARGS)
{
	char		tenant[PLAT_TENANT_MAX + 1];
	size_t		len;
	bool		found;

	tenant_arg(fcinfo, tenant);
	plat_shmem_require();
	len = strlen(tenant);
	found = plat_slots_clear(plat_slots_hash(MyDatabaseId, PLAT_SPACE_TENANT,
											 tenant, len),
							 plat_clock(), PLAT_EPOCH_TENANT);
	for (int i = 0; i < PLAT_WINDOW_UNITS; i++)
		found |= plat_slots_clear(plat_slots_hash(MyDatabaseId,
												  PLAT_SPACE_QUOTA(i),
												  tenant, len),
								  0, PG_UINT64_MAX);
	PG_RETURN_BOOL(found);
}

/*
 * Raise 22023 unless the limits of a row can be. Tiers have every column but
 * the quotas; a tenant may leave any open.
 */
static void
check_limits(const TriggerData *trigger, HeapTuple row)
{
	Relation	rel = trigger->tg_relation;
	LimitRow	limits = {.rate = 1,.burst = 1,.per_ns = 1e9,.zone = "UTC"};
	PlatRate	rate;
	Datum		value;

	for (int i = 0; i < PLAT_WINDOW_UNITS; i++)
		limits.quotas[i] = 0;
	apply_row(rel, row, &limits);
	/* What a row says outright must be a number, unlike what it leaves open. */
	limits.rate = plat_column(rel, row, "rate", &value) ? DatumGetFloat8(value) : 1;
	limits.burst = plat_column(rel, row, "burst", &value) ? DatumGetFloat8(value) : 1;
	rate = (PlatRate)
	{
		limits.rate, limits.burst, limits.per_ns
	};
	plat_limit_refuse(plat_rate_problem(&rate, 0), &rate, 0);
	for (int i = 0; i < PLAT_WINDOW_UNITS; i++)
		if (limits.quotas[i] < 0 || limits.quotas[i] > PLAT_QUOTA_MAX)
			plat_refuse_value(psprintf("%s is " INT64_FORMAT, quota_columns[i],
									   limits.quotas[i]),
							  "It is a number of tokens from 0 to 9000000000000000.");
	(void) find_zone(limits.zone);
}

/*
 * BEFORE INSERT OR UPDATE row trigger of platpat.tiers and platpat.tenants.
 * The first column is the name.  A tenant must be spelled as set_tenant()
 * would.
 */
Datum
plat_limit_check_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	HeapTuple	row = plat_trigger_row(trigger);
	const char *table = RelationGetRelationName(trigger->tg_relation);
	char		id[PLAT_TENANT_MAX + 1];

	if (strcmp(table, "tenants") == 0)
	{
		char	   *tenant = plat_row_text(trigger, row, "tenant");

		plat_tenant_id_arg(tenant, id);
		if (strcmp(tenant, id) != 0)
			plat_refuse_value(psprintf("tenant \"%s\" is not spelled as its type prints it",
									   plat_clip(tenant)),
							  psprintf("That is \"%s\".", id));
	}
	else
		check_tier_name(plat_row_text(trigger, row, "tier"));
	check_limits(trigger, row);
	return PointerGetDatum(row);
}

/*
 * AFTER UPDATE OR DELETE row trigger of platpat.tiers: tenants follow a tier
 * that is renamed, and keep one from being deleted (23503).
 */
Datum
plat_limit_check_users(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	bool		is_deleted = TRIGGER_FIRED_BY_DELETE(trigger->tg_event);
	char	   *old = plat_row_text(trigger, trigger->tg_trigtuple, "tier");
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];
	uint64		users;

	values[0] = CStringGetTextDatum(old);
	values[1] = CStringGetTextDatum(plat_row_text(trigger, plat_trigger_row(trigger),
												  "tier"));
	SPI_connect();
	users = plat_sql_as_owner("tenants", is_deleted ?
							  "SELECT FROM platpat.tenants WHERE tier = $1 LIMIT 1" :
							  "UPDATE platpat.tenants SET tier = $2"
							  " WHERE tier = $1 AND tier <> $2",
							  2, types, values, NULL);
	SPI_finish();
	if (is_deleted && users > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("tier \"%s\" has tenants", old),
				 errhint("Put them into another tier first.")));
	return PointerGetDatum(NULL);
}

/*
 * platpat.quota_window(unit text, time_zone text, moment timestamptz) returns
 * (starts_at timestamptz, ends_at timestamptz): STABLE, PARALLEL SAFE, for
 * PUBLIC.
 *
 * The hour, day, week or month of a time zone that a moment is in: its first
 * instant, and the first after it. Raises 22004, 22008, 22023.
 */
Datum
plat_limit_quota_window(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"unit", "time_zone", "moment"};
	PlatWindowUnit unit;
	pg_tz	   *zone;
	TimestampTz start;
	TimestampTz end;
	char	   *name;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false};

	for (int i = 0; i < lengthof(names); i++)
		plat_refuse_null(fcinfo, i, names[i]);
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!plat_window_parse(name, &unit))
		plat_refuse_value(psprintf("unknown unit \"%s\"", plat_clip(name)),
						  "Units are hour, day, week and month.");
	zone = find_zone(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	if (!plat_window_bounds(unit, zone, PG_GETARG_TIMESTAMPTZ(2), &start, &end))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = TimestampTzGetDatum(start);
	values[1] = TimestampTzGetDatum(end);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
