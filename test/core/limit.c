/*
 * limit.c
 *		Tests of the arithmetic of token buckets and quotas, with clocks of
 *		their own: no server, no sleep.  Prints TAP; t/030_limit_core.pl
 *		compiles it together with src/limit_core.c and runs it.
 *
 * Sums are kept in long double, so that what is compared is the arithmetic of
 * limit_core.c and not that of the test.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "limit_core.h"
#include "tap.h"

#define SECOND UINT64CONST(1000000000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define MONTH (30 * DAY)
#define YEAR (UINT64CONST(31557600) * SECOND)

/* A clock has been running for a while when a bucket is first looked at. */
#define START (3 * DAY + 12345678901)

/* Rates between one token a year and 1e9 tokens a second. */
static const PlatRate rates[] = {
	{1, 1, MONTH}, {1, 20, MONTH}, {3, 7, DAY}, {1, 100, 365.25 * DAY},
	{1, 10, 3600e9}, {7, 13, 3600e9}, {0.1, 2, 1e9}, {1, 1, 1e9}, {3, 10, 1e9},
	{7, 1000, 1e9}, {10, 20, 1e9}, {99.9, 33.3, 1e9}, {1000, 2000, 1e9},
	{123457, 50, 1e9}, {3e6, 5e6, 1e9}, {7e8, 1e9, 1e9}, {1e9, 1, 1e9},
	{1e9, 1e9, 1e9}, {1, 5, 1}, {2.5, 4, 777777.7}
};

/* In [0, 1). */
static double
fraction(void)
{
	return (double) (any() >> 11) / 9007199254740992.0;
}

/*
 * A bucket as the shared table would hold it, with what has passed.
 */
typedef struct Bucket
{
	PlatRate	rate;
	uint64		limit;
	uint64		state;
	uint64		wait;
	uint64		since;			/* when admitted was 0 */
	long double admitted;
} Bucket;

static Bucket
full_bucket(PlatRate rate)
{
	return (Bucket)
	{
		.rate = rate, .limit = plat_rate_ns(&rate, rate.burst), .state = START,
			.since = START
	};
}

static bool
take(Bucket *bucket, uint64 now, double cost)
{
	uint64		next;

	if (!plat_bucket_take(bucket->state, now, plat_rate_ns(&bucket->rate, cost),
						  bucket->limit, &next, &bucket->wait))
		return false;
	bucket->state = next;
	bucket->admitted += cost;
	return true;
}

/*
 * No more than burst + rate * time, with the nanosecond in which the clock
 * was read, and a few units in the last place of the numbers themselves.
 */
static bool
is_within(const Bucket *bucket, uint64 now)
{
	long double allowed = bucket->rate.burst +
		(long double) bucket->rate.rate * (now - bucket->since + 1) / bucket->rate.per_ns;

	return bucket->admitted <= allowed * (1 + 4 * DBL_EPSILON);
}

/*
 * A full bucket grants its burst to the token, where calls are a nanosecond
 * apart, which makes up for rounding.
 */
static void
test_burst(void)
{
	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		Bucket		bucket = full_bucket(rates[i]);
		int			calls = (int) Min(floor(rates[i].burst), 100000);
		double		cost = floor(rates[i].burst) / calls;
		int			granted = 0;

		if (calls * 2 * rates[i].rate / rates[i].per_ns > 0.9 * cost)
			continue;			/* the calls take long enough for another */
		for (int call = 0; call < calls * 2; call++)
			granted += take(&bucket, START + call, cost);
		expect(granted == calls, "rate %d: %d of %d", i, granted, calls);
	}
	end("a full bucket grants its burst, and not one more");

	begin();
	for (int parts = 2; parts <= 1000; parts++)
	{
		Bucket		bucket = full_bucket((PlatRate) {1, 1, DAY});
		int			granted = 0;

		for (int call = 0; call < parts + 5; call++)
			granted += take(&bucket, START + call, 1.0 / parts);
		expect(granted == parts, "cost 1/%d: %d", parts, granted);
	}
	end("parts of a token add up to it");

	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		Bucket		bucket = full_bucket(rates[i]);

		expect(take(&bucket, START, rates[i].burst), "rate %d: refused", i);
		expect(!take(&bucket, START, rates[i].burst * 1e-6), "rate %d: more", i);
		expect(plat_bucket_debt(bucket.state, START) == bucket.limit,
			   "rate %d: the debt is not the time to fill", i);
		expect(take(&bucket, START + bucket.limit, rates[i].burst),
			   "rate %d: not full in time", i);
	}
	end("a cost of the whole burst passes a full bucket, alone");
}

/*
 * Random costs at random times: the bound holds from any moment to any other,
 * however long nobody came before, and somebody who asks all the time gets
 * nearly all of it.
 */
static void
test_bound(void)
{
	char		name[100];
	long		steps = 0;

	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		Bucket		bucket = full_bucket(rates[i]);
		uint64		now = START;
		uint64		pace = Min(Max(bucket.limit / 10, 4), 20 * HOUR);

		for (int step = 0; step < 150000; step++, steps++)
		{
			now += step % 1000 < 500 ? below(pace / 8) : below(pace);
			if (step % 700 == 699)
			{
				now += below(30 * pace);
				bucket.since = now;
				bucket.admitted = 0;
			}
			(void) take(&bucket, now, bucket.rate.burst * fraction() *
						(step % 3 ? 0.01 : 1));
			expect(is_within(&bucket, now), "rate %d, step %d: %.17Lg in %.0f ns",
				   i, step, bucket.admitted, (double) (now - bucket.since));
		}
	}
	expect(steps >= 1000000, "%ld steps", steps);
	snprintf(name, sizeof(name), "never more than burst + rate * time, %ld steps", steps);
	end(name);

	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		Bucket		bucket = full_bucket(rates[i]);
		uint64		now = START;
		long double expected;

		if (bucket.limit < 1000)
			continue;			/* a nanosecond is much of the bucket */
		for (int step = 0; step < 20000 && now < 100 * YEAR; step++)
		{
			if (!take(&bucket, now, bucket.rate.burst / 10))
				now += bucket.wait;
		}
		expected = bucket.rate.burst + (long double) bucket.rate.rate *
			(now - START) / bucket.rate.per_ns;
		expect(bucket.admitted > expected * 0.98 - bucket.rate.burst / 10,
			   "rate %d: %.17Lg of %.17Lg", i, bucket.admitted, expected);
		expect(is_within(&bucket, now), "rate %d: too much", i);
	}
	end("and nearly as much for who comes back when told");
}

/*
 * Who is told to wait passes after that time and not a nanosecond earlier.
 */
static void
test_wait(void)
{
	int			refusals = 0;
	char		name[100];

	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		Bucket		bucket = full_bucket(rates[i]);
		uint64		now = START;

		for (int step = 0; step < 20000 && now < 100 * YEAR; step++)
		{
			double		cost = bucket.rate.burst * fraction();
			uint64		before = bucket.state;
			Bucket		early;

			now += below(bucket.limit / 20 + 2);
			if (take(&bucket, now, cost))
			{
				expect(bucket.wait == 0, "rate %d: a wait for who passes", i);
				continue;
			}
			refusals++;
			expect(bucket.state == before, "rate %d: a refusal is charged", i);
			early = bucket;
			expect(!take(&early, now + bucket.wait - 1, cost),
				   "rate %d: a nanosecond early passes", i);
			early = bucket;
			expect(take(&early, now + bucket.wait, cost),
				   "rate %d: refused after %.0f ns", i, (double) bucket.wait);
			expect(bucket.wait <= bucket.limit, "rate %d: a wait of more than a bucket", i);
		}
	}
	snprintf(name, sizeof(name), "retry_after is exact, %d refusals", refusals);
	end(name);
	check(refusals > 100000, "there were refusals", "none");
}

/*
 * What costs nothing charges nothing.
 */
static void
test_cost_nothing(void)
{
	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		Bucket		bucket = full_bucket(rates[i]);
		uint64		before = plat_bucket_debt(bucket.state, START);

		expect(plat_rate_ns(&rates[i], 0) == 0, "rate %d: it takes time", i);
		expect(plat_rate_ns(&rates[i], DBL_MIN) == 1, "rate %d: too little", i);
		expect(plat_rate_ns(&(PlatRate) {1e300, 1, 1}, DBL_MIN) == 1, "nothing");
		expect(take(&bucket, START, 0), "rate %d: refused when full", i);
		expect(plat_bucket_debt(bucket.state, START) == before, "rate %d: charged", i);
		(void) take(&bucket, START, rates[i].burst);
		expect(take(&bucket, START, 0), "rate %d: refused when empty", i);
		bucket.state += 5;
		expect(!take(&bucket, START, 0) && bucket.wait == 5, "rate %d: passes over a debt", i);
	}
	end("a cost of 0 passes unless there is more than a full debt");
}

/*
 * Costs in nanoseconds: rounded up, and in the order of the costs.
 */
static void
test_rounding(void)
{
	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		for (int step = 0; step < 20000; step++)
		{
			double		cost = rates[i].burst * fraction();
			double		more = cost + (rates[i].burst - cost) * fraction();
			long double exact = (long double) cost * rates[i].per_ns / rates[i].rate;
			uint64		ns = plat_rate_ns(&rates[i], cost);

			expect(ns >= exact * (1 - 2 * DBL_EPSILON), "rate %d: %.17g is too cheap", i, cost);
			expect(ns <= exact * (1 + 2 * DBL_EPSILON) + 1, "rate %d: %.17g is too dear", i, cost);
			expect(ns <= plat_rate_ns(&rates[i], more), "rate %d: more costs less", i);
			expect(ns <= plat_rate_ns(&rates[i], rates[i].burst), "rate %d: above the burst", i);
		}
	}
	end("costs are rounded up, by less than a nanosecond, and stay in order");

	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		uint64		limit = plat_rate_ns(&rates[i], rates[i].burst);
		double		last = 0;

		expect(plat_rate_tokens(&rates[i], 0) == 0, "rate %d: nothing is something", i);
		expect(plat_rate_tokens(&rates[i], limit) == rates[i].burst ||
			   limit < 1000, "rate %d: full is not the burst", i);
		for (int step = 0; step <= 1000; step++)
		{
			double		tokens = plat_rate_tokens(&rates[i], limit / 1000 * step);

			expect(tokens >= last || limit < 10000, "rate %d: more time, fewer tokens", i);
			expect(tokens <= rates[i].burst, "rate %d: more than the burst", i);
			last = tokens;
		}
		for (double used = 1; used < Min(rates[i].burst, 1000) && limit >= 1000; used++)
		{
			double		left = plat_rate_tokens(&rates[i], limit - plat_rate_ns(&rates[i], used));

			expect(fabs(left - (rates[i].burst - used)) <= rates[i].burst * 1e-12 +
				   3 * rates[i].rate / rates[i].per_ns,
				   "rate %d: %.17g are left of %g less %g", i, left, rates[i].burst, used);
			expect(left == rint(left) || rates[i].burst != rint(rates[i].burst),
				   "rate %d: %.17g are left", i, left);
		}
	}
	end("what is left is told in whole tokens where it is whole");
}

/*
 * A refund gives back what was taken, and never more than a full bucket.
 */
static void
test_refund(void)
{
	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		Bucket		bucket = full_bucket(rates[i]);
		uint64		now = START;

		for (int step = 0; step < 50000 && now < 100 * YEAR; step++)
		{
			uint64		cost = plat_rate_ns(&rates[i], rates[i].burst * fraction());
			uint64		debt;
			uint64		after;

			now += below(bucket.limit / 20 + 2);
			(void) take(&bucket, now, rates[i].burst * fraction());
			debt = plat_bucket_debt(bucket.state, now);
			bucket.state = plat_bucket_refund(bucket.state, now, cost);
			after = plat_bucket_debt(bucket.state, now);
			expect(after == debt - Min(debt, cost), "rate %d, step %d", i, step);
		}
		bucket.state = plat_bucket_refund(START + 7, START, 1000);
		expect(plat_bucket_debt(bucket.state, START) == 0 && bucket.state + 1 > START,
			   "rate %d: credit beyond a full bucket", i);
		bucket = full_bucket(rates[i]);
		for (int times = 0; times < 10; times++)
			bucket.state = plat_bucket_refund(bucket.state, START, bucket.limit);
		(void) take(&bucket, START, rates[i].burst);
		expect(!take(&bucket, START, rates[i].burst) && bucket.wait == bucket.limit,
			   "rate %d: ten refunds leave more than a full bucket", i);
	}
	end("a refund gives back what it says, and never overfills");
}

/*
 * A charge that is undone, beside the same bucket in which it never happened,
 * while others charge and come and go.  Never to the tenant's advantage; and
 * exact unless the debt that there was before has been paid off meanwhile.
 */
static void
test_undo(void)
{
	int			exact = 0;
	int			inexact = 0;

	begin();
	for (int step = 0; step < 2000000; step++)
	{
		uint64		now = START + below(SECOND);
		uint64		before = now + below(3) * below(1000);
		uint64		cost = 1 + below(1000);
		uint64		with;
		uint64		without = before;
		uint64		taken;
		uint64		paid = now + plat_bucket_debt(before, now);
		uint64		wait;
		uint64		lost;
		uint64		late;

		(void) plat_bucket_take(before, now, cost, 1, &taken, &wait);
		with = taken;
		for (uint64 others = below(4); others > 0; others--)
		{
			uint64		other = below(500);

			now += below(4) * below(400);
			(void) plat_bucket_take(with, now, other, 1, &with, &wait);
			(void) plat_bucket_take(without, now, other, 1, &without, &wait);
		}
		now += below(2) * below(1000);
		with = plat_bucket_undo(with, taken, now, cost, PLAT_LIMIT_MAX_NS);
		late = now > paid ? now - paid : 0;
		expect(plat_bucket_debt(with, now) >= plat_bucket_debt(without, now),
			   "step %d: the undo gave %.0f ns too much", step,
			   (double) plat_bucket_debt(without, now) - (double) plat_bucket_debt(with, now));
		lost = plat_bucket_debt(with, now) - plat_bucket_debt(without, now);
		expect(lost <= Min(cost, late), "step %d: %.0f ns lost of %.0f, %.0f late",
			   step, (double) lost, (double) cost, (double) late);
		if (late == 0)
			exact++;
		else
			inexact++;
	}
	end("an undo is exact as long as the debt before is not paid, and never generous");
	check(exact > 100000 && inexact > 100000, "both happened", "not often enough");

	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		for (int step = 0; step < 2000; step++)
		{
			uint64		limit = plat_rate_ns(&rates[i], rates[i].burst);
			uint64		state = START + below(limit);
			uint64		cost = plat_rate_ns(&rates[i], rates[i].burst * fraction());
			uint64		taken;
			uint64		wait;

			(void) plat_bucket_take(state, START, cost, limit, &taken, &wait);
			expect(plat_bucket_undo(taken, taken, START, cost, limit) == state,
				   "rate %d: not as before", i);
		}
	}
	end("an undo at once leaves the state as it was");
	check(plat_bucket_undo(5, 105, 0, 100, 1000) == 5 &&
		  plat_bucket_undo(0, 0, START, 7, 1000) == 0 &&
		  plat_bucket_undo(5, 5, 0, 100, 1000) == 0,
		  "an undo after a reset gives nothing back, and never wraps", "it does");
	check(plat_bucket_undo(START + 3000, START + 2000, START, 1000, 1500) == START + 3000,
		  "an undo leaves alone what is promised to those behind", "not so");
	check(plat_bucket_undo(START + 3000, START + 2000, START + 1500, 1000, 1500) == START + 2500,
		  "until they have got it", "not so");
	check(plat_bucket_undo(START + 2000, START + 2000, START, 1000, 500) == START + 1000,
		  "the last in the queue gives its place back", "not so");
}

/*
 * Another rate: the debt stays the time that it is.
 */
static void
test_change(void)
{
	begin();
	for (int i = 0; i < lengthof(rates); i++)
	{
		for (int j = 0; j < lengthof(rates); j++)
		{
			Bucket		bucket = full_bucket(rates[i]);
			Bucket		other = full_bucket(rates[j]);
			uint64		debt;
			bool		passed;

			(void) take(&bucket, START, rates[i].burst);
			other.state = bucket.state;
			debt = bucket.limit;
			passed = take(&other, START, rates[j].burst / 2);
			if (passed)
				expect(plat_bucket_debt(other.state, START) ==
					   debt + plat_rate_ns(&rates[j], rates[j].burst / 2),
					   "rates %d and %d: the debt is another", i, j);
			else
				expect(other.wait == debt + plat_rate_ns(&rates[j], rates[j].burst / 2) - other.limit,
					   "rates %d and %d: the wait is another", i, j);
			expect(passed || take(&other, START + other.wait, rates[j].burst / 2),
				   "rates %d and %d: refused after the wait", i, j);
		}
	}
	end("a change of the rate keeps the debt, in time");
}

/*
 * What can be said wrongly is told apart, and the largest that can be said
 * does not overflow.
 */
static void
test_extremes(void)
{
	static const struct
	{
		double		rate;
		double		burst;
		double		per_ns;
		double		cost;
		PlatLimitProblem problem;
	}			cases[] = {
		{1, 1, 1e9, 1, PLAT_LIMIT_FINE}, {1, 1, 1e9, 0, PLAT_LIMIT_FINE},
		{0, 1, 1e9, 1, PLAT_LIMIT_BAD_RATE}, {-1, 1, 1e9, 1, PLAT_LIMIT_BAD_RATE},
		{NAN, 1, 1e9, 1, PLAT_LIMIT_BAD_RATE}, {INFINITY, 1, 1e9, 1, PLAT_LIMIT_BAD_RATE},
		{1, 0, 1e9, 0, PLAT_LIMIT_BAD_BURST}, {1, NAN, 1e9, 1, PLAT_LIMIT_BAD_BURST},
		{1, INFINITY, 1e9, 1, PLAT_LIMIT_BAD_BURST}, {1, -1, 1e9, 1, PLAT_LIMIT_BAD_BURST},
		{1, 1, 0, 1, PLAT_LIMIT_BAD_PER}, {1, 1, NAN, 1, PLAT_LIMIT_BAD_PER},
		{1, 1, INFINITY, 1, PLAT_LIMIT_BAD_PER}, {1, 1, -1e9, 1, PLAT_LIMIT_BAD_PER},
		{1, 1, 1e9, -1e-300, PLAT_LIMIT_BAD_COST}, {1, 1, 1e9, NAN, PLAT_LIMIT_BAD_COST},
		{1, 1, 1e9, INFINITY, PLAT_LIMIT_BAD_COST},
		{1, 1, 1e9, 1 + DBL_EPSILON, PLAT_LIMIT_COST_TOO_HIGH},
		{1, 100, 365.25 * DAY, 100, PLAT_LIMIT_FINE},
		{1, 100.000001, 365.25 * DAY, 1, PLAT_LIMIT_TOO_SLOW},
		{DBL_MIN, 1, 1e9, 1, PLAT_LIMIT_TOO_SLOW}, {1, DBL_MAX, 1e9, 1, PLAT_LIMIT_TOO_SLOW},
		{5e-324, DBL_MAX, DBL_MAX, 1, PLAT_LIMIT_TOO_SLOW},
		{DBL_MAX, 1, 1e9, 1, PLAT_LIMIT_FINE}, {1e-9, 1e-9, 1, 1e-9, PLAT_LIMIT_FINE}
	};
	PlatRate	slowest = {1, 100, 365.25 * DAY};
	Bucket		bucket = full_bucket(slowest);
	uint64		now = 10 * YEAR;
	uint64		next;
	uint64		wait;

	begin();
	for (int i = 0; i < lengthof(cases); i++)
	{
		PlatRate	rate = {cases[i].rate, cases[i].burst, cases[i].per_ns};

		expect(plat_rate_problem(&rate, cases[i].cost) == cases[i].problem,
			   "case %d: %d", i, plat_rate_problem(&rate, cases[i].cost));
	}
	end("what cannot be is told apart");

	check(bucket.limit == PLAT_LIMIT_MAX_NS, "a century fills the slowest bucket", "not so");
	begin();
	bucket.state = now;
	expect(take(&bucket, now, 100) && !take(&bucket, now, 100), "burst");
	expect(bucket.wait == PLAT_LIMIT_MAX_NS, "wait %.0f", (double) bucket.wait);
	expect(take(&bucket, now + PLAT_LIMIT_MAX_NS, 100), "refused after a century");
	/* The longest queue: a place a century ahead of a bucket that owes one. */
	expect(!plat_bucket_take(now + PLAT_LIMIT_MAX_NS, now, PLAT_LIMIT_MAX_NS,
							 PLAT_LIMIT_MAX_NS, &next, &wait), "queue");
	expect(wait == PLAT_LIMIT_MAX_NS && next == now + 2 * PLAT_LIMIT_MAX_NS, "place");
	expect(!plat_bucket_take(next, now, PLAT_LIMIT_MAX_NS, PLAT_LIMIT_MAX_NS,
							 &next, &wait), "behind it");
	expect(wait == 2 * PLAT_LIMIT_MAX_NS && next > now, "it wrapped");
	expect(plat_bucket_undo(next, next, now, PLAT_LIMIT_MAX_NS, PLAT_LIMIT_MAX_NS) == now + 2 * PLAT_LIMIT_MAX_NS, "undo");
	end("sums of centuries do not overflow");
}

/*
 * Quotas are counted in thousandths, rounded up but for what a fraction's
 * representation adds.
 */
static void
test_quota(void)
{
	static const struct
	{
		double		tokens;
		uint64		units;
	}			cases[] = {
		{0, 0}, {0.07, 70}, {0.29, 290}, {1.1, 1100}, {8.2, 8200}, {1e-9, 1},
		{DBL_MIN, 1}, {0.001, 1}, {0.0010001, 2}, {0.0005, 1}, {1, 1000},
		{1.0001, 1001}, {2.0009, 2001}, {123456.789, 123456789}, {1e6 / 3, 333333334},
		{9e15, UINT64CONST(9000000000000000000)}, {4503599627370496, UINT64CONST(4503599627370496000)},
		{9.1e15, UINT64CONST(9000000000000000000)}, {1e300, UINT64CONST(9000000000000000000)}
	};
	uint64		next;

	begin();
	for (int i = 0; i < lengthof(cases); i++)
		expect(plat_quota_units(cases[i].tokens) == cases[i].units, "%.17g tokens are %.0f units",
			   cases[i].tokens, (double) plat_quota_units(cases[i].tokens));
	end("tokens in thousandths");

	begin();
	for (uint64 units = 0; units < 3000000; units++)
		expect(plat_quota_units(units / 1000.0) == units, "%.0f thousandths", (double) units);
	for (int step = 0; step < 1000000; step++)
	{
		double		tokens = ldexp(fraction(), (int) below(52));
		uint64		units = plat_quota_units(tokens);
		long double exact = (long double) tokens * 1000;

		expect(units >= exact * (1 - 5 * DBL_EPSILON), "%.17g is too cheap", tokens);
		expect(units < exact * (1 + 5 * DBL_EPSILON) + 1, "%.17g is too dear", tokens);
	}
	end("a number of thousandths is that number, and others are rounded up");

	begin();
	expect(plat_quota_take(0, 1000, 1000, &next) && next == 1000, "all of it");
	expect(plat_quota_take(999, 1, 1000, &next) && next == 1000, "the last");
	expect(!plat_quota_take(999, 2, 1000, &next), "one more");
	expect(!plat_quota_take(1000, 1, 1000, &next), "when used up");
	expect(!plat_quota_take(0, 1, 0, &next), "of a quota of 0");
	expect(plat_quota_take(0, 0, 0, &next) && next == 0, "nothing of nothing");
	expect(plat_quota_take(1000, 0, 1000, &next) && next == 1000, "nothing when used up");
	expect(!plat_quota_take(1001, 0, 1000, &next), "nothing of a quota that was lowered");
	expect(!plat_quota_take(1001, 1, 1000, &next), "more than a quota that was lowered");
	expect(plat_quota_take(0, PLAT_QUOTA_MAX * UINT64CONST(1000), PLAT_QUOTA_MAX * UINT64CONST(1000), &next), "the largest");
	expect(!plat_quota_take(PLAT_QUOTA_MAX * UINT64CONST(1000), PLAT_QUOTA_MAX * UINT64CONST(1000),
							PLAT_QUOTA_MAX * UINT64CONST(1000), &next), "twice the largest");
	end("what a quota grants");

	begin();
	for (int round = 0; round < 200; round++)
	{
		uint64		quota = below(100000);
		uint64		used = 0;
		uint64		sum = 0;

		for (int step = 0; step < 1000; step++)
		{
			uint64		cost = below(500);

			if (!plat_quota_take(used, cost, quota, &next))
			{
				expect(sum + cost > quota, "round %d: refused too early", round);
				continue;
			}
			used = next;
			sum += cost;
			expect(sum == used && sum <= quota, "round %d: %.0f of %.0f", round,
				   (double) sum, (double) quota);
		}
	}
	end("never more than the quota, and all of what fits");
}

int
main(int argc, char **argv)
{
	seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	test_burst();
	test_bound();
	test_wait();
	test_cost_nothing();
	test_rounding();
	test_refund();
	test_undo();
	test_change();
	test_extremes();
	test_quota();
	printf("1..%d\n", tests);
	return failures > 0;
}
