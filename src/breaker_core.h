/*
 * breaker_core.h
 *		The state machine of circuit breakers, pure.
 *
 * See breaker_core.c.  All times are nanoseconds; moments are of one clock
 * that does not go back, and never 0.
 */
#ifndef PLAT_BREAKER_CORE_H
#define PLAT_BREAKER_CORE_H

#include "c.h"

/* Most probes that can be under way at a time. */
#define PLAT_BREAKER_LEASES 64

/* Parts of a sliding window. */
#define PLAT_BREAKER_SLICES 10

/* A moment that does not come. */
#define PLAT_BREAKER_NEVER PG_UINT64_MAX

typedef enum PlatBreakerState
{
	PLAT_BREAKER_CLOSED,
	PLAT_BREAKER_OPEN,
	PLAT_BREAKER_HALF_OPEN
} PlatBreakerState;

typedef enum PlatBreakerForce
{
	PLAT_FORCE_AUTO,
	PLAT_FORCE_OPEN,			/* refuses, whatever the time */
	PLAT_FORCE_CLOSED,			/* allows and counts, whatever fails */
	PLAT_FORCE_DISABLED			/* allows, and counts nothing */
} PlatBreakerForce;

/* Why a breaker went from one state to another. */
typedef enum PlatBreakerCause
{
	PLAT_CAUSE_FAILURES,
	PLAT_CAUSE_FAILURE_RATE,
	PLAT_CAUSE_SLOW_RATE,
	PLAT_CAUSE_TIMEOUT,
	PLAT_CAUSE_PROBE_FAILED,
	PLAT_CAUSE_PROBE_SLOW,
	PLAT_CAUSE_PROBE_LOST,
	PLAT_CAUSE_PROBE_LATE,
	PLAT_CAUSE_PROBES_PASSED,
	PLAT_CAUSE_FORCED
} PlatBreakerCause;

/* What a breaker was told to do. A rate above 1 is one that is not asked for. */
typedef struct PlatBreakerRules
{
	uint32		failure_threshold;
	uint64		timeout;		/* how long it stays open the first time */
	uint64		max_timeout;
	double		backoff;
	uint64		window;			/* 0: failures in a row count */
	double		failure_rate;
	double		slow_rate;
	uint64		slow_call;		/* 0: no call is slow */
	uint32		minimum_calls;
	uint32		half_open_calls;
	uint32		success_threshold;
	uint64		probe_timeout;
} PlatBreakerRules;

/* A probe under way. */
typedef struct PlatBreakerLease
{
	uint64		number;			/* never 0, never used again */
	uint64		deadline;
	bool		is_attended;	/* by the transaction that has got it */
} PlatBreakerLease;

typedef struct PlatBreakerSlice
{
	uint64		epoch;			/* number of the slice since the clock's 0 */
	uint32		calls;
	uint32		failures;
	uint32		slow;
} PlatBreakerSlice;

typedef struct PlatBreaker
{
	PlatBreakerState state;
	PlatBreakerForce force;
	uint64		generation;		/* counts changes of state and force, from 1 */
	uint64		since;			/* of the state */
	uint64		open_time;		/* how long it is, or was last, to be open */
	uint64		reopen_time;	/* how long it would be if a probe failed */
	uint64		outage_since;	/* when it left the closed state, or 0 */
	uint64		last_recovery;	/* from leaving the closed state to coming
								 * back */
	uint64		longest_recovery;
	uint64		moves;			/* all changes of the state */
	uint64		openings;
	uint32		attempt;		/* openings since it was closed */
	uint32		failures;		/* in a row */
	uint32		successes;		/* of probes, since it is half-open */
	uint64		slice_length;	/* of the slices, in nanoseconds */
	uint32		nleases;
	uint64		last_lease;
	PlatBreakerLease leases[PLAT_BREAKER_LEASES];
	PlatBreakerSlice slices[PLAT_BREAKER_SLICES];
} PlatBreaker;

/* What a caller was told. Zero: nothing is known. */
typedef struct PlatBreakerGrant
{
	uint64		generation;
	uint64		lease;			/* 0 for a call that was no probe */
} PlatBreakerGrant;

typedef enum PlatBreakerOutcome
{
	PLAT_CALL_PASSED,
	PLAT_CALL_PASSED_SLOWLY,
	PLAT_CALL_FAILED,
	PLAT_CALL_FAILED_SLOWLY,
	PLAT_CALL_LOST				/* its transaction ended without saying */
} PlatBreakerOutcome;

/* The changes of state that one step made, in order. */
#define PLAT_BREAKER_MOVES 4

typedef struct PlatBreakerMove
{
	PlatBreakerState from;
	PlatBreakerState to;
	PlatBreakerCause cause;
	uint64		at;
} PlatBreakerMove;

typedef struct PlatBreakerMoves
{
	int			count;
	PlatBreakerMove moves[PLAT_BREAKER_MOVES];
} PlatBreakerMoves;

extern void plat_breaker_init(PlatBreaker *breaker, uint64 now);
extern void plat_breaker_advance(PlatBreaker *breaker,
								 const PlatBreakerRules *rules, uint64 now,
								 PlatBreakerMoves *moves);
extern bool plat_breaker_allow(PlatBreaker *breaker,
							   const PlatBreakerRules *rules, uint64 now,
							   PlatBreakerMoves *moves,
							   PlatBreakerGrant *grant);
extern bool plat_breaker_record(PlatBreaker *breaker,
								const PlatBreakerRules *rules, uint64 now,
								PlatBreakerMoves *moves,
								PlatBreakerGrant grant,
								PlatBreakerOutcome outcome);
extern void plat_breaker_give_back(PlatBreaker *breaker,
								   PlatBreakerGrant grant);
extern void plat_breaker_leave(PlatBreaker *breaker, PlatBreakerGrant grant);
extern void plat_breaker_force(PlatBreaker *breaker, PlatBreakerForce force,
							   uint64 now, PlatBreakerMoves *moves);
extern uint64 plat_breaker_retry_after(const PlatBreaker *breaker,
									   const PlatBreakerRules *rules,
									   uint64 now);
extern PlatBreakerSlice plat_breaker_window(const PlatBreaker *breaker,
											const PlatBreakerRules *rules,
											uint64 now);
extern void plat_breaker_resume(PlatBreaker *breaker, uint64 elapsed,
								uint64 now);

#endif							/* PLAT_BREAKER_CORE_H */
