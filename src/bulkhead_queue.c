/*
 * bulkhead_queue.c
 *		The slots of bulkheads in shared memory: asking for them, waiting for
 *		them, handing them on.
 *
 * A bulkhead's numbers and queues are an entry of a directory in shared
 * memory, guarded by the entry's lock; who is let in, and in which order, is
 * up to bulkhead_core.c.  Who gives a slot back hands it to who is next and
 * sets the latch of that process; so a slot is never free while somebody waits
 * for it, and nobody has to be quick.
 *
 * Each backend has a few places in shared memory, one for each bulkhead that
 * it has a slot of or waits for.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/json.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "array.h"
#include "bulkhead.h"
#include "clock.h"
#include "shmem.h"
#include "tenant.h"

#define WAIT_EVENT_NAME "PlatpatBulkhead"

/* How often who waits looks whether the definition has changed, in ms. */
#define LOOK_INTERVAL 1000

/*
 * What the backends share beside the directory: the places, and the links of
 * those who wait.
 */
typedef struct SharedPlaces
{
	int			tranche;		/* names the wait, see plat_wait_event() */
	int			count;
} SharedPlaces;

static SharedPlaces *header = NULL;
static PlatQueueLink *links = NULL;
static PlatSharedPlace *places = NULL;

/* Whether this transaction has changed a definition. */
static bool is_changed = false;

/* Rules that this transaction has given to bulkheads, in order. */
typedef struct Change
{
	pg_uuid_t	id;
	PlatBulkheadRules rules;
	int			level;			/* of the transaction, 1 for the top */
} Change;

static Change *changes = NULL;
static int	nchanges = 0;
static int	max_changes = 0;

/* Why there was no slot. */
typedef enum Refusal
{
	REFUSED_AT_ONCE, REFUSED_QUEUE_FULL, REFUSED_TIMEOUT, REFUSED_WITH_XID
} Refusal;

static void
init(PlatSharedNamed *head, uint64 ticket)
{
	PlatSharedBulkhead *shared = (PlatSharedBulkhead *) head;

	pg_atomic_init_u64(&shared->installs, 0);
	plat_bulkhead_init(&shared->bulkhead);
	shared->high_water = 0;
	shared->acquired = shared->rejected = shared->timed_out = 0;
	memset(shared->waits, 0, sizeof(shared->waits));
}

static bool
is_idle(PlatSharedNamed *head)
{
	const PlatBulkhead *bulkhead = &((PlatSharedBulkhead *) head)->bulkhead;

	return plat_bulkhead_in_use(bulkhead) == 0 &&
		plat_bulkhead_waiting(bulkhead) == 0;
}

PlatNamedKind plat_bulkheads = {
	.what = "bulkhead",
	.table = "bulkheads",
	.setting = "platpat.bulkhead_entries",
	.definition_size = sizeof(PlatBulkheadDefinition),
	.entry_size = sizeof(PlatSharedBulkhead),
	.compile = plat_bulkhead_compile,
	.init = init,
	.is_idle = is_idle,
};

/*
 * Bytes of everything but the directory, for so many places.
 */
static Size
places_size(int count)
{
	return MAXALIGN(sizeof(SharedPlaces)) +
		MAXALIGN(count * sizeof(PlatQueueLink)) +
		CACHELINEALIGN(count * sizeof(PlatSharedPlace));
}

/*
 * Bytes of shared memory for so many bulkheads, and for the places.
 */
Size
plat_bulkhead_size(int entries)
{
	return places_size(MaxBackends * PLAT_PLACES) +
		plat_named_size(&plat_bulkheads, entries);
}

/*
 * Note where the places are.
 */
static void
find_places(void *part)
{
	char	   *next = (char *) part + MAXALIGN(sizeof(SharedPlaces));

	header = part;
	links = (PlatQueueLink *) next;
	next += MAXALIGN(header->count * sizeof(PlatQueueLink));
	places = (PlatSharedPlace *) next;
}

/*
 * Make the memory ready; for shmem_fill.
 */
void
plat_bulkhead_fill(void *part, Size size)
{
	int			count = MaxBackends * PLAT_PLACES;
	Size		directory = places_size(count);

	memset(part, 0, directory);
	header = part;
	header->tranche = LWLockNewTrancheId();
	header->count = count;
	find_places(part);
	for (int i = 0; i < count; i++)
	{
		pg_atomic_init_u32(&places[i].state, PLAT_PLACE_FREE);
		pg_atomic_init_u64(&places[i].ticket, 0);
	}
	plat_named_fill(&plat_bulkheads, (char *) part + directory,
					size - directory);
}

/*
 * Note where it is; for shmem_adopt.
 */
void
plat_bulkhead_adopt(void *part)
{
	find_places(part);
	plat_named_adopt(&plat_bulkheads, (char *) part + places_size(header->count));
	LWLockRegisterTranche(header->tranche, WAIT_EVENT_NAME);
}

/*
 * The number among all places of one of this backend's.
 */
static int
number_of_place(int place)
{
	return plat_proc_number() * PLAT_PLACES + place;
}

static PlatSharedPlace *
my_place(int place)
{
	return &places[number_of_place(place)];
}

/*
 * All places that there are.
 */
int
plat_bulkhead_place_count(void)
{
	return header->count;
}

/*
 * Visit who holds or waits for a bulkhead, whose lock is held.
 */
void
plat_bulkhead_visit(const PlatNamed *definition, PlatPlaceVisit visit, void *arg)
{
	for (int i = 0; i < header->count; i++)
		if (pg_atomic_read_u64(&places[i].ticket) == definition->ticket)
			visit(&places[i], arg);
}

/*
 * Take a place for a bulkhead whose lock is held.
 */
static void
fill_place(int place, uint64 ticket, PlatClass class, PlatPlaceState state,
		   uint64 now)
{
	PlatSharedPlace *mine = my_place(place);
	const char *tenant = plat_tenant_current();

	mine->class = class;
	mine->since = now;
	mine->pid = MyProcPid;
	strlcpy(mine->tenant, tenant ? tenant : "", sizeof(mine->tenant));
	pg_atomic_write_u32(&mine->state, state);
	pg_atomic_write_u64(&mine->ticket, ticket);
}

/*
 * Give up a place; the lock of its bulkhead is held.
 */
static void
clear_place(int place)
{
	PlatSharedPlace *mine = my_place(place);

	pg_atomic_write_u64(&mine->ticket, 0);
	pg_atomic_write_u32(&mine->state, PLAT_PLACE_FREE);
}

/*
 * Whether a bulkhead, whose lock is held, does not follow a definition and is
 * to. What this transaction has changed and not committed is not for others.
 */
static bool
is_to_follow(const PlatSharedBulkhead *shared,
			 const PlatBulkheadDefinition *definition)
{
	const PlatBulkheadRules *rules = &shared->bulkhead.rules;

	return unlikely(memcmp(rules, &definition->rules, sizeof(*rules)) != 0) &&
		!(is_changed && rules->size > 0);
}

/*
 * Count a slot that was given.
 */
static void
count_slot(PlatSharedBulkhead *shared)
{
	shared->acquired++;
	shared->high_water = Max(shared->high_water,
							 plat_bulkhead_in_use(&shared->bulkhead));
}

/*
 * Let in whoever can be by now, and unlock the bulkhead.  Nobody else may ask
 * in between, so who is let in is woken under the lock.
 */
static void
hand_on_and_unlock(PlatSharedBulkhead *shared)
{
	int32		who;

	while ((who = plat_bulkhead_next(&shared->bulkhead, links)) != PLAT_NOBODY)
	{
		PlatSharedPlace *place = &places[who];
		uint64		now = plat_clock();

		count_slot(shared);
		shared->waits[plat_wait_bucket(now - place->since)]++;
		place->since = now;
		pg_write_barrier();
		pg_atomic_write_u32(&place->state, PLAT_PLACE_HOLDS);
		SetLatch(&ProcGlobal->allProcs[who / PLAT_PLACES].procLatch);
	}
	LWLockRelease(&shared->head.lock);
}

/*
 * Give the slot of a place of this backend back, and free the place.
 */
void
plat_bulkhead_give_back(PlatSharedBulkhead *shared, PlatClass class, int place)
{
	LWLockAcquire(&shared->head.lock, LW_EXCLUSIVE);
	clear_place(place);
	plat_bulkhead_leave(&shared->bulkhead, class);
	hand_on_and_unlock(shared);
}

/*
 * This transaction has changed a definition.
 */
void
plat_bulkhead_note_change(void)
{
	is_changed = plat_shmem_attach();
}

/*
 * Wake all who wait in this database, because a definition has changed: they
 * look at it again.
 */
static void
wake_waiters(PlatSharedNamed *entry, Oid database, const pg_uuid_t *id, void *arg)
{
	uint64		ticket = pg_atomic_read_u64(&entry->ticket);

	if (database != MyDatabaseId ||
		plat_bulkhead_waiting(&((PlatSharedBulkhead *) entry)->bulkhead) == 0)
		return;
	for (int i = 0; i < header->count; i++)
		if (pg_atomic_read_u64(&places[i].ticket) == ticket &&
			pg_atomic_read_u32(&places[i].state) == PLAT_PLACE_WAITS)
			SetLatch(&ProcGlobal->allProcs[i / PLAT_PLACES].procLatch);
}

/*
 * It has given rules to a bulkhead: they are installed when it commits.
 */
void
plat_bulkhead_note_rules(const PlatBulkheadDefinition *definition)
{
	if (!plat_shmem_attach())
		return;
	changes = plat_array_reserve(changes, nchanges, &max_changes,
								 sizeof(Change));
	changes[nchanges++] = (Change)
	{
		definition->head.id, definition->rules, GetCurrentTransactionNestLevel()
	};
}

/*
 * Install rules that are committed.  Whoever gives a slot back from now on does
 * so by these.  Must not fail.
 */
static void
install(const Change *change)
{
	PlatNamed	definition = {.id = change->id};
	PlatSharedBulkhead *shared;

	if (!plat_named_lock_id(&plat_bulkheads, &definition))
		return;
	shared = (PlatSharedBulkhead *) definition.entry;
	shared->bulkhead.rules = change->rules;
	pg_atomic_fetch_add_u64(&shared->installs, 1);
	hand_on_and_unlock(shared);
}

/*
 * The transaction ends; what it has changed is seen by all now, or by nobody.
 * Must not fail.
 */
void
plat_bulkhead_end_change(bool is_commit)
{
	for (int i = 0; is_commit && i < nchanges; i++)
		install(&changes[i]);
	nchanges = 0;
	if (is_changed && is_commit)
		plat_named_walk(&plat_bulkheads, true, wake_waiters, NULL);
	is_changed = false;
}

/*
 * A subtransaction of this level ends: what it has changed is undone, or its
 * parent's.
 */
void
plat_bulkhead_end_subchange(int level, bool is_commit)
{
	for (int i = 0; is_commit && i < nchanges; i++)
		changes[i].level = Min(changes[i].level, level - 1);
	while (!is_commit && nchanges > 0 && changes[nchanges - 1].level >= level)
		nchanges--;
}

/*
 * Take who waits out of the queue again; whom a slot was handed to meanwhile
 * hands it on.  Callback of a wait that did not end well.
 */
static void
abandon(int code, Datum arg)
{
	PlatSlotRequest *request = (PlatSlotRequest *) DatumGetPointer(arg);
	PlatSharedBulkhead *shared = request->shared;

	LWLockAcquire(&shared->head.lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&my_place(request->place)->state) == PLAT_PLACE_HOLDS)
		plat_bulkhead_leave(&shared->bulkhead, request->class);
	else
		plat_bulkhead_unqueue(&shared->bulkhead, links, request->class,
							  number_of_place(request->place));
	clear_place(request->place);
	hand_on_and_unlock(shared);
}

/*
 * The time is over: false, out of the queue, unless a slot has just come.
 */
static bool
give_up(const PlatSlotRequest *request)
{
	PlatSharedBulkhead *shared = request->shared;
	bool		has_slot;

	LWLockAcquire(&shared->head.lock, LW_EXCLUSIVE);
	has_slot = pg_atomic_read_u32(&my_place(request->place)->state) == PLAT_PLACE_HOLDS;
	if (!has_slot)
	{
		plat_bulkhead_unqueue(&shared->bulkhead, links, request->class,
							  number_of_place(request->place));
		clear_place(request->place);
		shared->timed_out++;
	}
	LWLockRelease(&shared->head.lock);
	return has_slot;
}

/*
 * The definition of a request as the table has it now; 42704 if there is none
 * any more, or another of the same name. What an invalidation is still to tell
 * may be committed already.
 */
static PlatBulkheadDefinition *
reread(PlatSlotRequest *request)
{
	PlatNamed  *definition;

	plat_named_reread(&plat_bulkheads);
	definition = plat_named_get(&plat_bulkheads, request->name, true);
	if (definition == NULL ||
		memcmp(&definition->id, &request->id, sizeof(pg_uuid_t)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("bulkhead \"%s\" was dropped meanwhile", request->name)));
	return (PlatBulkheadDefinition *) definition;
}

/*
 * Make the bulkhead of a request follow the definition that the table has now;
 * returns that.  What was read is installed only if nobody has installed
 * another meanwhile, which may be a newer one.
 */
static PlatBulkheadDefinition *
follow(PlatSlotRequest *request)
{
	PlatBulkheadDefinition *definition;
	PlatSharedBulkhead *shared;
	uint64		installs;

	for (;;)
	{
		installs = pg_atomic_read_u64(&request->shared->installs);
		definition = reread(request);
		plat_named_lock(&plat_bulkheads, &definition->head);
		shared = (PlatSharedBulkhead *) definition->head.entry;
		request->shared = shared;
		if (!is_to_follow(shared, definition))
			break;
		if (pg_atomic_read_u64(&shared->installs) == installs)
		{
			shared->bulkhead.rules = definition->rules;
			pg_atomic_write_u64(&shared->installs, installs + 1);
			break;
		}
		LWLockRelease(&shared->head.lock);
		CHECK_FOR_INTERRUPTS();
	}
	hand_on_and_unlock(shared);
	return definition;
}

/*
 * Make a bulkhead follow its definition without asking for a slot; who can be
 * let in by then is.  One that nobody has used is left alone.  55000 if this
 * transaction has changed definitions, which are not for others before it
 * commits; 42704 if the bulkhead is dropped meanwhile.
 */
void
plat_bulkhead_install(PlatBulkheadDefinition *definition)
{
	PlatSlotRequest request = {.id = definition->head.id};

	if (is_changed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("bulkhead \"%s\" cannot follow its definition yet",
						definition->head.name),
				 errdetail("This transaction has changed bulkheads."),
				 errhint("It follows when the transaction commits.")));
	if (!plat_named_peek(&plat_bulkheads, &definition->head))
		return;
	strlcpy(request.name, definition->head.name, sizeof(request.name));
	request.shared = (PlatSharedBulkhead *) definition->head.entry;
	(void) follow(&request);
}

/*
 * While this backend waits: look whether there is another definition, unless
 * somebody has locked the table or its index, whom not to wait for.
 */
static void
look_again(PlatSlotRequest *request)
{
	Oid			table = plat_bulkheads.relid;
	Relation	rel;
	Oid			index;

	if (!ConditionalLockRelationOid(table, AccessShareLock))
		return;
	rel = RelationIdGetRelation(table);
	index = RelationIsValid(rel) ? plat_primary_key(rel) : InvalidOid;
	if (RelationIsValid(rel))
		RelationClose(rel);
	if (!OidIsValid(index))
		(void) reread(request);
	else if (ConditionalLockRelationOid(index, AccessShareLock))
	{
		(void) follow(request);
		UnlockRelationOid(index, AccessShareLock);
	}
	UnlockRelationOid(table, AccessShareLock);
}

/*
 * Sleep until the slot is there or the time is over.
 */
static void
sleep_for_slot(PlatSlotRequest *request, uint64 deadline)
{
	PlatSharedPlace *mine = my_place(request->place);

	for (;;)
	{
		uint64		now = plat_clock();
		uint64		ms = now < deadline ? (deadline - now + 999999) / 1000000 : 0;

		CHECK_FOR_INTERRUPTS();
		if (pg_atomic_read_u32(&mine->state) == PLAT_PLACE_HOLDS || ms == 0)
			return;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) Min(ms, LOOK_INTERVAL),
						 plat_wait_event(header->tranche, WAIT_EVENT_NAME));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (pg_atomic_read_u32(&mine->state) != PLAT_PLACE_HOLDS)
			look_again(request);
	}
}

/*
 * Wait in the queue, in which this backend is; false if the time is over.
 */
static bool
wait_in_queue(PlatSlotRequest *request)
{
	uint64		now = plat_clock();
	uint64		deadline = request->wait > PG_UINT64_MAX - now ? PG_UINT64_MAX :
	now + request->wait;

	PG_ENSURE_ERROR_CLEANUP(abandon, PointerGetDatum(request));
	{
		sleep_for_slot(request, deadline);
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon, PointerGetDatum(request));
	if (pg_atomic_read_u32(&my_place(request->place)->state) == PLAT_PLACE_HOLDS)
		return true;
	return give_up(request);
}

/*
 * Append the numbers of a refusal to a JSON object.
 */
static char *
numbers_of(PlatSlotRequest *request, const char *reason)
{
	PlatBulkhead bulkhead;
	StringInfoData json;

	LWLockAcquire(&request->shared->head.lock, LW_SHARED);
	bulkhead = request->shared->bulkhead;
	LWLockRelease(&request->shared->head.lock);
	initStringInfo(&json);
	appendStringInfoString(&json, "{\"bulkhead\": ");
	escape_json(&json, request->name);
	appendStringInfo(&json, ", \"reason\": \"%s\", \"class\": \"%s\", \"size\": %d, \"in_use\": %d, \"reserved_for_others\": %d, \"queue\": %d, \"waiting\": %d}",
					 reason, plat_class_name(request->class), bulkhead.rules.size,
					 plat_bulkhead_in_use(&bulkhead),
					 plat_bulkhead_kept_from(&bulkhead, request->class),
					 bulkhead.rules.queue, plat_bulkhead_waiting(&bulkhead));
	return json.data;
}

/*
 * Raise 55P03, with the numbers as JSON in the detail.
 */
static void
raise_refusal(PlatSlotRequest *request, Refusal refusal)
{
	static const char *const reasons[] = {
		[REFUSED_AT_ONCE] = "no wait",
		[REFUSED_QUEUE_FULL] = "queue full",
		[REFUSED_TIMEOUT] = "timeout",
		[REFUSED_WITH_XID] = "transaction has written",
	};
	static const char *const messages[] = {
		[REFUSED_AT_ONCE] = "bulkhead \"%s\" has no free slot for class %s",
		[REFUSED_QUEUE_FULL] = "bulkhead \"%s\" has no free slot for class %s, and its queue is full",
		[REFUSED_TIMEOUT] = "no slot of bulkhead \"%s\" became free in time for class %s",
		[REFUSED_WITH_XID] = "bulkhead \"%s\" has no free slot for class %s",
	};
	static const char *const hints[] = {
		[REFUSED_AT_ONCE] = "Try again later, or wait with a timeout above 0.",
		[REFUSED_QUEUE_FULL] = "Try again later, or let more wait with alter_bulkhead(bulkhead, queue => ...).",
		[REFUSED_TIMEOUT] = "Try again later, or make the bulkhead larger.",
		[REFUSED_WITH_XID] = "Take the slot before the first write: the deadlock detector cannot see who waits for slots.",
	};

	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg(messages[refusal], request->name, plat_class_name(request->class)),
			 errdetail_internal("%s", numbers_of(request, reasons[refusal])),
			 errhint("%s", hints[refusal])));
}

/*
 * Ask for a slot or, if the request may wait, for a place in the queue.
 */
static PlatAnswer
ask(PlatSlotRequest *request)
{
	PlatBulkheadDefinition *definition = request->definition;
	PlatSharedBulkhead *shared;
	PlatAnswer	answer;

	plat_named_lock(&plat_bulkheads, &definition->head);
	shared = request->shared = (PlatSharedBulkhead *) definition->head.entry;

	/* Slots that a new definition brings are first for those who wait. */
	while (is_to_follow(shared, definition))
	{
		LWLockRelease(&shared->head.lock);
		strlcpy(request->name, definition->head.name, sizeof(request->name));
		request->id = definition->head.id;
		definition = request->definition = follow(request);
		plat_named_lock(&plat_bulkheads, &definition->head);
		shared = request->shared = (PlatSharedBulkhead *) definition->head.entry;
	}
	request->ticket = definition->head.ticket;
	answer = plat_bulkhead_ask(&shared->bulkhead, request->class);
	if (answer == PLAT_GOT_SLOT)
		count_slot(shared);
	else if (answer == PLAT_MAY_WAIT && request->wait > 0)
		plat_bulkhead_queue(&shared->bulkhead, links, request->class,
							number_of_place(request->place));
	else
		shared->rejected++;
	if (answer == PLAT_GOT_SLOT || (answer == PLAT_MAY_WAIT && request->wait > 0))
		fill_place(request->place, request->ticket, request->class,
				   answer == PLAT_GOT_SLOT ? PLAT_PLACE_HOLDS : PLAT_PLACE_WAITS,
				   plat_clock());
	LWLockRelease(&shared->head.lock);
	return answer;
}

/*
 * Get a slot that the session has none of, waiting as long as it may; without
 * one false, or 55P03 if it must have it.
 */
bool
plat_bulkhead_get_slot(PlatSlotRequest *request, bool must)
{
	PlatAnswer	answer = ask(request);
	Refusal		refusal = REFUSED_TIMEOUT;

	if (answer == PLAT_GOT_SLOT)
		return true;
	strlcpy(request->name, request->definition->head.name, sizeof(request->name));
	request->id = request->definition->head.id;
	if (answer == PLAT_MAY_WAIT && request->wait > 0)
	{
		/* The definition may be gone by the end of it. */
		request->definition = NULL;
		if (wait_in_queue(request))
			return true;
	}
	else
		refusal = request->is_forbidden ? REFUSED_WITH_XID :
			request->wait == 0 ? REFUSED_AT_ONCE : REFUSED_QUEUE_FULL;
	if (must)
		raise_refusal(request, refusal);
	return false;
}
