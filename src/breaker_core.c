/*
 * breaker_core.c
 *		The state machine of circuit breakers: which calls to let through.
 *
 *	closed		everything passes.  Failures open the breaker: so many in a
 *				row, or so many or such a share of the calls, or such a share
 *				of slow calls, of a sliding window.
 *	open		nothing passes, for a time that grows with every attempt.
 *	half-open	some calls pass as probes, each with a lease that ends with an
 *				outcome or at its deadline, which counts as a failure.  One
 *				failure opens the breaker again, enough successes close it.
 *
 * Time moves it without anybody's help: before anything else the moves are made
 * that were due by now, as of when they were due.  So a probe that nobody
 * cares for any more cannot hold it up.
 *
 * What a call came to is ignored if the breaker has changed its state since
 * the call was let through: it is told by the generation.
 *
 * Functions of their arguments only.
 */
#include "c.h"

#include <math.h>

#include "breaker_core.h"

/*
 * Go to another state at a moment, and note the move.
 */
static void
move(PlatBreaker *breaker, PlatBreakerState to, PlatBreakerCause cause,
	 uint64 at, PlatBreakerMoves *moves)
{
	if (moves->count < PLAT_BREAKER_MOVES)
		moves->moves[moves->count++] = (PlatBreakerMove)
	{
		breaker->state, to, cause, at
	};
	breaker->state = to;
	breaker->since = at;
	breaker->generation++;
	breaker->moves++;
	breaker->failures = 0;
	breaker->successes = 0;
	breaker->nleases = 0;
	memset(breaker->slices, 0, sizeof(breaker->slices));
}

/*
 * How long to be open the next time.
 */
static uint64
next_open_time(const PlatBreaker *breaker, const PlatBreakerRules *rules)
{
	double		ns = rules->timeout * pow(rules->backoff, breaker->attempt);

	/* A limit that is below the timeout itself does not shorten it. */
	if (ns >= (double) rules->max_timeout)
		return Max(rules->max_timeout, rules->timeout);
	return (uint64) ns;
}

static void
open_breaker(PlatBreaker *breaker, const PlatBreakerRules *rules,
			 PlatBreakerCause cause, uint64 at, PlatBreakerMoves *moves)
{
	breaker->open_time = next_open_time(breaker, rules);
	breaker->attempt++;
	breaker->openings++;
	if (breaker->outage_since == 0)
		breaker->outage_since = at;
	move(breaker, PLAT_BREAKER_OPEN, cause, at, moves);
}

static void
close_breaker(PlatBreaker *breaker, PlatBreakerCause cause, uint64 at,
			  PlatBreakerMoves *moves)
{
	if (breaker->outage_since > 0)
	{
		breaker->last_recovery = at - breaker->outage_since;
		breaker->longest_recovery = Max(breaker->longest_recovery,
										breaker->last_recovery);
	}
	breaker->outage_since = 0;
	breaker->attempt = 0;
	move(breaker, PLAT_BREAKER_CLOSED, cause, at, moves);
}

/*
 * A new breaker is closed.
 */
void
plat_breaker_init(PlatBreaker *breaker, uint64 now)
{
	memset(breaker, 0, sizeof(*breaker));
	breaker->generation = 1;
	breaker->since = now;
}

/*
 * When an open breaker is to be half-open.
 */
static uint64
open_until(const PlatBreaker *breaker)
{
	return breaker->since + breaker->open_time;
}

/*
 * The first deadline of a probe under way, or PLAT_BREAKER_NEVER.
 */
static uint64
first_deadline(const PlatBreaker *breaker)
{
	uint64		first = PLAT_BREAKER_NEVER;

	for (int i = 0; i < breaker->nleases; i++)
		first = Min(first, breaker->leases[i].deadline);
	return first;
}

/*
 * Make the moves that are due by now.
 */
void
plat_breaker_advance(PlatBreaker *breaker, const PlatBreakerRules *rules,
					 uint64 now, PlatBreakerMoves *moves)
{
	if (breaker->force != PLAT_FORCE_AUTO)
		return;
	if (breaker->state == PLAT_BREAKER_HALF_OPEN &&
		first_deadline(breaker) <= now)
		open_breaker(breaker, rules, PLAT_CAUSE_PROBE_LATE,
					 first_deadline(breaker), moves);
	if (breaker->state == PLAT_BREAKER_OPEN && open_until(breaker) <= now)
		move(breaker, PLAT_BREAKER_HALF_OPEN, PLAT_CAUSE_TIMEOUT,
			 open_until(breaker), moves);
}

/*
 * Whether a call may be made now, and as what: *grant goes with its outcome.
 * A probe is attended until plat_breaker_leave().
 */
bool
plat_breaker_allow(PlatBreaker *breaker, const PlatBreakerRules *rules,
				   uint64 now, PlatBreakerMoves *moves, PlatBreakerGrant *grant)
{
	*grant = (PlatBreakerGrant)
	{
		0
	};
	plat_breaker_advance(breaker, rules, now, moves);
	if (breaker->state == PLAT_BREAKER_OPEN)
		return false;
	if (breaker->state == PLAT_BREAKER_HALF_OPEN)
	{
		if (breaker->nleases >= Min(rules->half_open_calls, PLAT_BREAKER_LEASES))
			return false;
		grant->lease = ++breaker->last_lease;
		breaker->reopen_time = next_open_time(breaker, rules);
		breaker->leases[breaker->nleases++] = (PlatBreakerLease)
		{
			.number = grant->lease,
				.deadline = now + rules->probe_timeout,
				.is_attended = true,
		};
	}
	grant->generation = breaker->generation;
	return true;
}

/*
 * The place of the lease of a grant; for a caller of whom nothing is known
 * that of the oldest probe that nobody attends; -1 if there is none.
 */
static int
find_lease(const PlatBreaker *breaker, PlatBreakerGrant grant)
{
	for (int i = 0; i < breaker->nleases; i++)
		if (grant.generation == 0 ? !breaker->leases[i].is_attended :
			breaker->leases[i].number == grant.lease)
			return i;
	return -1;
}

/*
 * End a lease, keeping the others in order of age.
 */
static void
end_lease(PlatBreaker *breaker, int place)
{
	breaker->nleases--;
	memmove(&breaker->leases[place], &breaker->leases[place + 1],
			(breaker->nleases - place) * sizeof(PlatBreakerLease));
}

/*
 * The length of a slice of the window.
 */
static uint64
slice_length(const PlatBreakerRules *rules)
{
	return Max(rules->window / PLAT_BREAKER_SLICES, 1);
}

/*
 * The sums of the window that ends now. Calls that were counted in slices of
 * another length are forgotten: they cannot be told apart by age any more.
 */
PlatBreakerSlice
plat_breaker_window(const PlatBreaker *breaker, const PlatBreakerRules *rules,
					uint64 now)
{
	uint64		epoch = now / slice_length(rules);
	PlatBreakerSlice sum = {.epoch = epoch};

	if (breaker->slice_length != slice_length(rules))
		return sum;
	for (int i = 0; i < PLAT_BREAKER_SLICES; i++)
	{
		const PlatBreakerSlice *slice = &breaker->slices[i];

		if (slice->epoch > epoch || slice->epoch + PLAT_BREAKER_SLICES <= epoch)
			continue;
		sum.calls += slice->calls;
		sum.failures += slice->failures;
		sum.slow += slice->slow;
	}
	return sum;
}

/*
 * Count a call in the slice of now.
 */
static void
count_in_window(PlatBreaker *breaker, const PlatBreakerRules *rules,
				uint64 now, bool failed, bool slow)
{
	uint64		epoch = now / slice_length(rules);
	PlatBreakerSlice *slice = &breaker->slices[epoch % PLAT_BREAKER_SLICES];

	if (breaker->slice_length != slice_length(rules))
		memset(breaker->slices, 0, sizeof(breaker->slices));
	breaker->slice_length = slice_length(rules);
	if (slice->epoch != epoch)
		*slice = (PlatBreakerSlice)
	{
		.epoch = epoch
	};
	slice->calls++;
	slice->failures += failed;
	slice->slow += slow;
}

/*
 * Whether the window that ends now is reason to open, and which. It has a
 * call, and minimum_calls is not 0.
 */
static bool
window_is_bad(const PlatBreaker *breaker, const PlatBreakerRules *rules,
			  uint64 now, PlatBreakerCause *cause)
{
	PlatBreakerSlice sum = plat_breaker_window(breaker, rules, now);

	*cause = PLAT_CAUSE_FAILURES;
	if (rules->failure_rate > 1 && rules->slow_rate > 1)
		return sum.failures >= rules->failure_threshold;
	if (sum.calls < rules->minimum_calls)
		return false;
	*cause = PLAT_CAUSE_FAILURE_RATE;
	if ((double) sum.failures / sum.calls >= rules->failure_rate)
		return true;
	*cause = PLAT_CAUSE_SLOW_RATE;
	return (double) sum.slow / sum.calls >= rules->slow_rate;
}

/*
 * Count what a call of a closed breaker came to.
 */
static void
count_call(PlatBreaker *breaker, const PlatBreakerRules *rules, uint64 now,
		   PlatBreakerMoves *moves, bool failed, bool slow)
{
	PlatBreakerCause cause = PLAT_CAUSE_FAILURES;
	bool		is_bad;

	breaker->failures = failed ? breaker->failures + 1 : 0;
	if (rules->window > 0)
	{
		count_in_window(breaker, rules, now, failed, slow);
		is_bad = window_is_bad(breaker, rules, now, &cause);
	}
	else
		is_bad = breaker->failures >= rules->failure_threshold;
	if (is_bad && breaker->force == PLAT_FORCE_AUTO)
		open_breaker(breaker, rules, cause, now, moves);
}

/*
 * Take what a probe came to.
 */
static void
judge_probe(PlatBreaker *breaker, const PlatBreakerRules *rules, uint64 now,
			PlatBreakerMoves *moves, PlatBreakerOutcome outcome)
{
	if (outcome == PLAT_CALL_LOST)
		open_breaker(breaker, rules, PLAT_CAUSE_PROBE_LOST, now, moves);
	else if (outcome >= PLAT_CALL_FAILED)
		open_breaker(breaker, rules, PLAT_CAUSE_PROBE_FAILED, now, moves);
	else if (outcome == PLAT_CALL_PASSED_SLOWLY && rules->slow_rate <= 1)
		open_breaker(breaker, rules, PLAT_CAUSE_PROBE_SLOW, now, moves);
	else if (++breaker->successes >= rules->success_threshold)
		close_breaker(breaker, PLAT_CAUSE_PROBES_PASSED, now, moves);
}

/*
 * Take what a call came to; false if it is ignored, because it is none of this
 * generation, or no probe that is waited for.
 */
bool
plat_breaker_record(PlatBreaker *breaker, const PlatBreakerRules *rules,
					uint64 now, PlatBreakerMoves *moves,
					PlatBreakerGrant grant, PlatBreakerOutcome outcome)
{
	int			place;

	plat_breaker_advance(breaker, rules, now, moves);
	if (breaker->force == PLAT_FORCE_DISABLED ||
		breaker->state == PLAT_BREAKER_OPEN)
		return false;
	if (grant.generation != 0 && grant.generation != breaker->generation)
		return false;
	if (breaker->state == PLAT_BREAKER_CLOSED)
	{
		count_call(breaker, rules, now, moves, outcome >= PLAT_CALL_FAILED,
				   outcome == PLAT_CALL_PASSED_SLOWLY ||
				   outcome == PLAT_CALL_FAILED_SLOWLY);
		return true;
	}
	place = find_lease(breaker, grant);
	if (place < 0)
		return false;
	end_lease(breaker, place);
	judge_probe(breaker, rules, now, moves, outcome);
	return true;
}

/*
 * End a probe that says nothing of what is called: another may be made. The
 * breaker has advanced to now.
 */
void
plat_breaker_give_back(PlatBreaker *breaker, PlatBreakerGrant grant)
{
	int			place = find_lease(breaker, grant);

	if (grant.generation == breaker->generation && place >= 0)
		end_lease(breaker, place);
}

/*
 * The transaction that has got a probe has committed without an outcome:
 * anybody may bring it.  The breaker need not have advanced.
 */
void
plat_breaker_leave(PlatBreaker *breaker, PlatBreakerGrant grant)
{
	int			place = find_lease(breaker, grant);

	if (grant.generation == breaker->generation && place >= 0)
		breaker->leases[place].is_attended = false;
}

/*
 * Have a breaker do as it is told from now on.  It begins anew, and with what
 * comes to it afterwards; "auto" begins closed.  The breaker has advanced to
 * now.
 */
void
plat_breaker_force(PlatBreaker *breaker, PlatBreakerForce force, uint64 now,
				   PlatBreakerMoves *moves)
{
	PlatBreakerState state = force == PLAT_FORCE_OPEN ? PLAT_BREAKER_OPEN :
	PLAT_BREAKER_CLOSED;

	breaker->force = force;
	if (state == breaker->state)
	{
		breaker->generation++;
		breaker->failures = 0;
		memset(breaker->slices, 0, sizeof(breaker->slices));
	}
	else if (state == PLAT_BREAKER_CLOSED)
		close_breaker(breaker, PLAT_CAUSE_FORCED, now, moves);
	else
	{
		breaker->openings++;
		breaker->outage_since = breaker->outage_since > 0 ?
			breaker->outage_since : now;
		move(breaker, PLAT_BREAKER_OPEN, PLAT_CAUSE_FORCED, now, moves);
	}
}

/*
 * How long from now until a call may pass, as far as is known: 0 if it may
 * now, PLAT_BREAKER_NEVER if that is not up to time.  The breaker has
 * advanced to now.
 */
uint64
plat_breaker_retry_after(const PlatBreaker *breaker,
						 const PlatBreakerRules *rules, uint64 now)
{
	uint64		when = 0;

	if (breaker->force == PLAT_FORCE_OPEN)
		return PLAT_BREAKER_NEVER;
	if (breaker->state == PLAT_BREAKER_OPEN)
		when = open_until(breaker);
	else if (breaker->state == PLAT_BREAKER_HALF_OPEN &&
			 breaker->nleases >= Min(rules->half_open_calls, PLAT_BREAKER_LEASES))
		when = first_deadline(breaker);
	return when > now ? when - now : 0;
}

/*
 * Go on after a restart of the server: the state, as it was written, is so
 * old.  Who had a probe is gone, so it has failed.  outage_since is the caller's to
 * set.
 */
void
plat_breaker_resume(PlatBreaker *breaker, uint64 elapsed, uint64 now)
{
	if (breaker->state == PLAT_BREAKER_HALF_OPEN && breaker->nleases > 0)
	{
		breaker->state = PLAT_BREAKER_OPEN;
		breaker->open_time = breaker->reopen_time;
		breaker->attempt++;
		breaker->openings++;
		breaker->moves++;
		elapsed = 0;
	}
	breaker->nleases = 0;
	breaker->generation++;

	/* A moment before the clock began cannot be told; the rest of a wait can. */
	if (elapsed < now)
		breaker->since = now - elapsed;
	else
	{
		breaker->open_time -= Min(breaker->open_time, elapsed - (now - 1));
		breaker->since = 1;
	}
	memset(breaker->slices, 0, sizeof(breaker->slices));
}
