/*
 * breaker.h
 *		What the files of module breaker share.
 *
 * Each function is described in the file that it is listed under.
 */
#ifndef PLAT_BREAKER_H
#define PLAT_BREAKER_H

#include "utils/timestamp.h"

#include "compat.h"
#include "breaker_core.h"
#include "module.h"
#include "named.h"

/* Bytes of the last error that are kept. */
#define PLAT_BREAKER_ERROR_MAX 256

/* Most SQLSTATEs of failure_states. */
#define PLAT_FAILURE_STATES 64

/*
 * A breaker in shared memory.  gate and the counts may be read and written
 * without a lock, the rest under the lock of the head.
 *
 * gate is 0 if a call needs a look.  Otherwise calls pass: it is twice the
 * generation, and one more if a success has something to set right.
 */
typedef struct PlatSharedBreaker
{
	PlatSharedNamed head;
	pg_atomic_uint64 gate;
	pg_atomic_uint64 allowed;
	pg_atomic_uint64 passed;
	pg_atomic_uint64 failed;
	pg_atomic_uint64 slow;
	pg_atomic_uint64 rejected;
	pg_atomic_uint64 ignored;	/* outcomes */
	PlatBreaker breaker;
	TimestampTz since;			/* of the state, by the time of day */
	TimestampTz outage_since;	/* likewise, 0 for none */
	TimestampTz last_failure;	/* 0 for none */
	bool		is_unannounced; /* a move that is to be sent to a channel */
	char		last_error[PLAT_BREAKER_ERROR_MAX];
} PlatSharedBreaker;

/* A definition as this backend has it. */
typedef struct PlatBreakerDefinition
{
	PlatNamed	head;
	PlatBreakerRules rules;
	int			nstates;
	int			states[PLAT_FAILURE_STATES];	/* SQLSTATEs and classes */
	PlatBreakerGrant granted;	/* to the last call of this session */
	TimestampTz granted_at;		/* the beginning of its statement */
	uint64		granted_in;		/* session, as DISCARD ALL counts them */
	uint64		granted_by;		/* ticket of the entry */
	uint64		granted_birth;	/* births of the head */
} PlatBreakerDefinition;

/* breaker.c */
extern const PlatModule plat_breaker_module;

/* breaker_definition.c */
extern void plat_breaker_compile(PlatNamed *head, Relation rel, HeapTuple row);

/* breaker_state.c */
extern PlatNamedKind plat_breakers;
extern char *plat_breaker_channel;
extern bool plat_breaker_ask(PlatBreakerDefinition *definition);
extern void plat_breaker_tell(PlatBreakerDefinition *definition,
							  PlatBreakerOutcome outcome, const char *error);
extern void plat_breaker_tell_nothing(PlatBreakerDefinition *definition);
extern bool plat_breaker_lock(PlatBreakerDefinition *definition,
							  PlatBreakerMoves *moves);
extern PlatSharedBreaker *plat_breaker_lock_hard(PlatBreakerDefinition *definition,
												 PlatBreakerMoves *moves);
extern void plat_breaker_unlock(PlatBreakerDefinition *definition,
								const PlatBreakerMoves *moves);
extern void plat_breaker_set_gate(PlatSharedBreaker *shared);
extern const char *plat_breaker_state_name(const PlatBreaker *breaker);
extern uint64 plat_breaker_wait(PlatBreakerDefinition *definition,
								const char **state);
pg_noreturn extern void plat_breaker_refuse(PlatBreakerDefinition *definition);
extern void plat_breaker_watch_transactions(void);
extern void plat_breaker_discard(void);

/* breaker_file.c */
extern void plat_breaker_start(void);
extern long plat_breaker_work(void);

/* breaker_stat.c */
extern void plat_breaker_put_metrics(PlatMetrics *metrics);
extern void plat_breaker_reset_stats(void);

#endif							/* PLAT_BREAKER_H */
