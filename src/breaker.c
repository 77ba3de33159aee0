/*
 * breaker.c
 *		Circuit breakers that all backends share.
 *
 * A breaker's state is an entry of a directory in shared memory, guarded by
 * the entry's lock; what it does is up to breaker_core.c.  While a breaker is
 * closed a call reads one word, and locks nothing.
 *
 * Nothing here is undone by ROLLBACK: a call that failed has failed, and the
 * transaction that says so is likely to roll back.  What a transaction does
 * owe is the outcome of the probes that it was granted.  Their leases are in
 * a list of this backend until the outcome, or the end of the (sub)transaction:
 * its abort fails them, its commit leaves them to whoever brings an outcome.
 *
 * Nothing that a commit calls here may fail, so it neither makes moves nor
 * logs.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "breaker.h"
#include "clock.h"
#include "config_table.h"
#include "shmem.h"
#include "sql.h"
#include "worker.h"

/* A probe of this transaction. */
typedef struct Lease
{
	PlatSharedBreaker *shared;
	uint64		ticket;
	PlatBreakerGrant grant;
	PlatBreakerRules rules;		/* its definition may be gone by the end */
	char		name[PLAT_NAMED_MAX + 1];
	int			level;			/* of the transaction, 1 for the top */
} Lease;

static Lease *leases = NULL;
static int	nleases = 0;
static int	max_leases = 0;

/* A move that this transaction has sent to the channel, if it commits. */
typedef struct Told
{
	PlatSharedBreaker *shared;
	uint64		ticket;
	uint64		generation;
} Told;

static Told told[16];
static int	ntold = 0;

/* Counts what DISCARD ALL makes of a session. */
static uint64 session = 1;

/* platpat.breaker_entries and platpat.breaker_notify_channel */
static int	breaker_entries = 1024;
static char *notify_channel = NULL;

PG_FUNCTION_INFO_V1(plat_breaker_allow_call);
PG_FUNCTION_INFO_V1(plat_breaker_record_success);
PG_FUNCTION_INFO_V1(plat_breaker_record_failure);
PG_FUNCTION_INFO_V1(plat_breaker_get_state);
PG_FUNCTION_INFO_V1(plat_breaker_get_retry_after);
PG_FUNCTION_INFO_V1(plat_breaker_set_force);
PG_FUNCTION_INFO_V1(plat_breaker_create);
PG_FUNCTION_INFO_V1(plat_breaker_alter);
PG_FUNCTION_INFO_V1(plat_breaker_drop);
PG_FUNCTION_INFO_V1(plat_breaker_check_row);

/*
 * A channel is a name, or empty for none.
 */
static bool
check_channel(char **value, void **extra, GucSource source)
{
	if (*value == NULL || strlen(*value) < NAMEDATALEN)
		return true;
	GUC_check_errdetail("Names of channels are shorter than %d bytes.",
						NAMEDATALEN);
	return false;
}

static void
define_settings(bool preload)
{
	DefineCustomIntVariable("platpat.breaker_entries",
							"Circuit breakers that shared memory has room for.",
							"2.3 kB each; breakers that are closed and have nothing to remember share.",
							&breaker_entries, 1024, 16, 1048576,
							preload ? PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("platpat.breaker_notify_channel",
							   "The channel that changes of circuit breakers are sent to.",
							   "Empty for none.",
							   &notify_channel, "", PGC_SUSET, 0,
							   check_channel, NULL, NULL);
}

static Size
shmem_size(void)
{
	return plat_named_size(&plat_breakers, breaker_entries);
}

static void
shmem_fill(void *part, Size size)
{
	plat_named_fill(&plat_breakers, part, size);
}

static void on_xact_end(XactEvent event, void *arg);
static void on_subxact_end(SubXactEvent event, SubTransactionId id,
						   SubTransactionId parent, void *arg);

static void
shmem_adopt(void *part)
{
	static bool registered = false;

	plat_named_adopt(&plat_breakers, part);
	if (!registered)
	{
		RegisterXactCallback(on_xact_end, NULL);
		RegisterSubXactCallback(on_subxact_end, NULL);
	}
	registered = true;
}

/*
 * DISCARD ALL: what the session was told before is another client's.
 */
static void
discard(void)
{
	session++;
}

static const char *const admin_grants[] = {
	"EXECUTE ON FUNCTION platpat.create_breaker(text, int, interval, interval, float8, int, interval, float8, int, int, interval, float8, interval, text[])",
	"EXECUTE ON FUNCTION platpat.alter_breaker(text, int, interval, interval, float8, int, interval, float8, int, int, interval, float8, interval, text[])",
	"EXECUTE ON FUNCTION platpat.drop_breaker(text)",
	"EXECUTE ON FUNCTION platpat.force_breaker(text, text)",
	"EXECUTE ON FUNCTION platpat.breaker_stats()",
	"INSERT, UPDATE, DELETE ON platpat.breakers",
	"SELECT ON platpat.stat_breakers",
	NULL
};

const PlatModule plat_breaker_module = {
	.name = "breaker",
	.define_settings = define_settings,
	.admin_grants = admin_grants,
	.shmem_size = shmem_size,
	.shmem_fill = shmem_fill,
	.shmem_adopt = shmem_adopt,
	.shmem_start = plat_breaker_start,
	.work = plat_breaker_work,
	.discard = discard,
	.put_metrics = plat_breaker_put_metrics,
	.reset_stats = plat_breaker_reset_stats,
};

/*
 * A time of a row: 22023 unless it is positive and at most 100 years.
 */
static uint64
time_of(Relation rel, HeapTuple row, const char *column, uint64 missing)
{
	Datum		value;
	double		ns;

	if (!plat_column(rel, row, column, &value))
		return missing;
	ns = plat_interval_ns(DatumGetIntervalP(value));
	if (!(ns > 0 && ns <= (double) PLAT_MAX_INTERVAL_NS))
		plat_refuse_value(psprintf("%s is out of range", column),
						  "It is a positive interval of at most 100 years.");
	return (uint64) ns;
}

/*
 * A rate of a row: 22023 unless it is a share; above 1 if there is none.
 */
static double
rate_of(Relation rel, HeapTuple row, const char *column)
{
	Datum		value;
	double		rate;

	if (!plat_column(rel, row, column, &value))
		return 2;
	rate = DatumGetFloat8(value);
	if (!(rate > 0 && rate <= 1))
		plat_refuse_value(psprintf("%s is %g", column, rate),
						  "It is a share of calls, above 0 and at most 1.");
	return rate;
}

/*
 * A number of a row: 22004 for NULL, 22023 if it is out of range.
 */
static uint32
number_of(Relation rel, HeapTuple row, const char *column, int32 max)
{
	Datum		value;
	int32		number;

	if (!plat_column(rel, row, column, &value))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", column)));
	number = DatumGetInt32(value);
	if (number < 1 || number > max)
		plat_refuse_value(psprintf("%s is %d", column, number),
						  psprintf("It is a number from 1 to %d.", max));
	return (uint32) number;
}

/*
 * One element of failure_states: a class of two characters, or a whole
 * SQLSTATE. 22023 for anything else.
 */
static int
state_of(const char *state)
{
	size_t		len = strlen(state);

	if ((len != 2 && len != 5) ||
		strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != len)
		plat_refuse_value(psprintf("\"%s\" in failure_states is no SQLSTATE",
								   plat_clip(state)),
						  "It has five digits or upper case letters, or the first two of them for a class.");
	return len == 2 ? MAKE_SQLSTATE(state[0], state[1], '0', '0', '0') :
		MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
}

/*
 * Read failure_states of a row.
 */
static void
read_states(PlatBreakerDefinition *definition, Relation rel, HeapTuple row)
{
	Datum		value;
	Datum	   *elements;
	bool	   *nulls;

	if (!plat_column(rel, row, "failure_states", &value))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("failure_states must not be null")));
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &definition->nstates);
	if (definition->nstates > PLAT_FAILURE_STATES)
		plat_refuse_value("failure_states has too many elements",
						  psprintf("It has at most %d.", PLAT_FAILURE_STATES));
	for (int i = 0; i < definition->nstates; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("failure_states must not contain nulls")));
		definition->states[i] = state_of(TextDatumGetCString(elements[i]));
	}
}

/*
 * Raise 22023 for rules that do not go together.
 */
static void
check_rules(const PlatBreakerRules *rules, bool has_max_timeout)
{
	bool		has_rate = rules->failure_rate <= 1 || rules->slow_rate <= 1;

	if (has_rate && rules->window == 0)
		plat_refuse_value("a rate needs a failure_window",
						  "Without a window failures in a row are counted.");
	if (rules->slow_rate <= 1 && rules->slow_call == 0)
		plat_refuse_value("slow_rate needs a slow_call",
						  "That is the time from which on a call is slow.");
	if (!(rules->backoff >= 1 && rules->backoff <= 1000))
		plat_refuse_value(psprintf("backoff is %g", rules->backoff),
						  "It is a factor from 1 to 1000.");
	if (has_max_timeout && rules->max_timeout < rules->timeout)
		plat_refuse_value("max_timeout is less than timeout",
						  "It bounds what timeout grows to.");
}

/*
 * Fill a definition from a row of platpat.breakers.
 */
static void
compile(PlatNamed *head, Relation rel, HeapTuple row)
{
	PlatBreakerDefinition *definition = (PlatBreakerDefinition *) head;
	PlatBreakerRules *rules = &definition->rules;
	Datum		unused;
	bool		has_max_timeout = plat_column(rel, row, "max_timeout", &unused);

	rules->failure_threshold = number_of(rel, row, "failure_threshold", PG_INT32_MAX);
	rules->timeout = time_of(rel, row, "timeout", 0);
	rules->window = time_of(rel, row, "failure_window", 0);
	rules->failure_rate = rate_of(rel, row, "failure_rate");
	rules->minimum_calls = number_of(rel, row, "minimum_calls", PG_INT32_MAX);
	rules->slow_call = time_of(rel, row, "slow_call", 0);
	rules->slow_rate = rate_of(rel, row, "slow_rate");
	rules->half_open_calls = number_of(rel, row, "half_open_calls", PLAT_BREAKER_LEASES);
	rules->success_threshold = number_of(rel, row, "success_threshold", PG_INT32_MAX);
	rules->probe_timeout = time_of(rel, row, "probe_timeout", 0);
	rules->backoff = plat_column_float(rel, row, "backoff");
	rules->max_timeout = time_of(rel, row, "max_timeout", PLAT_MAX_INTERVAL_NS);
	if (rules->timeout == 0 || rules->probe_timeout == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null",
						rules->timeout == 0 ? "timeout" : "probe_timeout")));
	check_rules(rules, has_max_timeout);
	read_states(definition, rel, row);
}

/*
 * Let calls pass without a look while there is nothing to look at. Under the
 * lock.
 */
void
plat_breaker_set_gate(PlatSharedBreaker *shared)
{
	const PlatBreaker *breaker = &shared->breaker;
	bool		is_passable = breaker->state == PLAT_BREAKER_CLOSED &&
		breaker->force != PLAT_FORCE_DISABLED && !shared->is_unannounced;

	pg_atomic_write_u64(&shared->gate, !is_passable ? 0 :
						breaker->generation * 2 + (breaker->failures > 0));
}

/*
 * Generations and leases begin where no breaker that had the entry before has
 * come to, so that what was told of that one is known to be old.
 */
static void
init(PlatSharedNamed *head, uint64 ticket)
{
	PlatSharedBreaker *shared = (PlatSharedBreaker *) head;

	pg_atomic_init_u64(&shared->allowed, 0);
	pg_atomic_init_u64(&shared->passed, 0);
	pg_atomic_init_u64(&shared->failed, 0);
	pg_atomic_init_u64(&shared->slow, 0);
	pg_atomic_init_u64(&shared->rejected, 0);
	pg_atomic_init_u64(&shared->ignored, 0);
	plat_breaker_init(&shared->breaker, plat_clock());
	shared->breaker.generation = (ticket << 24) + 1;
	shared->breaker.last_lease = ticket << 24;
	shared->since = GetCurrentTimestamp();
	shared->outage_since = 0;
	shared->last_failure = 0;
	shared->is_unannounced = false;
	shared->last_error[0] = '\0';
	plat_breaker_set_gate(shared);
}

/*
 * Whether there is a failure or a slow call in the window.
 */
static bool
window_remembers(const PlatBreaker *breaker)
{
	for (int i = 0; i < PLAT_BREAKER_SLICES; i++)
	{
		const PlatBreakerSlice *slice = &breaker->slices[i];

		if ((slice->failures > 0 || slice->slow > 0) &&
			slice->epoch + PLAT_BREAKER_SLICES >
			plat_clock() / breaker->slice_length)
			return true;
	}
	return false;
}

/*
 * A breaker that nobody has asked for a day after it could have let a call
 * through counts as idle.
 */
static bool
is_idle(PlatSharedNamed *head)
{
	const PlatBreaker *breaker = &((PlatSharedBreaker *) head)->breaker;

	if (breaker->force != PLAT_FORCE_AUTO || breaker->nleases > 0)
		return false;
	if (breaker->state == PLAT_BREAKER_CLOSED)
		return breaker->failures == 0 && !window_remembers(breaker);
	return plat_clock() > breaker->since + breaker->open_time +
		SECS_PER_DAY * PLAT_SECOND;
}

PlatNamedKind plat_breakers = {
	.what = "breaker",
	.table = "breakers",
	.setting = "platpat.breaker_entries",
	.definition_size = sizeof(PlatBreakerDefinition),
	.entry_size = sizeof(PlatSharedBreaker),
	.compile = compile,
	.init = init,
	.is_idle = is_idle,
	.is_droppable = true,
};

/*
 * The state in a word. One that is forced looks like what it does.
 */
const char *
plat_breaker_state_name(const PlatBreaker *breaker)
{
	static const char *const names[] = {
		[PLAT_BREAKER_CLOSED] = "closed",
		[PLAT_BREAKER_OPEN] = "open",
		[PLAT_BREAKER_HALF_OPEN] = "half_open",
	};

	return breaker->force == PLAT_FORCE_DISABLED ? "disabled" :
		names[breaker->state];
}

static const char *
state_word(PlatBreakerState state)
{
	PlatBreaker breaker = {.state = state};

	return plat_breaker_state_name(&breaker);
}

/*
 * Why a breaker has moved, as a sentence.
 */
static const char *
cause_text(PlatBreakerCause cause)
{
	static const char *const texts[] = {
		[PLAT_CAUSE_FAILURES] = "There were too many failures.",
		[PLAT_CAUSE_FAILURE_RATE] = "Too large a share of the calls failed.",
		[PLAT_CAUSE_SLOW_RATE] = "Too large a share of the calls was slow.",
		[PLAT_CAUSE_TIMEOUT] = "Its timeout is over.",
		[PLAT_CAUSE_PROBE_FAILED] = "A probe failed.",
		[PLAT_CAUSE_PROBE_SLOW] = "A probe was slow.",
		[PLAT_CAUSE_PROBE_LOST] = "The transaction of a probe was aborted.",
		[PLAT_CAUSE_PROBE_LATE] = "A probe had no outcome in time.",
		[PLAT_CAUSE_PROBES_PASSED] = "Enough probes passed.",
		[PLAT_CAUSE_FORCED] = "It was forced.",
	};

	return texts[cause];
}

/*
 * Log the moves of a breaker, and have them written to disk.  Clients get none
 * of it: their encoding may not have the name.
 */
static void
tell_moves(const char *name, const PlatBreakerMoves *moves)
{
	if (moves->count > 0)
		plat_worker_wake(&plat_breaker_module);
	for (int i = 0; i < moves->count; i++)
		ereport(LOG_SERVER_ONLY,
				(errmsg("breaker \"%s\" went from %s to %s", name,
						state_word(moves->moves[i].from),
						state_word(moves->moves[i].to)),
				 errdetail("%s", cause_text(moves->moves[i].cause)),
				 errhidestmt(true)));
}

static bool
has_channel(void)
{
	return notify_channel && notify_channel[0] != '\0';
}

/*
 * Whether this process can send notifications now.
 */
static bool
can_notify(void)
{
	return has_channel() && IsTransactionState() && !RecoveryInProgress() &&
		!IsInParallelMode();
}

/*
 * Note that this transaction sends what a breaker has moved to; false if it
 * has done so, or has too much to send already. The breaker is locked.
 */
static bool
note_told(PlatSharedBreaker *shared)
{
	for (int i = 0; i < ntold; i++)
		if (told[i].shared == shared &&
			told[i].generation == shared->breaker.generation)
			return false;
	if (ntold == lengthof(told))
		return false;
	told[ntold++] = (Told)
	{
		shared, pg_atomic_read_u64(&shared->head.ticket),
			shared->breaker.generation
	};
	return true;
}

/*
 * The transaction that has sent them has committed.
 */
static void
confirm_told(void)
{
	for (int i = 0; i < ntold; i++)
	{
		PlatSharedBreaker *shared = told[i].shared;

		LWLockAcquire(&shared->head.lock, LW_EXCLUSIVE);
		if (pg_atomic_read_u64(&shared->head.ticket) == told[i].ticket &&
			shared->breaker.generation == told[i].generation)
		{
			shared->is_unannounced = false;
			plat_breaker_set_gate(shared);
		}
		LWLockRelease(&shared->head.lock);
	}
}

/*
 * Send to the channel what state a breaker is in.
 */
static void
notify(const char *name, const char *state, TimestampTz since)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"breaker\": ");
	escape_json(&payload, name);
	appendStringInfo(&payload, ", \"state\": \"%s\", \"since\": \"%s\"}",
					 state, timestamptz_to_str(since));
	Async_Notify(notify_channel, payload.data);
	pfree(payload.data);
}

/*
 * Note by the time of day what a step has moved. Under the lock.
 */
static void
note_moves(PlatSharedBreaker *shared, const PlatBreakerMoves *moves)
{
	const PlatBreaker *breaker = &shared->breaker;

	if (moves->count > 0)
	{
		shared->since = plat_clock_to_timestamp(breaker->since);
		shared->outage_since = breaker->outage_since == 0 ? 0 :
			plat_clock_to_timestamp(breaker->outage_since);
		shared->is_unannounced |= has_channel();
	}
	plat_breaker_set_gate(shared);
}

/*
 * Lock a breaker and move it on to now; false if it has lost its entry, which
 * happens to idle ones when memory is short.
 */
static bool
lock_shared(PlatSharedBreaker *shared, uint64 ticket,
			const PlatBreakerRules *rules, PlatBreakerMoves *moves)
{
	moves->count = 0;
	LWLockAcquire(&shared->head.lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u64(&shared->head.ticket) != ticket)
	{
		LWLockRelease(&shared->head.lock);
		return false;
	}
	plat_breaker_advance(&shared->breaker, rules, plat_clock(), moves);
	return true;
}

/*
 * Lock the breaker of a definition that has its entry, and move it on to now;
 * false if the entry is another's by now.
 */
bool
plat_breaker_lock(PlatBreakerDefinition *definition, PlatBreakerMoves *moves)
{
	return lock_shared((PlatSharedBreaker *) definition->head.entry,
					   definition->head.ticket, &definition->rules, moves);
}

/*
 * Unlock it, and tell of its moves.
 */
void
plat_breaker_unlock(PlatBreakerDefinition *definition,
					const PlatBreakerMoves *moves)
{
	PlatSharedBreaker *shared = (PlatSharedBreaker *) definition->head.entry;
	bool		is_news;
	const char *state = plat_breaker_state_name(&shared->breaker);
	TimestampTz since;

	note_moves(shared, moves);
	since = shared->since;
	is_news = shared->is_unannounced && can_notify() && note_told(shared);
	LWLockRelease(&shared->head.lock);
	tell_moves(definition->head.name, moves);
	if (is_news)
		notify(definition->head.name, state, since);
}

/*
 * Lock a breaker whatever it takes, and move it on to now.
 */
static PlatSharedBreaker *
lock_definition(PlatBreakerDefinition *definition, PlatBreakerMoves *moves)
{
	PlatSharedBreaker *shared;

	plat_named_lock(&plat_breakers, &definition->head);
	shared = (PlatSharedBreaker *) definition->head.entry;
	moves->count = 0;
	plat_breaker_advance(&shared->breaker, &definition->rules, plat_clock(), moves);
	return shared;
}

/*
 * Make room for one more lease, which must not fail once it is granted.
 */
static void
reserve_lease(void)
{
	if (nleases < max_leases)
		return;
	if (leases == NULL)
		leases = MemoryContextAlloc(TopMemoryContext, 8 * sizeof(Lease));
	else
		leases = repalloc(leases, 2 * max_leases * sizeof(Lease));
	max_leases = max_leases == 0 ? 8 : 2 * max_leases;
}

/*
 * Note a probe that this transaction has got.
 */
static void
add_lease(const PlatBreakerDefinition *definition)
{
	Lease	   *lease = &leases[nleases++];

	lease->shared = (PlatSharedBreaker *) definition->head.entry;
	lease->ticket = definition->head.ticket;
	lease->grant = definition->granted;
	lease->rules = definition->rules;
	strlcpy(lease->name, definition->head.name, sizeof(lease->name));
	lease->level = GetCurrentTransactionNestLevel();
}

/*
 * Take the probe of a grant off the list of this transaction or, if nothing is
 * granted, the last one of the breaker; false if there is none.
 */
static bool
take_lease(const PlatBreakerDefinition *definition, PlatBreakerGrant *grant)
{
	for (int i = nleases - 1; i >= 0; i--)
	{
		if (&leases[i].shared->head != definition->head.entry ||
			leases[i].ticket != definition->head.ticket ||
			(grant->generation != 0 && leases[i].grant.lease != grant->lease))
			continue;
		*grant = leases[i].grant;
		nleases--;
		memmove(&leases[i], &leases[i + 1], (nleases - i) * sizeof(Lease));
		return true;
	}
	return false;
}

/*
 * Fail a probe whose transaction is aborted.
 */
static void
lose_lease(Lease *lease)
{
	PlatBreakerMoves moves;

	if (!lock_shared(lease->shared, lease->ticket, &lease->rules, &moves))
		return;
	(void) plat_breaker_record(&lease->shared->breaker, &lease->rules,
							   plat_clock(), &moves, lease->grant,
							   PLAT_CALL_LOST);
	note_moves(lease->shared, &moves);
	LWLockRelease(&lease->shared->head.lock);
	tell_moves(lease->name, &moves);
}

/*
 * Leave a probe whose transaction has committed to whoever brings an outcome.
 */
static void
leave_lease(Lease *lease)
{
	LWLockAcquire(&lease->shared->head.lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u64(&lease->shared->head.ticket) == lease->ticket)
		plat_breaker_leave(&lease->shared->breaker, lease->grant);
	LWLockRelease(&lease->shared->head.lock);
}

/*
 * End the probes of transactions from a level on.
 */
static void
end_leases(int level, void (*end) (Lease *lease))
{
	int			kept = 0;

	for (int i = 0; i < nleases; i++)
	{
		if (leases[i].level >= level)
			end(&leases[i]);
		else
			leases[kept++] = leases[i];
	}
	nleases = kept;
}

static void
on_xact_end(XactEvent event, void *arg)
{
	bool		is_commit = event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE;

	if (!is_commit && event != XACT_EVENT_ABORT)
		return;
	if (nleases > 0)
		end_leases(1, is_commit ? leave_lease : lose_lease);
	if (is_commit && ntold > 0)
		confirm_told();
	ntold = 0;
}

static void
on_subxact_end(SubXactEvent event, SubTransactionId id,
			   SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		end_leases(level, lose_lease);
		/* What was sent may be undone; who sends it twice sends it once. */
		ntold = 0;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (int i = 0; i < nleases; i++)
			leases[i].level = Min(leases[i].level, level - 1);
}

/*
 * Note when the session was told what it was told.
 */
static inline void
note_grant(PlatBreakerDefinition *definition)
{
	definition->granted_at = GetCurrentStatementStartTimestamp();
	definition->granted_in = session;
	definition->granted_by = definition->head.ticket;
	definition->granted_birth = definition->head.births;
}

/*
 * Ask a breaker that needs a look.
 */
static bool
ask_locked(PlatBreakerDefinition *definition)
{
	PlatBreakerMoves moves;
	PlatSharedBreaker *shared;
	bool		allowed;

	reserve_lease();
	shared = lock_definition(definition, &moves);
	allowed = plat_breaker_allow(&shared->breaker, &definition->rules,
								 plat_clock(), &moves, &definition->granted);
	note_grant(definition);
	if (definition->granted.lease != 0)
		add_lease(definition);
	pg_atomic_fetch_add_u64(allowed ? &shared->allowed : &shared->rejected, 1);
	plat_breaker_unlock(definition, &moves);
	if (definition->granted.lease != 0)
		plat_worker_wake(&plat_breaker_module);
	return allowed;
}

/*
 * Whether a call may be made. The session remembers of which generation that
 * is until it brings an outcome, or is told something else.
 */
bool
plat_breaker_ask(PlatBreakerDefinition *definition)
{
	PlatSharedBreaker *shared = (PlatSharedBreaker *) definition->head.entry;
	uint64		gate = pg_atomic_read_u64(&shared->gate);

	if (unlikely(gate == 0))
		return ask_locked(definition);
	pg_atomic_fetch_add_u64(&shared->allowed, 1);
	definition->granted.generation = gate / 2;
	definition->granted.lease = 0;
	note_grant(definition);
	return true;
}

/*
 * Keep what a call failed with, in full characters. Under the lock.
 */
static void
note_error(PlatSharedBreaker *shared, const char *error)
{
	shared->last_failure = GetCurrentTimestamp();
	if (error)
		strlcpy(shared->last_error, error, pg_mbcliplen(error, strlen(error),
														PLAT_BREAKER_ERROR_MAX - 1) + 1);
	else
		shared->last_error[0] = '\0';
}

/*
 * Whether what the session was told is too old to be of the call whose outcome
 * comes now, or says nothing because the breaker has lost its entry since. If
 * it is another breaker since, it does say something: that it is none of its.
 */
static bool
is_outdated(const PlatBreakerDefinition *definition)
{
	int64		us = GetCurrentStatementStartTimestamp() - definition->granted_at;

	return definition->granted_in != session ||
		us > (int64) (definition->rules.probe_timeout / 1000) ||
		(definition->granted_by != definition->head.ticket &&
		 definition->granted_birth == definition->head.births);
}

/*
 * What this session was told when it asked last, which an outcome uses up.
 * It is forgotten after the time that a probe may take, because behind a pool
 * the outcome may have come by another session.
 */
static PlatBreakerGrant
take_grant(PlatBreakerDefinition *definition)
{
	PlatBreakerGrant grant = definition->granted;

	if (!take_lease(definition, &grant) && is_outdated(definition))
		grant = (PlatBreakerGrant)
	{
		0
	};
	definition->granted = (PlatBreakerGrant)
	{
		0
	};
	return grant;
}

/*
 * Tell a breaker what a call came to; error may be NULL.
 */
void
plat_breaker_tell(PlatBreakerDefinition *definition,
				  PlatBreakerOutcome outcome, const char *error)
{
	PlatSharedBreaker *shared = (PlatSharedBreaker *) definition->head.entry;
	uint64		gate = pg_atomic_read_u64(&shared->gate);
	PlatBreakerMoves moves;
	PlatBreakerGrant grant = take_grant(definition);
	pg_atomic_uint64 *count;

	/* A success among successes changes nothing where no window is kept. */
	if (outcome == PLAT_CALL_PASSED && gate != 0 && gate % 2 == 0 &&
		definition->rules.window == 0 &&
		(grant.generation == 0 || grant.generation == gate / 2))
	{
		pg_atomic_fetch_add_u64(&shared->passed, 1);
		return;
	}
	shared = lock_definition(definition, &moves);
	count = !plat_breaker_record(&shared->breaker, &definition->rules, plat_clock(),
								 &moves, grant, outcome) ? &shared->ignored :
		outcome >= PLAT_CALL_FAILED ? &shared->failed : &shared->passed;
	pg_atomic_fetch_add_u64(count, 1);
	if (count != &shared->ignored &&
		(outcome == PLAT_CALL_PASSED_SLOWLY || outcome == PLAT_CALL_FAILED_SLOWLY))
		pg_atomic_fetch_add_u64(&shared->slow, 1);
	if (count == &shared->failed)
		note_error(shared, error);
	plat_breaker_unlock(definition, &moves);
}

/*
 * A call came to nothing that says anything of what was called: a probe may
 * be another's.
 */
void
plat_breaker_tell_nothing(PlatBreakerDefinition *definition)
{
	PlatBreakerGrant grant = take_grant(definition);
	PlatBreakerMoves moves;
	PlatSharedBreaker *shared;

	if (grant.lease == 0)
		return;
	shared = lock_definition(definition, &moves);
	plat_breaker_give_back(&shared->breaker, grant);
	plat_breaker_unlock(definition, &moves);
}

/*
 * The time until a call may pass, and the state.
 */
static uint64
retry_after(PlatBreakerDefinition *definition, const char **state)
{
	PlatBreakerMoves moves;
	PlatSharedBreaker *shared = lock_definition(definition, &moves);
	uint64		wait = plat_breaker_retry_after(&shared->breaker,
												&definition->rules, plat_clock());

	*state = plat_breaker_state_name(&shared->breaker);
	plat_breaker_unlock(definition, &moves);
	return wait;
}

/*
 * Raise that a breaker does not let a call through: 55000, with the facts as
 * JSON in the detail.
 */
void
plat_breaker_refuse(PlatBreakerDefinition *definition)
{
	const char *state;
	uint64		wait = retry_after(definition, &state);
	StringInfoData detail;

	initStringInfo(&detail);
	appendStringInfoString(&detail, "{\"breaker\": ");
	escape_json(&detail, definition->head.name);
	appendStringInfo(&detail, ", \"state\": \"%s\", \"retry_after\": ", state);
	if (wait == PLAT_BREAKER_NEVER)
		appendStringInfoString(&detail, "null}");
	else
		appendStringInfo(&detail, "%.6f}", plat_ns_to_us(wait) / 1e6);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("breaker \"%s\" is open", definition->head.name),
			 errdetail_internal("%s", detail.data),
			 wait == PLAT_BREAKER_NEVER ?
			 errhint("It was forced open; force_breaker(breaker, 'auto') ends that.") :
			 errhint("Try again in %.3f seconds.", plat_ns_to_us(wait) / 1e6)));
}

/*
 * platpat.allow_call(breaker text) returns boolean: VOLATILE, PARALLEL
 * RESTRICTED, for PUBLIC.
 *
 * Whether the call that the breaker guards may be made; in the half-open
 * state true is a lease. Raises 22004, 22023, 42704, 54000, 55000.
 */
Datum
plat_breaker_allow_call(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(plat_breaker_ask((PlatBreakerDefinition *)
									plat_named_arg(&plat_breakers, fcinfo)));
}

/*
 * Whether a call that took so long is slow; 22023 for a negative time.
 */
static bool
is_slow(FunctionCallInfo fcinfo, const PlatBreakerDefinition *definition)
{
	double		ns;

	if (PG_ARGISNULL(1))
		return false;
	ns = plat_interval_ns(PG_GETARG_INTERVAL_P(1));
	if (ns < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("elapsed must not be negative")));
	return definition->rules.slow_call > 0 && ns >= definition->rules.slow_call;
}

/*
 * platpat.record_success(breaker text, elapsed interval) returns void: as
 * allow_call().
 *
 * The call was made and came back well, after so long. Without elapsed it was
 * not slow.
 */
Datum
plat_breaker_record_success(PG_FUNCTION_ARGS)
{
	PlatBreakerDefinition *definition = (PlatBreakerDefinition *)
	plat_named_arg(&plat_breakers, fcinfo);

	plat_breaker_tell(definition, is_slow(fcinfo, definition) ?
					  PLAT_CALL_PASSED_SLOWLY : PLAT_CALL_PASSED, NULL);
	PG_RETURN_VOID();
}

/*
 * platpat.record_failure(breaker text, error text) returns void: likewise.
 * The error is kept for people to read.
 */
Datum
plat_breaker_record_failure(PG_FUNCTION_ARGS)
{
	PlatBreakerDefinition *definition = (PlatBreakerDefinition *)
	plat_named_arg(&plat_breakers, fcinfo);

	plat_breaker_tell(definition, PLAT_CALL_FAILED, PG_ARGISNULL(1) ? NULL :
					  text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}

/*
 * platpat.breaker_state(breaker text) returns text: likewise. closed, open,
 * half_open or disabled, as it is now.
 */
Datum
plat_breaker_get_state(PG_FUNCTION_ARGS)
{
	const char *state;

	(void) retry_after((PlatBreakerDefinition *)
					   plat_named_arg(&plat_breakers, fcinfo), &state);
	PG_RETURN_TEXT_P(cstring_to_text(state));
}

/*
 * platpat.breaker_retry_after(breaker text) returns interval: likewise. 0 if a
 * call would pass now, NULL if it is not up to time.
 */
Datum
plat_breaker_get_retry_after(PG_FUNCTION_ARGS)
{
	const char *state;
	uint64		wait = retry_after((PlatBreakerDefinition *)
								   plat_named_arg(&plat_breakers, fcinfo), &state);

	if (wait == PLAT_BREAKER_NEVER)
		PG_RETURN_NULL();
	PG_RETURN_INTERVAL_P(plat_interval_from_ns(wait));
}

/*
 * The second argument as what a breaker can be forced to: 22004, 22023.
 */
static PlatBreakerForce
force_arg(FunctionCallInfo fcinfo)
{
	static const char *const words[] = {"auto", "open", "closed", "disabled"};
	char	   *word;

	plat_refuse_null(fcinfo, 1, "state");
	word = text_to_cstring(PG_GETARG_TEXT_PP(1));
	for (int i = 0; i < lengthof(words); i++)
		if (strcmp(word, words[i]) == 0)
			return (PlatBreakerForce) i;
	plat_refuse_value(psprintf("a breaker cannot be forced to \"%s\"",
							   plat_clip(word)),
					  "It is open, closed, disabled or auto.");
	return PLAT_FORCE_AUTO;
}

/*
 * platpat.force_breaker(breaker text, state text) returns void: for
 * administrators.
 *
 * Holds the breaker open or closed or disables it, until "auto" lets it go.
 * Raises 22004, 22023, 42704, 54000, 55000.
 */
Datum
plat_breaker_set_force(PG_FUNCTION_ARGS)
{
	PlatBreakerDefinition *definition = (PlatBreakerDefinition *)
	plat_named_arg(&plat_breakers, fcinfo);
	PlatBreakerForce force = force_arg(fcinfo);
	PlatBreakerMoves moves;
	PlatSharedBreaker *shared = lock_definition(definition, &moves);

	plat_breaker_force(&shared->breaker, force, plat_clock(), &moves);
	plat_breaker_unlock(definition, &moves);
	plat_worker_wake(&plat_breaker_module);
	PG_RETURN_VOID();
}

/*
 * platpat.create_breaker(...) returns void: for administrators; the arguments
 * are the columns of platpat.breakers. Raises 22004, 22023, 42710.
 */
Datum
plat_breaker_create(PG_FUNCTION_ARGS)
{
	plat_named_create(&plat_breakers, fcinfo);
	PG_RETURN_VOID();
}

/*
 * platpat.alter_breaker(...) returns void: likewise; NULL leaves a column as
 * it is. Raises 22004, 22023, 42704.
 */
Datum
plat_breaker_alter(PG_FUNCTION_ARGS)
{
	plat_named_alter(&plat_breakers, fcinfo);
	PG_RETURN_VOID();
}

/*
 * platpat.drop_breaker(breaker text) returns void: likewise. Raises 22004,
 * 22023, 42704.
 */
Datum
plat_breaker_drop(PG_FUNCTION_ARGS)
{
	plat_named_drop(&plat_breakers, fcinfo);
	PG_RETURN_VOID();
}

/*
 * BEFORE INSERT OR UPDATE row trigger of platpat.breakers.
 */
Datum
plat_breaker_check_row(PG_FUNCTION_ARGS)
{
	return plat_named_check_row(&plat_breakers, fcinfo);
}
