/*
 * breaker_stat.c
 *		What circuit breakers tell: the rows behind stat_breakers, and metrics.
 *
 * Each breaker is copied under its lock, so a row is of one moment.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "breaker.h"
#include "clock.h"
#include "metrics.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(plat_breaker_stats);

/* What is known of a breaker at a moment. */
typedef struct BreakerSnapshot
{
	const char *name;
	bool		is_known;		/* somebody has used it */
	const char *state;
	bool		is_forced;
	TimestampTz since;
	uint64		age;			/* of the state */
	uint64		retry_after;
	uint32		failures_in_row;
	uint32		probes;
	double		failure_rate;	/* NaN where there are no calls */
	double		slow_rate;
	uint64		allowed;
	uint64		rejected;
	uint64		passed;
	uint64		failed;
	uint64		slow;
	uint64		ignored;
	uint64		moves;
	uint64		openings;
	uint64		last_recovery;
	uint64		longest_recovery;
	TimestampTz last_failure;
	char		last_error[PLAT_BREAKER_ERROR_MAX];
} BreakerSnapshot;

static double
share(uint64 part, uint64 whole)
{
	return whole == 0 ? get_float8_nan() : (double) part / whole;
}

/*
 * Copy what a locked breaker tells.
 */
static void
copy_shared(BreakerSnapshot *snapshot, PlatSharedBreaker *shared,
			const PlatBreakerRules *rules)
{
	const PlatBreaker *breaker = &shared->breaker;
	uint64		now = plat_clock();
	PlatBreakerSlice window = plat_breaker_window(breaker, rules, now);
	uint64		calls;

	snapshot->is_known = true;
	snapshot->state = plat_breaker_state_name(breaker);
	snapshot->is_forced = breaker->force != PLAT_FORCE_AUTO;
	snapshot->age = now - breaker->since;
	snapshot->retry_after = plat_breaker_retry_after(breaker, rules, now);
	snapshot->failures_in_row = breaker->failures;
	snapshot->probes = breaker->nleases;
	snapshot->allowed = pg_atomic_read_u64(&shared->allowed);
	snapshot->rejected = pg_atomic_read_u64(&shared->rejected);
	snapshot->passed = pg_atomic_read_u64(&shared->passed);
	snapshot->failed = pg_atomic_read_u64(&shared->failed);
	snapshot->slow = pg_atomic_read_u64(&shared->slow);
	snapshot->ignored = pg_atomic_read_u64(&shared->ignored);
	calls = snapshot->passed + snapshot->failed;
	snapshot->failure_rate = rules->window > 0 ?
		share(window.failures, window.calls) : share(snapshot->failed, calls);
	snapshot->slow_rate = rules->window > 0 ?
		share(window.slow, window.calls) : share(snapshot->slow, calls);
	snapshot->moves = breaker->moves;
	snapshot->openings = breaker->openings;
	snapshot->last_recovery = breaker->last_recovery;
	snapshot->longest_recovery = breaker->longest_recovery;
	snapshot->last_failure = shared->last_failure;
	strlcpy(snapshot->last_error, shared->last_error, sizeof(snapshot->last_error));
}

/*
 * What there is to tell of a definition. One that nobody has used is closed.
 */
static BreakerSnapshot
take_snapshot(PlatBreakerDefinition *definition)
{
	BreakerSnapshot snapshot = {
		.name = definition->head.name,
		.state = "closed",
		.failure_rate = get_float8_nan(),
		.slow_rate = get_float8_nan(),
	};
	PlatBreakerMoves moves;
	PlatSharedBreaker *shared;

	if (!plat_named_peek(&plat_breakers, &definition->head) ||
		!plat_breaker_lock(definition, &moves))
		return snapshot;
	shared = (PlatSharedBreaker *) definition->head.entry;
	copy_shared(&snapshot, shared, &definition->rules);
	snapshot.since = moves.count == 0 ? shared->since :
		plat_clock_to_timestamp(shared->breaker.since);
	plat_breaker_unlock(definition, &moves);
	return snapshot;
}

/*
 * Add a row of breaker_stats().
 */
static void
put_row(PlatNamed *definition, void *arg)
{
	ReturnSetInfo *result = arg;
	BreakerSnapshot s = take_snapshot((PlatBreakerDefinition *) definition);
	Datum		values[23];
	bool		nulls[23] = {false};
	int			n = 0;

	values[n++] = CStringGetTextDatum(s.name);
	values[n++] = CStringGetTextDatum(s.state);
	values[n++] = BoolGetDatum(s.is_forced);
	nulls[n] = !s.is_known;
	values[n++] = TimestampTzGetDatum(s.since);
	nulls[n] = !s.is_known;
	values[n++] = IntervalPGetDatum(plat_interval_from_ns(s.age));
	nulls[n] = s.retry_after == PLAT_BREAKER_NEVER;
	values[n++] = IntervalPGetDatum(plat_interval_from_ns(s.retry_after));
	values[n++] = Int32GetDatum((int32) s.failures_in_row);
	values[n++] = Int32GetDatum((int32) s.probes);
	nulls[n] = isnan(s.failure_rate);
	values[n++] = Float8GetDatum(s.failure_rate);
	nulls[n] = isnan(s.slow_rate);
	values[n++] = Float8GetDatum(s.slow_rate);
	values[n++] = Int64GetDatum((int64) s.allowed);
	values[n++] = Int64GetDatum((int64) s.rejected);
	nulls[n] = s.allowed + s.rejected == 0;
	values[n++] = Float8GetDatum(share(s.rejected, s.allowed + s.rejected));
	values[n++] = Int64GetDatum((int64) s.passed);
	values[n++] = Int64GetDatum((int64) s.failed);
	values[n++] = Int64GetDatum((int64) s.slow);
	values[n++] = Int64GetDatum((int64) s.ignored);
	values[n++] = Int64GetDatum((int64) s.moves);
	values[n++] = Int64GetDatum((int64) s.openings);
	nulls[n] = s.last_recovery == 0;
	values[n++] = IntervalPGetDatum(plat_interval_from_ns(s.last_recovery));
	nulls[n] = s.longest_recovery == 0;
	values[n++] = IntervalPGetDatum(plat_interval_from_ns(s.longest_recovery));
	nulls[n] = s.last_failure == 0;
	values[n++] = TimestampTzGetDatum(s.last_failure);
	nulls[n] = s.last_error[0] == '\0';
	values[n++] = CStringGetTextDatum(s.last_error);
	Assert(n == lengthof(values));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * platpat.breaker_stats() returns a row per breaker of the current database:
 * what the view stat_breakers shows.  VOLATILE, for pg_monitor and
 * administrators.  Raises 55000.
 */
Datum
plat_breaker_stats(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	plat_named_list(&plat_breakers, put_row, fcinfo->resultinfo);
	return (Datum) 0;
}

/*
 * Add a metric of a breaker, with a label for the result unless that is NULL.
 */
static void
put_metric(PlatMetrics *metrics, const char *name, const char *breaker,
		   const char *result, const char *type, double value,
		   const char *help)
{
	plat_put_metric(metrics, name,
					plat_metric_labels("breaker", breaker,
									   result ? "result" : NULL, result),
					type, value, help);
}

static void
put_metrics_of(PlatNamed *definition, void *metrics)
{
	BreakerSnapshot s = take_snapshot((PlatBreakerDefinition *) definition);

	put_metric(metrics, "platpat_breaker_open", s.name, NULL, "gauge",
			   strcmp(s.state, "open") == 0 ? 1 :
			   strcmp(s.state, "half_open") == 0 ? 0.5 : 0,
			   "1 while the breaker is open, 0.5 while it is half-open.");
	put_metric(metrics, "platpat_breaker_calls_total", s.name, "allowed",
			   "counter", s.allowed, "Calls that the breaker was asked for.");
	put_metric(metrics, "platpat_breaker_calls_total", s.name, "rejected",
			   "counter", s.rejected, "Calls that the breaker was asked for.");
	put_metric(metrics, "platpat_breaker_outcomes_total", s.name, "passed",
			   "counter", s.passed, "What calls came to.");
	put_metric(metrics, "platpat_breaker_outcomes_total", s.name, "failed",
			   "counter", s.failed, "What calls came to.");
	put_metric(metrics, "platpat_breaker_transitions_total", s.name, NULL,
			   "counter", s.moves, "Changes of the breaker's state.");
	put_metric(metrics, "platpat_breaker_last_recovery_seconds", s.name, NULL,
			   "gauge", s.last_recovery / 1e9,
			   "Time from open to closed of the last outage that is over.");
}

/*
 * The rows of metrics(): those of the breakers of the current database.
 */
void
plat_breaker_put_metrics(PlatMetrics *metrics)
{
	plat_named_list(&plat_breakers, put_metrics_of, metrics);
}

static void
reset_entry(PlatSharedNamed *head, Oid database, const pg_uuid_t *id, void *arg)
{
	PlatSharedBreaker *shared = (PlatSharedBreaker *) head;

	if (database != MyDatabaseId)
		return;
	pg_atomic_write_u64(&shared->allowed, 0);
	pg_atomic_write_u64(&shared->passed, 0);
	pg_atomic_write_u64(&shared->failed, 0);
	pg_atomic_write_u64(&shared->slow, 0);
	pg_atomic_write_u64(&shared->rejected, 0);
	pg_atomic_write_u64(&shared->ignored, 0);
	shared->breaker.moves = 0;
	shared->breaker.openings = 0;
	shared->breaker.last_recovery = 0;
	shared->breaker.longest_recovery = 0;
}

/*
 * Set what is counted for the current database to 0.
 */
void
plat_breaker_reset_stats(void)
{
	plat_named_walk(&plat_breakers, true, reset_entry, NULL);
}
