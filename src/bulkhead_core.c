/*
 * bulkhead_core.c
 *		Who gets a slot of a bulkhead, and in which order.
 *
 * A class gets a slot while there is one that is not reserved for others:
 *
 *		in_use + sum of what others have reserved and do not use < size
 *
 * Who gets none may wait, first come first served within a class, critical
 * before standard before batch.  After whatever changes the numbers the
 * caller asks plat_bulkhead_next() until nobody is left who can be let in.
 * So whoever waits could not be let in, and who comes later cannot get ahead:
 * a slot that is free for one of the same class would have been given to who
 * waits, and what is free for another class only is reserved for that.
 *
 * A bulkhead that was made smaller has more in use than it has slots, until
 * enough have left; nobody is let in before.
 *
 * Functions of their arguments only.  Those who wait are numbers, of which
 * the caller has a link each.
 */
#include "c.h"

#include "port/pg_bitutils.h"

#include "bulkhead_core.h"

/*
 * A bulkhead without slots, until it is told its rules.
 */
void
plat_bulkhead_init(PlatBulkhead *bulkhead)
{
	memset(bulkhead, 0, sizeof(*bulkhead));
	for (int class = 0; class < PLAT_CLASSES; class++)
		bulkhead->first[class] = bulkhead->last[class] = PLAT_NOBODY;
}

static int32
sum(const int32 *numbers)
{
	int32		total = 0;

	for (int class = 0; class < PLAT_CLASSES; class++)
		total += numbers[class];
	return total;
}

/*
 * Slots in use, of all classes.
 */
int32
plat_bulkhead_in_use(const PlatBulkhead *bulkhead)
{
	return sum(bulkhead->in_use);
}

/*
 * How many wait, of all classes.
 */
int32
plat_bulkhead_waiting(const PlatBulkhead *bulkhead)
{
	return sum(bulkhead->waiting);
}

/*
 * Slots that other classes have reserved and do not use.
 */
int32
plat_bulkhead_kept_from(const PlatBulkhead *bulkhead, PlatClass class)
{
	int32		kept = 0;

	for (int other = 0; other < PLAT_CLASSES; other++)
		if (other != (int) class)
			kept += Max(bulkhead->rules.reserved[other] -
						bulkhead->in_use[other], 0);
	return kept;
}

/*
 * Whether the class can have a slot now.
 */
bool
plat_bulkhead_admits(const PlatBulkhead *bulkhead, PlatClass class)
{
	return plat_bulkhead_in_use(bulkhead) +
		plat_bulkhead_kept_from(bulkhead, class) < bulkhead->rules.size;
}

/*
 * Take a slot if there is one for the class; otherwise say whether there is
 * room in the queue.
 */
PlatAnswer
plat_bulkhead_ask(PlatBulkhead *bulkhead, PlatClass class)
{
	if (plat_bulkhead_admits(bulkhead, class))
	{
		bulkhead->in_use[class]++;
		return PLAT_GOT_SLOT;
	}
	return plat_bulkhead_waiting(bulkhead) < bulkhead->rules.queue ?
		PLAT_MAY_WAIT : PLAT_QUEUE_FULL;
}

/*
 * Append somebody to the queue of a class.
 */
void
plat_bulkhead_queue(PlatBulkhead *bulkhead, PlatQueueLink *links,
					PlatClass class, int32 who)
{
	int32		last = bulkhead->last[class];

	links[who] = (PlatQueueLink)
	{
		last, PLAT_NOBODY
	};
	if (last == PLAT_NOBODY)
		bulkhead->first[class] = who;
	else
		links[last].next = who;
	bulkhead->last[class] = who;
	bulkhead->waiting[class]++;
}

/*
 * Take somebody out of the queue, wherever in it that is.
 */
void
plat_bulkhead_unqueue(PlatBulkhead *bulkhead, PlatQueueLink *links,
					  PlatClass class, int32 who)
{
	PlatQueueLink *link = &links[who];

	if (link->previous == PLAT_NOBODY)
		bulkhead->first[class] = link->next;
	else
		links[link->previous].next = link->next;
	if (link->next == PLAT_NOBODY)
		bulkhead->last[class] = link->previous;
	else
		links[link->next].previous = link->previous;
	bulkhead->waiting[class]--;
}

/*
 * Give a slot back.
 */
void
plat_bulkhead_leave(PlatBulkhead *bulkhead, PlatClass class)
{
	bulkhead->in_use[class]--;
}

/*
 * Let in who is next: returns who that is, with a slot and out of the queue,
 * or PLAT_NOBODY if none of those who wait can be let in.
 */
int32
plat_bulkhead_next(PlatBulkhead *bulkhead, PlatQueueLink *links)
{
	for (int class = 0; class < PLAT_CLASSES; class++)
	{
		int32		who = bulkhead->first[class];

		if (who == PLAT_NOBODY || !plat_bulkhead_admits(bulkhead, class))
			continue;
		plat_bulkhead_unqueue(bulkhead, links, class, who);
		bulkhead->in_use[class]++;
		return who;
	}
	return PLAT_NOBODY;
}

/*
 * The step that a wait of so many nanoseconds is counted in.
 */
int
plat_wait_bucket(uint64 ns)
{
	uint64		us = ns / 1000;
	int			doubling;

	if (us == 0)
		return 0;
	doubling = pg_leftmost_one_pos64(us);
	return Min(1 + doubling * 4 + (int) ((us << 2 >> doubling) & 3),
			   PLAT_WAIT_BUCKETS - 1);
}

/*
 * The end of a step, in nanoseconds.
 */
uint64
plat_wait_bucket_end(int bucket)
{
	int			doubling = (bucket - 1) / 4;

	if (bucket == 0)
		return 1000;
	return ((UINT64CONST(1) << doubling) +
			((UINT64CONST(1) << doubling) * ((bucket - 1) % 4 + 1) + 3) / 4) * 1000;
}
