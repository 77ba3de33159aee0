/*
 * bulkhead_hold.c
 *		The slots that a backend has, and when it gives them back.
 *
 * What it has taken, and in which transaction, is in a list of its own: it
 * ends with the (sub)transaction, with release_slot(), with DISCARD ALL, or
 * with the process, whatever ends that.  What others see of it is in the
 * backend's places in shared memory, see bulkhead_queue.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/ipc.h"

#include "compat.h"
#include "array.h"
#include "bulkhead.h"

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
	bool		is_call;		/* of bulkhead_call(), which ends it */
} Acquisition;

static Acquisition *acquisitions = NULL;
static int	nacquisitions = 0;
static int	max_acquisitions = 0;

/*
 * The place with which this backend has a slot of a bulkhead, or -1.
 */
int
plat_bulkhead_find_hold(const PlatNamed *definition)
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
	acquisitions = plat_array_reserve(acquisitions, nacquisitions,
									  &max_acquisitions, sizeof(Acquisition));
}

/*
 * Note that the place of a request has got its slot.
 */
static void
note_hold(const PlatSlotRequest *request, const char *name, int len)
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
 * Whether an acquisition can be counted with the one before it.
 */
static bool
belong_together(const Acquisition *one, const Acquisition *other)
{
	return one->place == other->place && one->level == other->level &&
		!one->is_call && !other->is_call;
}

/*
 * Count an acquisition of a slot that this backend has.
 */
static void
note_acquisition(int place, PlatSlotScope scope)
{
	Acquisition *last = nacquisitions > 0 ? &acquisitions[nacquisitions - 1] : NULL;
	Acquisition acquisition = {
		.place = place,
		.level = scope == PLAT_SCOPE_SESSION ? 0 : GetCurrentTransactionNestLevel(),
		.count = 1,
		.is_call = scope == PLAT_SCOPE_CALL,
	};

	holds[place].count++;
	if (last && belong_together(last, &acquisition))
		last->count++;
	else
		acquisitions[nacquisitions++] = acquisition;
}

/*
 * Give the slot of a place back.
 */
static void
give_back(int place)
{
	Hold	   *hold = &holds[place];
	PlatSharedBulkhead *shared = hold->shared;

	hold->shared = NULL;
	nholds--;
	plat_bulkhead_give_back(shared, hold->class, place);
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
		if (last && belong_together(last, &acquisition))
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
	/* First the rules by which slots are handed on. */
	plat_bulkhead_end_change(event == XACT_EVENT_COMMIT);
	if (nacquisitions > 0)
		end_acquisitions(1);
}

static void
on_subxact_end(SubXactEvent event, SubTransactionId id,
			   SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	plat_bulkhead_end_subchange(level, event == SUBXACT_EVENT_COMMIT_SUB);
	if (nacquisitions == 0)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		end_acquisitions(level);
	else
		raise_acquisitions(level - 1);
}

/*
 * DISCARD ALL: slots of the session end with it.
 */
void
plat_bulkhead_discard(void)
{
	end_acquisitions(0);
}

/*
 * Do what a request wants: a slot that the session has is taken once more,
 * whatever the class.
 */
bool
plat_bulkhead_take(PlatSlotRequest *request, PlatSlotScope scope, bool must)
{
	reserve_acquisition();
	request->place = plat_bulkhead_find_hold(&request->definition->head);
	if (request->place < 0)
	{
		watch_exit();
		request->place = find_free_place();
		if (!plat_bulkhead_get_slot(request, must))
			return false;
		/* After a wait the definition is not at hand, but its name is. */
		if (request->definition)
			note_hold(request, request->definition->head.name,
					  request->definition->head.len);
		else
			note_hold(request, request->name, strlen(request->name));
	}
	note_acquisition(request->place, scope);
	return true;
}

/*
 * End the last acquisition of a place, that of a call or another, if this
 * backend has it for the bulkhead of this ticket; false otherwise.
 */
bool
plat_bulkhead_release_place(int place, uint64 ticket, bool is_call)
{
	if (place < 0 || holds[place].shared == NULL || holds[place].ticket != ticket)
		return false;
	for (int i = nacquisitions - 1; i >= 0; i--)
	{
		if (acquisitions[i].place != place || acquisitions[i].is_call != is_call)
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
 * The place with the slot that was taken last under this name, not counting
 * those of calls, or -1.
 */
int
plat_bulkhead_find_hold_by_name(const text * name)
{
	for (int i = nacquisitions - 1; i >= 0; i--)
	{
		const Hold *hold = &holds[acquisitions[i].place];

		if (!acquisitions[i].is_call && hold->len == VARSIZE_ANY_EXHDR(name) &&
			memcmp(hold->name, VARDATA_ANY(name), hold->len) == 0)
			return acquisitions[i].place;
	}
	return -1;
}

/*
 * Whether this backend has slots of any bulkhead.
 */
bool
plat_bulkhead_has_slots(void)
{
	return nholds > 0;
}

/*
 * The ticket of the bulkhead that a place has a slot of, or 0.
 */
uint64
plat_bulkhead_ticket_of(int place)
{
	return place >= 0 && holds[place].shared ? holds[place].ticket : 0;
}

/*
 * See to it that this process gives slots back with its transactions.
 */
void
plat_bulkhead_watch_transactions(void)
{
	static bool watched = false;

	if (!watched)
	{
		RegisterXactCallback(on_xact_end, NULL);
		RegisterSubXactCallback(on_subxact_end, NULL);
	}
	watched = true;
}
