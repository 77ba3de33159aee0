/*
 * array.h
 *		Arrays that grow, of one session and for as long as that lasts.
 *
 * Nothing here is shared.
 */
#ifndef PLAT_ARRAY_H
#define PLAT_ARRAY_H

#include "utils/memutils.h"

/*
 * Make room for one more element beside those that are used, and return where
 * the array is now.  It begins as NULL with no room.  What must not fail when
 * it adds an element calls this before.  Raises an error when memory runs out
 * or the array would exceed 1 GB, and the array is as it was.
 */
static inline void *
plat_array_reserve(void *array, int used, int *room, Size element)
{
	int			wanted = *room == 0 ? 8 : 2 * *room;

	if (used < *room)
		return array;
	if (array == NULL)
		array = MemoryContextAlloc(TopMemoryContext, wanted * element);
	else
		array = repalloc(array, wanted * element);
	*room = wanted;
	return array;
}

#endif							/* PLAT_ARRAY_H */
