/*
 * named.c
 *		Things with a name, a definition in a table, and a state in shared
 *		memory.
 *
 * The table says what a thing is; each backend keeps the definitions that it
 * has read until a relcache invalidation of the table.  They are read as
 * catalogs are: what is committed now, or written by this transaction, holds.
 *
 * The state is an entry of a directory of fixed size, which the first use of
 * the thing takes.  An entry belongs to a database and the id that the row of
 * the table was born with, so that a thing of the same name that is made
 * after another was dropped begins anew, also on a standby, where nobody sees
 * the DROP but the table.  Nobody gives entries back.  When a new thing finds
 * all in use, it takes that of one that is idle, or of one that is gone; the
 * kind's controller frees the latter before.
 *
 * The directory's lock guards who has which entry.  It is taken before the
 * lock of an entry, and only at the first use of a thing in a backend.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "clock.h"
#include "compat.h"
#include "config_table.h"
#include "named.h"
#include "shmem.h"
#include "sql.h"

/* Most definitions that a backend keeps. */
#define MAX_CACHED 10000

/* Who has an entry. */
typedef struct SharedOwner
{
	Oid			database;		/* InvalidOid for nobody */
	pg_uuid_t	id;
} SharedOwner;

/* The directory: its head, the owners, and then the entries themselves. */
struct PlatSharedDirectory
{
	LWLock		lock;
	int			count;			/* entries */
	int			hand;			/* where to look for an idle one first */
	uint64		last_ticket;
	SharedOwner owners[FLEXIBLE_ARRAY_MEMBER];
};

/* The kinds of this process, for the relcache callback. */
static PlatNamedKind *kinds[4];

static Size
stride(const PlatNamedKind *kind)
{
	return CACHELINEALIGN(kind->entry_size);
}

static Size
head_size(int entries)
{
	return CACHELINEALIGN(offsetof(PlatSharedDirectory, owners) +
						  entries * sizeof(SharedOwner));
}

static PlatSharedNamed *
entry_at(const PlatNamedKind *kind, int i)
{
	return (PlatSharedNamed *) ((char *) kind->directory +
								head_size(kind->directory->count) +
								i * stride(kind));
}

/*
 * Bytes of shared memory that a directory takes.
 */
Size
plat_named_size(const PlatNamedKind *kind, int entries)
{
	return head_size(entries) + entries * stride(kind);
}

/*
 * Make a new directory of the size that plat_named_size() gave, perhaps for
 * another setting than the present one; for shmem_fill.
 */
void
plat_named_fill(PlatNamedKind *kind, void *part, Size size)
{
	int			count = 0;

	while (plat_named_size(kind, count + 1) <= size)
		count++;
	memset(part, 0, size);
	kind->directory = part;
	kind->directory->count = count;
	plat_shmem_init_lock(&kind->directory->lock);
	for (int i = 0; i < count; i++)
	{
		PlatSharedNamed *entry = entry_at(kind, i);

		plat_shmem_init_lock(&entry->lock);
		pg_atomic_init_u64(&entry->ticket, 0);
		kind->init(entry, 0);
	}
}

/*
 * Note where the directory is; for shmem_adopt.
 */
void
plat_named_adopt(PlatNamedKind *kind, void *part)
{
	kind->directory = part;
}

/*
 * Relcache callback; runs wherever invalidations are accepted, so it only
 * counts.
 */
static void
on_invalidation(Datum arg, Oid relid)
{
	for (int i = 0; i < lengthof(kinds) && kinds[i]; i++)
		if (relid == InvalidOid || relid == kinds[i]->relid)
			kinds[i]->generation++;
}

/*
 * See to it that the kind hears of invalidations.
 */
static void
watch_table(PlatNamedKind *kind)
{
	int			i = 0;

	if (kinds[0] == NULL)
		CacheRegisterRelcacheCallback(on_invalidation, (Datum) 0);
	while (kinds[i])
		i++;
	Assert(i < lengthof(kinds));
	kinds[i] = kind;
	kind->generation = 1;
}

/*
 * Make a cache anew: at the first look of this backend, and when it has
 * become too large.
 */
static void
prepare_cache(PlatNamedKind *kind)
{
	HASHCTL		control = {
		.keysize = PLAT_NAMED_MAX + 1,
		.entrysize = kind->definition_size,
	};

	if (kind->cache && hash_get_num_entries(kind->cache) < MAX_CACHED)
		return;
	if (kind->generation == 0)
		watch_table(kind);
	if (kind->cache)
		hash_destroy(kind->cache);
	kind->cache = NULL;
	kind->resets++;
	control.hcxt = CacheMemoryContext;
	kind->cache = hash_create(kind->table, 16, &control,
							  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/*
 * Raise 22004 for a name that is NULL or empty, 22023 for one too long.
 */
static void
check_name(const PlatNamedKind *kind, const char *name)
{
	if (name == NULL || name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null or empty", kind->what)));
	if (strlen(name) > PLAT_NAMED_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name \"%s\" of a %s is too long",
						plat_clip(name), kind->what),
				 errdetail("Names have at most %d bytes.", PLAT_NAMED_MAX)));
}

/*
 * The name in the first argument, checked.
 */
static char *
name_arg(const PlatNamedKind *kind, FunctionCallInfo fcinfo)
{
	char	   *name = PG_ARGISNULL(0) ? NULL :
	text_to_cstring(PG_GETARG_TEXT_PP(0));

	check_name(kind, name);
	return name;
}

static void
no_such_thing(const PlatNamedKind *kind, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("%s \"%s\" does not exist", kind->what, name),
			 errhint("Make it with platpat.create_%s().", kind->what)));
}

/* What take_row() fills. */
typedef struct Reading
{
	PlatNamedKind *kind;
	PlatNamed  *definition;
} Reading;

/*
 * What plat_config_read() does with the row of a definition.
 */
static void
take_row(Relation rel, HeapTuple row, void *arg)
{
	Reading    *reading = arg;
	PlatNamed  *definition = reading->definition;
	Datum		id;

	if (!plat_column(rel, row, "id", &id))
		elog(ERROR, "%s \"%s\" has no id", reading->kind->what, definition->name);
	if (memcmp(&definition->id, DatumGetUUIDP(id), sizeof(pg_uuid_t)) != 0)
	{
		definition->entry = NULL;
		definition->births++;
	}
	definition->id = *DatumGetUUIDP(id);
	reading->kind->compile(definition, rel, row);
}

/*
 * Read a definition into the cache; NULL if there is none.
 */
static PlatNamed *
read_definition(PlatNamedKind *kind, const char *name)
{
	uint64		read_at = kind->generation;
	Reading		reading = {.kind = kind};
	bool		found;

	reading.definition = hash_search(kind->cache, name, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) reading.definition + PLAT_NAMED_MAX + 1, 0,
			   kind->definition_size - PLAT_NAMED_MAX - 1);
		reading.definition->len = strlen(name);
	}
	/* Reading accepts invalidations, and those are for the next look. */
	reading.definition->generation = 0;
	kind->relid = get_relname_relid(kind->table,
									get_namespace_oid("platpat", true));
	if (!OidIsValid(kind->relid) ||
		!plat_config_read(kind->relid, name, take_row, &reading))
	{
		(void) hash_search(kind->cache, name, HASH_REMOVE, NULL);
		kind->resets++;
		return NULL;
	}
	reading.definition->generation = read_at;
	return reading.definition;
}

/*
 * The definition of this name, valid as a name, as it is now; without one
 * 42704, or NULL if missing_ok. Its entry may not be there.
 */
PlatNamed *
plat_named_get(PlatNamedKind *kind, const char *name, bool missing_ok)
{
	PlatNamed  *definition;

	AcceptInvalidationMessages();
	prepare_cache(kind);
	definition = hash_search(kind->cache, name, HASH_FIND, NULL);
	if (definition == NULL || definition->generation != kind->generation)
		definition = read_definition(kind, name);
	if (definition == NULL && !missing_ok)
		no_such_thing(kind, name);
	return definition;
}

/*
 * Have the next look read the table, whatever invalidations have told.
 */
void
plat_named_reread(PlatNamedKind *kind)
{
	kind->generation++;
}

/*
 * The number of the entry of an id, or -1. Under the directory's lock.
 */
static int
find_entry(const PlatNamedKind *kind, Oid database, const pg_uuid_t *id)
{
	const PlatSharedDirectory *directory = kind->directory;

	for (int i = 0; i < directory->count; i++)
		if (directory->owners[i].database == database &&
			memcmp(&directory->owners[i].id, id, sizeof(*id)) == 0)
			return i;
	return -1;
}

/*
 * The number of an entry that is nobody's or whose thing is idle, from the
 * hand on, or -1. Under the directory's exclusive lock.
 */
static int
find_place(const PlatNamedKind *kind)
{
	PlatSharedDirectory *directory = kind->directory;

	for (int i = 0; i < directory->count; i++)
		if (directory->owners[i].database == InvalidOid)
			return i;
	for (int i = 0; i < directory->count; i++)
	{
		int			place = (directory->hand + i) % directory->count;
		PlatSharedNamed *entry = entry_at(kind, place);
		bool		is_idle;

		LWLockAcquire(&entry->lock, LW_EXCLUSIVE);
		is_idle = kind->is_idle(entry);
		if (is_idle)
			pg_atomic_write_u64(&entry->ticket, 0);
		LWLockRelease(&entry->lock);
		if (is_idle)
		{
			directory->hand = (place + 1) % directory->count;
			return place;
		}
	}
	return -1;
}

/*
 * Find or make the entry of an id, and its ticket; NULL if all are in use by
 * others.
 */
PlatSharedNamed *
plat_named_put(PlatNamedKind *kind, Oid database, const pg_uuid_t *id,
			   uint64 *ticket)
{
	PlatSharedDirectory *directory = kind->directory;
	PlatSharedNamed *entry = NULL;
	int			place;

	LWLockAcquire(&directory->lock, LW_EXCLUSIVE);
	place = find_entry(kind, database, id);
	if (place >= 0)
		entry = entry_at(kind, place);
	else if ((place = find_place(kind)) >= 0)
	{
		directory->owners[place] = (SharedOwner)
		{
			database, *id
		};
		entry = entry_at(kind, place);
		LWLockAcquire(&entry->lock, LW_EXCLUSIVE);
		kind->init(entry, ++directory->last_ticket);
		pg_atomic_write_u64(&entry->ticket, directory->last_ticket);
		LWLockRelease(&entry->lock);
	}
	if (entry)
		*ticket = pg_atomic_read_u64(&entry->ticket);
	LWLockRelease(&directory->lock);
	return entry;
}

/*
 * Whether a version of a row is there or may yet be: it was not made in vain,
 * and not deleted by anybody who has committed.
 */
static bool
may_be_live(HeapTupleHeader row)
{
	if (!HeapTupleHeaderXminCommitted(row) &&
		TransactionIdDidAbort(HeapTupleHeaderGetRawXmin(row)))
		return false;
	if ((row->t_infomask & HEAP_XMAX_INVALID) ||
		HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask))
		return true;
	return !TransactionIdDidCommit(HeapTupleHeaderGetUpdateXid(row));
}

/*
 * The ids of all definitions of the current database, also of those that
 * somebody is just making or dropping.
 */
static HTAB *
read_ids(PlatNamedKind *kind)
{
	HASHCTL		control = {
		.keysize = sizeof(pg_uuid_t),
		.entrysize = sizeof(pg_uuid_t),
		.hcxt = CurrentMemoryContext,
	};
	HTAB	   *ids = hash_create("ids", 256, &control,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	Relation	rel = table_open(plat_our_table(kind->table), AccessShareLock);
	TableScanDesc scan = table_beginscan(rel, SnapshotAny, 0, NULL);
	HeapTuple	row;
	Datum		id;

	while ((row = heap_getnext(scan, ForwardScanDirection)) != NULL)
		if (may_be_live(row->t_data) && plat_column(rel, row, "id", &id))
			(void) hash_search(ids, DatumGetUUIDP(id), HASH_ENTER, NULL);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return ids;
}

/*
 * Whether the thing of an owner, or its whole database, is gone.
 */
static bool
is_gone(const SharedOwner *owner, HTAB *ids)
{
	if (owner->database == InvalidOid)
		return false;
	if (owner->database == MyDatabaseId)
		return hash_search(ids, &owner->id, HASH_FIND, NULL) == NULL;
	return !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(owner->database));
}

/*
 * Whether an entry, whose lock is held, can be taken from a thing that is gone.
 */
static bool
can_go(const PlatNamedKind *kind, PlatSharedNamed *entry)
{
	return kind->is_droppable || kind->is_idle(entry);
}

/*
 * Take an entry from its owner, which is gone, if it still has it and the
 * entry can go.
 */
static void
take_away(PlatNamedKind *kind, const SharedOwner *owner)
{
	int			place;

	LWLockAcquire(&kind->directory->lock, LW_EXCLUSIVE);
	place = find_entry(kind, owner->database, &owner->id);
	if (place >= 0)
	{
		PlatSharedNamed *entry = entry_at(kind, place);

		LWLockAcquire(&entry->lock, LW_EXCLUSIVE);
		if (can_go(kind, entry))
		{
			pg_atomic_write_u64(&entry->ticket, 0);
			kind->directory->owners[place].database = InvalidOid;
		}
		LWLockRelease(&entry->lock);
	}
	LWLockRelease(&kind->directory->lock);
}

/*
 * A copy of all owners.
 */
static SharedOwner *
copy_owners(const PlatNamedKind *kind)
{
	Size		size = kind->directory->count * sizeof(SharedOwner);
	SharedOwner *owners = palloc(size);

	LWLockAcquire(&kind->directory->lock, LW_SHARED);
	memcpy(owners, kind->directory->owners, size);
	LWLockRelease(&kind->directory->lock);
	return owners;
}

/*
 * Take the entries from all things that are gone.  The owners are looked at
 * first, so that nobody is missed among the ids who was there by then.  Not
 * again within a second for a table that has not changed.
 */
static void
sweep(PlatNamedKind *kind)
{
	int			count = kind->directory->count;
	SharedOwner *owners;
	HTAB	   *ids;

	if (kind->swept_generation == kind->generation &&
		plat_clock() - kind->swept_at < PLAT_SECOND)
		return;
	kind->swept_generation = kind->generation;
	kind->swept_at = plat_clock();
	owners = copy_owners(kind);
	ids = read_ids(kind);
	for (int i = 0; i < count; i++)
		if (is_gone(&owners[i], ids))
			take_away(kind, &owners[i]);
	hash_destroy(ids);
	pfree(owners);
}

/*
 * See to it that a definition has its entry; false if there is no place.
 */
bool
plat_named_try_attach(PlatNamedKind *kind, PlatNamed *definition)
{
	if (!plat_named_holds(definition))
		definition->entry = plat_named_put(kind, MyDatabaseId, &definition->id,
										   &definition->ticket);
	return definition->entry != NULL;
}

/*
 * The same, looking hard for a place; 54000 if there is none, 55000 without
 * shared memory.
 */
void
plat_named_attach(PlatNamedKind *kind, PlatNamed *definition)
{
	plat_shmem_require();
	if (plat_named_try_attach(kind, definition))
		return;
	if (kind->is_droppable)
		sweep(kind);
	if (!plat_named_try_attach(kind, definition))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("there is no place for %s \"%s\" in shared memory",
						kind->what, definition->name),
				 errdetail("All %d entries are in use.", kind->directory->count),
				 errhint("Raise %s.", kind->setting)));
}

/*
 * Lock the entry of a definition, whatever it takes: a thing that has lost its
 * entry, because it was idle and another needed it, gets a new one.
 */
void
plat_named_lock(PlatNamedKind *kind, PlatNamed *definition)
{
	for (;;)
	{
		plat_named_attach(kind, definition);
		LWLockAcquire(&definition->entry->lock, LW_EXCLUSIVE);
		if (plat_named_holds(definition))
			return;
		LWLockRelease(&definition->entry->lock);
	}
}

/*
 * Find the entry of a definition without making one; false if there is none,
 * because nobody has used the thing yet. 55000 without shared memory.
 */
bool
plat_named_peek(PlatNamedKind *kind, PlatNamed *definition)
{
	int			place;

	plat_shmem_require();
	if (plat_named_holds(definition))
		return true;
	LWLockAcquire(&kind->directory->lock, LW_SHARED);
	place = find_entry(kind, MyDatabaseId, &definition->id);
	if (place >= 0)
	{
		definition->entry = entry_at(kind, place);
		definition->ticket = pg_atomic_read_u64(&definition->entry->ticket);
	}
	LWLockRelease(&kind->directory->lock);
	return place >= 0;
}

/*
 * Lock the entry of the id of a definition of this database, if it has one;
 * must not fail.
 */
bool
plat_named_lock_id(PlatNamedKind *kind, PlatNamed *definition)
{
	int			place;

	LWLockAcquire(&kind->directory->lock, LW_SHARED);
	place = find_entry(kind, MyDatabaseId, &definition->id);
	if (place >= 0)
	{
		definition->entry = entry_at(kind, place);
		LWLockAcquire(&definition->entry->lock, LW_EXCLUSIVE);
	}
	LWLockRelease(&kind->directory->lock);
	return place >= 0;
}

/*
 * Whether the entry of a thing that is gone is there and can go.
 */
static bool
is_orphan(PlatNamedKind *kind, const pg_uuid_t *id)
{
	PlatNamed	definition = {.id = *id};
	bool		is_free;

	if (!plat_named_lock_id(kind, &definition))
		return false;
	is_free = can_go(kind, definition.entry);
	LWLockRelease(&definition.entry->lock);
	return is_free;
}

/*
 * Add the entries of this database whose things are gone, and that can go, to
 * the result of a function (key text, spec jsonb): the key is the id.  None
 * without shared memory.
 */
void
plat_named_put_orphans(PlatNamedKind *kind, FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SharedOwner *owners;
	HTAB	   *ids;

	if (!plat_shmem_attach())
		return;
	owners = copy_owners(kind);
	ids = read_ids(kind);
	for (int i = 0; i < kind->directory->count; i++)
	{
		Datum		values[2];
		bool		nulls[2] = {false, false};
		char	   *id;

		if (owners[i].database != MyDatabaseId || !is_gone(&owners[i], ids) ||
			!is_orphan(kind, &owners[i].id))
			continue;
		id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&owners[i].id)));
		values[0] = CStringGetTextDatum(id);
		values[1] = DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{\"id\": \"%s\"}", id)));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	hash_destroy(ids);
}

/*
 * Free the entry of an id of this database if the thing is gone and the entry
 * can go: 22P02 for a text that is no id.
 */
void
plat_named_free_orphan(PlatNamedKind *kind, const char *id)
{
	SharedOwner owner = {.database = MyDatabaseId};
	HTAB	   *ids;

	owner.id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(id)));
	if (!plat_shmem_attach())
		return;
	ids = read_ids(kind);
	if (is_gone(&owner, ids))
		take_away(kind, &owner);
	hash_destroy(ids);
}

/*
 * Visit each entry that is somebody's, under its exclusive lock and the
 * directory's shared one. locked is whether other processes may be using the
 * memory.
 */
void
plat_named_walk(PlatNamedKind *kind, bool locked, PlatNamedVisit visit, void *arg)
{
	PlatSharedDirectory *directory = kind->directory;

	if (locked)
		LWLockAcquire(&directory->lock, LW_SHARED);
	for (int i = 0; i < directory->count; i++)
	{
		PlatSharedNamed *entry = entry_at(kind, i);

		if (directory->owners[i].database == InvalidOid)
			continue;
		if (locked)
			LWLockAcquire(&entry->lock, LW_EXCLUSIVE);
		visit(entry, directory->owners[i].database, &directory->owners[i].id, arg);
		if (locked)
			LWLockRelease(&entry->lock);
	}
	if (locked)
		LWLockRelease(&directory->lock);
}

/*
 * plat_named_arg() where the call site knows nothing, or too little.
 */
PlatNamed *
plat_named_look(PlatNamedKind *kind, FunctionCallInfo fcinfo)
{
	char	   *name = name_arg(kind, fcinfo);
	PlatNamed  *definition;
	PlatNamedSite *site;

	plat_shmem_require();
	definition = plat_named_get(kind, name, false);
	plat_named_attach(kind, definition);
	if (fcinfo->flinfo->fn_extra == NULL)
		fcinfo->flinfo->fn_extra = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
														  sizeof(PlatNamedSite));
	site = fcinfo->flinfo->fn_extra;
	site->definition = definition;
	site->resets = kind->resets;
	return definition;
}

/* The arguments of create and alter, as columns of the same names. */
typedef struct Columns
{
	int			count;
	char	  **names;
	Oid		   *types;
	Datum	   *values;
	char	   *nulls;
} Columns;

static Columns
columns_of(FunctionCallInfo fcinfo)
{
	Columns		columns = {.count = PG_NARGS()};
	char	   *modes;
	HeapTuple	tuple = SearchSysCache1(PROCOID,
										ObjectIdGetDatum(fcinfo->flinfo->fn_oid));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u",
			 fcinfo->flinfo->fn_oid);
	(void) get_func_arg_info(tuple, &columns.types, &columns.names, &modes);
	ReleaseSysCache(tuple);
	columns.values = palloc(sizeof(Datum) * columns.count);
	columns.nulls = palloc(columns.count);
	for (int i = 0; i < columns.count; i++)
	{
		columns.values[i] = PG_GETARG_DATUM(i);
		columns.nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	return columns;
}

/*
 * create_<thing>: insert a row whose columns are the arguments.  22004 and
 * 22023 from the check of the row, 42710 if the name is taken.
 */
void
plat_named_create(PlatNamedKind *kind, FunctionCallInfo fcinfo)
{
	char	   *name = name_arg(kind, fcinfo);
	Columns		columns = columns_of(fcinfo);
	StringInfoData names;
	StringInfoData places;
	uint64		inserted;

	initStringInfo(&names);
	initStringInfo(&places);
	for (int i = 0; i < columns.count; i++)
	{
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(columns.names[i]));
		appendStringInfo(&places, "%s$%d", i > 0 ? ", " : "", i + 1);
	}
	SPI_connect();
	inserted = plat_sql_as_owner(kind->table,
								 psprintf("INSERT INTO platpat.%s (%s) VALUES (%s)"
										  " ON CONFLICT (%s) DO NOTHING",
										  kind->table, names.data, places.data,
										  kind->what),
								 columns.count, columns.types, columns.values,
								 columns.nulls);
	SPI_finish();
	if (inserted == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("%s \"%s\" already exists", kind->what, name)));
}

/*
 * alter_<thing>: update the columns whose arguments are not NULL. 42704 if
 * there is no such thing.
 */
void
plat_named_alter(PlatNamedKind *kind, FunctionCallInfo fcinfo)
{
	char	   *name = name_arg(kind, fcinfo);
	Columns		columns = columns_of(fcinfo);
	StringInfoData sets;
	uint64		updated;

	initStringInfo(&sets);
	for (int i = 1; i < columns.count; i++)
	{
		const char *column = quote_identifier(columns.names[i]);

		appendStringInfo(&sets, "%s%s = coalesce($%d, %s)", i > 1 ? ", " : "",
						 column, i + 1, column);
	}
	SPI_connect();
	updated = plat_sql_as_owner(kind->table,
								psprintf("UPDATE platpat.%s SET %s WHERE %s = $1",
										 kind->table, sets.data, kind->what),
								columns.count, columns.types, columns.values,
								columns.nulls);
	SPI_finish();
	if (updated == 0)
		no_such_thing(kind, name);
}

/*
 * drop_<thing>: 42704 if there is none.
 */
void
plat_named_drop(PlatNamedKind *kind, FunctionCallInfo fcinfo)
{
	char	   *name = name_arg(kind, fcinfo);
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	uint64		deleted;

	SPI_connect();
	deleted = plat_sql_as_owner(kind->table,
								psprintf("DELETE FROM platpat.%s WHERE %s = $1",
										 kind->table, kind->what),
								1, types, values, NULL);
	SPI_finish();
	if (deleted == 0)
		no_such_thing(kind, name);
}

/*
 * The work of a BEFORE INSERT OR UPDATE row trigger: a definition that cannot
 * be compiled cannot be stored.  Returns what it is compiled to; the trigger
 * returns the row as it is.
 */
PlatNamed *
plat_named_check_row(PlatNamedKind *kind, FunctionCallInfo fcinfo)
{
	TriggerData *trigger = plat_trigger_data(fcinfo);
	HeapTuple	row = plat_trigger_row(trigger);
	char	   *name = plat_row_text(trigger, row, kind->what);
	PlatNamed  *definition = palloc0(kind->definition_size);
	Datum		id;

	check_name(kind, name);
	strlcpy(definition->name, name, sizeof(definition->name));
	if (plat_column(trigger->tg_relation, row, "id", &id))
		definition->id = *DatumGetUUIDP(id);
	kind->compile(definition, trigger->tg_relation, row);
	return definition;
}

/*
 * Read all definitions of the current database, in the order of their names.
 */
void
plat_named_list(PlatNamedKind *kind,
				void (*list) (PlatNamed *definition, void *arg), void *arg)
{
	Relation	rel = table_open(plat_our_table(kind->table), AccessShareLock);
	Relation	index = index_open(plat_primary_key(rel), AccessShareLock);
	SysScanDesc scan = systable_beginscan_ordered(rel, index, NULL, 0, NULL);
	PlatNamed  *definition = palloc0(kind->definition_size);
	Reading		reading = {kind, definition};
	HeapTuple	row;

	while (HeapTupleIsValid(row = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		memset(definition, 0, kind->definition_size);
		strlcpy(definition->name, plat_column_text(rel, row, kind->what),
				sizeof(definition->name));
		take_row(rel, row, &reading);
		list(definition, arg);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
}
