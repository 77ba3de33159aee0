/*
 * retry_core.c
 *		Whose fault a failure is, and when to try again.
 *
 * Functions of their arguments: no lock, no clock, no SQL.
 */
#include "postgres.h"

#include "utils/elog.h"
#include "utils/errcodes.h"

#include "retry_core.h"

/* Microseconds until what failed is tried again: first, and most. */
#define FIRST_BACKOFF INT64CONST(5000000)
#define LAST_BACKOFF INT64CONST(300000000)

/* How much of that chance takes off or adds, so that not all come at once. */
#define JITTER 0.13

/*
 * Whose fault an error is that a function of users has come to.  What is the
 * item's own may be left aside, perhaps for good, so it must be so beyond
 * doubt: not a lock that was not to be had, a full disk or a connection, and
 * not a table that does not exist, with which every item would fail.
 */
PlatBlame
plat_retry_blame(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case MAKE_SQLSTATE('0', '8', '0', '0', '0'):	/* connections */
		case MAKE_SQLSTATE('2', '5', '0', '0', '0'):	/* transaction state */
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):	/* rolled back */
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):	/* resources */
		case MAKE_SQLSTATE('5', '5', '0', '0', '0'):	/* locks and states */
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):	/* an operator */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):	/* the system */
			return sqlstate == ERRCODE_QUERY_CANCELED ? PLAT_BLAME_ITEM :
				PLAT_BLAME_MOMENT;
		case MAKE_SQLSTATE('0', 'A', '0', '0', '0'):	/* not supported */
		case MAKE_SQLSTATE('4', '2', '0', '0', '0'):	/* names, privileges */
		case MAKE_SQLSTATE('X', 'X', '0', '0', '0'):	/* bugs */
			return PLAT_BLAME_CODE;
		default:
			return PLAT_BLAME_ITEM;
	}
}

/*
 * Microseconds to wait after so many failures in a row, of which there is at
 * least one: five seconds, doubled each time, five minutes at most, and 13 %
 * less or more of it as random says, which is from 0 to 1.
 */
int64
plat_retry_backoff(int failures, double random)
{
	int64		wait = FIRST_BACKOFF;

	while (--failures > 0 && wait < LAST_BACKOFF)
		wait *= 2;
	wait = Min(wait, LAST_BACKOFF);
	return (int64) (wait * (1 - JITTER + 2 * JITTER * random) + 0.5);
}
