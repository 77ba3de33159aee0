/*
 * limit_core.h
 *		The arithmetic of token buckets, quotas and calendar windows.
 *
 * No lock, no SQL, no clock, no error: every function answers for the state
 * and the time that it is given; see limit_core.c and limit_window.c.
 */
#ifndef PLAT_LIMIT_CORE_H
#define PLAT_LIMIT_CORE_H

#include "datatype/timestamp.h"
#include "pgtime.h"

/* The longest time to fill a bucket, and the longest wait: 100 years, in ns. */
#define PLAT_LIMIT_MAX_NS ((uint64) 3155760000 * 1000000000)

/* "However long you wait." */
#define PLAT_LIMIT_NEVER PG_UINT64_MAX

/* Quotas are counted in thousandths of a token. */
#define PLAT_QUOTA_UNIT 1000

/* The largest quota, in tokens. */
#define PLAT_QUOTA_MAX ((int64) 9000000000000000)

/* Why a limit or a cost cannot be. */
typedef enum PlatLimitProblem
{
	PLAT_LIMIT_FINE,
	PLAT_LIMIT_BAD_RATE,		/* not positive and finite */
	PLAT_LIMIT_BAD_BURST,		/* likewise */
	PLAT_LIMIT_BAD_PER,			/* likewise */
	PLAT_LIMIT_BAD_COST,		/* negative, NaN or infinite */
	PLAT_LIMIT_TOO_SLOW,		/* more than 100 years to fill the bucket */
	PLAT_LIMIT_COST_TOO_HIGH	/* above the burst: could never pass */
} PlatLimitProblem;

/* A token bucket as its user states it: rate tokens per per_ns. */
typedef struct PlatRate
{
	double		rate;
	double		burst;
	double		per_ns;
} PlatRate;

/* What a window of a quota follows. */
typedef enum PlatWindowUnit
{
	PLAT_WINDOW_HOUR,
	PLAT_WINDOW_DAY,
	PLAT_WINDOW_WEEK,
	PLAT_WINDOW_MONTH
} PlatWindowUnit;

#define PLAT_WINDOW_UNITS 4

/* limit_core.c */
extern PlatLimitProblem plat_rate_problem(const PlatRate *rate, double cost);
extern uint64 plat_rate_ns(const PlatRate *rate, double tokens);
extern double plat_rate_tokens(const PlatRate *rate, uint64 ns);
extern uint64 plat_bucket_refund(uint64 state, uint64 now, uint64 cost);
extern uint64 plat_bucket_undo(uint64 state, uint64 taken, uint64 now,
							   uint64 cost, uint64 limit);
extern uint64 plat_quota_units(double tokens);
extern bool plat_quota_take(uint64 used, uint64 cost, uint64 quota,
							uint64 *next);

/* limit_window.c */
extern bool plat_window_parse(const char *name, PlatWindowUnit *unit);
extern const char *plat_window_name(PlatWindowUnit unit);
extern bool plat_window_bounds(PlatWindowUnit unit, pg_tz *zone,
							   TimestampTz now, TimestampTz *start,
							   TimestampTz *end);

/*
 * How far ahead of now the state is: the time until the bucket is full.
 */
static inline uint64
plat_bucket_debt(uint64 state, uint64 now)
{
	return state > now ? state - now : 0;
}

/*
 * Whether a charge passes now.  If so, *next is the new state and *wait is 0;
 * otherwise the state is to stay, and *wait is the time after which the same
 * charge passes if nobody else comes.
 */
static inline bool
plat_bucket_take(uint64 state, uint64 now, uint64 cost, uint64 limit,
				 uint64 *next, uint64 *wait)
{
	uint64		debt = plat_bucket_debt(state, now) + cost;

	*next = now + debt;
	*wait = debt > limit ? debt - limit : 0;
	return *wait == 0;
}

#endif							/* PLAT_LIMIT_CORE_H */
