/*
 * shmem.c
 *		One piece of shared memory, divided among the modules.
 *
 * A preloaded library asks for it at the start of the server.  Otherwise the
 * first session that needs it makes it as a segment of PostgreSQL's registry
 * of dynamic shared memory, which exists from 17 on; on 15 and 16 there is
 * none then.  Its size is fixed by whoever makes it: the settings of later
 * sessions do not count.
 *
 * It begins with a header, which nobody changes after its making.  What
 * follows belongs to the modules, each of which says how it is guarded.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "compat.h"
#include "shmem.h"

/* Most modules that can have a part. */
#define MAX_PARTS 16

/*
 * The head of the memory.  Parts are at the offsets that the maker noted,
 * because a module may want another size by now.
 */
typedef struct PlatSharedHeader
{
	Size		size;			/* of everything */
	int			tranche;		/* of all our LWLocks */
	Size		parts[MAX_PARTS];
	Size		sizes[MAX_PARTS];
} PlatSharedHeader;

/*
 * What tells sessions of a server that does not preload us how large the
 * memory is, which they must say to find it; 0 until it has been made.
 */
typedef struct PlatSharedSize
{
	pg_atomic_uint64 size;
} PlatSharedSize;

static const PlatModule *const *all_modules = NULL;
static PlatSharedHeader *header = NULL;

/* What shmem_fill of the modules is at work on. */
static PlatSharedHeader *filling = NULL;
static bool preloaded = false;

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

/*
 * Lay out what a server of the present settings needs.
 */
static PlatSharedHeader
plan_layout(void)
{
	PlatSharedHeader plan = {0};

	plan.size = CACHELINEALIGN(sizeof(PlatSharedHeader));
	for (int i = 0; all_modules[i]; i++)
	{
		Assert(i < MAX_PARTS);
		plan.parts[i] = plan.size;
		if (all_modules[i]->shmem_size)
			plan.sizes[i] = all_modules[i]->shmem_size();
		plan.size = add_size(plan.size, CACHELINEALIGN(plan.sizes[i]));
	}
	return plan;
}

/*
 * The part of a module.
 */
static void *
part_of(PlatSharedHeader *memory, int module)
{
	return (char *) memory + memory->parts[module];
}

/*
 * Make new memory ready: the header, and the part of each module. Nobody else
 * has it yet. Must not fail.
 */
static void
fill(PlatSharedHeader *memory, const PlatSharedHeader *plan)
{
	*memory = *plan;
	memory->tranche = LWLockNewTrancheId();
	filling = memory;
	for (int i = 0; all_modules[i]; i++)
		if (all_modules[i]->shmem_fill)
			all_modules[i]->shmem_fill(part_of(memory, i), memory->sizes[i]);
}

/*
 * Make memory that is filled known to this process.
 */
static void
adopt(PlatSharedHeader *memory)
{
	LWLockRegisterTranche(memory->tranche, "platpat");
	for (int i = 0; all_modules[i]; i++)
		if (all_modules[i]->shmem_adopt)
			all_modules[i]->shmem_adopt(part_of(memory, i));
	header = memory;
}

/*
 * shmem_request_hook: say how much we need.
 */
static void
request_memory(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(plan_layout().size);
}

/*
 * shmem_startup_hook, in the postmaster, at the start and after a crash.
 * After a crash all shared memory is new.
 */
static void
start_memory(void)
{
	PlatSharedHeader plan = plan_layout();
	PlatSharedHeader *memory;
	bool		found;

	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	memory = ShmemInitStruct("platpat", plan.size, &found);
	if (!found)
		fill(memory, &plan);
	LWLockRelease(AddinShmemInitLock);
	adopt(memory);
	if (found)
		return;
	for (int i = 0; all_modules[i]; i++)
		if (all_modules[i]->shmem_start)
			all_modules[i]->shmem_start();
}

/*
 * Called once from the library's init with the table of modules, closed by
 * NULL and not copied; preload is whether the server is starting.
 */
void
plat_shmem_init(const PlatModule *const *modules, bool preload)
{
	all_modules = modules;
	preloaded = preload;
	if (!preload)
		return;
	previous_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

/*
 * Called by the registry for the first that asks for a segment.  The second
 * gets the plan beside its argument.
 */
static PlatSharedHeader segment_plan;

static void
fill_size(void *segment)
{
	pg_atomic_init_u64(&((PlatSharedSize *) segment)->size, 0);
}

static void
fill_segment(void *segment)
{
	fill(segment, &segment_plan);
}

/*
 * Find the memory in the registry of a server that does not preload us, or
 * make it.  Its size is its name, so that a size that could not be had can be
 * followed by another; the first that was had is for all.
 */
static PlatSharedHeader *
find_segment(void)
{
	PlatSharedSize *shared;
	PlatSharedHeader *memory;
	char		name[64];
	uint64		size;
	bool		found;

	shared = plat_named_segment("platpat", sizeof(PlatSharedSize), fill_size,
								&found);
	for (;;)
	{
		size = pg_atomic_read_u64(&shared->size);
		segment_plan = plan_layout();
		snprintf(name, sizeof(name), "platpat " UINT64_FORMAT,
				 size > 0 ? size : (uint64) segment_plan.size);
		memory = plat_named_segment(name, size > 0 ? size : segment_plan.size,
									fill_segment, &found);
		if (size > 0)
			return memory;
		(void) pg_atomic_compare_exchange_u64(&shared->size, &size,
											  segment_plan.size);
	}
}

/*
 * Whether this process has the shared memory, attaching to it or making it
 * if it can. Raises only what the registry raises, as for want of memory.
 */
bool
plat_shmem_attach(void)
{
	if (header)
		return true;
	if (preloaded || !plat_has_named_segments())
		return false;
	adopt(find_segment());
	return true;
}

/*
 * Raise 55000 unless this process has the shared memory.
 */
void
plat_shmem_require(void)
{
	if (plat_shmem_attach())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("platpat has no shared memory"),
			 errdetail("The library was not loaded at the start of the server."),
			 errhint("Add platpat to shared_preload_libraries and restart the server.")));
}

/*
 * Whether the memory was made at the start of the server, so that what is in
 * it is loaded from files and saved to them.
 */
bool
plat_shmem_is_preloaded(void)
{
	return preloaded;
}

/*
 * Make a lock in the part of a module ready; for shmem_fill.
 */
void
plat_shmem_init_lock(LWLock *lock)
{
	LWLockInitialize(lock, filling->tranche);
}
