/*
 * limit_core.c
 *		The arithmetic of token buckets and quotas.
 *
 * A bucket is one number, the time at which it will be full again: the
 * generic cell rate algorithm of ATM networks (ITU-T I.371, annex A), which
 * calls it the theoretical arrival time.  A charge moves that time on by what
 * it costs, and passes as long as the time is not further ahead than a full
 * bucket takes to fill.  So a full bucket is any time that is past and needs
 * no memory, and a change of the rate keeps the debt as the time it is.
 *
 * Times are nanoseconds of one clock that does not go back.  With the limits
 * that plat_rate_problem() sets every sum here stays below 2^63.
 *
 * Costs are rounded up to whole nanoseconds, the burst as well.  So whatever
 * passes within some time is never more than burst + rate * time, where the
 * time includes the nanosecond in which the last call read the clock.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "limit_core.h"

/*
 * Whether a number is positive and finite; NaN is not.
 */
static bool
is_positive(double number)
{
	return number > 0 && !isinf(number);
}

/*
 * What is wrong with a bucket and with a cost taken from it.
 */
PlatLimitProblem
plat_rate_problem(const PlatRate *rate, double cost)
{
	if (!is_positive(rate->rate))
		return PLAT_LIMIT_BAD_RATE;
	if (!is_positive(rate->burst))
		return PLAT_LIMIT_BAD_BURST;
	if (!is_positive(rate->per_ns))
		return PLAT_LIMIT_BAD_PER;
	if (!(cost >= 0) || isinf(cost))
		return PLAT_LIMIT_BAD_COST;
	if (!(rate->burst * rate->per_ns / rate->rate <= (double) PLAT_LIMIT_MAX_NS))
		return PLAT_LIMIT_TOO_SLOW;
	if (cost > rate->burst)
		return PLAT_LIMIT_COST_TOO_HIGH;
	return PLAT_LIMIT_FINE;
}

/*
 * The nanoseconds that a number of tokens takes to come in, rounded up; at
 * least 1 for more than no token.  The rate must have no problem, and tokens
 * must not exceed the burst.  It grows with tokens, so that what costs the
 * whole burst passes a full bucket.
 */
uint64
plat_rate_ns(const PlatRate *rate, double tokens)
{
	double		ns = ceil(tokens * rate->per_ns / rate->rate);

	if (tokens > 0 && ns < 1)
		return 1;
	return (uint64) ns;
}

/*
 * The tokens that come in within ns nanoseconds.  What is within two
 * nanoseconds of a whole number is that number: that far apart are a rounded
 * cost and the true one.
 */
double
plat_rate_tokens(const PlatRate *rate, uint64 ns)
{
	double		tokens = (double) ns * rate->rate / rate->per_ns;
	double		whole = rint(tokens);

	if (fabs(tokens - whole) * rate->per_ns <= 2 * rate->rate)
		tokens = whole;
	return Min(tokens, rate->burst);
}

/*
 * The state after a refund: never more than full.
 */
uint64
plat_bucket_refund(uint64 state, uint64 now, uint64 cost)
{
	uint64		debt = plat_bucket_debt(state, now);

	return debt == 0 ? state : now + debt - Min(cost, debt);
}

/*
 * The state after a charge that left the bucket at taken has turned out not
 * to be wanted.  What time has paid for since is not given back: without the
 * charge the bucket could have been full then, and time have been lost on it.
 *
 * Nothing at all is given back if the bucket has been refilled since, so that
 * the charge is not in it any more, or if somebody has been promised tokens
 * behind it that have still to come in: those would be promised twice.
 */
uint64
plat_bucket_undo(uint64 state, uint64 taken, uint64 now, uint64 cost,
				 uint64 limit)
{
	uint64		unpaid = Min(plat_bucket_debt(taken, now), cost);

	if (state < taken ||
		(state > taken && plat_bucket_debt(state, now) > limit))
		return state;
	return state > unpaid ? state - unpaid : 0;
}

/*
 * Tokens in the unit that quotas are counted in, rounded up; at least 1 for
 * more than no token.  What the representation of a fraction adds is not
 * rounded up: 0.07 tokens are 70 units, not 71.
 */
uint64
plat_quota_units(double tokens)
{
	double		exact = tokens * PLAT_QUOTA_UNIT;
	double		whole = rint(exact);
	double		units = fabs(exact - whole) <= 4 * DBL_EPSILON * exact ?
	whole : ceil(exact);

	if (units >= (double) PLAT_QUOTA_MAX * PLAT_QUOTA_UNIT)
		return PLAT_QUOTA_MAX * PLAT_QUOTA_UNIT;
	return tokens > 0 ? (uint64) Max(units, 1) : 0;
}

/*
 * Whether a charge is within the quota; if so, *next is what is used then.
 */
bool
plat_quota_take(uint64 used, uint64 cost, uint64 quota, uint64 *next)
{
	*next = used + cost;
	return cost == 0 ? used <= quota : *next <= quota;
}
