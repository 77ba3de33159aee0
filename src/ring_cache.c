/*
 * ring_cache.c
 *		Compiled rings of this backend, and when they are compiled anew.
 *
 * A lookup must answer for its statement's snapshot: rows of one statement,
 * and the workers of one parallel query, never see two versions of a ring, a
 * transaction sees its own changes, and ROLLBACK undoes them.  So a ring is
 * compiled from the rows that the active snapshot sees.
 *
 * Triggers on the tables send a relcache invalidation of platpat.rings, which
 * reaches every backend, standbys included, and counts up generation: once at
 * the end of the statement, before others can see the change, and once at the
 * commit.  A ring that was checked in the present generation is good for all
 * later snapshots if its own saw the latest version and nobody was changing
 * rings.  Otherwise it is good for that very snapshot, and any other, as of
 * an open cursor or next to a writer, has to look whether it sees the same
 * version.  The hot path accepts invalidations, which without any is a look
 * at a flag, and compares a few numbers.
 *
 * A standby hears of a commit only, a moment after it is visible there: a
 * statement that begins within that moment may answer with the ring before
 * it, and go on with the new one.
 *
 * Each ring has a memory context of its own below one that holds them all.
 * Nothing is shared between backends.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "ring.h"
#include "sql.h"

/*
 * What tells one snapshot of a backend from another, and which is newer. Of
 * the transactions below xmax the older one counts more as running. Two that
 * agree in all this see the same rows: what the first did not see because it
 * was running is running for the second, too.
 */
typedef struct SnapshotMark
{
	LocalTransactionId lxid;
	TransactionId xmax;
	uint32		running;
	CommandId	curcid;
} SnapshotMark;

/*
 * A key that was given to a shard by hand.
 */
typedef struct Pin
{
	const char *key;
	size_t		len;
	int			shard;
} Pin;

/*
 * A ring of this backend. Entries of the hash table stay where they are, so a
 * pointer is good until the ring turns out not to exist; what is compiled is
 * replaced whole.
 */
struct PlatCachedRing
{
	char		name[PLAT_RING_NAME_MAX + 1];	/* hash key */
	size_t		name_len;
	MemoryContext context;		/* of all that follows; NULL if not compiled */
	uint64		generation;		/* when it was last checked */
	bool		is_settled;		/* later snapshots see the same version */
	SnapshotMark mark;			/* the snapshot it was last checked for */
	char		version[64];	/* of its row, when it was compiled */
	PlatRing	ring;
	const char **servers;		/* of each shard, or NULL */
	int			npins;
	Pin		   *pins;			/* sorted by key */
};

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;

/*
 * Counted up by every change of a ring that this backend hears of. 64 bits do
 * not wrap; an entry with 0 is never valid.
 */
static uint64 generation = 1;

/*
 * The table whose invalidations count, as of the last compilation. When the
 * extension is dropped and made again, the invalidation of the old table
 * still arrives under the old OID, and the next compilation finds the new
 * one.
 */
static Oid	rings_relid = InvalidOid;

/*
 * The ring of the last lookup: queries ask one ring for many keys, and this
 * spares the hash table. NULL or a compiled entry.
 */
static PlatCachedRing *last = NULL;

/*
 * Relcache callback: platpat.rings has changed, or so much that the backend
 * missed what. Runs wherever invalidations are accepted, inside of a
 * compilation too, so it only counts.
 */
static void
on_invalidation(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == rings_relid)
		generation++;
}

/*
 * The mark of the active snapshot. A standby keeps the running transactions
 * in the other array.
 */
static inline SnapshotMark
mark_snapshot(void)
{
	Snapshot	snapshot = GetActiveSnapshot();

	return (SnapshotMark)
	{
		.lxid = plat_current_lxid(),
			.xmax = snapshot->xmax,
			.running = snapshot->takenDuringRecovery ? snapshot->subxcnt :
			snapshot->xcnt,
			.curcid = snapshot->curcid,
	};
}

/*
 * Whether two marks are of one snapshot, or of two that see the same.
 */
static inline bool
is_same(SnapshotMark a, SnapshotMark b)
{
	return a.lxid == b.lxid && a.xmax == b.xmax && a.running == b.running &&
		a.curcid == b.curcid;
}

/*
 * Whether a snapshot is not older than another of this backend: it sees all
 * that the other saw.
 */
static inline bool
is_not_older(SnapshotMark mark, SnapshotMark other)
{
	if (mark.lxid == other.lxid && mark.curcid < other.curcid)
		return false;
	if (mark.xmax == other.xmax)
		return mark.running <= other.running;
	return TransactionIdFollows(mark.xmax, other.xmax);
}

/*
 * Make the cache at the first lookup of this backend; it lives as long as the
 * backend does. The callback cannot be taken back, hence once.
 */
static void
prepare_cache(void)
{
	HASHCTL		control = {
		.keysize = PLAT_RING_NAME_MAX + 1,
		.entrysize = sizeof(PlatCachedRing),
	};

	if (cache)
		return;
	cache_context = AllocSetContextCreate(CacheMemoryContext, "platpat rings",
										  ALLOCSET_DEFAULT_SIZES);
	control.hcxt = cache_context;
	cache = hash_create("platpat rings", 16, &control,
						HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(on_invalidation, (Datum) 0);
}

/*
 * Forget what was compiled; the entry stays, for the next compilation.
 */
static void
discard(PlatCachedRing *cached)
{
	if (cached->context)
		MemoryContextDelete(cached->context);
	cached->context = NULL;
}

/*
 * The version of a ring that the active snapshot sees, as text.  It is the
 * version of the row itself, which every change of a ring, its shards and its
 * pins writes anew: by whom, and where it is.  Empty if it sees none, and if
 * this transaction wrote it, whose statement may not be finished.
 */
static const char *
read_version(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	if (plat_sql_read("rings", "SELECT xmin, concat(xmin, '.', ctid)"
					  " FROM platpat.rings WHERE ring = $1",
					  1, types, values) == 0 ||
		TransactionIdIsCurrentTransactionId((TransactionId) strtoul(plat_sql_value(0, 1), NULL, 10)))
		return "";
	return plat_sql_value(0, 2);
}

/*
 * Whether all later snapshots see this version until another invalidation
 * comes.  Writers hold a lock on the table that conflicts with SHARE; it is
 * given back after their change is visible, so first there must be no writer,
 * and then no newer version.  A parallel query may not take a newer snapshot
 * to find out; saying no costs its leader one more look.
 */
static bool
is_settled_version(const char *name, const char *version)
{
	LOCKTAG		tag;
	int			writers;
	const char *latest;

	if (IsInParallelMode())
		return false;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, rings_relid);
	(void) GetLockConflicts(&tag, ShareLock, &writers);
	if (writers > 0)
		return false;
	PushActiveSnapshot(GetLatestSnapshot());
	latest = read_version(name);
	PopActiveSnapshot();
	return strcmp(latest, version) == 0;
}

/*
 * Raise 42704, and keep no entry: names come from callers, who could fill the
 * memory of a pooled backend with names that they make up.
 */
static void
no_such_ring(PlatCachedRing *cached)
{
	char	   *name = pstrdup(cached->name);

	discard(cached);
	last = NULL;
	hash_search(cache, name, HASH_REMOVE, NULL);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("ring \"%s\" does not exist", plat_clip(name)),
			 errhint("Make it with platpat.create_ring(ring).")));
}

/*
 * Read the settings of a ring; 42704 if the snapshot sees none. The triggers
 * let no unknown algorithm or hash in, so finding one is XX000.
 */
static void
read_ring(PlatCachedRing *cached)
{
	PlatRing   *ring = &cached->ring;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(cached->name)};

	if (plat_sql_read("rings",
					  "SELECT algorithm, hash, virtual_nodes, table_size"
					  " FROM platpat.rings WHERE ring = $1",
					  1, types, values) == 0)
		no_such_ring(cached);
	if (!plat_ring_parse_algorithm(plat_sql_value(0, 1), &ring->algorithm) ||
		!plat_ring_parse_hash(plat_sql_value(0, 2), &ring->hash))
		elog(ERROR, "ring \"%s\" has an unknown algorithm or hash",
			 cached->name);
	ring->virtual_nodes = atoi(plat_sql_value(0, 3));
	ring->table_size = atoi(plat_sql_value(0, 4));
}

/*
 * Read the shards in the order that the algorithm wants: by position, or by
 * the bytes of their names.
 */
static void
read_shards(PlatCachedRing *cached)
{
	PlatRing   *ring = &cached->ring;
	Oid			types[] = {TEXTOID, BOOLOID};
	Datum		values[2];
	MemoryContext caller;
	uint64		rows;

	values[0] = CStringGetTextDatum(cached->name);
	values[1] = BoolGetDatum(plat_ring_has_order(ring->algorithm));
	rows = plat_sql_read("shards",
						 "SELECT shard, weight, server FROM platpat.shards"
						 " WHERE ring = $1"
						 " ORDER BY CASE WHEN $2 THEN position END,"
						 " shard COLLATE \"C\"",
						 2, types, values);
	if (rows > PLAT_RING_MAX_SHARDS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("ring \"%s\" has more than %d shards",
						cached->name, PLAT_RING_MAX_SHARDS)));
	caller = MemoryContextSwitchTo(cached->context);
	ring->nshards = (int) rows;
	ring->shards = palloc0(sizeof(PlatShard) * Max(rows, 1));
	cached->servers = palloc0(sizeof(char *) * Max(rows, 1));
	for (int i = 0; i < ring->nshards; i++)
	{
		const char *server = plat_sql_value(i, 3);

		ring->shards[i].name = pstrdup(plat_sql_value(i, 1));
		ring->shards[i].len = strlen(ring->shards[i].name);
		ring->shards[i].weight = strtod(plat_sql_value(i, 2), NULL);
		cached->servers[i] = server ? pstrdup(server) : NULL;
	}
	MemoryContextSwitchTo(caller);
}

/* The place of a shard in its ring, by its name. */
typedef struct ShardPlace
{
	char		name[PLAT_RING_NAME_MAX + 1];	/* hash key */
	int			place;
} ShardPlace;

static HTAB *
index_shards(const PlatCachedRing *cached)
{
	HASHCTL		control = {
		.keysize = PLAT_RING_NAME_MAX + 1,
		.entrysize = sizeof(ShardPlace),
		.hcxt = CurrentMemoryContext,
	};
	HTAB	   *index = hash_create("shards of a ring", 64, &control,
									HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);

	for (int i = 0; i < cached->ring.nshards; i++)
	{
		ShardPlace *found = hash_search(index, cached->ring.shards[i].name,
										HASH_ENTER, NULL);

		found->place = i;
	}
	return index;
}

/*
 * Read the pinned keys, sorted by their bytes for the binary search. Pins of
 * shards that the ring does not have count for nothing.
 */
static void
read_pins(PlatCachedRing *cached)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(cached->name)};
	MemoryContext caller;
	HTAB	   *index;
	uint64		rows;

	rows = plat_sql_read("pins",
						 "SELECT key, shard FROM platpat.pins"
						 " WHERE ring = $1 ORDER BY key COLLATE \"C\"",
						 1, types, values);
	index = index_shards(cached);
	caller = MemoryContextSwitchTo(cached->context);
	cached->pins = MemoryContextAllocHuge(cached->context,
										  sizeof(Pin) * Max(rows, 1));
	cached->npins = 0;
	for (uint64 i = 0; i < rows; i++)
	{
		Pin		   *pin = &cached->pins[cached->npins];
		ShardPlace *found = hash_search(index, plat_sql_value(i, 2),
										HASH_FIND, NULL);

		if (found == NULL)
			continue;
		pin->key = pstrdup(plat_sql_value(i, 1));
		pin->len = strlen(pin->key);
		pin->shard = found->place;
		cached->npins++;
	}
	MemoryContextSwitchTo(caller);
	hash_destroy(index);
}

/*
 * Compile a ring from what the active snapshot sees. Runs under SPI. On error
 * the entry stays uncompiled.
 */
static void
compile(PlatCachedRing *cached)
{
	MemoryContext caller;

	discard(cached);
	cached->context = AllocSetContextCreate(cache_context, "platpat ring",
											ALLOCSET_DEFAULT_SIZES);
	memset(&cached->ring, 0, sizeof(PlatRing));
	read_ring(cached);
	read_shards(cached);
	read_pins(cached);
	caller = MemoryContextSwitchTo(cached->context);
	plat_ring_build(&cached->ring);
	MemoryContextSwitchTo(caller);
}

/*
 * Make a ring valid for the active snapshot: compile it unless the snapshot
 * sees the version that was compiled.
 */
static void
refresh(PlatCachedRing *cached)
{
	uint64		started = generation;
	const char *version;

	rings_relid = plat_our_table("rings");
	cached->generation = 0;
	SPI_connect();
	version = read_version(cached->name);
	if (cached->version[0] == '\0' || strcmp(version, cached->version) != 0)
	{
		cached->version[0] = '\0';
		compile(cached);
		strlcpy(cached->version, version, sizeof(cached->version));
	}
	cached->is_settled = is_settled_version(cached->name, version);
	SPI_finish();
	cached->mark = mark_snapshot();
	cached->generation = started;
}

/*
 * Whether what was compiled answers for the active snapshot: nothing has
 * changed since it was checked, and that was for this very snapshot, or for
 * an older one and settled. In a transaction nothing else may have accepted
 * invalidations since the last statement.
 */
static inline bool
is_valid(const PlatCachedRing *cached)
{
	SnapshotMark mark;

	AcceptInvalidationMessages();
	if (cached->generation != generation)
		return false;
	mark = mark_snapshot();
	return cached->is_settled ? is_not_older(mark, cached->mark) :
		is_same(mark, cached->mark);
}

/*
 * The compiled ring of this name, good until the next call.  Raises 42704 if
 * there is none.
 */
PlatCachedRing *
plat_ring_get(const char *name, size_t len)
{
	char		key[PLAT_RING_NAME_MAX + 1];
	bool		found;

	if (last && last->name_len == len && memcmp(last->name, name, len) == 0 &&
		is_valid(last))
		return last;

	if (len > PLAT_RING_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("ring \"%s\" does not exist",
						plat_clip(pnstrdup(name, len)))));
	memset(key, 0, sizeof(key));
	memcpy(key, name, len);
	prepare_cache();
	last = hash_search(cache, key, HASH_ENTER, &found);
	if (!found)
	{
		last->context = NULL;
		last->name_len = len;
		last->generation = 0;
		last->version[0] = '\0';
	}
	if (!is_valid(last))
		refresh(last);
	return last;
}

/*
 * The ring itself, for the algorithms.
 */
const PlatRing *
plat_ring_compiled(const PlatCachedRing *cached)
{
	return &cached->ring;
}

/*
 * The shard that key is pinned to, or -1. Pins are few, so most rings answer
 * without a comparison.
 */
int
plat_ring_pin(const PlatCachedRing *cached, const char *key, size_t len)
{
	int			low = 0;
	int			high = cached->npins;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;
		const Pin  *pin = &cached->pins[middle];
		int			order = memcmp(pin->key, key, Min(pin->len, len));

		if (order == 0)
			order = pin->len < len ? -1 : pin->len > len;
		if (order == 0)
			return pin->shard;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

/*
 * The foreign server of a shard, by its index, or NULL. The name was right
 * when it was given; the server may have been dropped or renamed since.
 */
const char *
plat_ring_server(const PlatCachedRing *cached, int shard)
{
	return cached->servers[shard];
}
