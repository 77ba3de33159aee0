/*
 * limit_stat.c
 *		What the shared table tells: the rows behind the views, and metrics.
 *
 * Entries are copied stripe by stripe under the table's shared locks, so a
 * result is not of one moment, but each row is.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "limit.h"
#include "metrics.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(plat_limit_state);

/*
 * What an entry is of, as a word.
 */
static const char *
space_name(uint8 space)
{
	if (space == PLAT_SPACE_KEY)
		return "key";
	if (space == PLAT_SPACE_TENANT)
		return "tenant";
	return plat_window_name((PlatWindowUnit) (space - PLAT_SPACE_QUOTA(0)));
}

/*
 * Add the row of one entry; debt is of buckets, use and end of quotas whose
 * window is not over.
 */
static void
put_entry(ReturnSetInfo *result, const PlatSlotCopy *copy, uint64 now,
		  TimestampTz wall)
{
	bool		is_quota = copy->space >= PLAT_SPACE_QUOTA(0);
	bool		is_over = is_quota && (TimestampTz) copy->epoch <= wall;
	Datum		values[8];
	bool		nulls[8] = {false};

	values[0] = CStringGetTextDatum(space_name(copy->space));
	values[1] = PointerGetDatum(cstring_to_text_with_len(copy->name, copy->len));
	values[2] = Int64GetDatum((int64) copy->allowed);
	values[3] = Int64GetDatum((int64) copy->denied);
	values[4] = TimestampTzGetDatum((TimestampTz) copy->last_denied * USECS_PER_SEC);
	nulls[4] = copy->last_denied == 0;
	values[5] = IntervalPGetDatum(plat_interval_from_ns(is_quota ? 0 :
														plat_bucket_debt(copy->state, now)));
	nulls[5] = is_quota;
	values[6] = Float8GetDatum((double) copy->state / PLAT_QUOTA_UNIT);
	values[7] = TimestampTzGetDatum((TimestampTz) copy->epoch);
	nulls[6] = nulls[7] = !is_quota || is_over;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * platpat.limit_state() returns a row per entry of the current database: what
 * the views stat_rate_limits, stat_tenants and quota_usage show.  VOLATILE,
 * for pg_monitor and administrators.  Raises 55000.
 */
Datum
plat_limit_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PlatSlotCopy *copies;
	uint64		now = plat_clock();
	TimestampTz wall = GetCurrentTimestamp();

	plat_shmem_require();
	InitMaterializedSRF(fcinfo, 0);
	copies = MemoryContextAllocHuge(CurrentMemoryContext,
									plat_slots_stripe_size() * sizeof(PlatSlotCopy));
	for (int stripe = 0; stripe < plat_slots_stripes(); stripe++)
	{
		int			count = plat_slots_copy_stripe(stripe, copies, 0, true);

		for (int i = 0; i < count; i++)
			if (copies[i].database == MyDatabaseId)
				put_entry(result, &copies[i], now, wall);
		CHECK_FOR_INTERRUPTS();
	}
	pfree(copies);
	return (Datum) 0;
}

/*
 * The rows of metrics(), of all databases together: names and labels are told
 * apart by few values, so that a monitoring system can keep them.
 */
void
plat_limit_put_metrics(PlatMetrics *metrics)
{
	PlatSlotCounts counts = plat_slots_counts();

	plat_put_metric(metrics, "platpat_limit_requests_total",
					"{\"result\": \"allowed\"}", "counter", counts.allowed,
					"Charges of rate limits that passed.");
	plat_put_metric(metrics, "platpat_limit_requests_total",
					"{\"result\": \"denied\"}", "counter", counts.denied,
					"Charges of rate limits and quotas that did not pass.");
	plat_put_metric(metrics, "platpat_limit_slots", "{\"state\": \"total\"}",
					"gauge", counts.total,
					"Entries that the shared table can have.");
	plat_put_metric(metrics, "platpat_limit_slots", "{\"state\": \"used\"}",
					"gauge", counts.used,
					"Entries that the shared table has.");
	plat_put_metric(metrics, "platpat_limit_evictions_total",
					"{\"entry\": \"idle\"}", "counter", counts.evicted_idle,
					"Entries replaced that were full buckets or past quotas.");
	plat_put_metric(metrics, "platpat_limit_evictions_total",
					"{\"entry\": \"live\"}", "counter", counts.evicted_live,
					"Entries replaced that still limited somebody.");
	plat_put_metric(metrics, "platpat_limit_refused_total", "{}",
					"counter", counts.refused,
					"Keys that found no place in the shared table.");
}

/*
 * Set the counts of the current database to 0.
 */
void
plat_limit_reset_stats(void)
{
	plat_slots_reset_counts(MyDatabaseId);
}
