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

/* What a slot ends with. */
typedef enum PlatSlotScope
{
	PLAT_SCOPE_TRANSACTION,
	PLAT_SCOPE_SESSION,
	PLAT_SCOPE_CALL				/* of bulkhead_call(), or its transaction */
} PlatSlotScope;

/* A definition as this backend has it. */
typedef struct PlatBulkheadDefinition
{
	PlatNamed	head;
	PlatBulkheadRules rules;
	PlatSlotScope scope;
} PlatBulkheadDefinition;

/* What a caller asks for. */
typedef struct PlatSlotRequest
{
	PlatBulkheadDefinition *definition; /* NULL after a wait */
	char		name[PLAT_NAMED_MAX + 1];	/* once there was no slot */
	pg_uuid_t	id;				/* likewise */
	PlatSharedBulkhead *shared;
	uint64		ticket;
	PlatClass	class;
	int			place;			/* of this backend's */
	uint64		wait;			/* at most, in ns; 0 for not at all */
	bool		is_forbidden;	/* to wait, because it has written */
} PlatSlotRequest;

/* Visits who holds or waits; the lock of the bulkhead is held. */
typedef void (*PlatPlaceVisit) (const PlatSharedPlace *place, void *arg);

/* bulkhead.c */
extern const PlatModule plat_bulkhead_module;

/* bulkhead_definition.c */
extern const char *plat_class_name(PlatClass class);
extern PlatClass plat_class_of(const char *name);
extern void plat_bulkhead_compile(PlatNamed *head, Relation rel, HeapTuple row);

/* bulkhead_queue.c */
extern PlatNamedKind plat_bulkheads;
extern Size plat_bulkhead_size(int entries);
extern void plat_bulkhead_fill(void *part, Size size);
extern void plat_bulkhead_adopt(void *part);
extern int	plat_bulkhead_place_count(void);
extern void plat_bulkhead_visit(const PlatNamed *definition,
								PlatPlaceVisit visit, void *arg);
extern bool plat_bulkhead_get_slot(PlatSlotRequest *request, bool must);
extern void plat_bulkhead_give_back(PlatSharedBulkhead *shared,
									PlatClass class, int place);
extern void plat_bulkhead_install(PlatBulkheadDefinition *definition);
extern void plat_bulkhead_note_change(void);
extern void plat_bulkhead_note_rules(const PlatBulkheadDefinition *definition);
extern void plat_bulkhead_end_subchange(int level, bool is_commit);
extern void plat_bulkhead_end_change(bool is_commit);

/* bulkhead_hold.c */
extern bool plat_bulkhead_take(PlatSlotRequest *request, PlatSlotScope scope,
							   bool must);
extern bool plat_bulkhead_release_place(int place, uint64 ticket,
										bool is_call);
extern int	plat_bulkhead_find_hold(const PlatNamed *definition);
extern int	plat_bulkhead_find_hold_by_name(const text * name);
extern bool plat_bulkhead_has_slots(void);
extern uint64 plat_bulkhead_ticket_of(int place);
extern void plat_bulkhead_watch_transactions(void);
extern void plat_bulkhead_discard(void);

/* bulkhead_stat.c */
extern void plat_bulkhead_put_metrics(PlatMetrics *metrics);
extern void plat_bulkhead_reset_stats(void);

#endif							/* PLAT_BULKHEAD_H */
