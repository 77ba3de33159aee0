/*
 * limit_file.c
 *		Quotas on disk, so that a crash does not give a day's quota again.
 *
 * The file holds all quotas whose window is not over; see stat_file.c for
 * when it is written and read.  Buckets are not in it: their debts are over
 * in seconds.
 *
 * Entries are written with the hash of their key, so the seed of the hashes
 * is in the file, too.  No function here raises.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "compat.h"
#include "limit.h"
#include "stat_file.h"

/* An entry, followed by the len bytes of its name. */
typedef struct FileEntry
{
	uint64		hash;
	uint64		state;
	uint64		epoch;
	uint64		other_state;
	uint64		other_epoch;
	Oid			database;
	uint8		space;
	uint8		len;
	uint16		unused;
} FileEntry;

/*
 * Whether an epoch of a quota says something that the next start must know.
 */
static bool
is_live(uint64 state, uint64 epoch, TimestampTz wall)
{
	return state > 0 && (TimestampTz) epoch > wall;
}

static void
put_entry(PlatFileSink *sink, const PlatSlotCopy *copy)
{
	FileEntry	entry = {
		.hash = copy->hash,
		.state = copy->state,
		.epoch = copy->epoch,
		.other_state = copy->other_state,
		.other_epoch = copy->other_epoch,
		.database = copy->database,
		.space = copy->space,
		.len = copy->len,
	};

	plat_file_put(sink, &entry, sizeof(entry));
	plat_file_put(sink, copy->name, copy->len);
}

/*
 * Put all live quotas; false without memory to do so.
 */
static bool
put_quotas(PlatFileSink *sink, bool locked)
{
	TimestampTz wall = GetCurrentTimestamp();
	PlatSlotCopy *copies = MemoryContextAllocExtended(TopMemoryContext,
													  plat_slots_stripe_size() * sizeof(PlatSlotCopy),
													  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);

	if (copies == NULL)
		return false;
	plat_file_put(sink, &plat_slots.seed, sizeof(plat_slots.seed));
	for (int stripe = 0; stripe < plat_slots_stripes(); stripe++)
	{
		int			count = plat_slots_copy_stripe(stripe, copies,
												   PLAT_EPOCH_TENANT + 1, locked);

		for (int i = 0; i < count; i++)
			if (is_live(copies[i].state, copies[i].epoch, wall) ||
				is_live(copies[i].other_state, copies[i].other_epoch, wall))
				put_entry(sink, &copies[i]);
	}
	pfree(copies);
	return true;
}

/*
 * Read the entry at *at and move on behind it; false if it does not end
 * before the content does.
 */
static bool
get_entry(const char **at, const char *end, PlatSlotCopy *copy)
{
	FileEntry	entry;

	if (end - *at < sizeof(entry))
		return false;
	memcpy(&entry, *at, sizeof(entry));
	*at += sizeof(entry);
	if (entry.hash == 0 || entry.len > PLAT_SLOT_NAME_MAX || end - *at < entry.len)
		return false;
	memcpy(copy->name, *at, entry.len);
	*at += entry.len;
	copy->hash = entry.hash;
	copy->state = entry.state;
	copy->epoch = entry.epoch;
	copy->other_state = entry.other_state;
	copy->other_epoch = entry.other_epoch;
	copy->database = entry.database;
	copy->space = entry.space;
	copy->len = entry.len;
	return true;
}

/*
 * Bring the entries of a file back into the table.
 */
static bool
restore_quotas(const char *content, Size size)
{
	const char *end = content + size;
	PlatSeed	seed;
	PlatSlotCopy copy = {0};
	int			lost = 0;

	if (size < sizeof(seed))
		return false;
	memcpy(&seed, content, sizeof(seed));
	content += sizeof(seed);
	plat_slots_set_seed(seed);
	while (content < end)
	{
		if (!get_entry(&content, end, &copy))
			return false;
		if (!plat_slots_restore(&copy))
			lost++;
	}
	if (lost > 0)
		ereport(LOG,
				(errmsg("%d quotas found no place in the shared table", lost),
				 errhint("Raise platpat.limit_slots.")));
	return true;
}

static PlatStatFile quota_file = {
	.name = "pg_stat/platpat_limit.stat",
	.magic = UINT64CONST(0x33746D696C746C70),	/* "pltlimt3" */
	.lost = "all quotas begin anew",
	.put = put_quotas,
	.restore = restore_quotas,
};

/*
 * What is due in the worker.
 */
long
plat_limit_work(void)
{
	plat_file_flush(&quota_file, true);
	return plat_limit_flush_interval;
}

/*
 * In the postmaster, when the shared memory is new.
 */
void
plat_limit_start(void)
{
	plat_file_start(&quota_file);
}
