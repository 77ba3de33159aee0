/*
 * limit.c
 *		The arithmetic of token buckets and quotas, under clocks of our own.
 *
 * test/t/030_limit_core.pl compiles this together with src/limit_core.c, runs
 * it, and shows what it prints: TAP.
 */
#include "postgres.h"

#include <math.h>
#include <stdio.h>

#include "limit_core.h"

/* The server's own is not there. */
#undef printf

#define SECOND UINT64CONST(1000000000)

static int	tests = 0;

static void
ok(bool good, const char *name)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++tests, name);
}

/* A generator of which everybody gets the same numbers. */
static uint64 dice_state = 42;

static uint64
dice(uint64 sides)
{
	dice_state = dice_state * UINT64CONST(6364136223846793005) +
		UINT64CONST(1442695040888963407);
	return (dice_state >> 33) % sides;
}

static double
chance(void)
{
	return (double) dice(1000000) / 1000000;
}

/* Take cost tokens; returns whether they were there. */
static bool
take(uint64 *state, uint64 now, const PlatRate *rate, double cost, uint64 *wait)
{
	uint64		next;

	if (!plat_bucket_take(*state, now, plat_rate_ns(rate, cost),
						  plat_rate_ns(rate, rate->burst), &next, wait))
		return false;
	*state = next;
	return true;
}

/*
 * Random rates, costs and times: what was granted never exceeds burst + rate *
 * time, with the nanosecond in which the clock was read, in any stretch that
 * begins with the first call; who waits as told passes, and not a nanosecond
 * before.
 */
static void
check_bound(void)
{
	bool		bound = true;
	bool		exact = true;
	long		granted_calls = 0;

	for (int run = 0; run < 2000; run++)
	{
		PlatRate	rate = {
			.rate = pow(10, chance() * 12 - 3),
			.burst = ceil(chance() * 100),
			.per_ns = pow(10, 6 + chance() * 6),
		};
		uint64		start = dice(1000) * SECOND + dice(SECOND);
		uint64		now = start;
		uint64		state = 0;
		double		granted = 0;

		if (plat_rate_problem(&rate, 0) != PLAT_LIMIT_FINE)
			continue;
		for (int call = 0; call < 1000; call++)
		{
			double		cost = dice(2) ? 1 : chance() * rate.burst;
			uint64		wait;
			uint64		ignored;

			if (take(&state, now, &rate, cost, &wait))
			{
				granted += cost;
				granted_calls++;
			}
			else
			{
				uint64		early = state;
				uint64		later = state;

				if (take(&early, now + wait - 1, &rate, cost, &ignored) ||
					!take(&later, now + wait, &rate, cost, &ignored))
					exact = false;
			}
			if (granted > (rate.burst + rate.rate * (double) (now - start + 1) /
						   rate.per_ns) * (1 + 1e-9))
				bound = false;
			now += dice(3) ? (uint64) (chance() * rate.per_ns / rate.rate) : 0;
		}
	}
	ok(bound, "no more is granted than burst + rate * time");
	ok(exact, "who waits as told passes, and not a nanosecond before");
	ok(granted_calls > 500000, "and much was granted");
}

/*
 * A full bucket gives exactly its burst, if only a nanosecond passes from call
 * to call.
 */
static void
check_burst(void)
{
	bool		good = true;

	for (int run = 0; run < 1000; run++)
	{
		PlatRate	rate = {.rate = 1 + dice(100000), .burst = 1 + dice(50), .per_ns = 1e9};
		uint64		now = 5 * SECOND;
		uint64		state = 0;
		uint64		wait;
		int			granted = 0;

		for (int call = 0; call < 100; call++, now++)
			granted += take(&state, now, &rate, 1, &wait);
		if (granted != (int) rate.burst)
			good = false;
	}
	ok(good, "a full bucket gives its burst and no more");
}

/*
 * Refunds: no sequence of them makes a bucket fuller than full, and what is
 * given back at once can be taken again.
 */
static void
check_refund(void)
{
	PlatRate	rate = {.rate = 7, .burst = 13, .per_ns = 1e9};
	uint64		now = 100 * SECOND;
	uint64		state = 0;
	uint64		limit = plat_rate_ns(&rate, rate.burst);
	uint64		wait;
	bool		good = true;

	for (int call = 0; call < 1000000; call++)
	{
		uint64		cost = plat_rate_ns(&rate, chance() * rate.burst);
		uint64		next;

		if (dice(3) == 0)
			state = plat_bucket_refund(state, now, cost);
		else if (plat_bucket_take(state, now, cost, limit, &next, &wait))
			state = next;
		if (plat_bucket_debt(state, now) > limit)
			good = false;
		now += dice(SECOND / 10);
	}
	ok(good, "the debt stays between nothing and the burst");
	state = 0;
	take(&state, now, &rate, 13, &wait);
	state = plat_bucket_refund(state, now, plat_rate_ns(&rate, 5));
	ok(take(&state, now, &rate, 5, &wait) && !take(&state, now, &rate, 0.1, &wait),
	   "what is given back is there, and no more");
	state = plat_bucket_refund(state, now, PG_UINT64_MAX);
	ok(plat_bucket_debt(state, now) == 0, "a refund of anything is a full bucket");
	ok(plat_bucket_refund(17, now, 5) == 17, "a full bucket stays as it is");
}

/*
 * Undo: a charge that is undone at once leaves no trace, and one that is
 * undone later never leaves more than there would be without it.
 */
static void
check_undo(void)
{
	PlatRate	rate = {.rate = 10, .burst = 10, .per_ns = 1e9};
	bool		same = true;
	bool		no_more = true;

	for (int run = 0; run < 200000; run++)
	{
		uint64		now = 50 * SECOND + dice(SECOND);
		uint64		with = now + dice(SECOND) - SECOND / 2;
		uint64		without = with;
		uint64		cost = plat_rate_ns(&rate, chance() * 10);
		uint64		limit = plat_rate_ns(&rate, 10);
		uint64		taken;
		uint64		wait;

		if (!plat_bucket_take(with, now, cost, limit, &taken, &wait))
			continue;
		if (plat_bucket_debt(plat_bucket_undo(taken, taken, now, cost), now) !=
			plat_bucket_debt(without, now))
			same = false;
		with = taken;
		for (int other = 0; other < 3; other++)
		{
			uint64		charge = plat_rate_ns(&rate, chance() * 3);
			uint64		next;

			now += dice(SECOND / 2);
			if (!plat_bucket_take(with, now, charge, limit, &next, &wait))
				continue;
			with = next;
			/* Without the charge it would have passed, too. */
			if (!plat_bucket_take(without, now, charge, limit, &next, &wait))
				no_more = false;
			without = next;
		}
		now += dice(SECOND / 2);
		with = plat_bucket_undo(with, taken, now, cost);
		if (plat_bucket_debt(with, now) < plat_bucket_debt(without, now))
			no_more = false;
	}
	ok(same, "what is undone at once leaves no trace");
	ok(no_more, "what is undone later lets through no more than without it");
}

/*
 * From one token in a month to a billion in a second, and the longest times.
 */
static void
check_extremes(void)
{
	PlatRate	month = {.rate = 1, .burst = 1, .per_ns = 30 * 86400e9};
	PlatRate	billion = {.rate = 1e9, .burst = 1e9, .per_ns = 1e9};
	PlatRate	century = {.rate = 1, .burst = 1, .per_ns = 3155760000e9};
	PlatRate	quick = {.rate = 1e15, .burst = 1e15, .per_ns = 1e9};
	uint64		now = UINT64CONST(10) * 365 * 86400 * SECOND;
	uint64		state = 0;
	uint64		wait;
	long		granted = 0;

	ok(take(&state, now, &month, 1, &wait) && !take(&state, now, &month, 1, &wait) &&
	   wait == UINT64CONST(2592000) * SECOND, "one token in a month");
	state = 0;
	for (int call = 0; call < 1000; call++)
		granted += take(&state, now, &billion, 1e6, &wait);
	ok(granted == 1000 && !take(&state, now, &billion, 1, &wait) && wait == 1,
	   "a billion in a second, the next a nanosecond later");
	state = 0;
	ok(take(&state, now, &century, 1, &wait) && !take(&state, now, &century, 1, &wait) &&
	   wait == PLAT_LIMIT_MAX_NS, "one in a century");
	state = 0;
	ok(take(&state, now, &quick, 1, &wait) && state == now + 1,
	   "a cost below a nanosecond is one");
	ok(plat_rate_ns(&quick, 0) == 0, "no cost is none");
	ok(plat_rate_problem(&century, 1) == PLAT_LIMIT_FINE, "a century is the limit");
	century.burst = 1.001;
	ok(plat_rate_problem(&century, 1) == PLAT_LIMIT_TOO_SLOW, "and more is too slow");
	/* Those who wait for each other: a hundred centuries would fit. */
	state = 0;
	for (int waiter = 0; waiter < 3; waiter++)
	{
		uint64		next;

		(void) plat_bucket_take(state, now, PLAT_LIMIT_MAX_NS, PLAT_LIMIT_MAX_NS,
								&next, &wait);
		state = next;
	}
	ok(wait == 2 * PLAT_LIMIT_MAX_NS && state > now, "queued centuries do not wrap");
}

static void
check_problems(void)
{
	PlatRate	good = {.rate = 1, .burst = 2, .per_ns = 1e9};
	double		bad[] = {0, -1, -0.0, NAN, INFINITY, -INFINITY};
	bool		found = true;

	for (int i = 0; i < lengthof(bad); i++)
	{
		PlatRate	rate = good;
		PlatRate	burst = good;
		PlatRate	per = good;

		rate.rate = bad[i];
		burst.burst = bad[i];
		per.per_ns = bad[i];
		found = found && plat_rate_problem(&rate, 1) == PLAT_LIMIT_BAD_RATE &&
			plat_rate_problem(&burst, 1) == PLAT_LIMIT_BAD_BURST &&
			plat_rate_problem(&per, 1) == PLAT_LIMIT_BAD_PER;
		if (i != 0 && i != 2)
			found = found && plat_rate_problem(&good, bad[i]) == PLAT_LIMIT_BAD_COST;
	}
	ok(found, "zero, negative, NaN and infinite numbers are found");
	ok(plat_rate_problem(&good, 2) == PLAT_LIMIT_FINE &&
	   plat_rate_problem(&good, 2.0000001) == PLAT_LIMIT_COST_TOO_HIGH,
	   "a cost may be the burst and not more");
}

/*
 * Another rate finds the debt as the time that it is.
 */
static void
check_change(void)
{
	PlatRate	slow = {.rate = 1, .burst = 10, .per_ns = 1e9};
	PlatRate	fast = {.rate = 10, .burst = 100, .per_ns = 1e9};
	uint64		now = 1000 * SECOND;
	uint64		state = 0;
	uint64		wait;

	take(&state, now, &slow, 10, &wait);
	ok(plat_bucket_debt(state, now) == 10 * SECOND, "a debt of ten seconds");
	ok(!take(&state, now, &fast, 1, &wait) && wait == SECOND / 10,
	   "is one of ten seconds at another rate");
	fast.burst = 150;
	ok(take(&state, now, &fast, 50, &wait) && !take(&state, now, &fast, 1, &wait),
	   "and a larger burst gives what it has more");
}

static void
check_tokens(void)
{
	PlatRate	thirds = {.rate = 3, .burst = 20, .per_ns = 1e9};
	uint64		limit = plat_rate_ns(&thirds, 20);
	bool		whole = true;

	for (int taken = 0; taken <= 20; taken++)
		if (plat_rate_tokens(&thirds, limit - Min(limit, (uint64) taken * plat_rate_ns(&thirds, 1))) != 20 - taken &&
			taken <= 2)
			whole = false;
	ok(whole, "tokens that are left are whole in spite of rounding");
	ok(plat_rate_tokens(&thirds, limit) == 20, "a full bucket has its burst");
	ok(fabs(plat_rate_tokens(&thirds, SECOND / 2) - 1.5) < 1e-9, "half a second of three is one and a half");
}

static void
check_quota(void)
{
	uint64		next;

	ok(plat_quota_units(1) == 1000 && plat_quota_units(0.07) == 70 &&
	   plat_quota_units(0.1) == 100 && plat_quota_units(1.1) == 1100,
	   "thousandths of tokens");
	ok(plat_quota_units(0) == 0 && plat_quota_units(1e-9) == 1 &&
	   plat_quota_units(0.0011) == 2, "are rounded up");
	ok(plat_quota_units(1000000000001.0) == UINT64CONST(1000000000001000),
	   "large ones are exact");
	ok(plat_quota_units(1e300) == (uint64) PLAT_QUOTA_MAX * PLAT_QUOTA_UNIT,
	   "and end somewhere");
	ok(plat_quota_take(5, 5, 10, &next) && next == 10 &&
	   !plat_quota_take(6, 5, 10, &next) && plat_quota_take(10, 0, 10, &next),
	   "a quota may be used up and not more");
	ok(!plat_quota_take(11, 0, 10, &next), "one that was made smaller refuses");
}

int
main(void)
{
	check_bound();
	check_burst();
	check_refund();
	check_undo();
	check_extremes();
	check_problems();
	check_change();
	check_tokens();
	check_quota();
	printf("1..%d\n", tests);
	return 0;
}
