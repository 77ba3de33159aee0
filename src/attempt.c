/*
 * attempt.c
 *		Doing something that may fail, and going on.
 *
 * For work that consists of many items, whose functions are written by users:
 * what fails is undone alone.  Nothing here is shared.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "attempt.h"
#include "worker.h"

/*
 * The work of plat_attempt and plat_attempt_and_undo.
 */
static ErrorData *
attempt(void (*action) (void *arg), void *arg, bool keep)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	plat_worker_restart_timeout();
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		action(arg);
		if (keep)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error && error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		plat_worker_is_this() && !plat_worker_has_timed_out())
		error->sqlerrcode = ERRCODE_OPERATOR_INTERVENTION;
	return error;
}

/*
 * Do something in a subtransaction; returns NULL, or the error that it came
 * to, after all was undone, in the current memory context, which the action
 * starts in as well.  In a worker it has the whole of
 * platpat.worker_statement_timeout, so it is not for statements within such an
 * action; running into that is 57014, being canceled by an operator 57000.
 *
 * What lives outside of transactions is for the caller to restore, who then
 * calls plat_heed_cancel().
 */
ErrorData *
plat_attempt(void (*action) (void *arg), void *arg)
{
	return attempt(action, arg, true);
}

/*
 * The same, and undo it in any case: for what shall change nothing and calls
 * users' functions.
 */
ErrorData *
plat_attempt_and_undo(void (*action) (void *arg), void *arg)
{
	return attempt(action, arg, false);
}

/*
 * Throw an error of plat_attempt() again if it is a wish to end the statement,
 * which must reach whoever has given it.  A worker has no such caller.
 */
void
plat_heed_cancel(ErrorData *error)
{
	if (error && error->sqlerrcode == ERRCODE_QUERY_CANCELED && !plat_worker_is_this())
		ReThrowError(error);
}
