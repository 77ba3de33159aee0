/*
 * bulkhead_stat.c
 *		What bulkheads tell: the rows behind the views, and metrics.
 *
 * Each bulkhead is copied under its lock, so a row is of one moment. A
 * percentile is the end of the step that it is in: it is never told too short.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "bulkhead.h"
#include "clock.h"
#include "metrics.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(plat_bulkhead_stats);
PG_FUNCTION_INFO_V1(plat_bulkhead_list_places);

/* What is known of a bulkhead at a moment. */
typedef struct BulkheadSnapshot
{
	const PlatBulkheadDefinition *definition;
	PlatBulkhead bulkhead;
	int32		high_water;
	uint64		acquired;
	uint64		rejected;
	uint64		timed_out;
	uint64		waits[PLAT_WAIT_BUCKETS];
} BulkheadSnapshot;

/*
 * The wait that such a share of all acquisitions did not exceed, in
 * nanoseconds. Those that did not wait count as 0.
 */
static uint64
percentile(const BulkheadSnapshot *s, double share)
{
	uint64		waited = 0;
	uint64		rank = (uint64) ceil(share * s->acquired);
	uint64		below;

	for (int i = 0; i < PLAT_WAIT_BUCKETS; i++)
		waited += s->waits[i];
	below = s->acquired - Min(waited, s->acquired);
	for (int i = 0; i < PLAT_WAIT_BUCKETS && below < rank; i++)
		if ((below += s->waits[i]) >= rank)
			return plat_wait_bucket_end(i);
	return 0;
}

/*
 * What there is to tell of a definition.
 */
static BulkheadSnapshot
take_snapshot(PlatBulkheadDefinition *definition)
{
	BulkheadSnapshot s = {.definition = definition};
	PlatSharedBulkhead *shared;

	if (!plat_named_peek(&plat_bulkheads, &definition->head))
		return s;
	shared = (PlatSharedBulkhead *) definition->head.entry;
	LWLockAcquire(&shared->head.lock, LW_SHARED);
	if (plat_named_holds(&definition->head))
	{
		s.bulkhead = shared->bulkhead;
		s.high_water = shared->high_water;
		s.acquired = shared->acquired;
		s.rejected = shared->rejected;
		s.timed_out = shared->timed_out;
		memcpy(s.waits, shared->waits, sizeof(s.waits));
	}
	LWLockRelease(&shared->head.lock);
	return s;
}

/*
 * Add a row of bulkhead_stats().
 */
static void
put_row(PlatNamed *definition, void *arg)
{
	static const double shares[] = {0.5, 0.95, 0.99};
	ReturnSetInfo *result = arg;
	BulkheadSnapshot s = take_snapshot((PlatBulkheadDefinition *) definition);
	Datum		values[12];
	bool		nulls[12] = {false};
	int			n = 0;

	values[n++] = CStringGetTextDatum(definition->name);
	values[n++] = Int32GetDatum(s.definition->rules.size);
	values[n++] = Int32GetDatum(plat_bulkhead_in_use(&s.bulkhead));
	values[n++] = Int32GetDatum(plat_bulkhead_waiting(&s.bulkhead));
	values[n++] = Int32GetDatum(s.high_water);
	values[n++] = Int64GetDatum((int64) s.acquired);
	values[n++] = Int64GetDatum((int64) s.rejected);
	values[n++] = Int64GetDatum((int64) s.timed_out);
	for (int i = 0; i < lengthof(shares); i++)
	{
		nulls[n] = s.acquired == 0;
		values[n++] = IntervalPGetDatum(plat_interval_from_ns(percentile(&s, shares[i])));
	}
	values[n++] = Int32GetDatum(s.definition->rules.queue);
	Assert(n == lengthof(values));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * platpat.bulkhead_stats() returns a row per bulkhead of the current database:
 * what the view stat_bulkheads shows.  VOLATILE, for pg_monitor and
 * administrators.  Raises 55000.
 */
Datum
plat_bulkhead_stats(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	plat_named_list(&plat_bulkheads, put_row, fcinfo->resultinfo);
	return (Datum) 0;
}

/* Copies of places, with room for all that there are. */
typedef struct PlaceCopies
{
	ReturnSetInfo *result;
	PlatSharedPlace *places;
	int			count;
} PlaceCopies;

static void
copy_place(const PlatSharedPlace *place, void *arg)
{
	PlaceCopies *copies = arg;

	copies->places[copies->count++] = *place;
}

static void
put_place(ReturnSetInfo *result, const PlatNamed *definition,
		  PlatSharedPlace *place)
{
	bool		waits = pg_atomic_read_u32(&place->state) == PLAT_PLACE_WAITS;
	Datum		values[6];
	bool		nulls[6] = {false};

	values[0] = CStringGetTextDatum(definition->name);
	values[1] = Int32GetDatum(place->pid);
	values[2] = CStringGetTextDatum(place->tenant);
	nulls[2] = place->tenant[0] == '\0';
	values[3] = TimestampTzGetDatum(plat_clock_to_timestamp(place->since));
	values[4] = BoolGetDatum(waits);
	values[5] = CStringGetTextDatum(plat_class_name(place->class));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Add the rows of one bulkhead.
 */
static void
put_places(PlatNamed *definition, void *arg)
{
	PlaceCopies *copies = arg;

	if (!plat_named_peek(&plat_bulkheads, definition))
		return;
	copies->count = 0;
	LWLockAcquire(&definition->entry->lock, LW_SHARED);
	if (plat_named_holds(definition))
		plat_bulkhead_visit(definition, copy_place, copies);
	LWLockRelease(&definition->entry->lock);
	for (int i = 0; i < copies->count; i++)
		put_place(copies->result, definition, &copies->places[i]);
}

/*
 * platpat.bulkhead_places() returns a row per process that holds or waits for
 * a slot of a bulkhead of the current database: what the view
 * bulkhead_holders shows.  VOLATILE, for pg_monitor and administrators.
 * Raises 55000.
 */
Datum
plat_bulkhead_list_places(PG_FUNCTION_ARGS)
{
	PlaceCopies copies;

	plat_shmem_require();
	InitMaterializedSRF(fcinfo, 0);
	copies.result = (ReturnSetInfo *) fcinfo->resultinfo;
	copies.places = palloc(plat_bulkhead_place_count() * sizeof(PlatSharedPlace));
	plat_named_list(&plat_bulkheads, put_places, &copies);
	return (Datum) 0;
}

/*
 * Add a metric of a bulkhead, with one more label unless that is NULL.
 */
static void
put_metric(PlatMetrics *metrics, const char *name, const char *bulkhead,
		   const char *label, const char *value, const char *type,
		   double number, const char *help)
{
	plat_put_metric(metrics, name,
					plat_metric_labels("bulkhead", bulkhead, label, value),
					type, number, help);
}

static void
put_metrics_of(PlatNamed *definition, void *metrics)
{
	BulkheadSnapshot s = take_snapshot((PlatBulkheadDefinition *) definition);
	const char *name = definition->name;

	put_metric(metrics, "platpat_bulkhead_size", name, NULL, NULL, "gauge",
			   s.definition->rules.size, "Slots of the bulkhead.");
	for (int class = 0; class < PLAT_CLASSES; class++)
	{
		put_metric(metrics, "platpat_bulkhead_in_use", name, "class",
				   plat_class_name(class), "gauge", s.bulkhead.in_use[class],
				   "Slots that are in use.");
		put_metric(metrics, "platpat_bulkhead_waiting", name, "class",
				   plat_class_name(class), "gauge", s.bulkhead.waiting[class],
				   "Sessions that wait for a slot.");
	}
	put_metric(metrics, "platpat_bulkhead_requests_total", name, "result",
			   "acquired", "counter", s.acquired, "Requests for a slot.");
	put_metric(metrics, "platpat_bulkhead_requests_total", name, "result",
			   "rejected", "counter", s.rejected, "Requests for a slot.");
	put_metric(metrics, "platpat_bulkhead_requests_total", name, "result",
			   "timed_out", "counter", s.timed_out, "Requests for a slot.");
}

/*
 * The rows of metrics(): those of the bulkheads of the current database.
 */
void
plat_bulkhead_put_metrics(PlatMetrics *metrics)
{
	plat_named_list(&plat_bulkheads, put_metrics_of, metrics);
}

static void
reset_entry(PlatSharedNamed *head, Oid database, const pg_uuid_t *id, void *arg)
{
	PlatSharedBulkhead *shared = (PlatSharedBulkhead *) head;

	if (database != MyDatabaseId)
		return;
	shared->high_water = plat_bulkhead_in_use(&shared->bulkhead);
	shared->acquired = shared->rejected = shared->timed_out = 0;
	memset(shared->waits, 0, sizeof(shared->waits));
}

/*
 * Set what is counted for the current database to 0.
 */
void
plat_bulkhead_reset_stats(void)
{
	plat_named_walk(&plat_bulkheads, true, reset_entry, NULL);
}
