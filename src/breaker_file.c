/*
 * breaker_file.c
 *		Circuit breakers on disk, so that what is broken is not called anew
 *		after a restart.
 *
 * The file holds the breakers that have ever left the closed state or were
 * forced; see stat_file.c for when it is written and read.  Counts of calls
 * are not in it.  No function here raises.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "compat.h"
#include "breaker.h"
#include "clock.h"
#include "stat_file.h"

/* Milliseconds between two looks for changes that nobody has told us of. */
#define FLUSH_INTERVAL 10000

/* A breaker; times are nanoseconds, moments times of day. */
typedef struct FileEntry
{
	pg_uuid_t	id;
	Oid			database;
	uint8		state;
	uint8		force;
	bool		has_probes;
	uint8		unused;
	uint32		attempt;
	uint32		unused2;
	uint64		moves;
	uint64		openings;
	uint64		open_time;
	uint64		reopen_time;
	uint64		last_recovery;
	uint64		longest_recovery;
	TimestampTz since;
	TimestampTz outage_since;
} FileEntry;

/* Where put_breakers() collects; count goes on when entries are out of room. */
typedef struct Collection
{
	FileEntry  *entries;
	int			count;
	int			max;
} Collection;

static void
collect(PlatSharedNamed *head, Oid database, const pg_uuid_t *id, void *arg)
{
	const PlatSharedBreaker *shared = (PlatSharedBreaker *) head;
	const PlatBreaker *breaker = &shared->breaker;
	Collection *collection = arg;
	FileEntry  *entry;

	if (breaker->state == PLAT_BREAKER_CLOSED &&
		breaker->force == PLAT_FORCE_AUTO && breaker->moves == 0)
		return;
	if (collection->count++ >= collection->max)
		return;
	entry = &collection->entries[collection->count - 1];
	memset(entry, 0, sizeof(*entry));
	entry->id = *id;
	entry->database = database;
	entry->state = breaker->state;
	entry->force = breaker->force;
	entry->has_probes = breaker->nleases > 0;
	entry->attempt = breaker->attempt;
	entry->moves = breaker->moves;
	entry->openings = breaker->openings;
	entry->open_time = breaker->open_time;
	entry->reopen_time = breaker->reopen_time;
	entry->last_recovery = breaker->last_recovery;
	entry->longest_recovery = breaker->longest_recovery;
	entry->since = shared->since;
	entry->outage_since = shared->outage_since;
}

/*
 * Put all breakers that are worth it; false without memory to do so.  They
 * are collected first, because no lock is held while a file is written.
 */
static bool
put_breakers(PlatFileSink *sink, bool locked)
{
	Collection	counted = {0};
	Collection	collection = {0};

	plat_named_walk(&plat_breakers, locked, collect, &counted);
	if (counted.count == 0)
		return true;
	collection.max = counted.count;
	collection.entries = MemoryContextAllocExtended(TopMemoryContext,
													collection.max * sizeof(FileEntry),
													MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (collection.entries == NULL)
		return false;
	plat_named_walk(&plat_breakers, locked, collect, &collection);
	plat_file_put(sink, collection.entries,
				  Min(collection.count, collection.max) * sizeof(FileEntry));
	pfree(collection.entries);
	return true;
}

/*
 * Nanoseconds since a time of day; 0 for one that is still to come.
 */
static uint64
age_of(TimestampTz when)
{
	TimestampTz now = GetCurrentTimestamp();

	return when < now ? (uint64) (now - when) * 1000 : 0;
}

/*
 * Bring one breaker back into its place, which is a new one.
 */
static void
restore_entry(PlatSharedBreaker *shared, const FileEntry *entry)
{
	PlatBreaker *breaker = &shared->breaker;
	uint64		now = plat_clock();

	breaker->state = entry->state;
	breaker->force = entry->force;
	breaker->nleases = entry->has_probes ? 1 : 0;
	breaker->attempt = entry->attempt;
	breaker->moves = entry->moves;
	breaker->openings = entry->openings;
	breaker->open_time = entry->open_time;
	breaker->reopen_time = entry->reopen_time;
	breaker->last_recovery = entry->last_recovery;
	breaker->longest_recovery = entry->longest_recovery;
	breaker->outage_since = entry->outage_since == 0 ? 0 :
		now - Min(age_of(entry->outage_since), now - 1);
	shared->since = entry->has_probes ? GetCurrentTimestamp() : entry->since;
	shared->outage_since = entry->outage_since;
	plat_breaker_resume(breaker, age_of(entry->since), now);
	plat_breaker_set_gate(shared);
}

/*
 * Bring the breakers of a file back. Nobody else uses the memory yet.
 */
static bool
restore_breakers(const char *content, Size size)
{
	int			lost = 0;

	if (size % sizeof(FileEntry) != 0)
		return false;
	for (Size at = 0; at < size; at += sizeof(FileEntry))
	{
		FileEntry	entry;
		PlatSharedNamed *head;
		uint64		ticket;

		memcpy(&entry, content + at, sizeof(entry));
		head = plat_named_put(&plat_breakers, entry.database, &entry.id, &ticket);
		if (head)
			restore_entry((PlatSharedBreaker *) head, &entry);
		else
			lost++;
	}
	if (lost > 0)
		ereport(LOG,
				(errmsg("%d circuit breakers found no place in shared memory", lost),
				 errhint("Raise platpat.breaker_entries.")));
	return true;
}

static PlatStatFile breaker_file = {
	.name = "pg_stat/platpat_breaker.stat",
	.magic = UINT64CONST(0x316B726272746C70),	/* "pltrbrk1" */
	.lost = "all circuit breakers begin closed",
	.put = put_breakers,
	.restore = restore_breakers,
};

/*
 * What is due in the worker.
 */
long
plat_breaker_work(void)
{
	plat_file_flush(&breaker_file, true);
	return FLUSH_INTERVAL;
}

/*
 * In the postmaster, when the shared memory is new.
 */
void
plat_breaker_start(void)
{
	plat_file_start(&breaker_file);
}
