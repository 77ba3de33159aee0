/*
 * controller_core.h
 *		Decisions about controllers that need no server: when something is to be
 *		done about a difference.
 *
 * Pure; see controller_core.c for what each function promises.
 */
#ifndef PLAT_CONTROLLER_CORE_H
#define PLAT_CONTROLLER_CORE_H

/*
 * What is remembered of a key. Times are microseconds of one clock; 0 is
 * never.
 */
typedef struct PlatHistory
{
	int64		difference;		/* hash of the one that was last acted on */
	int			attempts;		/* that did not make it go away */
	int64		next_attempt;	/* earliest, while it is the same difference */
	int			repairs;		/* that did, within the last hour */
	int64		last_repair;
} PlatHistory;

extern bool plat_history_is_contested(const PlatHistory *history);
extern int	plat_history_attempt(const PlatHistory *history, int64 difference);
extern bool plat_history_is_due(const PlatHistory *history, int64 difference,
								bool is_urgent, int64 now);

#endif							/* PLAT_CONTROLLER_CORE_H */
