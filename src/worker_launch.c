/*
 * worker_launch.c
 *		Which databases get a worker, and when: the launcher's half of the
 *		databases' workers.
 *
 * The launcher reads pg_database at its start, every naptime, and before it
 * starts workers, so that it knows databases that are new, dropped, closed or
 * half dropped.  Each is looked at once; what its worker finds there says when
 * the next is due.
 *
 * A worker must be in nobody's way.  Commands that want a database without
 * sessions, such as DROP DATABASE, lock it first and then wait five seconds
 * for sessions to end.  The launcher sees the lock: it starts no worker then,
 * asks a running one to leave, and ends one that is busy half a second later.
 *
 * What is shared is the table of worker_table.c; what is here is the
 * launcher's own, by the numbers of the entries.  A launcher that was started
 * anew knows the workers of its predecessor by their process in the table.
 */
#include "postgres.h"

#include <dlfcn.h>

#include <signal.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "clock.h"
#include "compat.h"
#include "worker_table.h"

/* Between two looks while workers run or wait, and at the end of recovery. */
#define TICK (PLAT_SECOND / 2)

/* How long a database is left alone that somebody wants for himself. */
#define POLITE_WAIT PLAT_SECOND

/* First and longest waits after failures. */
#define FIRST_RETRY (5 * PLAT_SECOND)
#define LAST_RETRY (300 * PLAT_SECOND)
#define LAST_SLOT_RETRY (60 * PLAT_SECOND)

/*
 * What the launcher knows of the database of an entry.
 */
typedef struct PlatLaunch
{
	BackgroundWorkerHandle *handle; /* of the worker that it started */
	bool		known;			/* stood in pg_database */
	bool		open;			/* can have a worker */
	uint64		asked;			/* when the worker was asked to leave, or 0 */
	uint64		not_before;		/* starts no worker */
} PlatLaunch;

static PlatLaunch launches[PLAT_WORKER_DATABASES];

/* Settings platpat.worker_naptime, in seconds, and platpat.max_workers. */
int			plat_worker_naptime = 60;
int			plat_worker_most = 2;

/* When pg_database was read, or 0. */
static uint64 read_at = 0;

/*
 * The wait for a slot of max_worker_processes, 0 while there are some, and
 * whether the log has heard of it since all that waited had one.
 */
static uint64 slot_wait = 0;
static uint64 slot_retry_at = 0;
static bool has_told = false;

/*
 * The file that this library was loaded from.  The workers must load the same,
 * and by which name it is found is up to dynamic_library_path.  A path that is
 * longer than a worker's registration can hold is left to be found.
 */
static const char *
library_path(void)
{
	Dl_info		info;

	if (dladdr(&plat_worker_modules, &info) == 0 || info.dli_fname == NULL ||
		strlen(info.dli_fname) >= sizeof(((BackgroundWorker *) NULL)->bgw_library_name))
		return "$libdir/platpat";
	return info.dli_fname;
}

/*
 * Begin the registration of a worker: its name, its function, and what all of
 * ours have in common.
 */
void
plat_worker_describe(BackgroundWorker *worker, const char *function,
					 const char *name)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	strlcpy(worker->bgw_library_name, library_path(),
			sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker->bgw_name, name, BGW_MAXLEN);
	strlcpy(worker->bgw_type, name, BGW_MAXLEN);
}

static PlatSharedDatabase *
entry_of(int i)
{
	return &plat_workers->databases[i];
}

/*
 * When to try again after so many failures in a row: 5 s and then twice as
 * long each time up to 5 min, more or less by 13 %, so that databases do not
 * all come at once.
 */
uint64
plat_worker_retry_time(uint32 failures)
{
	uint64		wait = FIRST_RETRY << Min(failures > 0 ? failures - 1 : 0, 6);
	double		jitter = 0.87 + 0.26 * pg_prng_double(&pg_global_prng_state);

	return plat_clock() + (uint64) (Min(wait, LAST_RETRY) * jitter);
}

/*
 * Whether there is a worker, or will be in a moment. One that has taken itself
 * out of the table runs until the postmaster says that it has ended.
 */
static bool
is_running(int i)
{
	return launches[i].handle != NULL ||
		pg_atomic_read_u64(&entry_of(i)->worker) != 0;
}

/*
 * When the database of an entry wants a worker. While it fails being woken
 * does not count.
 */
static uint64
due_time(int i)
{
	PlatSharedDatabase *entry = entry_of(i);
	uint64		wanted = pg_atomic_read_u64(&entry->wanted);
	uint64		due = pg_atomic_read_u64(&entry->next_due);

	if (wanted != 0 && pg_atomic_read_u32(&entry->failures) == 0)
		due = Min(due, wanted);
	return Max(due, launches[i].not_before);
}

/*
 * Whether the database of an entry waits for a worker. One that was not read
 * yet may be open.
 */
static bool
is_waiting(int i)
{
	return pg_atomic_read_u32(&entry_of(i)->oid) != InvalidOid &&
		(launches[i].open || !launches[i].known) && !is_running(i);
}

/*
 * The entry that has waited the longest at this time, or -1.
 */
static int
oldest_due(uint64 now)
{
	uint64		oldest = now;
	int			found = -1;

	for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
	{
		uint64		due = is_waiting(i) ? due_time(i) : PLAT_WORKER_NEVER;

		if (due > oldest)
			continue;
		oldest = due;
		found = i;
	}
	return found;
}

/*
 * Give back the handles of workers that have ended.
 */
static void
forget_ended(void)
{
	for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
	{
		pid_t		pid;

		if (!is_running(i))
			launches[i].asked = 0;
		if (launches[i].handle == NULL ||
			GetBackgroundWorkerPid(launches[i].handle, &pid) != BGWH_STOPPED)
			continue;
		pfree(launches[i].handle);
		launches[i].handle = NULL;
	}
}

/*
 * Note a row of pg_database.
 */
static void
note_database(const FormData_pg_database *row)
{
	static bool has_complained = false;
	bool		open = row->datallowconn && !row->datistemplate &&
	row->datconnlimit != DATCONNLIMIT_INVALID_DB;
	PlatSharedDatabase *entry;
	PlatLaunch *launch;

	entry = open ? plat_worker_make(row->oid) : plat_worker_find(row->oid);
	/* One that is not open is known only so that its entry is kept. */
	if (entry != NULL)
	{
		launch = &launches[entry - plat_workers->databases];
		launch->known = true;
		launch->open = open;
	}
	else if (open && !has_complained)
	{
		has_complained = true;
		ereport(LOG,
				(errmsg("platpat starts workers for no more than %d databases",
						PLAT_WORKER_DATABASES),
				 errhint("In the others call the functions that work by hand.")));
	}
}

/*
 * Free the entries of databases that are gone. One that was made since the
 * reading of this number began may be of a database that is newer still.
 */
static void
free_entries(uint32 scan)
{
	LWLockAcquire(&plat_workers->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
		if (!launches[i].known && !is_running(i) && entry_of(i)->scan != scan)
		{
			pg_atomic_write_u32(&entry_of(i)->oid, InvalidOid);
			launches[i].not_before = 0;
		}
	LWLockRelease(&plat_workers->lock);
}

/*
 * Begin a reading of pg_database, before its snapshot is taken. Returns its
 * number.
 */
static uint32
next_scan(void)
{
	uint32		scan;

	LWLockAcquire(&plat_workers->lock, LW_EXCLUSIVE);
	scan = ++plat_workers->scan;
	LWLockRelease(&plat_workers->lock);
	return scan;
}

/*
 * Note all rows of pg_database.
 */
static void
note_databases(void)
{
	Relation	rel = table_open(DatabaseRelationId, NoLock);
	TableScanDesc scan = table_beginscan_catalog(rel, 0, NULL);
	HeapTuple	tuple;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		note_database((Form_pg_database) GETSTRUCT(tuple));
	table_endscan(scan);
	table_close(rel, NoLock);
}

/*
 * Read pg_database, unless somebody has locked it: what else the launcher has
 * to do does not wait for that.
 */
static void
read_databases(void)
{
	uint32		number;

	StartTransactionCommand();
	if (ConditionalLockRelationOid(DatabaseRelationId, AccessShareLock))
	{
		for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
			launches[i].known = launches[i].open = false;
		number = next_scan();
		note_databases();
		free_entries(number);
		read_at = plat_clock();
	}
	CommitTransactionCommand();
	pgstat_report_stat(false);
}

/*
 * Whether a session may enter the database: nobody has it, or waits to have
 * it, for himself.  Whoever connects takes the same lock.
 */
static bool
may_enter(int i)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId,
					   pg_atomic_read_u32(&entry_of(i)->oid), 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) ==
		LOCKACQUIRE_NOT_AVAIL)
		return false;
	LockRelease(&tag, RowExclusiveLock, true);
	return true;
}

/*
 * End a worker that was asked to leave and has not. Its process may have gone
 * and its id be another's, but hardly with the same number.
 */
static void
end_worker(int i)
{
	uint64		worker = pg_atomic_read_u64(&entry_of(i)->worker);
	pid_t		pid = (pid_t) (worker >> 32);

	if (worker != 0 && ProcGlobal->allProcs[(uint32) worker].pid == pid)
		kill(pid, SIGTERM);
}

/*
 * Have workers leave whose database somebody wants for himself.
 */
static void
make_way(uint64 now)
{
	for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
	{
		if (pg_atomic_read_u64(&entry_of(i)->worker) == 0 || may_enter(i))
			continue;
		if (launches[i].asked == 0)
		{
			launches[i].asked = now;
			pg_atomic_write_u32(&entry_of(i)->leave, 1);
			plat_worker_signal(&entry_of(i)->worker);
		}
		else if (launches[i].asked + TICK <= now)
			end_worker(i);
	}
}

/*
 * There is no slot of max_worker_processes: try again in a second, and then
 * in twice as long each time.
 */
static void
note_no_slot(uint64 now)
{
	if (!has_told)
		ereport(LOG,
				(errmsg("platpat finds no free slot for a background worker"),
				 errhint("Raise max_worker_processes, or lower platpat.max_workers.")));
	has_told = true;
	slot_wait = slot_wait == 0 ? PLAT_SECOND :
		Min(2 * slot_wait, LAST_SLOT_RETRY);
	slot_retry_at = now + slot_wait;
}

/*
 * Start the worker of an entry's database; false without a slot for it.  The
 * start counts as a failure until a round has passed, because a process that
 * ends early may have no occasion to say so.
 */
static bool
start_worker(int i)
{
	PlatSharedDatabase *entry = entry_of(i);
	uint32		failures = pg_atomic_read_u32(&entry->failures);
	uint64		due = pg_atomic_read_u64(&entry->next_due);
	BackgroundWorker worker;

	plat_worker_describe(&worker, "plat_worker_database_main",
						 "platpat worker");
	worker.bgw_flags |= BGWORKER_INTERRUPTIBLE;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(pg_atomic_read_u32(&entry->oid));
	worker.bgw_notify_pid = MyProcPid;
	/* From its registration on all of these are the worker's. */
	pg_atomic_write_u32(&entry->leave, 0);
	pg_atomic_write_u32(&entry->failures, failures + 1);
	pg_atomic_write_u64(&entry->next_due, plat_worker_retry_time(failures + 1));
	/* The handle has to outlive whatever context is current. */
	MemoryContextSwitchTo(TopMemoryContext);
	if (RegisterDynamicBackgroundWorker(&worker, &launches[i].handle))
		return true;
	pg_atomic_write_u32(&entry->failures, failures);
	pg_atomic_write_u64(&entry->next_due, due);
	return false;
}

/*
 * Start workers for databases that are due, the oldest first, while there is
 * room. One that is newer than the reading of pg_database comes a bit later.
 */
static void
start_workers(uint64 now)
{
	int			room = plat_worker_most;
	int			i;

	for (i = 0; i < PLAT_WORKER_DATABASES; i++)
		if (is_running(i))
			room--;
	while (room > 0 && now >= slot_retry_at && (i = oldest_due(now)) >= 0)
	{
		if (!launches[i].open || !may_enter(i))
		{
			launches[i].not_before = now + POLITE_WAIT;
			continue;
		}
		if (!start_worker(i))
		{
			note_no_slot(now);
			return;
		}
		slot_wait = slot_retry_at = 0;
		room--;
	}
	if (now >= slot_retry_at && oldest_due(now) < 0)
		has_told = false;
}

/*
 * Say how many databases wait; workers that linger make room for them.
 */
static void
note_queue(uint64 now)
{
	uint32		queued = 0;

	for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
		if (is_waiting(i) && due_time(i) <= now)
			queued++;
	/* Whoever begins to linger later sees the number itself. */
	if (pg_atomic_exchange_u32(&plat_workers->queued, queued) > 0 ||
		queued == 0)
		return;
	for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
		plat_worker_signal(&entry_of(i)->worker);
}

/*
 * When the launcher must look again if nobody wakes it.
 */
static uint64
next_look(uint64 now)
{
	uint64		next = read_at + plat_worker_naptime * PLAT_SECOND;

	for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
	{
		uint64		due = is_waiting(i) ? due_time(i) : PLAT_WORKER_NEVER;

		if (due <= now || is_running(i))
			due = now + TICK;
		next = Min(next, due);
	}
	return Max(next, now);
}

/*
 * Have every database that has no worker looked into: the first thing that a
 * launcher does, because it cannot know what its predecessor missed.
 */
static void
look_into_all(void)
{
	for (int i = 0; i < PLAT_WORKER_DATABASES; i++)
		if (!is_running(i))
			pg_atomic_write_u64(&entry_of(i)->next_due, 0);
}

/*
 * Do for the databases what is due, and return the milliseconds until the
 * next call.  Does not wait for anything.  A standby has no workers, but may
 * be promoted at any time.
 */
long
plat_worker_launch(void)
{
	uint64		now = plat_clock();

	if (RecoveryInProgress())
		return TICK / 1000000;
	if (read_at == 0)
		look_into_all();
	forget_ended();
	if (read_at == 0 || now >= read_at + plat_worker_naptime * PLAT_SECOND ||
		(now >= slot_retry_at && oldest_due(now) >= 0))
		read_databases();
	make_way(now);
	start_workers(now);
	note_queue(now);
	return (long) ((next_look(now) - now + 999999) / 1000000);
}
