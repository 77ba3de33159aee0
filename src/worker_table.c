/*
 * worker_table.c
 *		Databases and processes of the workers in shared memory, and waking.
 *
 * The table has an entry for each database that a worker may be needed in.
 * The launcher makes entries, and so does a backend that wakes; only the
 * launcher frees them, of databases that are gone.  Both hold the lock for
 * that.  Everything else is atomic and read and written without a lock:
 * a database's own worker writes next_due and its process, the launcher
 * counts failures up before a start, a round that passed sets them to 0.
 *
 * Nothing that was wanted is lost, because all sides write first and then
 * look, with full barriers in between:
 *
 * 1. Who wakes sets wanted and then looks whether the database has a worker.
 *    If so it sets that one's latch, otherwise the launcher's.
 * 2. A worker sets wanted to 0 before a round looks at the database, so what
 *    was committed before a later setting is seen by a later round.
 * 3. A worker that ends takes its process out of the entry and then looks at
 *    wanted once more; if it is set, it sets the launcher's latch.
 *
 * If wanted is set before the look of 3, the worker wakes the launcher; if
 * after it, then 1 looks later still, finds no worker and wakes the launcher
 * itself.  Who finds wanted set already leaves it at that: whoever has set it
 * wakes, and the round that sets it to 0 has yet to look.  A launcher that is
 * just not there looks into every database when it starts.
 *
 * topics says what it was wanted for, where a module asks.  It is set before
 * wanted and taken in the round that has set that to 0, or later.  A topic is
 * one of 64 bits, so that one may stand for another: who takes them looks at
 * something more than needed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "clock.h"
#include "compat.h"
#include "shmem.h"
#include "worker.h"
#include "worker_table.h"

PlatSharedWorkers *plat_workers = NULL;

/* Whether this process is the worker of a database. */
bool		plat_worker_serves = false;

/* Whether the transaction wakes this database's worker if it commits. */
static bool wakes_at_commit = false;

/* What it is to look at then. */
static uint64 topics_at_commit = 0;

Size
plat_worker_table_size(void)
{
	return sizeof(PlatSharedWorkers);
}

/*
 * Make an entry that belongs to no database.
 */
static void
init_entry(PlatSharedDatabase *entry)
{
	pg_atomic_init_u32(&entry->oid, InvalidOid);
	pg_atomic_init_u32(&entry->failures, 0);
	pg_atomic_init_u32(&entry->leave, 0);
	entry->scan = 0;
	pg_atomic_init_u64(&entry->wanted, 0);
	pg_atomic_init_u64(&entry->topics, 0);
	pg_atomic_init_u64(&entry->next_due, 0);
	pg_atomic_init_u64(&entry->worker, 0);
}

void
plat_worker_table_fill(void *part, Size size)
{
	PlatSharedWorkers *workers = part;

	pg_atomic_init_u64(&workers->launcher, 0);
	pg_atomic_init_u32(&workers->wanted, 0);
	pg_atomic_init_u32(&workers->queued, 0);
	plat_shmem_init_lock(&workers->lock);
	workers->scan = 0;
	for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
		init_entry(&workers->databases[i]);
}

/*
 * This process, as it stands in shared memory.
 */
uint64
plat_worker_this_process(void)
{
	return (uint64) MyProcPid << 32 | (uint32) plat_proc_number();
}

/*
 * Set the latch of a process, if there is one. Whoever has its place by now
 * is not disturbed by that.
 */
void
plat_worker_signal(PlatSharedProcess *process)
{
	uint64		value = pg_atomic_read_u64(process);

	if (value != 0)
		SetLatch(&ProcGlobal->allProcs[(uint32) value].procLatch);
}

/*
 * The entry of a database, or NULL; without the lock it may be freed, unless
 * the caller is connected to the database.
 */
PlatSharedDatabase *
plat_worker_find(Oid database)
{
	for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
		if (pg_atomic_read_u32(&plat_workers->databases[i].oid) == database)
			return &plat_workers->databases[i];
	return NULL;
}

/*
 * The entry of a database, made if need be, which is due at once then; NULL
 * when there is no room.
 */
PlatSharedDatabase *
plat_worker_make(Oid database)
{
	PlatSharedDatabase *entry;

	LWLockAcquire(&plat_workers->lock, LW_EXCLUSIVE);
	entry = plat_worker_find(database);
	if (entry == NULL && (entry = plat_worker_find(InvalidOid)) != NULL)
	{
		init_entry(entry);
		entry->scan = plat_workers->scan;
		pg_write_barrier();
		pg_atomic_write_u32(&entry->oid, database);
	}
	LWLockRelease(&plat_workers->lock);
	return entry;
}

/*
 * The entry of the database that this backend is connected to, which nobody
 * frees meanwhile; NULL when there is no room.
 */
static PlatSharedDatabase *
own_entry(void)
{
	static PlatSharedDatabase *own = NULL;

	if (own == NULL || pg_atomic_read_u32(&own->oid) != MyDatabaseId)
		own = plat_worker_find(MyDatabaseId);
	if (own == NULL)
		own = plat_worker_make(MyDatabaseId);
	return own;
}

/*
 * Have a worker look at this database, and at topics there.  Does not raise,
 * and does nothing where there are no workers.  In one only a topic counts,
 * because what a function of users has changed there may be another's business;
 * it is no reason for a round at once, or two such functions would keep each
 * other busy for ever.
 */
static void
wake_database(uint64 topics)
{
	PlatSharedDatabase *entry;
	uint64		none = 0;

	if (plat_workers == NULL || !plat_shmem_is_preloaded() ||
		(plat_worker_serves && topics == 0) || !OidIsValid(MyDatabaseId))
		return;
	entry = own_entry();
	if (entry == NULL)
		return;
	if (topics != 0)
		(void) pg_atomic_fetch_or_u64(&entry->topics, topics);
	if (plat_worker_serves)
		return;
	if (!pg_atomic_compare_exchange_u64(&entry->wanted, &none, plat_clock()))
		return;
	if (pg_atomic_read_u64(&entry->worker) != 0)
		plat_worker_signal(&entry->worker);
	else
		plat_worker_signal(&plat_workers->launcher);
}

/*
 * Transaction callback. What was prepared is committed by another session,
 * which does not know of it.
 */
static void
on_xact_end(XactEvent event, void *arg)
{
	bool		wakes = wakes_at_commit;
	uint64		topics = topics_at_commit;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	wakes_at_commit = false;
	topics_at_commit = 0;
	if (wakes && event != XACT_EVENT_ABORT)
		wake_database(topics);
}

void
plat_worker_table_adopt(void *part)
{
	static bool watches = false;

	plat_workers = part;
	if (!watches)
		RegisterXactCallback(on_xact_end, NULL);
	watches = true;
}

/*
 * The bit of a topic.
 */
static uint64
topic_bit(const char *topic)
{
	return UINT64CONST(1) << (hash_bytes((const unsigned char *) topic, strlen(topic)) % 64);
}

/*
 * Whether a topic may be among those of plat_worker_take_topics().
 */
bool
plat_worker_has_topic(uint64 topics, const char *topic)
{
	return (topics & topic_bit(topic)) != 0;
}

/*
 * What others want the worker of this database to look at, once; in the worker.
 */
uint64
plat_worker_take_topics(void)
{
	Assert(plat_worker_serves);
	return pg_atomic_exchange_u64(&own_entry()->topics, 0);
}

/*
 * Whether there are any of those now.
 */
bool
plat_worker_has_topics(void)
{
	return pg_atomic_read_u64(&own_entry()->topics) != 0;
}

/*
 * Have a worker look at this database at once, and at a topic if it is not
 * NULL, for what other sessions can see already.  Does not raise, and does
 * nothing where there are no workers, and without a topic in one.
 */
void
plat_worker_wake_database(const char *topic)
{
	wake_database(topic ? topic_bit(topic) : 0);
}

/*
 * The same when the transaction commits, and not at all if it does not. Does
 * not raise.
 */
void
plat_worker_wake_at_commit(const char *topic)
{
	wakes_at_commit = true;
	if (topic)
		topics_at_commit |= topic_bit(topic);
}
