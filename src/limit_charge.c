/*
 * limit_charge.c
 *		Charging buckets and quotas in the shared table.
 *
 * Every charge is a swap of one 64-bit word; the table's locks are taken only
 * to make an entry, to turn a quota to another window, and to wait for those
 * who do.  Nothing here holds a lock.
 *
 * Several charges pass together or not at all.  There is no moment at which
 * all are checked: they are looked at first, then taken one after the other,
 * and what was taken is given back when somebody was quicker with a later
 * one.  Somebody else may be refused in between because of a charge that is
 * given back; nobody passes who should not.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "limit.h"

/* platpat.limit_on_full: what to do for a key that finds no place. */
int			plat_limit_on_full = PLAT_ON_FULL_EVICT;

/*
 * What entries are worth beside their debt.  Any role may fill the table with
 * keys that owe a century.  So a tenant's entry is worth more than any key's:
 * whatever platpat.limit_on_full says, it takes the place of a key, and no key
 * takes that of a tenant.  A quota is worth most.
 */
#define KEY_WORTH_MAX ((UINT64CONST(1) << 62) - 1)
#define TENANT_WORTH (UINT64CONST(1) << 62)
#define QUOTA_WORTH (UINT64CONST(1) << 63)

/* What time it is, to judge the worth of entries. */
typedef struct Now
{
	uint64		clock;
	TimestampTz wall;
} Now;

/*
 * What is lost with an entry: the debt of a bucket, in nanoseconds, and
 * nothing with a full one, nor with a quota that is unused or over.
 */
static uint64
worth(uint64 state, uint64 epoch, void *arg)
{
	const Now  *now = arg;
	uint64		debt;

	if (!PLAT_EPOCH_IS_QUOTA(epoch))
	{
		debt = Min(plat_bucket_debt(state, now->clock), KEY_WORTH_MAX);
		return debt > 0 && epoch == PLAT_EPOCH_TENANT ? TENANT_WORTH + debt :
			debt;
	}
	if (state == 0 || (TimestampTz) epoch <= now->wall)
		return 0;
	return QUOTA_WORTH + Min(state, QUOTA_WORTH - 1);
}

/*
 * What may have to go for a new entry of a space.
 */
static uint64
expendable(uint8 space)
{
	bool		may_evict = plat_limit_on_full == PLAT_ON_FULL_EVICT;

	if (space == PLAT_SPACE_KEY)
		return may_evict ? KEY_WORTH_MAX : 0;
	return may_evict ? PG_UINT64_MAX : KEY_WORTH_MAX;
}

/*
 * The entry to charge, made if there is none; NULL if the table has no place
 * for it, and then charge->wait is the time until it may have one.
 */
static PlatSlot *
find_or_make(PlatCharge *charge, uint64 now)
{
	PlatSlot   *slot = plat_slots_find(charge->key.hash);
	uint64		least;
	Now			moment;

	if (likely(slot != NULL))
		return slot;
	moment.clock = now;
	moment.wall = GetCurrentTimestamp();
	slot = plat_slots_insert(&charge->key,
							 PLAT_EPOCH_IS_QUOTA(charge->epoch) ? 0 : now,
							 charge->epoch, expendable(charge->key.space),
							 worth, &moment, &least);
	if (slot == NULL)
	{
		charge->no_place = true;
		charge->level = 0;
		charge->wait = least < TENANT_WORTH ? least : PLAT_LIMIT_NEVER;
	}
	return slot;
}

/*
 * The nanoseconds until the window of a quota is over.
 */
static uint64
window_wait(const PlatCharge *charge, TimestampTz wall)
{
	TimestampTz end = (TimestampTz) charge->epoch;

	if (charge->cost > charge->limit)
		return PLAT_LIMIT_NEVER;
	return end > wall ? (uint64) (end - wall) * 1000 : 0;
}

/*
 * Judge a charge against a state: whether it passes, what the state would be,
 * and the outcome for the caller.
 */
static pg_attribute_always_inline bool
judge(PlatCharge *charge, uint64 state, uint64 now, TimestampTz wall,
	  uint64 *next)
{
	bool		passes;

	if (likely(!PLAT_EPOCH_IS_QUOTA(charge->epoch)))
	{
		passes = plat_bucket_take(state, now, charge->cost, charge->limit,
								  next, &charge->wait);
		charge->level = plat_bucket_debt(passes ? *next : state, now);
		return passes;
	}
	passes = plat_quota_take(state, charge->cost, charge->limit, next);
	charge->wait = passes ? 0 : window_wait(charge, wall);
	charge->level = passes ? *next : state;
	return passes;
}

/*
 * Read the entry that a charge is about, in the epoch that it is for; false
 * if it has to be looked up again.
 */
static pg_attribute_always_inline bool
read_state(PlatCharge *charge, uint64 *state)
{
	uint64		epoch;

	if (unlikely(!plat_slot_read(charge->slot, charge->key.hash, state, &epoch)))
	{
		plat_slots_settle(charge->key.hash);
		return false;
	}
	if (unlikely(epoch != charge->epoch))
	{
		plat_slot_turn(charge->slot, charge->key.hash, charge->epoch);
		return false;
	}
	return true;
}

/*
 * Take a charge if it passes, without counting it.
 */
static pg_attribute_always_inline bool
take(PlatCharge *charge, uint64 now, TimestampTz wall)
{
	uint64		state;
	uint64		next;

	charge->no_place = false;
	for (;;)
	{
		charge->slot = find_or_make(charge, now);
		if (unlikely(charge->slot == NULL))
		{
			if (plat_limit_on_full != PLAT_ON_FULL_ALLOW && charge->cost > 0)
				return false;
			charge->no_place = false;
			charge->wait = 0;
			return true;
		}
		if (!read_state(charge, &state))
			continue;
		if (!judge(charge, state, now, wall, &next))
			return false;
		charge->taken = next;
		if (charge->cost == 0 ||
			plat_slot_swap(charge->slot, charge->key.hash, charge->epoch,
						   state, next))
			return true;
	}
}

/*
 * Count a charge that passed. Only buckets count, so that a call that charges
 * a bucket and quotas is one.
 */
static inline void
count_allowed(const PlatCharge *charge)
{
	if (charge->slot && !PLAT_EPOCH_IS_QUOTA(charge->epoch))
		pg_atomic_fetch_add_u64(&charge->slot->allowed, 1);
}

static void
count_denied(const PlatCharge *charge)
{
	if (charge->slot == NULL)
		return;
	plat_slot_deny(charge->slot,
				   (uint32) (GetCurrentStatementStartTimestamp() / USECS_PER_SEC));
}

/*
 * Take a charge if it passes; now is plat_clock(), wall the time of day,
 * which only quotas need.
 */
bool
plat_charge(PlatCharge *charge, uint64 now, TimestampTz wall)
{
	if (take(charge, now, wall))
	{
		count_allowed(charge);
		return true;
	}
	count_denied(charge);
	return false;
}

/*
 * The outcome that a charge would have, charging and making nothing.
 */
void
plat_charge_peek(PlatCharge *charge, uint64 now, TimestampTz wall)
{
	uint64		state = 0;
	uint64		next;

	charge->no_place = false;
	do
	{
		charge->slot = plat_slots_find(charge->key.hash);
	} while (charge->slot && !read_state(charge, &state));
	if (charge->slot == NULL)
		state = 0;
	if (judge(charge, state, now, wall, &next))
		charge->level = PLAT_EPOCH_IS_QUOTA(charge->epoch) ? state :
			plat_bucket_debt(state, now);
}

/*
 * Whether all of the charges would pass; if not, it is counted.
 */
static bool
look_at_all(PlatCharge *charges, int n, uint64 now, TimestampTz wall)
{
	int			refused = -1;

	for (int i = 0; i < n; i++)
	{
		plat_charge_peek(&charges[i], now, wall);
		if (refused < 0 && charges[i].wait > 0)
			refused = i;
	}
	if (refused < 0)
		return true;
	if (charges[refused].slot == NULL)
		charges[refused].slot = find_or_make(&charges[refused], now);
	count_denied(&charges[refused]);
	return false;
}

/*
 * Take all of the charges or none.  When not all pass, each one's wait is how
 * long it would have had to wait by itself, and one that would have passed
 * has 0.  Charges are given back only to those who were overtaken between the
 * look and the charge.
 *
 * Every key is judged by a clock of its own, because keys may be the same:
 * costs are rounded up, and only the time that passes makes up for it.
 */
bool
plat_charge_all(PlatCharge *charges, int n, uint64 now, TimestampTz wall)
{
	int			taken = 0;

	if (!look_at_all(charges, n, now, wall))
		return false;
	while (taken < n &&
		   take(&charges[taken], charges[taken].epoch == PLAT_EPOCH_KEY ?
				plat_clock() : now, wall))
		taken++;
	if (taken == n)
	{
		for (int i = 0; i < n; i++)
			count_allowed(&charges[i]);
		return true;
	}
	count_denied(&charges[taken]);
	for (int i = 0; i < taken; i++)
		plat_charge_undo(&charges[i], plat_clock());
	for (int i = taken + 1; i < n; i++)
		plat_charge_peek(&charges[i], now, wall);
	return false;
}

/*
 * Take a charge on a bucket in advance: those who come later find it taken,
 * and charge->wait is when it may be used.  Takes nothing, with a NULL slot,
 * if that is more than 100 years ahead or the table is full.
 */
void
plat_charge_reserve(PlatCharge *charge, uint64 now)
{
	uint64		state;
	uint64		next;

	charge->no_place = false;
	for (;;)
	{
		charge->slot = find_or_make(charge, now);
		if (charge->slot == NULL)
			return;
		if (!read_state(charge, &state))
			continue;
		(void) judge(charge, state, now, 0, &next);
		charge->taken = next;
		if (charge->wait > PLAT_LIMIT_MAX_NS)
		{
			charge->slot = NULL;
			return;
		}
		if (charge->cost == 0 ||
			plat_slot_swap(charge->slot, charge->key.hash, charge->epoch,
						   state, next))
			break;
	}
	count_allowed(charge);
}

/*
 * Swap the state of the entry of a charge for what a function makes of it. An
 * entry that is gone, or in another epoch, is left alone.
 */
static void
give_back(PlatCharge *charge, uint64 now,
		  uint64 (*next) (const PlatCharge *charge, uint64 state, uint64 now))
{
	uint64		state;
	uint64		epoch;

	for (;;)
	{
		charge->slot = plat_slots_find(charge->key.hash);
		if (charge->slot == NULL)
			return;
		if (!plat_slot_read(charge->slot, charge->key.hash, &state, &epoch))
		{
			plat_slots_settle(charge->key.hash);
			continue;
		}
		if (epoch != charge->epoch ||
			plat_slot_swap(charge->slot, charge->key.hash, epoch, state,
						   next(charge, state, now)))
			return;
	}
}

static uint64
undone(const PlatCharge *charge, uint64 state, uint64 now)
{
	if (PLAT_EPOCH_IS_QUOTA(charge->epoch))
		return state - Min(state, charge->cost);
	return plat_bucket_undo(state, charge->taken, now, charge->cost,
							charge->limit);
}

/*
 * Give back a charge, if it still can be: see plat_bucket_undo().
 */
void
plat_charge_undo(PlatCharge *charge, uint64 now)
{
	if (charge->slot == NULL)
		return;
	give_back(charge, now, undone);
	charge->level -= Min(charge->level, charge->cost);
}

static uint64
refunded(const PlatCharge *charge, uint64 state, uint64 now)
{
	return plat_bucket_refund(state, now, charge->cost);
}

/*
 * Give tokens back to a bucket, which is full at most.
 */
void
plat_charge_refund(PlatCharge *charge, uint64 now)
{
	give_back(charge, now, refunded);
}
