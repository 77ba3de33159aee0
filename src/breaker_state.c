/*
 * breaker_state.c
 *		The state of circuit breakers: asking them, telling them, and what a
 *		transaction owes them.
 *
 * A breaker is an entry of a directory in shared memory, guarded by the
 * entry's lock; what it does is up to breaker_core.c.  While it is closed a
 * call reads one word, and locks nothing.
 *
 * What a transaction owes is the outcome of the probes that it was granted.
 * Their leases are in a list of this backend until the outcome, or the end of
 * the (sub)transaction: its abort fails them, its commit leaves them to
 * whoever brings an outcome.
 *
 * Nothing that a commit calls here may fail, so it neither makes moves nor
 * logs.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/async.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "array.h"
#include "breaker.h"
#include "clock.h"
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
	int			level;			/* of the transaction, 1 for the top */
} Told;

static Told told[16];
static int	ntold = 0;

/* Counts what DISCARD ALL makes of a session. */
static uint64 session = 1;

/* platpat.breaker_notify_channel */
char	   *plat_breaker_channel = NULL;

/*
 * Let calls pass without a look while there is nothing to look at. Under the
 * lock.
 */
void
plat_breaker_set_gate(PlatSharedBreaker *shared)
{
	const PlatBreaker *breaker = &shared->breaker;
	bool		is_passable = breaker->state == PLAT_BREAKER_CLOSED &&
	breaker->force != PLAT_FORCE_DISABLED;

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
	.compile = plat_breaker_compile,
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
	return plat_breaker_channel && plat_breaker_channel[0] != '\0';
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
			shared->breaker.generation, GetCurrentTransactionNestLevel()
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
			shared->is_unannounced = false;
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
	Async_Notify(plat_breaker_channel, payload.data);
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
		shared->is_unannounced |= has_channel() && !RecoveryInProgress();
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
PlatSharedBreaker *
plat_breaker_lock_hard(PlatBreakerDefinition *definition, PlatBreakerMoves *moves)
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
	leases = plat_array_reserve(leases, nleases, &max_leases, sizeof(Lease));
}

/*
 * Note a probe that this transaction has got. Those that it had of the breaker
 * before it was half-open this time are over.
 */
static void
add_lease(const PlatBreakerDefinition *definition)
{
	Lease	   *lease;
	int			kept = 0;

	for (int i = 0; i < nleases; i++)
		if (&leases[i].shared->head != definition->head.entry ||
			leases[i].grant.generation == definition->granted.generation)
			leases[kept++] = leases[i];
	nleases = kept;
	lease = &leases[nleases++];
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

	if (nleases == 0 && ntold == 0)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		end_leases(level, lose_lease);
		while (ntold > 0 && told[ntold - 1].level >= level)
			ntold--;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (int i = 0; i < nleases; i++)
			leases[i].level = Min(leases[i].level, level - 1);
		for (int i = 0; i < ntold; i++)
			told[i].level = Min(told[i].level, level - 1);
	}
}

/*
 * See to it that this process ends its leases with its transactions.
 */
void
plat_breaker_watch_transactions(void)
{
	static bool watched = false;

	if (!watched)
	{
		RegisterXactCallback(on_xact_end, NULL);
		RegisterSubXactCallback(on_subxact_end, NULL);
	}
	watched = true;
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
	shared = plat_breaker_lock_hard(definition, &moves);
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

	if (unlikely(gate == 0 || (has_channel() && shared->is_unannounced)))
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
	bool		is_half_open;

	/* A success among successes changes nothing where no window is kept. */
	if (outcome == PLAT_CALL_PASSED && gate != 0 && gate % 2 == 0 &&
		definition->rules.window == 0 &&
		(grant.generation == 0 || grant.generation == gate / 2))
	{
		pg_atomic_fetch_add_u64(&shared->passed, 1);
		return;
	}
	shared = plat_breaker_lock_hard(definition, &moves);
	count = !plat_breaker_record(&shared->breaker, &definition->rules, plat_clock(),
								 &moves, grant, outcome) ? &shared->ignored :
		outcome >= PLAT_CALL_FAILED ? &shared->failed : &shared->passed;
	pg_atomic_fetch_add_u64(count, 1);
	if (count != &shared->ignored &&
		(outcome == PLAT_CALL_PASSED_SLOWLY || outcome == PLAT_CALL_FAILED_SLOWLY))
		pg_atomic_fetch_add_u64(&shared->slow, 1);
	if (count == &shared->failed)
		note_error(shared, error);
	is_half_open = shared->breaker.state == PLAT_BREAKER_HALF_OPEN;
	plat_breaker_unlock(definition, &moves);
	/* A probe has ended, and moved nothing. */
	if (is_half_open)
		plat_worker_wake(&plat_breaker_module);
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
	shared = plat_breaker_lock_hard(definition, &moves);
	plat_breaker_give_back(&shared->breaker, grant);
	plat_breaker_unlock(definition, &moves);
	plat_worker_wake(&plat_breaker_module);
}

/*
 * The time until a call may pass, and the state.
 */
uint64
plat_breaker_wait(PlatBreakerDefinition *definition, const char **state)
{
	PlatBreakerMoves moves;
	PlatSharedBreaker *shared = plat_breaker_lock_hard(definition, &moves);
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
	uint64		wait = plat_breaker_wait(definition, &state);
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
 * DISCARD ALL: what the session was told before is another client's.
 */
void
plat_breaker_discard(void)
{
	session++;
}
