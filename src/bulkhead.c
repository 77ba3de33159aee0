/*
 * bulkhead.c
 *		Bulkheads that all backends share: so many at a time, the others wait.
 *
 * A bulkhead's numbers and queues are an entry of a directory in shared
 * memory, guarded by the entry's lock; who is let in, and in which order, is
 * up to bulkhead_core.c.  Who gives a slot back hands it to who is next and
 * sets the latch of that process; so a slot is never free while somebody waits
 * for it, and nobody has to be quick.
 *
 * Each backend has a few places in shared memory, one for each bulkhead that
 * it has a slot of or waits for.  What it has taken, and in which transaction,
 * is in a list of its own: it ends with the (sub)transaction, with
 * release_slot(), or with the process, whatever ends that.
 *
 * The deadlock detector sees no slots.  So a transaction that others may have
 * to wait for, because it has written something, does not wait for one unless
 * it is told to, and who has a slot waits for another only so long.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "bulkhead.h"
#include "clock.h"
#include "config_table.h"
#include "shmem.h"
#include "sql.h"
#include "statement.h"
#include "tenant.h"

#define WAIT_EVENT_NAME "PlatpatBulkhead"

/* Longest wait for a slot without an end of those who have another. */
#define BOUNDED_WAIT (5 * PLAT_SECOND)

/* How often who waits looks whether the definition has changed, in ms. */
#define LOOK_INTERVAL 1000

#define MAX_SIZE 1000000

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

/* What a caller asks for. */
typedef struct Request
{
	PlatBulkheadDefinition *definition;
	char		name[PLAT_NAMED_MAX + 1];
	pg_uuid_t	id;
	PlatSharedBulkhead *shared;
	uint64		ticket;
	PlatClass	class;
	int			place;
	uint64		wait;			/* at most, 0 for not at all */
	bool		is_forbidden;	/* to wait, because of what the transaction
								 * has */
} Request;

/* What this backend's places are for: slots that it has. */
typedef struct Hold
{
	PlatSharedBulkhead *shared; /* NULL for a place that is free */
	uint64		ticket;
	PlatClass	class;
	int			count;			/* acquisitions */
	int			len;			/* of the name */
	char		name[PLAT_NAMED_MAX];	/* its definition may be gone */
} Hold;

static Hold holds[PLAT_PLACES];
static int	nholds = 0;

/* An acquisition, or several in a row of the same transaction. */
typedef struct Acquisition
{
	int			place;			/* of holds */
	int			level;			/* of the transaction, 0 for the session */
	int			count;
} Acquisition;

static Acquisition *acquisitions = NULL;
static int	nacquisitions = 0;
static int	max_acquisitions = 0;

/* Whether this transaction has changed a definition. */
static bool is_changed = false;

/* platpat.bulkhead_entries and platpat.bulkhead_wait_with_xid */
static int	bulkhead_entries = 256;
static bool wait_with_xid = false;

PG_FUNCTION_INFO_V1(plat_bulkhead_acquire);
PG_FUNCTION_INFO_V1(plat_bulkhead_try_acquire);
PG_FUNCTION_INFO_V1(plat_bulkhead_release);
PG_FUNCTION_INFO_V1(plat_bulkhead_call);
PG_FUNCTION_INFO_V1(plat_bulkhead_create);
PG_FUNCTION_INFO_V1(plat_bulkhead_alter);
PG_FUNCTION_INFO_V1(plat_bulkhead_drop);
PG_FUNCTION_INFO_V1(plat_bulkhead_check_row);
PG_FUNCTION_INFO_V1(plat_bulkhead_changed);

static const char *const class_names[PLAT_CLASSES] = {
	[PLAT_CRITICAL] = "critical",
	[PLAT_STANDARD] = "standard",
	[PLAT_BATCH] = "batch",
};

/*
 * The class in a word.
 */
const char *
plat_class_name(PlatClass class)
{
	return class_names[class];
}

/* ---------------------------------------------------------------- module */

static void discard(void);

static void
define_settings(bool preload)
{
	DefineCustomIntVariable("platpat.bulkhead_entries",
							"Bulkheads that shared memory has room for.",
							"1.5 kB each; bulkheads that nobody uses share.",
							&bulkhead_entries, 256, 16, 65536,
							preload ? PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("platpat.bulkhead_wait_with_xid",
							 "Whether a transaction that has written something may wait for a slot.",
							 "Only for a bounded time: the deadlock detector sees no slots.",
							 &wait_with_xid, false, PGC_USERSET, 0,
							 NULL, NULL, NULL);
}

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

static Size
shmem_size(void)
{
	return places_size(MaxBackends * PLAT_PLACES) +
		plat_named_size(&plat_bulkheads, bulkhead_entries);
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

static void
shmem_fill(void *part, Size size)
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

static void on_xact_end(XactEvent event, void *arg);
static void on_subxact_end(SubXactEvent event, SubTransactionId id,
						   SubTransactionId parent, void *arg);

static void
shmem_adopt(void *part)
{
	static bool registered = false;

	find_places(part);
	plat_named_adopt(&plat_bulkheads, (char *) part + places_size(header->count));
	LWLockRegisterTranche(header->tranche, WAIT_EVENT_NAME);
	if (!registered)
	{
		RegisterXactCallback(on_xact_end, NULL);
		RegisterSubXactCallback(on_subxact_end, NULL);
	}
	registered = true;
}

static const char *const admin_grants[] = {
	"EXECUTE ON FUNCTION platpat.create_bulkhead(text, int, int, jsonb, text)",
	"EXECUTE ON FUNCTION platpat.alter_bulkhead(text, int, int, jsonb, text)",
	"EXECUTE ON FUNCTION platpat.drop_bulkhead(text)",
	"EXECUTE ON FUNCTION platpat.bulkhead_stats()",
	"EXECUTE ON FUNCTION platpat.bulkhead_places()",
	"INSERT, UPDATE, DELETE ON platpat.bulkheads",
	"SELECT ON platpat.stat_bulkheads, platpat.bulkhead_holders",
	NULL
};

const PlatModule plat_bulkhead_module = {
	.name = "bulkhead",
	.define_settings = define_settings,
	.admin_grants = admin_grants,
	.shmem_size = shmem_size,
	.shmem_fill = shmem_fill,
	.shmem_adopt = shmem_adopt,
	.discard = discard,
	.put_metrics = plat_bulkhead_put_metrics,
	.reset_stats = plat_bulkhead_reset_stats,
};

/* ----------------------------------------------------------- definitions */

/*
 * A number of a row: 22004 for NULL, 22023 if it is out of range.
 */
static int32
number_of(Relation rel, HeapTuple row, const char *column, int32 min)
{
	Datum		value;
	int32		number;

	if (!plat_column(rel, row, column, &value))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", column)));
	number = DatumGetInt32(value);
	if (number < min || number > MAX_SIZE)
		plat_refuse_value(psprintf("%s is %d", column, number),
						  psprintf("It is a number from %d to %d.", min, MAX_SIZE));
	return number;
}

/*
 * The class of this name: 22023 if there is none.
 */
static PlatClass
class_of(const char *name)
{
	for (int class = 0; class < PLAT_CLASSES; class++)
		if (strcmp(name, class_names[class]) == 0)
			return (PlatClass) class;
	plat_refuse_value(psprintf("unknown class \"%s\"", plat_clip(name)),
					  "Classes are critical, standard and batch.");
	return PLAT_STANDARD;
}

/*
 * A value of reserved: 22023 unless it is a number of slots.
 */
static int32
reserve_of(const JsonbValue *value, const PlatBulkheadRules *rules)
{
	Datum		number;
	double		slots;

	if (value->type != jbvNumeric)
		plat_refuse_value("reserved must be an object of numbers",
						  "For example {\"critical\": 2}.");
	number = DirectFunctionCall1(numeric_float8_no_overflow,
								 NumericGetDatum(value->val.numeric));
	slots = DatumGetFloat8(number);
	if (!(slots >= 0 && slots <= rules->size) || slots != (int32) slots)
		plat_refuse_value(psprintf("%g slots cannot be reserved", slots),
						  psprintf("It is a whole number from 0 to the size, %d.",
								   rules->size));
	return (int32) slots;
}

/*
 * Read reserved of a row: 22023 unless it is an object of classes and numbers,
 * which are not more than the size together.
 */
static void
read_reserved(PlatBulkheadRules *rules, Relation rel, HeapTuple row)
{
	Datum		value;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	element;
	PlatClass	class = PLAT_STANDARD;
	int64		total = 0;

	if (!plat_column(rel, row, "reserved", &value))
		return;
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(value)))
		plat_refuse_value("reserved must be an object of numbers",
						  "For example {\"critical\": 2}.");
	iterator = JsonbIteratorInit(&DatumGetJsonbP(value)->root);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			class = class_of(pnstrdup(element.val.string.val,
									  element.val.string.len));
		else if (token == WJB_VALUE)
			total += rules->reserved[class] = reserve_of(&element, rules);
	}
	if (total > rules->size)
		plat_refuse_value(psprintf(INT64_FORMAT " slots cannot be reserved of %d",
								   total, rules->size),
						  "The classes together cannot have more than all.");
}

/*
 * Fill a definition from a row of platpat.bulkheads.
 */
static void
compile(PlatNamed *head, Relation rel, HeapTuple row)
{
	PlatBulkheadDefinition *definition = (PlatBulkheadDefinition *) head;
	PlatBulkheadRules *rules = &definition->rules;
	char	   *scope = plat_column_text(rel, row, "scope");

	memset(rules, 0, sizeof(*rules));
	rules->size = number_of(rel, row, "size", 1);
	rules->queue = number_of(rel, row, "queue", 0);
	read_reserved(rules, rel, row);
	if (scope == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("scope must not be null")));
	definition->is_session = strcmp(scope, "session") == 0;
	if (!definition->is_session && strcmp(scope, "transaction") != 0)
		plat_refuse_value(psprintf("unknown scope \"%s\"", plat_clip(scope)),
						  "Scopes are transaction and session.");
}

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
	.compile = compile,
	.init = init,
	.is_idle = is_idle,
};

/* ---------------------------------------------------------------- places */

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
		plat_bulkhead_note_wait(shared, now - place->since);
		place->since = now;
		pg_write_barrier();
		pg_atomic_write_u32(&place->state, PLAT_PLACE_HOLDS);
		SetLatch(&ProcGlobal->allProcs[who / PLAT_PLACES].procLatch);
	}
	LWLockRelease(&shared->head.lock);
}

/* ---------------------------------------------------- what a backend has */

/*
 * The place with which this backend has a slot of a bulkhead, or -1.
 */
static int
find_hold(const PlatNamed *definition)
{
	for (int i = 0; nholds > 0 && i < PLAT_PLACES; i++)
		if (holds[i].shared && &holds[i].shared->head == definition->entry &&
			holds[i].ticket == definition->ticket)
			return i;
	return -1;
}

/*
 * A place that is free; 54000 if there is none.
 */
static int
find_free_place(void)
{
	for (int i = 0; i < PLAT_PLACES; i++)
		if (holds[i].shared == NULL)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("a session cannot have slots of more than %d bulkheads at a time",
					PLAT_PLACES)));
	return -1;
}

/*
 * Make room for one more acquisition, which must not fail once it is there.
 */
static void
reserve_acquisition(void)
{
	if (nacquisitions < max_acquisitions)
		return;
	if (acquisitions == NULL)
		acquisitions = MemoryContextAlloc(TopMemoryContext,
										  8 * sizeof(Acquisition));
	else
		acquisitions = repalloc(acquisitions,
								2 * max_acquisitions * sizeof(Acquisition));
	max_acquisitions = max_acquisitions == 0 ? 8 : 2 * max_acquisitions;
}

/*
 * Note that the place of a request has got its slot.
 */
static void
note_hold(const Request *request, const char *name, int len)
{
	Hold	   *hold = &holds[request->place];

	hold->shared = request->shared;
	hold->ticket = request->ticket;
	hold->class = request->class;
	hold->count = 0;
	hold->len = len;
	memcpy(hold->name, name, len);
	nholds++;
}

/*
 * Count an acquisition of a slot that this backend has.
 */
static void
note_acquisition(int place, bool is_session)
{
	int			level = is_session ? 0 : GetCurrentTransactionNestLevel();
	Acquisition *last = nacquisitions > 0 ? &acquisitions[nacquisitions - 1] : NULL;

	holds[place].count++;
	if (last && last->place == place && last->level == level)
		last->count++;
	else
		acquisitions[nacquisitions++] = (Acquisition)
	{
		place, level, 1
	};
}

/*
 * Give a slot back to its bulkhead, and free the place.
 */
static void
give_back(int place)
{
	Hold	   *hold = &holds[place];
	PlatSharedBulkhead *shared = hold->shared;

	LWLockAcquire(&shared->head.lock, LW_EXCLUSIVE);
	clear_place(place);
	plat_bulkhead_leave(&shared->bulkhead, hold->class);
	hold->shared = NULL;
	nholds--;
	hand_on_and_unlock(shared);
}

/*
 * Undo so many acquisitions of a place; the last gives the slot back.
 */
static void
drop_acquisitions(int place, int count)
{
	holds[place].count -= count;
	if (holds[place].count == 0)
		give_back(place);
}

/*
 * End the acquisitions of transactions from a level on, or with level 0 those
 * of the session, too.
 */
static void
end_acquisitions(int level)
{
	int			kept = 0;

	for (int i = 0; i < nacquisitions; i++)
	{
		Acquisition acquisition = acquisitions[i];

		if (acquisition.level < level)
			acquisitions[kept++] = acquisition;
		else
			drop_acquisitions(acquisition.place, acquisition.count);
	}
	nacquisitions = kept;
}

/*
 * Pass the acquisitions of a subtransaction that has committed on to the
 * transaction of this level, putting together what belongs together.
 */
static void
raise_acquisitions(int level)
{
	int			kept = 0;

	for (int i = 0; i < nacquisitions; i++)
	{
		Acquisition acquisition = acquisitions[i];
		Acquisition *last = kept > 0 ? &acquisitions[kept - 1] : NULL;

		acquisition.level = Min(acquisition.level, level);
		if (last && last->place == acquisition.place &&
			last->level == acquisition.level)
			last->count += acquisition.count;
		else
			acquisitions[kept++] = acquisition;
	}
	nacquisitions = kept;
}

/*
 * Callback of this process's end.
 */
static void
give_back_all(int code, Datum arg)
{
	end_acquisitions(0);
}

/*
 * Before the first slot: see to it that the last is given back.
 */
static void
watch_exit(void)
{
	static bool watched = false;

	if (!watched)
		before_shmem_exit(give_back_all, (Datum) 0);
	watched = true;
}

static bool
has_transaction_slots(void)
{
	for (int i = 0; i < nacquisitions; i++)
		if (acquisitions[i].level > 0)
			return true;
	return false;
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

static void
on_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && has_transaction_slots())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot prepare a transaction that has a slot of a bulkhead"),
				 errhint("Give it back with platpat.release_slot() before, or use a bulkhead of scope session.")));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	if (nacquisitions > 0)
		end_acquisitions(1);
	if (is_changed && event == XACT_EVENT_COMMIT)
		plat_named_walk(&plat_bulkheads, true, wake_waiters, NULL);
	is_changed = false;
}

static void
on_subxact_end(SubXactEvent event, SubTransactionId id,
			   SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (nacquisitions == 0)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		end_acquisitions(level);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		raise_acquisitions(level - 1);
}

/*
 * DISCARD ALL: slots of the session end with it.
 */
static void
discard(void)
{
	end_acquisitions(0);
}

/* --------------------------------------------------------------- waiting */

/* Why there was no slot. */
typedef enum Refusal
{
	REFUSED_AT_ONCE, REFUSED_QUEUE_FULL, REFUSED_TIMEOUT, REFUSED_WITH_XID
} Refusal;

/*
 * Take who waits out of the queue again; whom a slot was handed to meanwhile
 * hands it on.  Callback of a wait that did not end well.
 */
static void
abandon(int code, Datum arg)
{
	Request    *request = (Request *) DatumGetPointer(arg);
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
give_up(const Request *request)
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
reread(Request *request)
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
follow(Request *request)
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
 * While this backend waits: look whether there is another definition, unless
 * somebody has locked the table, whom not to wait for.
 */
static void
look_again(Request *request)
{
	Oid			relid = plat_bulkheads.relid;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return;
	(void) follow(request);
	UnlockRelationOid(relid, AccessShareLock);
}

/*
 * Sleep until the slot is there or the time is over.
 */
static void
sleep_for_slot(Request *request, uint64 deadline)
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
wait_in_queue(Request *request)
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
numbers_of(Request *request, const char *reason)
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
					 reason, class_names[request->class], bulkhead.rules.size,
					 plat_bulkhead_in_use(&bulkhead),
					 plat_bulkhead_kept_from(&bulkhead, request->class),
					 bulkhead.rules.queue, plat_bulkhead_waiting(&bulkhead));
	return json.data;
}

/*
 * Raise 55P03, with the numbers as JSON in the detail.
 */
static void
raise_refusal(Request *request, Refusal refusal)
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
			 errmsg(messages[refusal], request->name, class_names[request->class]),
			 errdetail_internal("%s", numbers_of(request, reasons[refusal])),
			 errhint("%s", hints[refusal])));
}

/*
 * Ask for a slot or, if the request may wait, for a place in the queue.
 */
static PlatAnswer
ask(Request *request)
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
static bool
get_slot(Request *request, bool must)
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

/*
 * Do what a request wants: a slot that the session has is taken once more,
 * whatever the class.
 */
static bool
acquire(Request *request, bool is_session, bool must)
{
	reserve_acquisition();
	request->place = find_hold(&request->definition->head);
	if (request->place < 0)
	{
		watch_exit();
		request->place = find_free_place();
		if (!get_slot(request, must))
			return false;
		/* After a wait the definition is not at hand, but its name is. */
		if (request->definition)
			note_hold(request, request->definition->head.name,
					  request->definition->head.len);
		else
			note_hold(request, request->name, strlen(request->name));
	}
	note_acquisition(request->place, is_session);
	return true;
}

/*
 * End the last acquisition of a place, if this backend has it for the bulkhead
 * of this ticket; false otherwise.
 */
static bool
release(int place, uint64 ticket)
{
	if (place < 0 || holds[place].shared == NULL || holds[place].ticket != ticket)
		return false;
	for (int i = nacquisitions - 1; i >= 0; i--)
	{
		if (acquisitions[i].place != place)
			continue;
		if (--acquisitions[i].count == 0)
		{
			nacquisitions--;
			memmove(&acquisitions[i], &acquisitions[i + 1],
					(nacquisitions - i) * sizeof(Acquisition));
		}
		drop_acquisitions(place, 1);
		return true;
	}
	return false;
}

/*
 * The place with a slot that was taken under this name, or -1.
 */
static int
find_hold_by_name(const text *name)
{
	for (int i = 0; i < PLAT_PLACES; i++)
		if (holds[i].shared && holds[i].len == VARSIZE_ANY_EXHDR(name) &&
			memcmp(holds[i].name, VARDATA_ANY(name), holds[i].len) == 0)
			return i;
	return -1;
}

/* --------------------------------------------------------- SQL functions */

/*
 * The longest wait of an argument: 22023 if negative, no end for NULL.
 */
static uint64
wait_arg(FunctionCallInfo fcinfo, int argno)
{
	double		ns;

	if (PG_ARGISNULL(argno))
		return PG_UINT64_MAX;
	ns = plat_interval_ns(PG_GETARG_INTERVAL_P(argno));
	if (ns < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	return ns >= (double) PLAT_MAX_INTERVAL_NS ? PG_UINT64_MAX : (uint64) ns;
}

/*
 * How long a request may really wait: lock_timeout holds, too; a transaction
 * that has written may not wait, or not without an end, and nor may one that
 * has other slots.
 */
static void
limit_wait(Request *request)
{
	bool		has_written = TransactionIdIsValid(GetTopTransactionIdIfAny());

	if (LockTimeout > 0)
		request->wait = Min(request->wait, (uint64) LockTimeout * 1000000);
	if (request->wait == PG_UINT64_MAX && (has_written || nholds > 0))
		request->wait = BOUNDED_WAIT;
	request->is_forbidden = request->wait > 0 && has_written && !wait_with_xid;
	if (request->is_forbidden)
		request->wait = 0;
}

/*
 * A request of a function: its first argument is the bulkhead, its class that
 * of the argument. 22004, 22023, 42704, 54000, 55000.
 */
static Request
request_of(FunctionCallInfo fcinfo, int class, uint64 wait)
{
	Request		request = {
		.definition = (PlatBulkheadDefinition *)
		plat_named_arg(&plat_bulkheads, fcinfo),
		.wait = wait,
	};
	text	   *name;

	plat_refuse_null(fcinfo, class, "class");
	name = PG_GETARG_TEXT_PP(class);
	request.class = PLAT_STANDARD;
	if (VARSIZE_ANY_EXHDR(name) != strlen("standard") ||
		memcmp(VARDATA_ANY(name), "standard", strlen("standard")) != 0)
		request.class = class_of(text_to_cstring(name));
	limit_wait(&request);
	return request;
}

/*
 * platpat.acquire_slot(bulkhead text, timeout interval, class text) returns
 * boolean: VOLATILE, PARALLEL RESTRICTED, for PUBLIC.
 *
 * True with a slot, for which it waits at most so long; NULL is as long as
 * lock_timeout and statement_timeout allow.  Raises 22004, 22023, 42704,
 * 54000, 55000, 55P03, 57014.
 */
Datum
plat_bulkhead_acquire(PG_FUNCTION_ARGS)
{
	Request		request = request_of(fcinfo, 2, wait_arg(fcinfo, 1));

	PG_RETURN_BOOL(acquire(&request, request.definition->is_session, true));
}

/*
 * platpat.try_acquire_slot(bulkhead text, class text) returns boolean:
 * likewise; false if there is no slot now.
 */
Datum
plat_bulkhead_try_acquire(PG_FUNCTION_ARGS)
{
	Request		request = request_of(fcinfo, 1, 0);

	PG_RETURN_BOOL(acquire(&request, request.definition->is_session, false));
}

/*
 * platpat.release_slot(bulkhead text) returns boolean: likewise.
 *
 * Ends the last acquisition of this session; the slot is free with the first.
 * False if there is none.  A slot goes by the name that it was taken under,
 * also if the bulkhead was dropped since.
 */
Datum
plat_bulkhead_release(PG_FUNCTION_ARGS)
{
	int			place = PG_ARGISNULL(0) ? -1 :
		find_hold_by_name(PG_GETARG_TEXT_PP(0));
	PlatNamed  *definition;

	if (place >= 0)
		PG_RETURN_BOOL(release(place, holds[place].ticket));
	definition = plat_named_arg(&plat_bulkheads, fcinfo);
	PG_RETURN_BOOL(release(find_hold(definition), definition->ticket));
}

/*
 * platpat.bulkhead_call(bulkhead text, command text, timeout interval, class
 * text, VARIADIC args text[]) returns setof jsonb: VOLATILE, PARALLEL UNSAFE,
 * for PUBLIC.
 *
 * Runs the command as breaker_call() does, with a slot that it gives back
 * afterwards, whatever the scope.  Raises what the command raises and what
 * acquire_slot() does.
 */
Datum
plat_bulkhead_call(PG_FUNCTION_ARGS)
{
	PlatStatement statement;
	Request		request;
	ErrorData  *error;
	uint64		ticket;

	plat_statement_args(fcinfo, 1, 4, &statement);
	request = request_of(fcinfo, 3, wait_arg(fcinfo, 2));
	(void) acquire(&request, false, true);
	ticket = holds[request.place].ticket;
	error = plat_statement_run(fcinfo, &statement);
	(void) release(request.place, ticket);
	if (error)
		ReThrowError(error);
	return (Datum) 0;
}

/*
 * platpat.create_bulkhead(...) returns void: for administrators; the arguments
 * are the columns of platpat.bulkheads. Raises 22004, 22023, 42710.
 */
Datum
plat_bulkhead_create(PG_FUNCTION_ARGS)
{
	plat_named_create(&plat_bulkheads, fcinfo);
	PG_RETURN_VOID();
}

/*
 * platpat.alter_bulkhead(...) returns void: likewise; NULL leaves a column as
 * it is.  Those who wait are let in at its commit if there is room by then.
 * Raises 22004, 22023, 42704.
 */
Datum
plat_bulkhead_alter(PG_FUNCTION_ARGS)
{
	plat_named_alter(&plat_bulkheads, fcinfo);
	PG_RETURN_VOID();
}

/*
 * platpat.drop_bulkhead(bulkhead text) returns void: likewise. Who waits gets
 * 42704 at its commit, who has a slot is not disturbed. Raises 22004, 22023,
 * 42704.
 */
Datum
plat_bulkhead_drop(PG_FUNCTION_ARGS)
{
	plat_named_drop(&plat_bulkheads, fcinfo);
	PG_RETURN_VOID();
}

/*
 * BEFORE INSERT OR UPDATE row trigger of platpat.bulkheads.
 */
Datum
plat_bulkhead_check_row(PG_FUNCTION_ARGS)
{
	return plat_named_check_row(&plat_bulkheads, fcinfo);
}

/*
 * AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE trigger: every session reads
 * its bulkheads anew, and those who wait are woken for it at the commit.
 */
Datum
plat_bulkhead_changed(PG_FUNCTION_ARGS)
{
	is_changed = plat_shmem_attach();
	return plat_config_changed(fcinfo);
}
