/*
 * controller_core.c
 *		When something is to be done about a difference.
 *
 * A difference between what shall be and what is has a key and a hash.  The
 * same one that stays is tried again after a growing while.  One that has
 * become another is new, for somebody has done something about it.  One that
 * was repaired and comes back, again and again within an hour, is contested:
 * somebody else wants it otherwise, and to repair it as fast as he breaks it
 * helps nobody, unless it is urgent.
 *
 * Everything here is a function of its arguments: no lock, no clock, no SQL.
 */
#include "postgres.h"

#include "controller_core.h"
#include "retry_core.h"

/* Repairs within an hour that are nobody's war yet. */
#define PEACEFUL 5

/*
 * Microseconds that no wait is longer than: a time further away was set by a
 * clock that was wrong.
 */
#define LONGEST_WAIT INT64CONST(600000000)

/*
 * Whether somebody undoes what was repaired.
 */
bool
plat_history_is_contested(const PlatHistory *history)
{
	return history->repairs > PEACEFUL;
}

/*
 * The number of the next attempt at a difference, from 1.
 */
int
plat_history_attempt(const PlatHistory *history, int64 difference)
{
	if (history->difference != difference || history->attempts == PG_INT32_MAX)
		return 1;
	return history->attempts + 1;
}

/*
 * Whether a moment is still to come, as far as that can be believed.
 */
static bool
is_ahead(int64 moment, int64 now)
{
	return moment > now && moment <= now + LONGEST_WAIT;
}

/*
 * Whether a difference is to be acted on now. is_urgent says that one that is
 * contested has to be repaired all the same.
 */
bool
plat_history_is_due(const PlatHistory *history, int64 difference,
					bool is_urgent, int64 now)
{
	if (plat_history_is_contested(history) && !is_urgent &&
		is_ahead(history->last_repair +
				 plat_retry_backoff(history->repairs - PEACEFUL, 0.5), now))
		return false;
	return history->attempts == 0 || history->difference != difference ||
		!is_ahead(history->next_attempt, now);
}
