/*
 * event_core.h
 *		Decisions about events that need no server: how far readers may read.
 *
 * Pure; see event_core.c for what each function promises.
 */
#ifndef PLAT_EVENT_CORE_H
#define PLAT_EVENT_CORE_H

/*
 * A transaction that writes the log.  id tells it from all others, of before
 * and of now; whatever position it draws is above bound.
 */
typedef struct PlatWriter
{
	uint64		id;
	int64		bound;
	bool		is_renamed;		/* it may have had another id before */
} PlatWriter;

/*
 * What a reader remembers from one look at the log to the next.  One that has
 * not looked yet has drawn 0, and no writers.
 */
typedef struct PlatWatermark
{
	int64		drawn;			/* last position drawn before the last look */
	int64		mark;			/* all that is at or below is decided */
	PlatWriter *writers;		/* of the last look */
	int			nwriters;
} PlatWatermark;

extern int64 plat_watermark_mark(const PlatWatermark *watermark, int64 drawn,
								 PlatWriter *writers, int nwriters);

#endif							/* PLAT_EVENT_CORE_H */
