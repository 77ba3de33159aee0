/*
 * bulkhead.h
 *		What the files of module bulkhead share.
 *
 * Each function is described in the file that it is listed under.
 */
#ifndef PLAT_BULKHEAD_H
#define PLAT_BULKHEAD_H

#include "compat.h"
#include "bulkhead_core.h"
#include "module.h"
#include "named.h"
#include "tenant_id.h"

/* Bulkheads that a session can have a slot of, or wait for, at a time. */
#define PLAT_PLACES 8

/*
 * Counts of waits by length: four to each doubling of microseconds, from the
 * first, which is for less than one, to that of days.
 */
#define PLAT_WAIT_BUCKETS 160

/*
 * A bulkhead in shared memory, guarded by the lock of its head. installs is
 * counted up with each change of the rules, and may be read without it.
 */
typedef struct PlatSharedBulkhead
{
	PlatSharedNamed head;
	pg_atomic_uint64 installs;
	PlatBulkhead bulkhead;
	int32		high_water;		/* most slots that were in use */
	uint64		acquired;
	uint64		rejected;
	uint64		timed_out;
	uint64		waits[PLAT_WAIT_BUCKETS];	/* of those who waited and got one */
} PlatSharedBulkhead;

typedef enum PlatPlaceState
{
	PLAT_PLACE_FREE,
	PLAT_PLACE_WAITS,
	PLAT_PLACE_HOLDS
} PlatPlaceState;

/*
 * Who holds or waits.  Each backend has PLAT_PLACES of them, so that nobody
 * has to look for one.  state and ticket may be read without a lock; all is
 * written under the lock of the bulkhead that the ticket is of, and by its
 * own backend, except that state goes from waits to holds by who lets in.
 */
typedef struct PlatSharedPlace
{
	pg_atomic_uint32 state;
	PlatClass	class;
	pg_atomic_uint64 ticket;
	uint64		since;			/* it asked, or got the slot; plat_clock() */
	int			pid;
	char		tenant[PLAT_TENANT_MAX + 1];	/* empty for none */
} PlatSharedPlace;

/* A definition as this backend has it. */
typedef struct PlatBulkheadDefinition
{
	PlatNamed	head;
	PlatBulkheadRules rules;
	bool		is_session;		/* its scope */
} PlatBulkheadDefinition;

/* Visits who holds or waits; the lock of the bulkhead is held. */
typedef void (*PlatPlaceVisit) (const PlatSharedPlace *place, void *arg);

/* bulkhead.c */
extern const PlatModule plat_bulkhead_module;
extern PlatNamedKind plat_bulkheads;
extern const char *plat_class_name(PlatClass class);
extern int	plat_bulkhead_place_count(void);
extern void plat_bulkhead_visit(const PlatNamed *definition,
								PlatPlaceVisit visit, void *arg);

/* bulkhead_stat.c */
extern void plat_bulkhead_note_wait(PlatSharedBulkhead *shared, uint64 ns);
extern void plat_bulkhead_put_metrics(PlatMetrics *metrics);
extern void plat_bulkhead_reset_stats(void);

#endif							/* PLAT_BULKHEAD_H */
