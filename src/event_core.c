/*
 * event_core.c
 *		Decisions about events that need no server.
 *
 * How far may a reader read?  Positions come from a sequence, and are drawn
 * while the drawing transaction has a lock on the log.  A transaction that
 * draws 5 may commit after one that draws 6: who has read 6 and goes on from
 * there has lost 5.  So a reader looks, in this order, at the last position
 * that was drawn and then at the transactions that have the lock.  One that
 * was not there at the last look can only draw positions above what was drawn
 * by then.  One that is gone has committed or not, and a snapshot taken from
 * now on tells.  What is at or below the bounds of all writers is decided for
 * ever, whatever else runs in the cluster; nobody waits.
 *
 * Everything here is a function of its arguments: no lock, no clock, no SQL,
 * no memory of its own.
 */
#include "postgres.h"

#include "utils/elog.h"
#include "utils/errcodes.h"

#include "event_core.h"

/* Microseconds until a failed projection is tried again: first, and most. */
#define FIRST_BACKOFF INT64CONST(5000000)
#define LAST_BACKOFF INT64CONST(300000000)

/*
 * The bound of a writer that is seen now.  One that may have been renamed is
 * perhaps one of before, but even then it was above the old mark.
 */
static int64
bound_of(const PlatWatermark *watermark, const PlatWriter *writer)
{
	for (int i = 0; i < watermark->nwriters; i++)
		if (watermark->writers[i].id == writer->id)
			return watermark->writers[i].bound;
	return writer->is_renamed ? watermark->mark : watermark->drawn;
}

/*
 * How far one may read after a look: drawn is the last position that was
 * drawn before the look, writers are those that it found.  Fills in their
 * bounds, and changes nothing else: the caller keeps drawn, the result and
 * the writers for the next look.  Never less than the mark of before.
 */
int64
plat_watermark_mark(const PlatWatermark *watermark, int64 drawn,
					PlatWriter *writers, int nwriters)
{
	int64		mark = drawn;

	for (int i = 0; i < nwriters; i++)
	{
		writers[i].bound = bound_of(watermark, &writers[i]);
		mark = Min(mark, writers[i].bound);
	}
	return Max(mark, watermark->mark);
}

/*
 * Whose fault an error is that a projection has come to.  Parking an event
 * loses it until somebody replays it, so it must be the event's beyond doubt:
 * not a lock that was not to be had, a full disk or a connection, and not a
 * table that does not exist, with which every event would fail.
 */
PlatBlame
plat_event_blame(int sqlstate)
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
			return sqlstate == ERRCODE_QUERY_CANCELED ? PLAT_BLAME_EVENT :
				PLAT_BLAME_MOMENT;
		case MAKE_SQLSTATE('0', 'A', '0', '0', '0'):	/* not supported */
		case MAKE_SQLSTATE('4', '2', '0', '0', '0'):	/* names, privileges */
		case MAKE_SQLSTATE('X', 'X', '0', '0', '0'):	/* bugs */
			return PLAT_BLAME_CODE;
		default:
			return PLAT_BLAME_EVENT;
	}
}

/*
 * Microseconds to wait after so many failures in a row, of which there is at
 * least one: five seconds, doubled each time, five minutes at most.
 */
int64
plat_event_backoff(int failures)
{
	int64		wait = FIRST_BACKOFF;

	while (--failures > 0 && wait < LAST_BACKOFF)
		wait *= 2;
	return Min(wait, LAST_BACKOFF);
}
