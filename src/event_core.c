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

#include "event_core.h"

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
