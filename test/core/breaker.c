/*
 * breaker.c
 *		Tests of the state machine of circuit breakers, with a clock of their
 *		own: no server, no sleep.  Prints TAP; t/060_breaker_core.pl compiles
 *		it together with src/breaker_core.c and runs it.
 *
 * Without an argument: all short sequences of events, and what one has to
 * look at closely.  With a seed: long random ones.
 *
 * What is promised:
 *
 * Closed.  Every call passes.  Without a window, failure_threshold failures
 * in a row open it, and a success begins the row anew.  With a window, the
 * calls of the last ten slices of a tenth of the window each count, the slice
 * of now included: so a call counts for more than 9/10 of the window and for
 * at most all of it.  Without a rate, failure_threshold failures among them
 * open it.  With one, so large a share of failures, or of slow calls, once
 * there are minimum_calls.
 *
 * Open.  Nothing passes, and outcomes are ignored.  It takes timeout *
 * backoff^(n - 1) for the n-th opening since it was closed, at most
 * max_timeout, but never less than timeout.  Then it is half-open, as of the
 * moment when that was over, whoever looks when.
 *
 * Half-open.  At most half_open_calls probes are under way at a time.  Each
 * is a lease, that is to end before its deadline, probe_timeout after it was
 * given; one that does not has failed at its deadline, whoever looks when.
 * One failure opens the breaker again, as does a slow probe where there is a
 * slow_rate, and all other leases are void.  success_threshold successes
 * close it.
 *
 * Leases.  The transaction that has got one attends it.  Its abort is a
 * failure.  Its commit without an outcome is not a success, nor anything
 * else: it leaves the lease, by the same deadline, to the outcome that
 * anybody brings, be it who had it or a stranger.  A stranger's outcome ends
 * the oldest lease that is left, and never an attended one.  To give a lease
 * back makes room for another, and does nothing else.
 *
 * Generations.  Each change of state or force begins one.  An outcome of a
 * call that was let through in an earlier one is ignored, and so is a second
 * outcome of a probe.  A stranger's is of any generation.
 *
 * Forces.  "open" refuses whatever the time, and nobody can say how long it
 * takes.  "closed" allows and counts, and does not open.  "disabled" allows
 * and counts nothing.  Each, and "auto", begins anew; "auto" begins closed.
 *
 * It never sticks.  If it is not forced, then from any state, after the
 * longest time to be open, a probe_timeout and once more the longest time to
 * be open, a call may pass.
 *
 * A recovery is the time from leaving the closed state to coming back,
 * whatever is in between; the longest is kept.
 *
 * Each step tells what moves it made, in order, when and why; the rules are
 * those of the step.
 *
 * The record below is these words once more: a journal of what happened, to
 * which is only added.  What holds now is found by reading it.
 */
#include "postgres.h"

#include <math.h>

#include "breaker_core.h"
#include "tap.h"

#define SECOND UINT64CONST(1000000000)
#define YEAR (UINT64CONST(31557600) * SECOND)

/* A clock has been running for a while when a breaker is first looked at. */
#define START (UINT64CONST(259200) * SECOND + 12345678901)

/*
 * What can be in the journal.
 */
typedef enum Kind
{
	MOVED,						/* to another state */
	BEGUN_ANEW,					/* in the same state, by a force */
	CALLED,						/* an outcome while closed */
	GRANTED,					/* a probe, known by the place of this entry */
	LEFT,						/* a probe, by its transaction */
	PASSED,						/* a probe */
	RETURNED					/* a probe */
} Kind;

typedef struct Entry
{
	Kind		kind;
	uint64		at;
	uint64		until;			/* when a probe is late, or open is over */
	int			probe;
	PlatBreakerState from;
	PlatBreakerState to;
	PlatBreakerCause cause;
	bool		failed;
	bool		slow;
} Entry;

#define NO_PROBE (-1)

/* What a caller was told: by the breaker, and by the record. */
typedef struct Caller
{
	PlatBreakerGrant grant;
	uint64		generation;
	int			probe;
} Caller;

#define CALLERS 4
#define JOURNAL 2000
#define PATH 16

/* A breaker, and what is to be expected of it. */
typedef struct World
{
	PlatBreaker breaker;
	PlatBreakerRules rules;
	PlatBreakerForce force;
	uint64		now;
	uint64		longest_open;	/* of all rules there were */
	uint64		longest_probe;
	Caller		callers[CALLERS];
	int			seen;			/* entries when the breaker looked last */
	int			count;
	Entry		journal[JOURNAL];
	int			run;
	int			path[PATH];		/* the events that led here */
	int			steps;
} World;

static const Caller stranger = {.probe = NO_PROBE};

/* What happens while all sequences are tried. */
typedef enum Event
{
	A_ASKS, B_ASKS, A_PASSES, A_FAILS, B_PASSES, B_FAILS,
	STRANGER_PASSES, STRANGER_FAILS, A_COMMITS, A_ABORTS, A_GIVES_BACK,
	THIRD_OF_TIMEOUT, TIMEOUT, PROBE_TIMEOUT, EVENTS
} Event;

static const char *const event_names[] = {
	"A asks", "B asks", "A passes", "A fails", "B passes", "B fails",
	"stranger passes", "stranger fails", "A commits", "A aborts",
	"A gives back", "timeout/3", "timeout", "probe_timeout"
};

/*
 * How the world came to be as it is.
 */
static const char *
story(const World *world)
{
	static char text[700];
	const PlatBreakerRules *rules = &world->rules;
	int			len;

	len = snprintf(text, sizeof(text),
				   "thresholds %u, %u, half_open_calls %u, backoff %g, run %d, step %d:",
				   rules->failure_threshold, rules->success_threshold,
				   rules->half_open_calls, rules->backoff, world->run, world->steps);
	for (int i = 0; i < Min(world->steps, PATH) && world->path[i] >= 0; i++)
		len += snprintf(text + len, sizeof(text) - len, "%s %s",
						i ? "," : "", event_names[world->path[i]]);
	return text;
}

static inline void
same(const World *world, const char *what, uint64 got, uint64 wanted)
{
	if (got != wanted)
		expect(false, "%s: %s is %.0f, not %.0f", story(world), what,
			   (double) got, (double) wanted);
}

static Entry *
add(World *world, Kind kind, uint64 at)
{
	Entry	   *entry = &world->journal[world->count];

	if (world->count < JOURNAL - 1)
		world->count++;
	else
		expect(false, "the journal is full");
	*entry = (Entry)
	{
		.kind = kind, .at = at, .probe = NO_PROBE
	};
	return entry;
}

/*
 * The last move, or NULL.
 */
static const Entry *
last_move(const World *world)
{
	for (int i = world->count - 1; i >= 0; i--)
		if (world->journal[i].kind == MOVED)
			return &world->journal[i];
	return NULL;
}

static PlatBreakerState
state_of(const World *world)
{
	const Entry *move = last_move(world);

	return move ? move->to : PLAT_BREAKER_CLOSED;
}

/*
 * The first entry of this generation.
 */
static int
generation_start(const World *world)
{
	int			i = world->count;

	while (i > 0 && world->journal[i - 1].kind > BEGUN_ANEW)
		i--;
	return i;
}

static uint64
generation_of(const World *world)
{
	uint64		generation = 1;

	for (int i = 0; i < world->count; i++)
		generation += world->journal[i].kind <= BEGUN_ANEW;
	return generation;
}

/*
 * Whether something of a kind was noted of a probe.
 */
static bool
is_noted(const World *world, int probe, Kind kind)
{
	for (int i = probe + 1; i < world->count; i++)
		if (world->journal[i].kind == kind && world->journal[i].probe == probe)
			return true;
	return false;
}

static bool
is_under_way(const World *world, int probe)
{
	return probe >= generation_start(world) &&
		world->journal[probe].kind == GRANTED &&
		!is_noted(world, probe, PASSED) && !is_noted(world, probe, RETURNED);
}

/*
 * The next probe under way from a place on, or NO_PROBE.
 */
static int
probe_from(const World *world, int i)
{
	for (i = Max(i, generation_start(world)); i < world->count; i++)
		if (world->journal[i].kind == GRANTED && is_under_way(world, i))
			return i;
	return NO_PROBE;
}

static int
count_probes(const World *world)
{
	int			count = 0;

	for (int i = 0; (i = probe_from(world, i)) != NO_PROBE; i++)
		count++;
	return count;
}

static int
count_passed(const World *world)
{
	int			count = 0;

	for (int i = generation_start(world); i < world->count; i++)
		count += world->journal[i].kind == PASSED;
	return count;
}

/*
 * When the first probe is late, or never.
 */
static uint64
first_late(const World *world)
{
	uint64		first = PLAT_BREAKER_NEVER;

	for (int i = 0; (i = probe_from(world, i)) != NO_PROBE; i++)
		if (world->journal[i].until < first)
			first = world->journal[i].until;
	return first;
}

static bool
is_full(const World *world)
{
	return count_probes(world) >= (int) Min(world->rules.half_open_calls,
											PLAT_BREAKER_LEASES);
}

/*
 * Openings since it was closed that were not forced.
 */
static int
count_attempts(const World *world)
{
	int			count = 0;

	for (int i = world->count - 1; i >= 0; i--)
	{
		const Entry *entry = &world->journal[i];

		if (entry->kind != MOVED)
			continue;
		if (entry->to == PLAT_BREAKER_CLOSED)
			break;
		count += entry->to == PLAT_BREAKER_OPEN && entry->cause != PLAT_CAUSE_FORCED;
	}
	return count;
}

static uint64
longest_open(const PlatBreakerRules *rules)
{
	return rules->max_timeout > rules->timeout ? rules->max_timeout :
		rules->timeout;
}

/*
 * How long it is open for the n-th time.
 */
static uint64
open_time(const PlatBreakerRules *rules, int n)
{
	long double ns = rules->timeout;

	while (--n > 0 && ns < longest_open(rules))
		ns *= rules->backoff;
	return ns >= longest_open(rules) ? longest_open(rules) : (uint64) (double) ns;
}

static void
go(World *world, PlatBreakerState to, PlatBreakerCause cause, uint64 at)
{
	PlatBreakerState from = state_of(world);
	Entry	   *entry = add(world, MOVED, at);

	entry->from = from;
	entry->to = to;
	entry->cause = cause;
	if (to == PLAT_BREAKER_OPEN)
		entry->until = at + open_time(&world->rules, count_attempts(world));
}

/*
 * Let time pass: what is due goes into the journal as of when it was due.
 */
static void
pass_time(World *world, uint64 ns)
{
	world->now += ns;
	while (world->force == PLAT_FORCE_AUTO)
	{
		if (state_of(world) == PLAT_BREAKER_HALF_OPEN &&
			first_late(world) <= world->now)
			go(world, PLAT_BREAKER_OPEN, PLAT_CAUSE_PROBE_LATE, first_late(world));
		else if (state_of(world) == PLAT_BREAKER_OPEN &&
				 last_move(world)->until <= world->now)
			go(world, PLAT_BREAKER_HALF_OPEN, PLAT_CAUSE_TIMEOUT,
			   last_move(world)->until);
		else
			break;
	}
}

/*
 * The calls that count, as documented: of the last ten slices.
 */
static PlatBreakerSlice
count_calls(const World *world)
{
	uint64		length = Max(world->rules.window / 10, 1);
	PlatBreakerSlice sum = {.epoch = world->now / length};

	for (int i = generation_start(world); i < world->count; i++)
	{
		const Entry *entry = &world->journal[i];
		uint64		age = world->now - entry->at;
		bool		counts = entry->at / length + 10 > world->now / length;

		if (entry->kind != CALLED)
			continue;
		expect(counts || age > 9 * length, "a call counts for too short");
		expect(!counts || age < 10 * length, "a call counts for too long");
		if (!counts)
			continue;
		sum.calls++;
		sum.failures += entry->failed;
		sum.slow += entry->slow;
	}
	return sum;
}

static uint32
count_row(const World *world)
{
	uint32		row = 0;

	for (int i = generation_start(world); i < world->count; i++)
		if (world->journal[i].kind == CALLED)
			row = world->journal[i].failed ? row + 1 : 0;
	return row;
}

/*
 * Whether the calls are reason to open, and which.
 */
static bool
is_too_bad(const World *world, PlatBreakerCause *cause)
{
	const PlatBreakerRules *rules = &world->rules;
	bool		has_rate = rules->failure_rate <= 1 || rules->slow_rate <= 1;
	PlatBreakerSlice sum;

	*cause = PLAT_CAUSE_FAILURES;
	if (rules->window == 0)
		return count_row(world) >= rules->failure_threshold;
	sum = count_calls(world);
	if (!has_rate)
		return sum.failures >= rules->failure_threshold;
	if (sum.calls < rules->minimum_calls)
		return false;
	*cause = (double) sum.failures / sum.calls >= rules->failure_rate ?
		PLAT_CAUSE_FAILURE_RATE : PLAT_CAUSE_SLOW_RATE;
	return *cause == PLAT_CAUSE_FAILURE_RATE ||
		(double) sum.slow / sum.calls >= rules->slow_rate;
}

static bool
is_failure(PlatBreakerOutcome outcome)
{
	return outcome == PLAT_CALL_FAILED || outcome == PLAT_CALL_LOST ||
		outcome == PLAT_CALL_FAILED_SLOWLY;
}

/*
 * Note what a probe came to.
 */
static void
note_probe(World *world, int probe, PlatBreakerOutcome outcome)
{
	if (is_failure(outcome))
		go(world, PLAT_BREAKER_OPEN, outcome == PLAT_CALL_LOST ?
		   PLAT_CAUSE_PROBE_LOST : PLAT_CAUSE_PROBE_FAILED, world->now);
	else if (outcome == PLAT_CALL_PASSED_SLOWLY && world->rules.slow_rate <= 1)
		go(world, PLAT_BREAKER_OPEN, PLAT_CAUSE_PROBE_SLOW, world->now);
	else
	{
		add(world, PASSED, world->now)->probe = probe;
		if (count_passed(world) >= (int) world->rules.success_threshold)
			go(world, PLAT_BREAKER_CLOSED, PLAT_CAUSE_PROBES_PASSED, world->now);
	}
}

/*
 * The probe that an outcome is of, or NO_PROBE.
 */
static int
probe_of(const World *world, const Caller *caller)
{
	if (caller->generation == 0)
	{
		for (int i = 0; (i = probe_from(world, i)) != NO_PROBE; i++)
			if (is_noted(world, i, LEFT))
				return i;
		return NO_PROBE;
	}
	return caller->probe != NO_PROBE && is_under_way(world, caller->probe) ?
		caller->probe : NO_PROBE;
}

/*
 * Note what a call came to; false if it is ignored.
 */
static bool
note_outcome(World *world, const Caller *caller, PlatBreakerOutcome outcome)
{
	PlatBreakerCause cause;
	Entry	   *entry;

	if (world->force == PLAT_FORCE_DISABLED ||
		state_of(world) == PLAT_BREAKER_OPEN)
		return false;
	if (caller->generation > 0 && caller->generation < generation_of(world))
		return false;
	if (state_of(world) == PLAT_BREAKER_HALF_OPEN)
	{
		int			probe = probe_of(world, caller);

		if (probe != NO_PROBE)
			note_probe(world, probe, outcome);
		return probe != NO_PROBE;
	}
	entry = add(world, CALLED, world->now);
	entry->failed = is_failure(outcome);
	entry->slow = outcome == PLAT_CALL_PASSED_SLOWLY ||
		outcome == PLAT_CALL_FAILED_SLOWLY;
	if (world->force == PLAT_FORCE_AUTO && is_too_bad(world, &cause))
		go(world, PLAT_BREAKER_OPEN, cause, world->now);
	return true;
}

/*
 * Note that somebody asks; whether the call may be made.
 */
static bool
note_question(World *world, Caller *caller)
{
	PlatBreakerState state = state_of(world);

	caller->generation = 0;
	caller->probe = NO_PROBE;
	if (world->force == PLAT_FORCE_DISABLED)
		return true;
	if (state == PLAT_BREAKER_OPEN ||
		(state == PLAT_BREAKER_HALF_OPEN && is_full(world)))
		return false;
	caller->generation = generation_of(world);
	if (state == PLAT_BREAKER_HALF_OPEN)
	{
		caller->probe = world->count;
		add(world, GRANTED, world->now)->until =
			world->now + world->rules.probe_timeout;
	}
	return true;
}

/*
 * The moves that a step told of are those that were noted since the one
 * before.
 */
static void
compare_moves(World *world, const PlatBreakerMoves *moves)
{
	int			told = 0;

	for (; world->seen < world->count; world->seen++)
	{
		const Entry *entry = &world->journal[world->seen];
		const PlatBreakerMove *move = &moves->moves[told];

		if (entry->kind != MOVED)
			continue;
		if (told++ >= moves->count)
			break;
		same(world, "where a move is from", move->from, entry->from);
		same(world, "where a move goes", move->to, entry->to);
		same(world, "the cause of a move", move->cause, entry->cause);
		same(world, "the moment of a move", move->at, entry->at);
	}
	same(world, "the number of moves told", moves->count, told);
}

/*
 * Recoveries: outages are from one time it was closed to the next.
 */
static void
compare_recoveries(const World *world, const PlatBreaker *breaker)
{
	uint64		left = 0;
	uint64		last = 0;
	uint64		longest = 0;
	uint64		openings = 0;
	uint64		moves = 0;

	for (int i = 0; i < world->count; i++)
	{
		const Entry *entry = &world->journal[i];

		if (entry->kind != MOVED)
			continue;
		moves++;
		openings += entry->to == PLAT_BREAKER_OPEN;
		if (entry->from == PLAT_BREAKER_CLOSED)
			left = entry->at;
		if (entry->to != PLAT_BREAKER_CLOSED)
			continue;
		last = entry->at - left;
		longest = last > longest ? last : longest;
		left = 0;
	}
	same(world, "outage_since", breaker->outage_since, left);
	same(world, "last_recovery", breaker->last_recovery, last);
	same(world, "longest_recovery", breaker->longest_recovery, longest);
	same(world, "moves", breaker->moves, moves);
	same(world, "openings", breaker->openings, openings);
}

/*
 * The leases are the probes under way, by age.
 */
static void
compare_leases(const World *world, const PlatBreaker *breaker)
{
	int			i = 0;

	same(world, "the number of leases", breaker->nleases, count_probes(world));
	for (int n = 0; n < (int) breaker->nleases; n++, i++)
	{
		const PlatBreakerLease *lease = &breaker->leases[n];

		i = probe_from(world, i);
		if (i == NO_PROBE)
			return;
		same(world, "the deadline of a lease", lease->deadline,
			 world->journal[i].until);
		same(world, "is_attended of a lease", lease->is_attended,
			 !is_noted(world, i, LEFT));
	}
}

/*
 * The sums of the window are those of the calls that count.
 */
static void
compare_windows(const World *world, const PlatBreaker *breaker)
{
	PlatBreakerSlice got = plat_breaker_window(breaker, &world->rules, world->now);
	PlatBreakerSlice wanted = count_calls(world);

	same(world, "the calls in the window", got.calls, wanted.calls);
	same(world, "the failures in the window", got.failures, wanted.failures);
	same(world, "the slow calls in the window", got.slow, wanted.slow);
	same(world, "the number of the slice", got.epoch, wanted.epoch);
}

/*
 * How long a caller is told to wait.
 */
static uint64
wait_of(const World *world)
{
	PlatBreakerState state = state_of(world);

	if (world->force == PLAT_FORCE_OPEN)
		return PLAT_BREAKER_NEVER;
	if (state == PLAT_BREAKER_OPEN)
		return last_move(world)->until - world->now;
	if (state == PLAT_BREAKER_HALF_OPEN && is_full(world))
		return first_late(world) - world->now;
	return 0;
}

/*
 * A copy of a breaker on which something is tried.  Leases and slices beyond
 * those that are used need no copy.
 */
static PlatBreaker *
copy(const World *world)
{
	static PlatBreaker other;

	memcpy(&other, &world->breaker, offsetof(PlatBreaker, leases) +
		   world->breaker.nleases * sizeof(PlatBreakerLease));
	if (world->rules.window > 0)
		memcpy(other.slices, world->breaker.slices, sizeof(other.slices));
	return &other;
}

/*
 * What a copy of the breaker answers after a while, if nothing happens.
 */
static bool
may_pass_in(const World *world, uint64 ns)
{
	PlatBreakerMoves moves = {0};
	PlatBreakerGrant grant;

	return plat_breaker_allow(copy(world), &world->rules, world->now + ns,
							  &moves, &grant);
}

static void
check_it_does_not_stick(const World *world)
{
	uint64		patience = 2 * world->longest_open + world->longest_probe;

	if (may_pass_in(world, patience) == (world->force == PLAT_FORCE_OPEN))
		expect(false, "%s: it sticks", story(world));
}

/*
 * Compare a breaker, which has looked at the clock, with the record.
 */
static void
compare(const World *world, const PlatBreaker *breaker)
{
	const Entry *move = last_move(world);
	PlatBreakerState state = state_of(world);

	same(world, "the state", breaker->state, state);
	same(world, "the force", breaker->force, world->force);
	same(world, "since", breaker->since, move ? move->at : START);
	same(world, "the generation", breaker->generation, generation_of(world));
	same(world, "failures in a row", breaker->failures, count_row(world));
	same(world, "successes", breaker->successes,
		 state == PLAT_BREAKER_HALF_OPEN ? count_passed(world) : 0);
	same(world, "retry_after",
		 plat_breaker_retry_after(breaker, &world->rules, world->now),
		 wait_of(world));
	if (world->force == PLAT_FORCE_AUTO)
		same(world, "the attempt", breaker->attempt, count_attempts(world));
	if (world->force == PLAT_FORCE_AUTO && state == PLAT_BREAKER_OPEN)
		same(world, "open_time", breaker->open_time, move->until - move->at);
	compare_leases(world, breaker);
	compare_recoveries(world, breaker);
	if (world->rules.window > 0)
		compare_windows(world, breaker);
}

/*
 * Time passes, and nobody has a look: the breaker is as it would be if
 * somebody had.
 */
static void
wait(World *world, uint64 ns)
{
	PlatBreakerMoves moves = {0};
	PlatBreaker *other = copy(world);
	int			seen = world->seen;

	pass_time(world, ns);
	plat_breaker_advance(other, &world->rules, world->now, &moves);
	compare_moves(world, &moves);
	compare(world, other);
	world->seen = seen;
}

static void
ask(World *world, Caller *caller)
{
	PlatBreakerMoves moves = {0};
	uint64		last = world->breaker.last_lease;
	bool		allowed = plat_breaker_allow(&world->breaker, &world->rules,
											 world->now, &moves, &caller->grant);

	same(world, "the answer", allowed, note_question(world, caller));
	if (world->force == PLAT_FORCE_DISABLED)
		*caller = stranger;
	same(world, "the generation of a grant", caller->grant.generation,
		 caller->generation);
	same(world, "the number of a lease", caller->grant.lease,
		 caller->probe == NO_PROBE ? 0 : last + 1);
	compare_moves(world, &moves);
	compare(world, &world->breaker);
}

static void
tell(World *world, const Caller *caller, PlatBreakerOutcome outcome)
{
	PlatBreakerMoves moves = {0};
	bool		taken = plat_breaker_record(&world->breaker, &world->rules,
											world->now, &moves, caller->grant,
											outcome);

	same(world, "whether an outcome is taken", taken,
		 note_outcome(world, caller, outcome));
	compare_moves(world, &moves);
	compare(world, &world->breaker);
}

/*
 * Have the breaker look at the clock, which is up to the caller of those of
 * its functions that take no rules.
 */
static void
look(World *world)
{
	PlatBreakerMoves moves = {0};

	plat_breaker_advance(&world->breaker, &world->rules, world->now, &moves);
	compare_moves(world, &moves);
}

static void
leave(World *world, const Caller *caller)
{
	look(world);
	plat_breaker_leave(&world->breaker, caller->grant);
	if (caller->probe != NO_PROBE && is_under_way(world, caller->probe))
		add(world, LEFT, world->now)->probe = caller->probe;
	compare(world, &world->breaker);
}

static void
give_back(World *world, const Caller *caller)
{
	look(world);
	plat_breaker_give_back(&world->breaker, caller->grant);
	if (caller->probe != NO_PROBE && is_under_way(world, caller->probe))
		add(world, RETURNED, world->now)->probe = caller->probe;
	compare(world, &world->breaker);
}

static void
force(World *world, PlatBreakerForce how)
{
	PlatBreakerState to = how == PLAT_FORCE_OPEN ? PLAT_BREAKER_OPEN :
		PLAT_BREAKER_CLOSED;
	PlatBreakerMoves moves = {0};

	look(world);
	plat_breaker_force(&world->breaker, how, world->now, &moves);
	world->force = how;
	if (state_of(world) == to)
		add(world, BEGUN_ANEW, world->now);
	else
		go(world, to, PLAT_CAUSE_FORCED, world->now);
	compare_moves(world, &moves);
	compare(world, &world->breaker);
}

static void
set_rules(World *world, const PlatBreakerRules *rules)
{
	world->rules = *rules;
	world->longest_open = Max(world->longest_open, longest_open(rules));
	world->longest_probe = Max(world->longest_probe, rules->probe_timeout);
}

static void
begin_world(World *world, const PlatBreakerRules *rules)
{
	memset(world, 0, offsetof(World, journal));
	for (int i = 0; i < PATH; i++)
		world->path[i] = -1;
	world->steps = 0;
	world->now = START;
	for (int i = 0; i < CALLERS; i++)
		world->callers[i] = stranger;
	set_rules(world, rules);
	plat_breaker_init(&world->breaker, START);
}

/*
 * Whether an event can be, and is not another under a different name: who
 * knows of nothing is a stranger, and A is the first to ask.
 */
static bool
can_be(const World *world, Event event)
{
	const Caller *a = &world->callers[0];
	const Caller *b = &world->callers[1];

	switch (event)
	{
		case B_ASKS:
			return a->generation > 0;
		case A_PASSES:
		case A_FAILS:
			return a->generation > 0;
		case B_PASSES:
		case B_FAILS:
			return b->generation > 0;
		case A_COMMITS:
		case A_GIVES_BACK:
			return a->probe != NO_PROBE;
		case A_ABORTS:
			return a->probe != NO_PROBE && !is_noted(world, a->probe, LEFT);
		default:
			return true;
	}
}

static void
happen(World *world, Event event)
{
	Caller	   *a = &world->callers[0];
	Caller	   *b = &world->callers[1];

	if (world->steps < PATH)
		world->path[world->steps] = event;
	world->steps++;
	switch (event)
	{
		case A_ASKS:
			ask(world, a);
			break;
		case B_ASKS:
			ask(world, b);
			break;
		case A_PASSES:
			tell(world, a, PLAT_CALL_PASSED);
			break;
		case A_FAILS:
			tell(world, a, PLAT_CALL_FAILED);
			break;
		case B_PASSES:
			tell(world, b, PLAT_CALL_PASSED);
			break;
		case B_FAILS:
			tell(world, b, PLAT_CALL_FAILED);
			break;
		case STRANGER_PASSES:
			tell(world, &stranger, PLAT_CALL_PASSED);
			break;
		case STRANGER_FAILS:
			tell(world, &stranger, PLAT_CALL_FAILED);
			break;
		case A_COMMITS:
			leave(world, a);
			break;
		case A_ABORTS:
			tell(world, a, PLAT_CALL_LOST);
			break;
		case A_GIVES_BACK:
			give_back(world, a);
			break;
		case THIRD_OF_TIMEOUT:
			wait(world, world->rules.timeout / 3);
			break;
		case TIMEOUT:
			wait(world, world->rules.timeout);
			break;
		case PROBE_TIMEOUT:
			wait(world, world->rules.probe_timeout);
			break;
		case EVENTS:
			break;
	}
	check_it_does_not_stick(world);
	if (world->breaker.nleases > world->rules.half_open_calls)
		expect(false, "%s: too many leases", story(world));
}

/*
 * All sequences of so many events from here.  Returns how many there are; the
 * world is afterwards as it was.
 */
static long
explore(World *world, int length)
{
	/* Two leases, a third by mistake: none of the others is ever used. */
	const Size	part = offsetof(PlatBreaker, leases) + 3 * sizeof(PlatBreakerLease);
	PlatBreaker breaker;
	Caller		callers[2];
	uint64		now = world->now;
	int			seen = world->seen;
	int			count = world->count;
	long		paths = 0;

	if (length == 0)
		return 1;
	memcpy(&breaker, &world->breaker, part);
	memcpy(callers, world->callers, sizeof(callers));
	for (Event event = 0; event < EVENTS && !fault[0]; event++)
	{
		if (!can_be(world, event))
			continue;
		happen(world, event);
		paths += explore(world, length - 1);
		memcpy(&world->breaker, &breaker, part);
		memcpy(world->callers, callers, sizeof(callers));
		world->now = now;
		world->seen = seen;
		world->count = count;
		world->path[--world->steps] = -1;
	}
	return paths;
}

/*
 * From where sequences begin. Failures come before as many as it takes.
 */
typedef struct Beginning
{
	const char *name;
	int			length;			/* of the sequences */
	bool		is_open;
	int			count;
	Event		events[8];
} Beginning;

static const Beginning beginnings[] = {
	{"closed", 6, false, 0},
	{"half-open", 5, true, 1, {TIMEOUT}},
	{"two who asked when half-open", 5, true, 3, {TIMEOUT, A_ASKS, B_ASKS}},
	{"half-open, after a probe failed and one is under way", 5, true, 6,
	{TIMEOUT, A_ASKS, A_FAILS, TIMEOUT, TIMEOUT, A_ASKS}}
};

/*
 * Two of each threshold and of half_open_calls; and a timeout that stays as it
 * is although max_timeout is less, or grows twice and is then cut.  The unit
 * makes moments meet that are due for different reasons.
 */
#define UNIT (SECOND + 7)

static PlatBreakerRules
small_rules(int number)
{
	bool		grows = number & 8;

	return (PlatBreakerRules)
	{
		.failure_threshold = number & 1 ? 2 : 1,
			.half_open_calls = number & 2 ? 2 : 1,
			.success_threshold = number & 4 ? 2 : 1,
			.backoff = grows ? 2 : 1,
			.timeout = 3 * UNIT,
			.max_timeout = grows ? 7 * UNIT : 2 * UNIT,
			.probe_timeout = 4 * UNIT,
			.failure_rate = 2,
			.slow_rate = 2,
	};
}

static void
test_all_sequences(void)
{
	static World world;
	char		name[120];

	for (int i = 0; i < lengthof(beginnings); i++)
	{
		const Beginning *beginning = &beginnings[i];
		long		paths = 0;

		begin();
		for (int number = 0; number < 16; number++)
		{
			PlatBreakerRules rules = small_rules(number);
			int			longest = beginning->length + (number == (7 + 2 * i) % 16);

			begin_world(&world, &rules);
			for (uint32 n = 0; beginning->is_open && n < rules.failure_threshold; n++)
				happen(&world, STRANGER_FAILS);
			for (int n = 0; n < beginning->count; n++)
				happen(&world, beginning->events[n]);
			/* The shortest that fails is the one to be told of. */
			for (int length = 1; length <= longest && !fault[0]; length++)
				paths += explore(&world, length);
		}
		expect(paths > 16 * 14 * 14 * 14, "only %ld", paths);
		snprintf(name, sizeof(name), "all short sequences from %s, %ld",
				 beginning->name, paths);
		end(name);
	}
}

/*
 * Something of a few times and numbers that make things meet.
 */
static uint64
any_time(void)
{
	static const uint64 times[] = {1, 10, 1000, 77777, 30 * SECOND, UNIT};

	return times[below(lengthof(times))] * (1 + below(4));
}

static PlatBreakerRules
any_rules(void)
{
	static const double backoffs[] = {1, 1.5, 2, 10, 1000};
	uint64		timeout = any_time();

	return (PlatBreakerRules)
	{
		.failure_threshold = 1 + below(5),
			.timeout = timeout,
			.max_timeout = below(2) ? 1 + below(20 * timeout) : timeout << below(20),
			.backoff = backoffs[below(lengthof(backoffs))],
			.window = below(2) ? 0 : any_time() + below(2) * below(100),
			.failure_rate = below(2) ? 2 : (1 + below(100)) / 100.0,
			.slow_rate = below(2) ? 2 : (1 + below(100)) / 100.0,
			.minimum_calls = 1 + below(12),
			.half_open_calls = below(10) ? 1 + below(4) : 60 + below(5),
			.success_threshold = 1 + below(4),
			.probe_timeout = any_time(),
	};
}

/*
 * A while, often one that ends when something is due, or just before or after.
 */
static uint64
any_while(const World *world)
{
	const PlatBreakerRules *rules = &world->rules;
	uint64		due = below(2) ? wait_of(world) :
		first_late(world) - world->now;

	switch (below(9))
	{
		case 0:
			return below(3);
		case 1:
		case 2:
			return below(2 * rules->timeout);
		case 3:
			return below(rules->probe_timeout);
		case 4:
			return below(rules->window / 5 + 1);
		case 5:
			return rules->window + below(3);
		case 6:
		case 7:
			if (due <= 2 * world->longest_open + world->longest_probe)
				return due + below(3) - (due > 0);
			return below(rules->timeout / 10 + 1);
		default:
			return below(20) ? 0 : 2 * world->longest_open + world->longest_probe;
	}
}

static PlatBreakerOutcome
any_outcome(const Caller *caller)
{
	if (caller->probe != NO_PROBE && below(6) == 0)
		return PLAT_CALL_LOST;
	return below(5) < 2 ? PLAT_CALL_PASSED :
		(PlatBreakerOutcome) below(PLAT_CALL_LOST);
}

/*
 * Forces come seldom, and do not stay.
 */
static void
force_any(World *world)
{
	if (world->force != PLAT_FORCE_AUTO)
		force(world, below(3) ? PLAT_FORCE_AUTO : (PlatBreakerForce) below(4));
	else if (below(4) == 0)
		force(world, (PlatBreakerForce) below(4));
}

/*
 * Other rules, but for how long the window is, and whether there is one.
 */
static void
alter(World *world)
{
	PlatBreakerRules rules = any_rules();

	look(world);
	rules.window = world->rules.window;
	set_rules(world, &rules);
	compare(world, &world->breaker);
}

static void
do_anything(World *world)
{
	Caller	   *caller = &world->callers[below(CALLERS)];

	world->steps++;
	switch (below(16))
	{
		case 0:
			force_any(world);
			break;
		case 1:
			if (below(3) == 0)
				alter(world);
			break;
		case 2:
			leave(world, caller);
			break;
		case 3:
			give_back(world, caller);
			break;
		case 4:
			tell(world, &stranger, any_outcome(&stranger));
			break;
		case 5:
		case 6:
		case 7:
		case 8:
			tell(world, caller, any_outcome(caller));
			break;
		case 9:
		case 10:
		case 11:
		case 12:
			ask(world, caller);
			break;
		default:
			wait(world, any_while(world));
			break;
	}
}

/*
 * What is told of the wait is true to the nanosecond where it is known.
 */
static void
check_wait(const World *world)
{
	uint64		ns = wait_of(world);

	expect(may_pass_in(world, 0) == (ns == 0), "%s: a wait of %.0f ns",
		   story(world), (double) ns);
	if (ns == 0 || state_of(world) == PLAT_BREAKER_HALF_OPEN)
		return;
	expect(!may_pass_in(world, ns - 1), "%s: too long a wait", story(world));
	expect(world->force == PLAT_FORCE_OPEN || may_pass_in(world, ns),
		   "%s: too short a wait", story(world));
}

static void
test_long_sequences(void)
{
	static World world;
	long		states[3] = {0};
	long		causes[PLAT_CAUSE_FORCED + 1] = {0};
	long		steps = 0;

	begin();
	for (int run = 0; run < 4000 && !fault[0]; run++)
	{
		PlatBreakerRules rules = any_rules();

		begin_world(&world, &rules);
		world.run = run;
		for (int step = 0; step < 250 && !fault[0]; step++, steps++)
		{
			do_anything(&world);
			check_wait(&world);
			check_it_does_not_stick(&world);
			states[state_of(&world)]++;
		}
		for (int i = 0; i < world.count; i++)
			if (world.journal[i].kind == MOVED)
				causes[world.journal[i].cause]++;
	}
	end("long sequences of anything, with forces and altered rules, 1000000 steps");

	begin();
	for (int i = 0; i < lengthof(states); i++)
		expect(states[i] > steps / 20, "state %d: %ld", i, states[i]);
	for (int i = 0; i < lengthof(causes); i++)
		expect(causes[i] > 100, "cause %d: %ld", i, causes[i]);
	end("all states and causes are among them");
}

/*
 * The breaker after one more step, beside what it was before.
 */
static void
check_step(World *world, const PlatBreaker *before, const PlatBreakerMoves *moves,
		   bool is_anew)
{
	const PlatBreaker *after = &world->breaker;
	PlatBreakerState state = before->state;
	uint64		at = before->since;

	for (int i = 0; i < moves->count; i++)
	{
		expect(moves->moves[i].from == state, "%s: a jump", story(world));
		expect(moves->moves[i].at >= at && moves->moves[i].at <= world->now,
			   "%s: moves are out of order", story(world));
		state = moves->moves[i].to;
		at = moves->moves[i].at;
	}
	expect(after->state == state && after->since == at, "%s: another state",
		   story(world));
	same(world, "moves", after->moves, before->moves + moves->count);
	same(world, "generation", after->generation - before->generation,
		 is_anew && moves->count == 0 ? 1 : moves->count);
	expect(after->nleases <= PLAT_BREAKER_LEASES &&
		   (after->nleases <= before->nleases ||
			after->nleases <= world->rules.half_open_calls),
		   "%s: too many leases", story(world));
	expect(after->nleases == 0 || after->state == PLAT_BREAKER_HALF_OPEN,
		   "%s: leases in state %d", story(world), after->state);
	expect(after->longest_recovery >= after->last_recovery &&
		   after->last_recovery < world->now, "%s: recoveries", story(world));
}

/*
 * The server comes back after a while, maybe with another clock.
 */
static void
restart(World *world)
{
	PlatBreaker *breaker = &world->breaker;
	uint64		elapsed = world->now - breaker->since;
	uint64		outage = world->now - breaker->outage_since;
	uint64		down = below(2) * below(world->rules.timeout);

	world->now = below(2) ? START : 1 + below(2 * world->rules.timeout);
	if (breaker->outage_since > 0)
		breaker->outage_since = world->now - Min(outage + down, world->now - 1);
	breaker->last_recovery = 0;
	breaker->longest_recovery = 0;
	plat_breaker_resume(breaker, elapsed + down, world->now);
	expect(breaker->since >= 1 && breaker->since <= world->now,
		   "%s: since %.0f at %.0f", story(world), (double) breaker->since,
		   (double) world->now);
	expect(breaker->nleases == 0, "%s: leases after a restart", story(world));
}

/*
 * One step of anybody with nothing left alone, not even the window. Returns
 * whether a generation began for another reason than a move.
 */
static bool
do_worse(World *world, PlatBreakerMoves *moves)
{
	PlatBreaker *breaker = &world->breaker;
	Caller	   *caller = &world->callers[below(CALLERS)];
	PlatBreakerRules rules = any_rules();

	switch (below(12))
	{
		case 0:
			if (breaker->force == PLAT_FORCE_AUTO && below(8) > 0)
				return false;
			plat_breaker_force(breaker, below(2) ? PLAT_FORCE_AUTO : (PlatBreakerForce) below(4),
							   world->now, moves);
			return true;
		case 1:
			if (below(4) == 0)
				set_rules(world, &rules);
			break;
		case 2:
			plat_breaker_leave(breaker, caller->grant);
			break;
		case 3:
			plat_breaker_give_back(breaker, caller->grant);
			break;
		case 4:
			(void) plat_breaker_record(breaker, &world->rules, world->now, moves,
									   stranger.grant, any_outcome(&stranger));
			break;
		case 5:
		case 6:
		case 7:
			(void) plat_breaker_record(breaker, &world->rules, world->now, moves,
									   caller->grant, any_outcome(caller));
			break;
		case 8:
		case 9:
		case 10:
			(void) plat_breaker_allow(breaker, &world->rules, world->now, moves,
									  &caller->grant);
			break;
		default:
			world->now += below(10) ? below(2 * world->rules.timeout) :
				world->longest_open;
			break;
	}
	return false;
}

static void
test_anything(void)
{
	static World world;

	begin();
	for (int run = 0; run < 3000 && !fault[0]; run++)
	{
		PlatBreakerRules rules = any_rules();

		begin_world(&world, &rules);
		world.run = run;
		for (world.steps = 0; world.steps < 300 && !fault[0]; world.steps++)
		{
			PlatBreaker before = world.breaker;
			PlatBreakerMoves moves = {0};
			bool		is_anew = do_worse(&world, &moves);

			check_step(&world, &before, &moves, is_anew);
			world.force = world.breaker.force;
			check_it_does_not_stick(&world);
			if (below(60) == 0)
				restart(&world);
			check_it_does_not_stick(&world);
		}
	}
	end("whatever happens, with other windows and restarts, it goes on");
}

/*
 * Rules that are reasonable, and what is said of them besides.
 */
static PlatBreakerRules
plain_rules(void)
{
	return (PlatBreakerRules)
	{
		.failure_threshold = 1, .timeout = 30 * SECOND,
			.max_timeout = 300 * SECOND, .backoff = 1, .failure_rate = 2,
			.slow_rate = 2, .minimum_calls = 1, .half_open_calls = 1,
			.success_threshold = 1, .probe_timeout = 60 * SECOND,
	};
}

/*
 * Tell of a call in a world whose breaker is not compared.
 */
static void
call(World *world, PlatBreakerOutcome outcome)
{
	PlatBreakerMoves moves = {0};

	(void) plat_breaker_record(&world->breaker, &world->rules, world->now,
							   &moves, stranger.grant, outcome);
}

/*
 * A hundred calls, so many of which are of one kind, the rest of another; or
 * the rest first. Returns whether the breaker is open after the last, and
 * whether it was before.
 */
static bool
opens_at(const PlatBreakerRules *rules, int count, PlatBreakerOutcome kind,
		 bool first, bool *too_early)
{
	static World world;

	begin_world(&world, rules);
	*too_early = false;
	for (int i = 0; i < 100; i++)
	{
		bool		is_one = first ? i < count : i >= 100 - count;

		*too_early |= world.breaker.state != PLAT_BREAKER_CLOSED;
		call(&world, is_one ? kind : PLAT_CALL_PASSED);
		world.now += rules->window / 200;
	}
	return world.breaker.state == PLAT_BREAKER_OPEN;
}

static void
test_rates(void)
{
	PlatBreakerRules rules = plain_rules();
	bool		too_early;

	rules.window = 60 * SECOND;
	rules.minimum_calls = 100;
	begin();
	for (int percent = 1; percent <= 100; percent++)
		for (int count = Max(percent - 2, 0); count <= Min(percent + 2, 100); count++)
			for (int way = 0; way < 4; way++)
			{
				bool		slow = way & 1;
				PlatBreakerOutcome kind = slow ? PLAT_CALL_PASSED_SLOWLY :
					PLAT_CALL_FAILED;

				rules.failure_rate = slow ? 2 : percent / 100.0;
				rules.slow_rate = slow ? percent / 100.0 : 2;
				expect(opens_at(&rules, count, kind, way & 2, &too_early) ==
					   (count >= percent), "rate %g, %d of 100, way %d",
					   percent / 100.0, count, way);
				expect(!too_early, "rate %g: before minimum_calls", percent / 100.0);
			}
	end("a rate of 0.07 is 7 of 100 calls and not 6, and so is any other");

	begin();
	rules.failure_rate = 0.07;
	rules.slow_rate = 2;
	expect(opens_at(&rules, 7, PLAT_CALL_FAILED, false, &too_early), "not at 7");
	rules.minimum_calls = 101;
	expect(!opens_at(&rules, 100, PLAT_CALL_FAILED, false, &too_early), "100 of 101");
	rules.minimum_calls = 1;
	expect(opens_at(&rules, 1, PLAT_CALL_FAILED, true, &too_early) && too_early,
		   "the first of all");
	rules.failure_rate = 2;
	rules.slow_rate = 0.5;
	expect(!opens_at(&rules, 100, PLAT_CALL_FAILED, true, &too_early),
		   "failures are no slow calls");
	expect(opens_at(&rules, 50, PLAT_CALL_FAILED_SLOWLY, true, &too_early),
		   "failures can be slow");
	end("minimum_calls, and which rate counts what");
}

/*
 * Failures in a window without a rate: successes are nothing to them, and
 * those that are too old do not count.
 */
static void
test_window_failures(void)
{
	static World world;
	PlatBreakerRules rules = plain_rules();

	rules.window = 100 * SECOND;
	rules.failure_threshold = 3;
	begin();
	for (uint64 gap = 0; gap <= 60; gap++)
	{
		uint64		start = START - START % (10 * SECOND);

		begin_world(&world, &rules);
		for (int i = 0; i < 3; i++)
		{
			world.now = start + i * gap * SECOND;
			for (int passed = 0; passed < 100; passed++)
				call(&world, PLAT_CALL_PASSED);
			call(&world, PLAT_CALL_FAILED);
		}
		expect((world.breaker.state == PLAT_BREAKER_OPEN) == (2 * gap < 100),
			   "three failures, each %d s after the other", (int) gap);
	}
	end("failures in a window, with successes between them");

	begin();
	for (uint64 part = 0; part < 10 * SECOND; part += SECOND / 4)
	{
		uint64		start = START - START % (10 * SECOND) + part;
		uint64		lives = 0;

		begin_world(&world, &rules);
		world.now = start;
		call(&world, PLAT_CALL_FAILED);
		while (plat_breaker_window(&world.breaker, &rules, start + lives).calls > 0)
			lives += SECOND / 4;
		expect(lives == 100 * SECOND - part, "%.0f ns", (double) lives);
	}
	end("a call counts for more than 9/10 of the window and at most all of it");
}

/*
 * The breaker of a world fails its probes, one after the other.
 */
static uint64
fail_probe(World *world)
{
	PlatBreakerMoves moves = {0};
	PlatBreakerGrant grant;
	uint64		wait;

	expect(plat_breaker_allow(&world->breaker, &world->rules, world->now,
							  &moves, &grant), "attempt %u: refused",
		   world->breaker.attempt);
	expect(plat_breaker_record(&world->breaker, &world->rules, world->now,
							   &moves, grant, PLAT_CALL_FAILED), "ignored");
	wait = plat_breaker_retry_after(&world->breaker, &world->rules, world->now);
	expect(!may_pass_in(world, wait - 1) && may_pass_in(world, wait),
		   "attempt %u: not in time", world->breaker.attempt);
	world->now += wait;
	return wait;
}

static void
pass_probe(World *world)
{
	PlatBreakerMoves moves = {0};
	PlatBreakerGrant grant;

	(void) plat_breaker_allow(&world->breaker, &world->rules, world->now,
							  &moves, &grant);
	(void) plat_breaker_record(&world->breaker, &world->rules, world->now,
							   &moves, grant, PLAT_CALL_PASSED);
	expect(world->breaker.state == PLAT_BREAKER_CLOSED, "not closed");
}

static void
test_backoff(void)
{
	static World world;
	PlatBreakerRules rules = plain_rules();
	uint64		wanted = SECOND;

	begin();
	rules.timeout = SECOND;
	rules.backoff = 2;
	begin_world(&world, &rules);
	for (int i = 0; i < 1000; i++)
	{
		uint64		wait = fail_probe(&world);

		expect(wait == wanted, "attempt %d: %.0f ns", i, (double) wait);
		wanted = Min(2 * wanted, 300 * SECOND);
	}
	pass_probe(&world);
	call(&world, PLAT_CALL_FAILED);
	expect(!may_pass_in(&world, SECOND - 1) && may_pass_in(&world, SECOND),
		   "the first time after it was closed");
	end("backoff grows to max_timeout, stays there, and begins anew when closed");

	begin();
	rules.timeout = 100 * YEAR;
	rules.max_timeout = 100 * YEAR;
	rules.backoff = 1000;
	begin_world(&world, &rules);
	for (int i = 0; i < 1000; i++)
	{
		expect(fail_probe(&world) == 100 * YEAR, "attempt %d", i);
		/* Nobody lives so long: back to the year in which it began. */
		world.now -= 100 * YEAR;
		world.breaker.since -= 100 * YEAR;
	}
	end("a thousand centuries do not overflow");

	begin();
	for (int i = 0; i < 1000; i++)
	{
		rules.timeout = 1;
		rules.max_timeout = 100 * YEAR;
		rules.backoff = 1 + i / 999.0 * 999;
		begin_world(&world, &rules);
		for (uint64 last = 0, n = 0; n < 1000; n++)
		{
			uint64		wait = fail_probe(&world);

			expect(wait >= last && wait <= 100 * YEAR, "backoff %g, attempt %d",
				   rules.backoff, (int) n);
			expect(n < 1000 - 1 || i == 0 || wait == 100 * YEAR ||
				   rules.backoff < 1.05, "backoff %g ends at %.0f ns",
				   rules.backoff, (double) wait);
			last = wait;
			world.breaker.since -= world.now - START;
			world.now = START;
		}
	}
	end("from a nanosecond to a century, never back");
}

/*
 * A world whose breaker has been in a state for a while, and one grant of
 * that state; half-open with a probe under way or without.
 */
static void
begin_restart(World *world, PlatBreakerState state, bool has_probe, uint64 age)
{
	PlatBreakerRules rules = plain_rules();
	PlatBreakerMoves moves = {0};
	PlatBreakerGrant *grant = &world->callers[0].grant;

	rules.window = 60 * SECOND;
	rules.backoff = 2;
	begin_world(world, &rules);
	call(world, PLAT_CALL_PASSED);
	(void) plat_breaker_allow(&world->breaker, &rules, world->now, &moves, grant);
	if (state != PLAT_BREAKER_CLOSED)
		call(world, PLAT_CALL_FAILED);
	if (state == PLAT_BREAKER_HALF_OPEN)
	{
		world->now += rules.timeout;
		plat_breaker_advance(&world->breaker, &rules, world->now, &moves);
	}
	if (has_probe)
		(void) plat_breaker_allow(&world->breaker, &rules, world->now, &moves, grant);
	world->now += age;
	expect(world->breaker.state == state, "state %d, not %d", world->breaker.state,
		   state);
}

/* How old a state is and how late it is, from nothing to more than all. */
static const uint64 ages[] = {
	0, 1, 2, SECOND, 30 * SECOND - 1, 30 * SECOND, 30 * SECOND + 1,
	60 * SECOND, START, 100 * YEAR
};
static const uint64 clocks[] = {
	1, 2, 3, SECOND, 10 * SECOND, 30 * SECOND, 30 * SECOND + 1, START, YEAR
};

/*
 * Go on at another time, with a state of that age; the wait is to be so long.
 */
static void
resume(World *world, uint64 age, uint64 now, uint64 wanted)
{
	PlatBreaker before = world->breaker;
	const PlatBreaker *after = &world->breaker;
	PlatBreakerMoves moves = {0};
	int			lost = before.nleases > 0;

	world->now = now;
	plat_breaker_resume(&world->breaker, age, now);
	expect(after->since >= 1 && after->since <= now, "since %.0f at %.0f",
		   (double) after->since, (double) now);
	expect(after->generation == before.generation + 1, "the generation stays");
	expect(after->nleases == 0, "there are leases");
	expect(after->force == before.force &&
		   after->attempt == before.attempt + lost &&
		   after->openings == before.openings + lost &&
		   after->moves == before.moves + lost &&
		   after->last_lease == before.last_lease,
		   "a lost probe counts as an opening, and nothing else has changed");
	expect(plat_breaker_window(after, &world->rules, now).calls == 0, "calls");
	expect(may_pass_in(world, wanted), "age %.0f at %.0f: not after %.0f ns",
		   (double) age, (double) now, (double) wanted);
	expect(wanted == 0 || !may_pass_in(world, wanted - 1),
		   "age %.0f at %.0f: before %.0f ns", (double) age, (double) now,
		   (double) wanted);
	expect(!plat_breaker_record(&world->breaker, &world->rules, now, &moves,
								world->callers[0].grant, PLAT_CALL_FAILED),
		   "an outcome from before is taken");
}

static void
test_resume(void)
{
	static World world;

	begin();
	for (int i = 0; i < lengthof(ages); i++)
		for (int j = 0; j < lengthof(clocks); j++)
		{
			uint64		age = ages[i];
			uint64		rest = age < 30 * SECOND ? 30 * SECOND - age : 0;

			begin_restart(&world, PLAT_BREAKER_CLOSED, false, 5);
			resume(&world, age, clocks[j], 0);
			expect(age >= clocks[j] || world.breaker.since == clocks[j] - age,
				   "since when it is closed");
			begin_restart(&world, PLAT_BREAKER_OPEN, false, 5);
			resume(&world, age, clocks[j], rest);
			begin_restart(&world, PLAT_BREAKER_HALF_OPEN, false, 5);
			resume(&world, age, clocks[j], 0);
			begin_restart(&world, PLAT_BREAKER_HALF_OPEN, true, 5);
			resume(&world, age, clocks[j], 60 * SECOND);
		}
	end("a restart waits for the rest, and again if a probe was under way");

	begin();
	for (PlatBreakerForce how = PLAT_FORCE_OPEN; how <= PLAT_FORCE_DISABLED; how++)
		for (int i = 0; i < lengthof(ages); i++)
		{
			PlatBreakerMoves moves = {0};

			begin_restart(&world, PLAT_BREAKER_OPEN, false, 5);
			plat_breaker_force(&world.breaker, how, world.now, &moves);
			plat_breaker_resume(&world.breaker, ages[i], START);
			expect(world.breaker.force == how, "force %d is over", how);
			expect(may_pass_in(&world, 1000 * YEAR / 5) == (how != PLAT_FORCE_OPEN),
				   "force %d does nothing", how);
		}
	end("a force outlives a restart");
}

int
main(int argc, char **argv)
{
	if (argc > 1)
	{
		seed = strtoull(argv[1], NULL, 10);
		test_long_sequences();
		test_anything();
	}
	else
	{
		test_all_sequences();
		test_rates();
		test_window_failures();
		test_backoff();
		test_resume();
	}
	printf("1..%d\n", tests);
	return failures > 0;
}
