/*
 * limit_statement.c
 *		Charging once for each run of the executor.
 *
 * A policy is evaluated for each row, and (f()).* once for each column.  What
 * a statement has asked is remembered for as long as its executor state
 * lives, and given as the answer when it asks again.  Executor hooks tell
 * which statement is running; a statement within a function of another has an
 * executor state of its own.
 *
 * Nothing here is shared between backends.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "limit.h"
#include "limit_arg.h"

/*
 * What a statement has asked: which statement, and what. Compared as bytes;
 * there is no padding.
 */
typedef struct Question
{
	MemoryContext statement;	/* of the executor state */
	uint64		key;			/* hash of the key */
	PlatRate	rate;
	double		cost;
} Question;

/* What it was told. */
typedef struct Answer
{
	Question	question;		/* hash key */
	bool		allowed;
} Answer;

/* How a question is forgotten when the memory of its statement goes. */
typedef struct Reminder
{
	MemoryContextCallback callback;
	Question	question;
} Reminder;

/* Made at the first question; lives as long as the session. */
static HTAB *answers = NULL;

/* The memory of the executor state that is running, NULL for none. */
static MemoryContext running = NULL;

static ExecutorRun_hook_type previous_run = NULL;
static ExecutorFinish_hook_type previous_finish = NULL;

PG_FUNCTION_INFO_V1(plat_limit_allow_statement);

/*
 * ExecutorRun hook: note what is running. It may be called several times for
 * one state, as by FETCH.
 */
static void
note_run(QueryDesc *query, ScanDirection direction, uint64 count
		 PLAT_EXECUTE_ONCE_PARAM)
{
	MemoryContext outer = running;

	PG_TRY();
	{
		running = query->estate->es_query_cxt;
		if (previous_run)
			previous_run(query, direction, count PLAT_EXECUTE_ONCE_ARG);
		else
			standard_ExecutorRun(query, direction, count PLAT_EXECUTE_ONCE_ARG);
	}
	PG_FINALLY();
	{
		running = outer;
	}
	PG_END_TRY();
}

/*
 * ExecutorFinish hook: the same for what a statement does after its last row,
 * which are data-modifying WITH queries that nobody reads, and triggers.
 */
static void
note_finish(QueryDesc *query)
{
	MemoryContext outer = running;

	PG_TRY();
	{
		running = query->estate->es_query_cxt;
		if (previous_finish)
			previous_finish(query);
		else
			standard_ExecutorFinish(query);
	}
	PG_FINALLY();
	{
		running = outer;
	}
	PG_END_TRY();
}

/*
 * Put the hooks in place; called once.
 */
void
plat_limit_watch_executor(void)
{
	previous_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = note_finish;
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = note_run;
}

/*
 * The executor state of a statement goes, and what it was told with it.
 */
static void
forget(void *reminder)
{
	hash_search(answers, &((Reminder *) reminder)->question, HASH_REMOVE, NULL);
}

/*
 * Remember what the running statement was told, first in its memory, so that
 * an error leaves nothing behind.
 */
static void
remember(const Question *question, bool allowed)
{
	Reminder   *reminder = MemoryContextAllocZero(running, sizeof(Reminder));
	Answer	   *answer;
	bool		found;

	reminder->callback.func = forget;
	reminder->callback.arg = reminder;
	reminder->question = *question;
	answer = hash_search(answers, question, HASH_ENTER, &found);
	answer->allowed = allowed;
	MemoryContextRegisterResetCallback(running, &reminder->callback);
}

/*
 * Make the table of answers.
 */
static void
prepare_answers(void)
{
	HASHCTL		control = {
		.keysize = sizeof(Question),
		.entrysize = sizeof(Answer),
		.hcxt = CacheMemoryContext,
	};

	if (answers == NULL)
		answers = hash_create("platpat statements", 16, &control,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * platpat.allow_statement(key, rate float8, burst float8, cost float8, per
 * interval) returns boolean: VOLATILE, PARALLEL RESTRICTED, for PUBLIC.
 *
 * As allow_request(), but charges once for each statement that runs, however
 * often it asks with the same arguments, and answers the same each time.
 * Where no statement runs, as in the expressions of a DO block and in COPY
 * FROM, it charges each time.  Raises 22004, 22023, 55000.
 */
Datum
plat_limit_allow_statement(PG_FUNCTION_ARGS)
{
	PlatLimitSite *site = plat_limit_site(fcinfo);
	Question	question;
	Answer	   *answer;
	PlatCharge	charge;
	bool		allowed;

	plat_limit_read_charge(fcinfo, site, &charge);
	if (running == NULL)
		PG_RETURN_BOOL(plat_charge(&charge, plat_clock(), 0));

	prepare_answers();
	question.statement = running;
	question.key = charge.key.hash;
	question.rate = site->rate;
	question.cost = site->cost;
	answer = hash_search(answers, &question, HASH_FIND, NULL);
	if (answer)
		PG_RETURN_BOOL(answer->allowed);
	allowed = plat_charge(&charge, plat_clock(), 0);
	remember(&question, allowed);
	PG_RETURN_BOOL(allowed);
}
