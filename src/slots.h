/*
 * slots.h
 *		The shared table of slots: what its users need to know.
 *
 * See slots.c for the rules by which the fields may be read and written.
 */
#ifndef PLAT_SLOTS_H
#define PLAT_SLOTS_H

#include "port/atomics.h"

#include "hash.h"

/* Bytes of a key that the table keeps, for people to read. */
#define PLAT_SLOT_NAME_MAX 128

/* A state that is no state: the slot is changing hands. */
#define PLAT_SLOT_FROZEN PG_UINT64_MAX

/*
 * What is swapped and read all the time of one entry: half a cache line.
 *
 * state is the word that users swap.  A user that counts by epochs says of
 * which epoch the state is, and the table keeps the state of one other epoch;
 * a user that does not leaves it 0.
 */
typedef struct PlatSlot
{
	pg_atomic_uint64 tag;		/* hash of the key, 0 for an empty slot */
	pg_atomic_uint64 state;
	pg_atomic_uint64 epoch;
	pg_atomic_uint64 allowed;
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

/* Where the table is in this process; slots.c says who may write what. */
typedef struct PlatSlots
{
	PlatSlot   *slots;			/* NULL until the memory is adopted */
	uint64		mask;			/* number of sets - 1 */
	PlatSeed	seed;			/* of hashes */
} PlatSlots;

/* Ways of a set. */
#define PLAT_SLOT_WAYS 16

extern PlatSlots plat_slots;

extern Size plat_slots_size(int slots);
extern void plat_slots_fill(void *part, Size size, PlatSeed seed);
extern void plat_slots_adopt(void *part);
extern PlatSlot *plat_slots_insert(const PlatSlotKey *key, uint64 state,
								   uint64 epoch, uint64 expendable,
								   PlatSlotWorth worth, void *arg,
								   uint64 *least);
extern void plat_slot_deny(PlatSlot *slot, uint32 when);
extern void plat_slots_settle(uint64 hash);
extern void plat_slot_turn(PlatSlot *slot, uint64 hash, uint64 epoch);
extern bool plat_slots_clear(uint64 hash, uint64 state, uint64 epoch);
extern int64 plat_slots_remove(Oid database, uint8 space);
extern void plat_slots_set_seed(PlatSeed seed);
extern bool plat_slots_restore(const PlatSlotCopy *copy);
extern void plat_slots_reset_counts(Oid database);
extern PlatSlotCounts plat_slots_counts(void);
extern int	plat_slots_stripes(void);
extern int	plat_slots_stripe_size(void);
extern int	plat_slots_copy_stripe(int stripe, PlatSlotCopy *copies,
								   uint64 min_epoch, bool lock);

/*
 * The hash of a key: never 0, and the same for the same seed on machines of
 * the same byte order.  It has 64 bits: among 100,000 keys the odds that any
 * two share a slot are below one in a billion.
 */
static inline uint64
plat_slots_hash(Oid database, uint8 space, const char *name, size_t len)
{
	PlatSeed	seed = {
		plat_slots.seed.a ^ (((uint64) database << 8) | space) *
		UINT64CONST(0x9E3779B97F4A7C15),
		plat_slots.seed.b,
	};
	uint64		hash = plat_hash_bytes(name, len, seed);

	return hash == 0 ? 1 : hash;
}

/* The first way of the set of a hash. */
static inline uint64
plat_slots_first(uint64 hash)
{
	return (hash & plat_slots.mask) * PLAT_SLOT_WAYS;
}

/*
 * The ways of its set in the order in which a hash is looked for, and put: its
 * favourite first, so that most looks touch one cache line.
 */
static inline uint64
plat_slots_way(uint64 hash, int i)
{
	return plat_slots_first(hash) + (((hash >> 56) + i) & (PLAT_SLOT_WAYS - 1));
}

/*
 * Begin to fetch what a look at a hash will read, while there is something
 * else to do.
 */
static inline void
plat_slots_prefetch(uint64 hash)
{
	__builtin_prefetch(&plat_slots.slots[plat_slots_way(hash, 0)], 1);
}

/*
 * The entry of a hash, or NULL. It may change hands at any time; see
 * plat_slot_read().
 */
static inline PlatSlot *
plat_slots_find(uint64 hash)
{
	for (int i = 0; i < PLAT_SLOT_WAYS; i++)
	{
		PlatSlot   *slot = &plat_slots.slots[plat_slots_way(hash, i)];

		if (pg_atomic_read_u64(&slot->tag) == hash)
			return slot;
	}
	return NULL;
}

/*
 * Read what to swap: false if the entry is not, or no longer, that of the
 * hash, or is changing hands.  A swap from *state that succeeds has changed
 * this entry in this epoch.
 */
static inline bool
plat_slot_read(PlatSlot *slot, uint64 hash, uint64 *state, uint64 *epoch)
{
	*epoch = pg_atomic_read_u64(&slot->epoch);
	pg_read_barrier();
	*state = pg_atomic_read_u64(&slot->state);
	pg_read_barrier();
	return *state != PLAT_SLOT_FROZEN &&
		pg_atomic_read_u64(&slot->tag) == hash &&
		pg_atomic_read_u64(&slot->epoch) == *epoch;
}

/*
 * Swap a state that plat_slot_read() gave; false if it has changed, or the
 * entry has gone to another hash or epoch.
 */
static inline bool
plat_slot_swap(PlatSlot *slot, uint64 hash, uint64 epoch, uint64 state,
			   uint64 next)
{
	return pg_atomic_compare_exchange_u64(&slot->state, &state, next) &&
		pg_atomic_read_u64(&slot->tag) == hash &&
		pg_atomic_read_u64(&slot->epoch) == epoch;
}

#endif							/* PLAT_SLOTS_H */
