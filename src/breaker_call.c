/*
 * breaker_call.c
 *		breaker_call(): a statement through a circuit breaker.
 *
 * The statement runs as the caller, in a subtransaction, so that the outcome
 * is known and recorded before the error goes on to whoever handles it.
 * Nothing here is shared.
 */
#include "postgres.h"

#include "fmgr.h"

#include "compat.h"
#include "breaker.h"
#include "clock.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(plat_breaker_call);

/*
 * Whether an error says nothing of what was called: a rate limit of ours, or
 * the user who has lost patience.  A cancellation by statement_timeout has
 * the same SQLSTATE, and does say something.
 */
static bool
says_nothing(const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED ||
		error->sqlerrcode == MAKE_SQLSTATE('P', 'G', 'R', 'S', 'T'))
		return true;
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && error->message_id &&
		strcmp(error->message_id, "canceling statement due to user request") == 0;
}

/*
 * Whether a statement was cancelled, which counts also if it had not come to
 * be executed: it may have waited for a lock.
 */
static bool
is_cancelled(const ErrorData *error)
{
	return error && error->sqlerrcode == ERRCODE_QUERY_CANCELED;
}

/*
 * Whether an error may be that of a breaker or a bulkhead on the way, which
 * says nothing either, unless the breaker is told to take it for a failure.
 */
static bool
is_refusal(int sqlstate)
{
	return sqlstate == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE ||
		sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
}

/*
 * Whether an error is one of the failures that the breaker is told to count.
 */
static bool
is_failure(const PlatBreakerDefinition *definition, int sqlstate)
{
	for (int i = 0; i < definition->nstates; i++)
		if (definition->states[i] == sqlstate ||
			definition->states[i] == ERRCODE_TO_CATEGORY(sqlstate))
			return true;
	return false;
}

/*
 * Record what a statement that was executed came to; error is NULL for
 * success. An error that is no failure shows that what was called answers.
 */
static void
record(PlatBreakerDefinition *definition, const ErrorData *error, uint64 elapsed)
{
	bool		is_slow = definition->rules.slow_call > 0 &&
	elapsed >= definition->rules.slow_call;

	if (error && says_nothing(error))
		plat_breaker_tell_nothing(definition);
	else if (error && is_failure(definition, error->sqlerrcode))
		plat_breaker_tell(definition, is_slow ? PLAT_CALL_FAILED_SLOWLY :
						  PLAT_CALL_FAILED, error->message);
	else if (error && is_refusal(error->sqlerrcode))
		plat_breaker_tell_nothing(definition);
	else
		plat_breaker_tell(definition, is_slow ? PLAT_CALL_PASSED_SLOWLY :
						  PLAT_CALL_PASSED, NULL);
}

/*
 * platpat.breaker_call(breaker text, command text, VARIADIC args text[])
 * returns setof jsonb: VOLATILE, PARALLEL UNSAFE, for PUBLIC.
 *
 * Runs the command with args as $1, $2 and so on, of the types that their
 * places want, and returns its rows as JSON objects.  Raises what the command
 * raises, 55000 while the breaker is open, 0A000 for COMMIT and the like, and
 * what allow_call() does.
 */
Datum
plat_breaker_call(PG_FUNCTION_ARGS)
{
	PlatBreakerDefinition *cached;
	PlatBreakerDefinition definition;
	PlatStatement statement;
	ErrorData  *error;
	uint64		start;

	plat_statement_args(fcinfo, 1, 2, &statement);
	cached = (PlatBreakerDefinition *) plat_named_arg(&plat_breakers, fcinfo);
	if (!plat_breaker_ask(cached))
		plat_breaker_refuse(cached);

	/* The command may drop the breaker, so keep what it was let through by. */
	definition = *cached;
	cached->granted = (PlatBreakerGrant)
	{
		0
	};
	start = plat_clock();
	error = plat_statement_run(fcinfo, &statement);
	if (plat_named_try_attach(&plat_breakers, &definition.head))
	{
		if (statement.has_begun || is_cancelled(error))
			record(&definition, error, plat_clock() - start);
		else
			plat_breaker_tell_nothing(&definition);
	}
	if (error)
		ReThrowError(error);
	return (Datum) 0;
}
