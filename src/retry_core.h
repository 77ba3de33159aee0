/*
 * retry_core.h
 *		Whose fault a failure is, and when to try again.
 *
 * Pure; see retry_core.c for what each function promises.
 */
#ifndef PLAT_RETRY_CORE_H
#define PLAT_RETRY_CORE_H

/* What an error in a function of users calls for. */
typedef enum PlatBlame
{
	PLAT_BLAME_ITEM,			/* what it was called for: leave that aside */
	PLAT_BLAME_MOMENT,			/* the moment: try again soon */
	PLAT_BLAME_CODE				/* the function: nothing will pass by itself */
} PlatBlame;

extern PlatBlame plat_retry_blame(int sqlstate);
extern int64 plat_retry_backoff(int failures, double random);

#endif							/* PLAT_RETRY_CORE_H */
