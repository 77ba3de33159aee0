/*
 * named.h
 *		Things with a name, a definition in a table, and a state in shared
 *		memory.
 *
 * What the hot path needs is inline; the rest is described in named.c.
 */
#ifndef PLAT_NAMED_H
#define PLAT_NAMED_H

#include "access/htup.h"
#include "fmgr.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/relcache.h"
#include "utils/uuid.h"

/* Longest name in bytes. */
#define PLAT_NAMED_MAX 128

/*
 * How the shared state of a thing begins.  ticket is unique to the thing and
 * is written under both the directory's lock and this one; it may be read
 * without a lock.
 */
typedef struct PlatSharedNamed
{
	LWLock		lock;			/* guards the state */
	pg_atomic_uint64 ticket;	/* 0 for nobody's */
} PlatSharedNamed;

/*
 * How a definition begins that this backend has read.  Its address holds until
 * the kind's resets is counted up.
 */
typedef struct PlatNamed
{
	char		name[PLAT_NAMED_MAX + 1];	/* hash key */
	int			len;			/* of the name */
	uint64		generation;		/* of the table when it was read */
	pg_uuid_t	id;
	uint64		births;			/* how often the id has become another */
	PlatSharedNamed *entry;		/* NULL until it was looked for */
	uint64		ticket;			/* that the entry must have */
} PlatNamed;

typedef struct PlatSharedDirectory PlatSharedDirectory;

/*
 * A kind of things.  compile fills what follows the head of a definition from
 * a row of the table; it raises 22004 or 22023 for one that cannot be.  init
 * makes the state of an entry that of a new thing with that ticket, and is_idle
 * says whether nothing but figures would be lost with it; both are called
 * under its lock and must not fail.  is_droppable is whether an entry may go
 * with its thing, whatever it holds.
 */
typedef struct PlatNamedKind
{
	const char *what;			/* "breaker", also the key column */
	const char *table;
	const char *setting;		/* that says how many entries there are */
	Size		definition_size;
	Size		entry_size;
	void		(*compile) (PlatNamed *definition, Relation rel, HeapTuple row);
	void		(*init) (PlatSharedNamed *entry, uint64 ticket);
	bool		(*is_idle) (PlatSharedNamed *entry);
	bool		is_droppable;

	/* named.c's own, zero at first */
	struct HTAB *cache;
	Oid			relid;
	uint64		generation;
	uint64		resets;
	uint64		swept_generation;	/* of the table at the last sweep */
	uint64		swept_at;		/* plat_clock() */
	PlatSharedDirectory *directory;
} PlatNamedKind;

/* What a call site keeps. */
typedef struct PlatNamedSite
{
	PlatNamed  *definition;
	uint64		resets;
} PlatNamedSite;

/* Called for each entry of a walk, under its exclusive lock. */
typedef void (*PlatNamedVisit) (PlatSharedNamed *entry, Oid database,
								const pg_uuid_t *id, void *arg);

extern Size plat_named_size(const PlatNamedKind *kind, int entries);
extern void plat_named_fill(PlatNamedKind *kind, void *part, Size size);
extern void plat_named_adopt(PlatNamedKind *kind, void *part);
extern PlatNamed *plat_named_look(PlatNamedKind *kind, FunctionCallInfo fcinfo);
extern PlatNamed *plat_named_get(PlatNamedKind *kind, const char *name,
								 bool missing_ok);
extern void plat_named_reread(PlatNamedKind *kind);
extern bool plat_named_try_attach(PlatNamedKind *kind,
								  PlatNamed *definition);
extern void plat_named_attach(PlatNamedKind *kind, PlatNamed *definition);
extern void plat_named_lock(PlatNamedKind *kind, PlatNamed *definition);
extern bool plat_named_peek(PlatNamedKind *kind, PlatNamed *definition);
extern void plat_named_walk(PlatNamedKind *kind, bool locked,
							PlatNamedVisit visit, void *arg);
extern PlatSharedNamed *plat_named_put(PlatNamedKind *kind, Oid database,
									   const pg_uuid_t *id, uint64 *ticket);
extern void plat_named_create(PlatNamedKind *kind, FunctionCallInfo fcinfo);
extern void plat_named_alter(PlatNamedKind *kind, FunctionCallInfo fcinfo);
extern void plat_named_drop(PlatNamedKind *kind, FunctionCallInfo fcinfo);
extern PlatNamed *plat_named_check_row(PlatNamedKind *kind,
									   FunctionCallInfo fcinfo);
extern void plat_named_put_orphans(PlatNamedKind *kind,
								   FunctionCallInfo fcinfo);
extern void plat_named_free_orphan(PlatNamedKind *kind, const char *id);
extern bool plat_named_lock_id(PlatNamedKind *kind, PlatNamed *definition);
extern void plat_named_list(PlatNamedKind *kind,
							void (*list) (PlatNamed *definition, void *arg),
							void *arg);

/*
 * Whether the entry of a definition is still that of its thing.  Another may
 * get it at any time, unless its lock is held.
 */
static inline bool
plat_named_holds(const PlatNamed *definition)
{
	return definition->entry != NULL &&
		pg_atomic_read_u64(&definition->entry->ticket) == definition->ticket;
}

/*
 * The definition that the first argument names, with its entry: 22004 for
 * NULL and for the empty string, 42704 if there is none, 54000 if it needs an
 * entry and all are in use, 55000 without shared memory.
 */
static pg_attribute_always_inline PlatNamed *
plat_named_arg(PlatNamedKind *kind, FunctionCallInfo fcinfo)
{
	PlatNamedSite *site = fcinfo->flinfo->fn_extra;
	text	   *name;

	AcceptInvalidationMessages();
	if (unlikely(site == NULL || PG_ARGISNULL(0) ||
				 site->resets != kind->resets ||
				 site->definition->generation != kind->generation))
		return plat_named_look(kind, fcinfo);
	name = PG_GETARG_TEXT_PP(0);
	if (unlikely(site->definition->len != VARSIZE_ANY_EXHDR(name) ||
				 memcmp(VARDATA_ANY(name), site->definition->name,
						site->definition->len) != 0 ||
				 !plat_named_holds(site->definition)))
		return plat_named_look(kind, fcinfo);
	return site->definition;
}

#endif							/* PLAT_NAMED_H */
