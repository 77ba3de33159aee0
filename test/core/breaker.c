/*
 * breaker.c
 *		Tests of the state machine of circuit breakers, with a clock of their
 *		own: no server, no sleep.  Prints TAP; t/041_breaker_core.pl compiles
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

/* PostgreSQL's own are in the server. */
#undef printf
#undef snprintf
#undef vsnprintf

#define SECOND UINT64CONST(1000000000)
#define YEAR (UINT64CONST(31557600) * SECOND)

/* A clock has been running for a while when a breaker is first looked at. */
#define START (UINT64CONST(259200) * SECOND + 12345678901)

static int	tests = 0;
static int	failures = 0;

/*
 * One assertion. Details describe its failure.
 */
static void
check(bool passed, const char *name, const char *details)
{
	tests++;
	printf("%sok %d - %s\n", passed ? "" : "not ", tests, name);
	if (!passed)
	{
		failures++;
		printf("# %s\n", details);
	}
}

/* The first failure of a group of comparisons. */
static char fault[1000];

static void
expect(bool passed, const char *format,...)
{
	va_list		args;

	if (passed || fault[0])
		return;
	va_start(args, format);
	vsnprintf(fault, sizeof(fault), format, args);
	va_end(args);
}

static void
begin(void)
{
	fault[0] = '\0';
}

static void
end(const char *name)
{
	check(fault[0] == '\0', name, fault);
}

/*
 * Random numbers that are the same everywhere: splitmix64.
 */
static uint64 seed;

static uint64
any(void)
{
	uint64		z = (seed += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static uint64
below(uint64 limit)
{
	return limit == 0 ? 0 : any() % limit;
}

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
				   "thresholds %u, %u, half_open_calls %u, backoff %g, step %d:",
				   rules->failure_threshold, rules->success_threshold,
				   rules->half_open_calls, rules->backoff, world->steps);
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
 * Have the breaker look at the clock, as one does who has got no rules to
 * hand on.
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
	bool		is_open;
	int			count;
	Event		events[8];
} Beginning;

static const Beginning beginnings[] = {
	{"closed", false, 0},
	{"half-open", true, 1, {TIMEOUT}},
	{"two who asked when half-open", true, 3, {TIMEOUT, A_ASKS, B_ASKS}},
	{"half-open, after a probe failed and one is under way", true, 6,
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
			int			longest = 5 + (number == (7 + 2 * i) % 16);

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
