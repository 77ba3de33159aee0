/*
 * bulkhead_core.h
 *		Who gets a slot of a bulkhead, and in which order, pure.
 *
 * See bulkhead_core.c.
 */
#ifndef PLAT_BULKHEAD_CORE_H
#define PLAT_BULKHEAD_CORE_H

#include "c.h"

/* Classes, the most urgent first. */
typedef enum PlatClass
{
	PLAT_CRITICAL,
	PLAT_STANDARD,
	PLAT_BATCH
} PlatClass;

#define PLAT_CLASSES 3

/* No place in a queue. */
#define PLAT_NOBODY (-1)

typedef struct PlatBulkheadRules
{
	int32		size;			/* slots */
	int32		queue;			/* most that may wait, of all classes */
	int32		reserved[PLAT_CLASSES]; /* slots that only the class may use */
} PlatBulkheadRules;

/* The neighbours of who waits; the caller has one for each who may. */
typedef struct PlatQueueLink
{
	int32		previous;
	int32		next;
} PlatQueueLink;

typedef struct PlatBulkhead
{
	PlatBulkheadRules rules;
	int32		in_use[PLAT_CLASSES];
	int32		waiting[PLAT_CLASSES];
	int32		first[PLAT_CLASSES];
	int32		last[PLAT_CLASSES];
} PlatBulkhead;

typedef enum PlatAnswer
{
	PLAT_GOT_SLOT,
	PLAT_MAY_WAIT,
	PLAT_QUEUE_FULL
} PlatAnswer;

extern void plat_bulkhead_init(PlatBulkhead *bulkhead);
extern int32 plat_bulkhead_in_use(const PlatBulkhead *bulkhead);
extern int32 plat_bulkhead_waiting(const PlatBulkhead *bulkhead);
extern int32 plat_bulkhead_kept_from(const PlatBulkhead *bulkhead,
									 PlatClass class);
extern bool plat_bulkhead_admits(const PlatBulkhead *bulkhead, PlatClass class);
extern PlatAnswer plat_bulkhead_ask(PlatBulkhead *bulkhead, PlatClass class);
extern void plat_bulkhead_queue(PlatBulkhead *bulkhead, PlatQueueLink *links,
								PlatClass class, int32 who);
extern void plat_bulkhead_unqueue(PlatBulkhead *bulkhead, PlatQueueLink *links,
								  PlatClass class, int32 who);
extern void plat_bulkhead_leave(PlatBulkhead *bulkhead, PlatClass class);
extern int32 plat_bulkhead_next(PlatBulkhead *bulkhead, PlatQueueLink *links);

/*
 * Steps in which waits are counted: four to each doubling of microseconds,
 * from the first, which is for less than one, to that of days.
 */
#define PLAT_WAIT_BUCKETS 160

extern int	plat_wait_bucket(uint64 ns);
extern uint64 plat_wait_bucket_end(int bucket);

#endif							/* PLAT_BULKHEAD_CORE_H */
