/*
 * slots.c
 *		A table of fixed size in shared memory, read and written without locks.
 *
 * It is built like a processor's cache: the hash of a key picks a set of
 * sixteen ways, and the entry is in one of them or nowhere.  What is needed all
 * the time of an entry is half a cache line, next to its neighbours'; the
 * rest, above all its name, is elsewhere.  Nothing grows, so nothing is ever
 * taken from the rest of the server.
 *
 * Who may write what:
 *
 *	tag		is the hash of the key.  Written under the exclusive lock of the
 *			stripe, read by anybody.
 *	state	is swapped by anybody who has found the entry, with compare and
 *			swap.  While it is PLAT_SLOT_FROZEN only the holder of the
 *			exclusive lock may write it.
 *	epoch	says what the state counts.  Written, together with the other
 *			epoch and its state, under the exclusive lock while the state is
 *			frozen.
 *	counts	are added to by anybody.  An addition may reach the entry that has
 *			taken the place of another; they are for people to read.
 *	names	are written under the exclusive lock, read under the shared one.
 *
 * A lock-free user finds the tag, reads epoch and state, and then looks
 * whether tag and epoch are still what they were.  If so the state was that
 * of its entry, and the swap fails if the entry has changed hands since,
 * because that froze the state.  If the state has come back to the very same
 * number, the swap goes through, but the look at tag and epoch after it finds
 * out: then somebody has been charged too much, and nobody too little.
 * The state of an empty way is frozen, too, so that nobody who finds a tag
 * swaps a state that is still to be written.
 *
 * A stripe is every n-th set.  Nobody holds two of their locks, and none for
 * longer than it takes to look at a set, or to copy a stripe.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lwlock.h"

#include "compat.h"
#include "shmem.h"
#include "slots.h"

#define WAYS PLAT_SLOT_WAYS
#define STRIPES 64

/* The rest of an entry. */
typedef struct SlotRest
{
	uint64		other_state;
	uint64		other_epoch;
	pg_atomic_uint64 denied;
	pg_atomic_uint32 last_denied;	/* seconds since 2000, 0 for never */
	Oid			database;
	uint8		space;
	uint8		len;
	char		name[PLAT_SLOT_NAME_MAX];
} SlotRest;

StaticAssertDecl(sizeof(PlatSlot) == 32, "two slots are a cache line");

/* The head of the table; sets is a power of two. */
typedef struct PlatSharedTable
{
	PlatSeed	seed;			/* of hashes, so that nobody can aim at a set */
	uint64		sets;
	pg_atomic_uint64 evicted_idle;
	pg_atomic_uint64 evicted_live;
	pg_atomic_uint64 refused;
	pg_atomic_uint64 gone_allowed;
	pg_atomic_uint64 gone_denied;
	LWLockPadded locks[STRIPES];
} PlatSharedTable;

/* Where everything is in this process; NULL until the memory is adopted. */
PlatSlots	plat_slots;
static PlatSharedTable *table = NULL;
static SlotRest *rests = NULL;

/*
 * Bytes that a table of that many sets takes.
 */
static Size
table_size(uint64 sets)
{
	return CACHELINEALIGN(sizeof(PlatSharedTable)) +
		sets * WAYS * (sizeof(PlatSlot) + sizeof(SlotRest));
}

/*
 * Bytes that a table of that many slots takes: rounded up to a power of two
 * sets, and to one set for each stripe at least.
 */
Size
plat_slots_size(int wanted)
{
	uint64		sets = STRIPES;

	while (sets * WAYS < wanted)
		sets *= 2;
	return table_size(sets);
}

/*
 * Note where the table is.
 */
void
plat_slots_adopt(void *part)
{
	char	   *next = (char *) part + CACHELINEALIGN(sizeof(PlatSharedTable));
	uint64		ways;

	table = part;
	ways = table->sets * WAYS;
	plat_slots.slots = (PlatSlot *) next;
	plat_slots.mask = table->sets - 1;
	plat_slots.seed = table->seed;
	rests = (SlotRest *) (next + ways * sizeof(PlatSlot));
}

/*
 * Make a new table of the size that plat_slots_size() gave, perhaps for
 * another setting than the present one: nobody else has it yet.
 */
void
plat_slots_fill(void *part, Size size, PlatSeed seed)
{
	uint64		sets = STRIPES;

	while (table_size(sets * 2) <= size)
		sets *= 2;
	memset(part, 0, table_size(sets));
	table = part;
	table->seed = seed;
	table->sets = sets;
	pg_atomic_init_u64(&table->evicted_idle, 0);
	pg_atomic_init_u64(&table->evicted_live, 0);
	pg_atomic_init_u64(&table->refused, 0);
	pg_atomic_init_u64(&table->gone_allowed, 0);
	pg_atomic_init_u64(&table->gone_denied, 0);
	for (int i = 0; i < STRIPES; i++)
		plat_shmem_init_lock(&table->locks[i].lock);

	plat_slots_adopt(part);
	for (uint64 i = 0; i < table->sets * WAYS; i++)
	{
		pg_atomic_init_u64(&plat_slots.slots[i].tag, 0);
		pg_atomic_init_u64(&plat_slots.slots[i].state, PLAT_SLOT_FROZEN);
		pg_atomic_init_u64(&plat_slots.slots[i].epoch, 0);
		pg_atomic_init_u64(&plat_slots.slots[i].allowed, 0);
		pg_atomic_init_u64(&rests[i].denied, 0);
		pg_atomic_init_u32(&rests[i].last_denied, 0);
	}
}

static inline LWLock *
lock_of(uint64 hash)
{
	return &table->locks[(hash & plat_slots.mask) % STRIPES].lock;
}

/*
 * Count that an entry has denied somebody, at a time in seconds since 2000.
 */
void
plat_slot_deny(PlatSlot *slot, uint32 when)
{
	SlotRest   *rest = &rests[slot - plat_slots.slots];

	pg_atomic_fetch_add_u64(&rest->denied, 1);
	pg_atomic_write_u32(&rest->last_denied, when);
}

/*
 * Wait until nobody is changing entries of the stripe of a hash.
 */
void
plat_slots_settle(uint64 hash)
{
	LWLockAcquire(lock_of(hash), LW_SHARED);
	LWLockRelease(lock_of(hash));
}

/*
 * Freeze the state of an entry, whoever swaps it meanwhile; returns what it
 * was. The caller holds the exclusive lock.
 */
static uint64
freeze(PlatSlot *slot)
{
	uint64		state = pg_atomic_exchange_u64(&slot->state, PLAT_SLOT_FROZEN);

	Assert(state != PLAT_SLOT_FROZEN);
	return state;
}

/*
 * End what freeze() began: all that was written meanwhile is seen by those
 * who see the state.
 */
static void
thaw(PlatSlot *slot, uint64 state)
{
	pg_write_barrier();
	pg_atomic_write_u64(&slot->state, state);
}

/*
 * Write what names an entry.
 */
static void
put_name(SlotRest *rest, Oid database, uint8 space, const char *name, int len)
{
	rest->database = database;
	rest->space = space;
	rest->len = Min(len, PLAT_SLOT_NAME_MAX);
	memcpy(rest->name, name, rest->len);
}

/*
 * Give a way, whose state is frozen, to a key; len bytes of its name are kept.
 */
static void
give_way(uint64 way, const PlatSlotKey *key, int len, uint64 state,
		 uint64 epoch)
{
	PlatSlot   *slot = &plat_slots.slots[way];
	SlotRest   *rest = &rests[way];

	pg_atomic_write_u64(&slot->epoch, epoch);
	pg_atomic_write_u64(&slot->allowed, 0);
	pg_atomic_write_u64(&rest->denied, 0);
	pg_atomic_write_u32(&rest->last_denied, 0);
	rest->other_state = 0;
	rest->other_epoch = 0;
	put_name(rest, MyDatabaseId, key->space, key->name, len);
	pg_write_barrier();
	pg_atomic_write_u64(&slot->tag, key->hash);
	thaw(slot, state);
}

/*
 * What is lost with a way that has this state: both of its epochs count, if
 * it has any.
 */
static uint64
worth_of(uint64 way, uint64 state, PlatSlotWorth worth, void *arg)
{
	SlotRest   *rest = &rests[way];
	uint64		epoch = pg_atomic_read_u64(&plat_slots.slots[way].epoch);
	uint64		present = worth(state, epoch, arg);
	uint64		other;

	if (epoch == 0 || rest->other_epoch == 0)
		return present;
	other = worth(rest->other_state, rest->other_epoch, arg);
	return Max(present, other);
}

/*
 * Keep the counts of an entry that goes.
 */
static void
keep_counts(uint64 way)
{
	pg_atomic_fetch_add_u64(&table->gone_allowed,
							pg_atomic_read_u64(&plat_slots.slots[way].allowed));
	pg_atomic_fetch_add_u64(&table->gone_denied,
							pg_atomic_read_u64(&rests[way].denied));
}

/*
 * Take the entry out of a way, if it is still worth no more than at_most.
 * Leaves the state frozen and returns true, or leaves all as it is.
 */
static bool
evict(uint64 way, uint64 at_most, PlatSlotWorth worth, void *arg)
{
	PlatSlot   *slot = &plat_slots.slots[way];
	uint64		state = freeze(slot);
	uint64		lost = worth_of(way, state, worth, arg);

	if (lost > at_most)
	{
		thaw(slot, state);
		return false;
	}
	pg_atomic_fetch_add_u64(lost > 0 ? &table->evicted_live :
							&table->evicted_idle, 1);
	keep_counts(way);
	return true;
}

/*
 * An empty way for a hash, -1 if there is none.
 */
static int64
empty_way(uint64 hash)
{
	for (int i = 0; i < WAYS; i++)
	{
		uint64		way = plat_slots_way(hash, i);

		if (pg_atomic_read_u64(&plat_slots.slots[way].tag) == 0)
			return (int64) way;
	}
	return -1;
}

/*
 * A way for a new entry of a hash: an empty one, or that of the entry that
 * is worth least, if it is worth no more than expendable.  -1 if there is
 * none.  The state of a way that is returned is frozen.
 */
static int64
find_way(uint64 hash, uint64 expendable, PlatSlotWorth worth, void *arg,
		 uint64 *least)
{
	uint64		first = plat_slots_first(hash);
	int64		empty = empty_way(hash);

	if (empty >= 0)
		return empty;
	for (;;)
	{
		uint64		victim = first;

		*least = PG_UINT64_MAX;
		for (uint64 way = first; way < first + WAYS && *least > 0; way++)
		{
			uint64		state = pg_atomic_read_u64(&plat_slots.slots[way].state);
			uint64		value = worth_of(way, state, worth, arg);

			if (value < *least)
			{
				*least = value;
				victim = way;
			}
		}
		if (*least > expendable)
			return -1;
		if (evict(victim, *least, worth, arg))
			return (int64) victim;
	}
}

/*
 * The entry of a key, made with this state and epoch if there is none; NULL
 * if there is no place for it, and then *least is what the least entry in its
 * way is worth.
 */
PlatSlot *
plat_slots_insert(const PlatSlotKey *key, uint64 state, uint64 epoch,
				  uint64 expendable, PlatSlotWorth worth, void *arg,
				  uint64 *least)
{
	LWLock	   *lock = lock_of(key->hash);
	int			clipped = pg_mbcliplen(key->name, (int) key->len,
									   PLAT_SLOT_NAME_MAX);
	int			len = Min(clipped, (int) key->len);
	PlatSlot   *slot;
	int64		way;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = plat_slots_find(key->hash);
	if (slot == NULL)
	{
		way = find_way(key->hash, expendable, worth, arg, least);
		if (way >= 0)
		{
			give_way(way, key, len, state, epoch);
			slot = &plat_slots.slots[way];
		}
		else
			pg_atomic_fetch_add_u64(&table->refused, 1);
	}
	LWLockRelease(lock);
	return slot;
}

/*
 * Turn an entry to another epoch.  The state of the epoch it comes from is
 * kept, and found again if the entry is turned back; that of any third is
 * forgotten.  A later epoch begins with 0, an earlier one that is forgotten
 * with the state that there is: as if it had been counted in it.  Does nothing
 * if the entry is not there any more.
 */
void
plat_slot_turn(PlatSlot *slot, uint64 hash, uint64 epoch)
{
	LWLock	   *lock = lock_of(hash);
	SlotRest   *rest = &rests[slot - plat_slots.slots];
	uint64		present;
	uint64		state;
	uint64		next;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	present = pg_atomic_read_u64(&slot->epoch);
	if (pg_atomic_read_u64(&slot->tag) == hash && present != epoch)
	{
		state = freeze(slot);
		next = epoch > present ? 0 : state;
		if (rest->other_epoch == epoch)
			next = rest->other_state;
		rest->other_epoch = present;
		rest->other_state = state;
		pg_atomic_write_u64(&slot->epoch, epoch);
		thaw(slot, next);
	}
	LWLockRelease(lock);
}

/*
 * Set an entry back to this state and epoch, without any other and with its
 * counts as they are. Returns whether there was one.
 */
bool
plat_slots_clear(uint64 hash, uint64 state, uint64 epoch)
{
	LWLock	   *lock = lock_of(hash);
	PlatSlot   *slot;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = plat_slots_find(hash);
	if (slot)
	{
		(void) freeze(slot);
		rests[slot - plat_slots.slots].other_epoch = 0;
		rests[slot - plat_slots.slots].other_state = 0;
		pg_atomic_write_u64(&slot->epoch, epoch);
		thaw(slot, state);
	}
	LWLockRelease(lock);
	return slot != NULL;
}

/*
 * Take all entries of a database in a space out of the table, whatever they
 * are worth. Returns how many there were.
 */
int64
plat_slots_remove(Oid database, uint8 space)
{
	int64		removed = 0;

	for (uint64 set = 0; set < table->sets; set++)
	{
		LWLock	   *lock = &table->locks[set % STRIPES].lock;

		LWLockAcquire(lock, LW_EXCLUSIVE);
		for (uint64 way = set * WAYS; way < (set + 1) * WAYS; way++)
		{
			PlatSlot   *slot = &plat_slots.slots[way];

			if (pg_atomic_read_u64(&slot->tag) == 0 ||
				rests[way].database != database || rests[way].space != space)
				continue;
			(void) freeze(slot);
			keep_counts(way);
			pg_atomic_write_u64(&slot->tag, 0);
			removed++;
		}
		LWLockRelease(lock);
	}
	return removed;
}

/*
 * Take another seed, while the table is still empty and nobody else has it.
 */
void
plat_slots_set_seed(PlatSeed seed)
{
	table->seed = seed;
	plat_slots.seed = seed;
}

/*
 * Bring back an entry that plat_slots_copy_stripe() gave, into an empty way;
 * false if its set has none.  In the postmaster, before anybody else has the
 * table, so without a lock.
 */
bool
plat_slots_restore(const PlatSlotCopy *copy)
{
	int64		way = empty_way(copy->hash);
	PlatSlot   *slot;

	if (way < 0)
		return false;
	slot = &plat_slots.slots[way];
	pg_atomic_write_u64(&slot->epoch, copy->epoch);
	pg_atomic_write_u64(&slot->state, copy->state);
	rests[way].other_state = copy->other_state;
	rests[way].other_epoch = copy->other_epoch;
	put_name(&rests[way], copy->database, copy->space, copy->name, copy->len);
	pg_atomic_write_u64(&slot->tag, copy->hash);
	return true;
}

/*
 * Set the counts of one database's entries to 0.
 */
void
plat_slots_reset_counts(Oid database)
{
	for (uint64 set = 0; set < table->sets; set++)
	{
		LWLock	   *lock = &table->locks[set % STRIPES].lock;

		LWLockAcquire(lock, LW_SHARED);
		for (uint64 way = set * WAYS; way < (set + 1) * WAYS; way++)
		{
			if (rests[way].database != database)
				continue;
			pg_atomic_write_u64(&plat_slots.slots[way].allowed, 0);
			pg_atomic_write_u64(&rests[way].denied, 0);
			pg_atomic_write_u32(&rests[way].last_denied, 0);
		}
		LWLockRelease(lock);
	}
}

/*
 * What the table as a whole has to tell, as of some moment for each figure.
 */
PlatSlotCounts
plat_slots_counts(void)
{
	PlatSlotCounts counts = {
		.total = table->sets * WAYS,
		.evicted_idle = pg_atomic_read_u64(&table->evicted_idle),
		.evicted_live = pg_atomic_read_u64(&table->evicted_live),
		.refused = pg_atomic_read_u64(&table->refused),
		.allowed = pg_atomic_read_u64(&table->gone_allowed),
		.denied = pg_atomic_read_u64(&table->gone_denied),
	};

	for (uint64 way = 0; way < counts.total; way++)
	{
		if (pg_atomic_read_u64(&plat_slots.slots[way].tag) == 0)
			continue;
		counts.used++;
		counts.allowed += pg_atomic_read_u64(&plat_slots.slots[way].allowed);
		counts.denied += pg_atomic_read_u64(&rests[way].denied);
	}
	return counts;
}

/*
 * The number of stripes, and the most entries that one can have.
 */
int
plat_slots_stripes(void)
{
	return STRIPES;
}

int
plat_slots_stripe_size(void)
{
	return (int) (table->sets / STRIPES * WAYS);
}

static void
copy_slot(uint64 way, PlatSlotCopy *copy)
{
	PlatSlot   *slot = &plat_slots.slots[way];
	SlotRest   *rest = &rests[way];

	copy->hash = pg_atomic_read_u64(&slot->tag);
	copy->state = pg_atomic_read_u64(&slot->state);
	copy->epoch = pg_atomic_read_u64(&slot->epoch);
	copy->allowed = pg_atomic_read_u64(&slot->allowed);
	copy->denied = pg_atomic_read_u64(&rest->denied);
	copy->last_denied = pg_atomic_read_u32(&rest->last_denied);
	copy->other_state = rest->other_state;
	copy->other_epoch = rest->other_epoch;
	copy->database = rest->database;
	copy->space = rest->space;
	copy->len = rest->len;
	memcpy(copy->name, rest->name, PLAT_SLOT_NAME_MAX);
}

/*
 * Copy the entries of one stripe to an array of plat_slots_stripe_size();
 * returns how many there are, without those of an epoch before min_epoch.  The
 * postmaster cannot wait for locks and needs none when
 * all others are gone; an entry that one of them was changing when it was
 * killed is left out.
 */
int
plat_slots_copy_stripe(int stripe, PlatSlotCopy *copies, uint64 min_epoch,
					   bool lock)
{
	int			found = 0;

	if (lock)
		LWLockAcquire(&table->locks[stripe].lock, LW_SHARED);
	for (uint64 set = stripe; set < table->sets; set += STRIPES)
	{
		for (uint64 way = set * WAYS; way < (set + 1) * WAYS; way++)
		{
			PlatSlot   *slot = &plat_slots.slots[way];

			if (pg_atomic_read_u64(&slot->tag) == 0 ||
				pg_atomic_read_u64(&slot->epoch) < min_epoch)
				continue;
			copy_slot(way, &copies[found]);
			if (copies[found].state != PLAT_SLOT_FROZEN)
				found++;
		}
	}
	if (lock)
		LWLockRelease(&table->locks[stripe].lock);
	return found;
}
