/*
 * attempt.h
 *		Doing something that may fail, and going on; see attempt.c.
 */
#ifndef PLAT_ATTEMPT_H
#define PLAT_ATTEMPT_H

extern ErrorData *plat_attempt(void (*action) (void *arg), void *arg);
extern ErrorData *plat_attempt_and_undo(void (*action) (void *arg), void *arg);
extern void plat_heed_cancel(ErrorData *error);

#endif							/* PLAT_ATTEMPT_H */
