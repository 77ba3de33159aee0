/*
 * slots.h
 *		The shared table of slots: what its users need to know.
 *
 * See slots.c for the rules by which the fields may be read and written.
 */
#ifndef PLAT_SLOTS_H
#define PLAT_SLOTS_H

#include "port/atomics.h"

/* Bytes of a key that the table keeps, for people to read. */
#define PLAT_SLOT_NAME_MAX 128

/* A state that is no state: the slot is changing hands. */
#define PLAT_SLOT_FROZEN PG_UINT64_MAX

/*
 * One entry, a cache line.
 *
 * state is the word that users swap.  A user that counts by epochs says of
 * which epoch the state is, and the table keeps the state of one other epoch;
 * a user that does not leaves them 0.
 */
typedef struct PlatSlot
{
	pg_atomic_uint64 state;
	pg_atomic_uint64 epoch;
	uint64		other_state;
	uint64		other_epoch;
	pg_atomic_uint64 allowed;
	pg_atomic_uint64 denied;
	pg_atomic_uint32 last_denied;	/* seconds since 2000, 0 for never */
	Oid			database;
	uint64		unused;			/* fills the cache line */
} PlatSlot;

/* What names an entry.  hash is of all of it; see plat_slots_hash(). */
typedef struct PlatSlotKey
{
	uint64		hash;
	uint8		space;			/* keys of different spaces never meet */
	const char *name;
	size_t		len;
} PlatSlotKey;

/* A copy of an entry. */
typedef struct PlatSlotCopy
{
	uint64		hash;
	Oid			database;
	uint8		space;
	uint8		len;
	char		name[PLAT_SLOT_NAME_MAX];
	uint64		state;
	uint64		epoch;
	uint64		other_state;
	uint64		other_epoch;
	uint64		allowed;
	uint64		denied;
	uint32		last_denied;
} PlatSlotCopy;

/* What a table as a whole can tell. */
typedef struct PlatSlotCounts
{
	uint64		total;			/* slots */
	uint64		used;
	uint64		evicted_idle;	/* entries that were worth nothing */
	uint64		evicted_live;	/* entries that were not */
	uint64		refused;		/* insertions that found no place */
	uint64		allowed;		/* of these entries and of those that are gone */
	uint64		denied;
} PlatSlotCounts;

/*
 * What is lost with an entry: 0 if nothing.  The user's; called under a lock,
 * must not fail.
 */
typedef uint64 (*PlatSlotWorth) (uint64 state, uint64 epoch, void *arg);

extern Size plat_slots_size(int slots);
extern void plat_slots_fill(void *part, int slots, uint64 seed);
extern void plat_slots_adopt(void *part);
extern uint64 plat_slots_hash(Oid database, uint8 space, const char *name,
							  size_t len);
extern PlatSlot *plat_slots_find(uint64 hash);
extern PlatSlot *plat_slots_insert(const PlatSlotKey *key, uint64 state,
								   uint64 epoch, bool may_evict,
								   PlatSlotWorth worth, void *arg,
								   uint64 *least);
extern bool plat_slot_read(PlatSlot *slot, uint64 hash, uint64 *state,
						   uint64 *epoch);
extern bool plat_slot_swap(PlatSlot *slot, uint64 hash, uint64 state,
						   uint64 next);
extern void plat_slots_settle(uint64 hash);
extern void plat_slot_turn(PlatSlot *slot, uint64 hash, uint64 epoch);
extern bool plat_slots_clear(uint64 hash, uint64 state, uint64 epoch);
extern uint64 plat_slots_seed(void);
extern void plat_slots_set_seed(uint64 seed);
extern bool plat_slots_restore(const PlatSlotCopy *copy);
extern void plat_slots_reset_counts(Oid database);
extern PlatSlotCounts plat_slots_counts(void);
extern int	plat_slots_stripes(void);
extern int	plat_slots_stripe_size(void);
extern int	plat_slots_copy_stripe(int stripe, PlatSlotCopy *copies, bool lock);

#endif							/* PLAT_SLOTS_H */
