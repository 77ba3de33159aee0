/*
 * worker_database.c
 *		The worker of one database, which does there what the modules have to
 *		do, and leaves.
 *
 * The launcher starts it when the database is due or somebody woke it.  It
 * calls the modules in rounds, waits for more for as long as
 * platpat.worker_linger says, and ends, so that an idle database has no
 * process of ours.  It ends as well when it is asked to leave, and after a
 * second when other databases wait.
 *
 * It touches nothing unless extension platpat of the library's version is
 * there, whose lock it holds in each of its transactions: DROP EXTENSION
 * waits for one, and the next finds nothing.  A schema of our name without
 * the extension is somebody else's.
 *
 * In shared memory it has its database's entry in the table of worker_table.c
 * from when it has put its process there, which is what keeps a second worker
 * from doing the same, until it takes it out again.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "compat.h"
#include "worker.h"
#include "worker_table.h"

/* Others' turn comes after so long. */
#define TURN PLAT_SECOND

/* What was found of the extension. */
typedef enum PlatExtension
{
	EXTENSION_READY,
	EXTENSION_ABSENT,			/* or of another version */
	EXTENSION_LOCKED			/* by who drops or alters it */
} PlatExtension;

/* The database's entry, which this process has claimed. */
static PlatSharedDatabase *entry;

/* What the last transaction found. */
static PlatExtension extension;

/* What modules allocate between their transactions; emptied after a round. */
static MemoryContext round_context;

/* Milliseconds that what was canceled has to come to its end. */
#define PATIENCE_MS 5000

/* When those are over. */
static TimeoutId last_timeout;

/* When the timeout of what runs began. */
static uint64 timeout_started;

/* Whether next_due has been written by a worker that has done its work. */
static bool is_done = false;

extern PGDLLEXPORT void plat_worker_database_main(Datum arg);

/*
 * At the end of the process: say when the next is due, make room for it, and
 * only then look whether somebody wants it already; see worker_table.c.  What
 * a round that did not come to its end has left undone, nobody knows.
 */
static void
note_end(int code, Datum arg)
{
	if (!is_done)
		pg_atomic_write_u64(&entry->topics, PG_UINT64_MAX);
	if (pg_atomic_read_u32(&entry->leave))
	{
		pg_atomic_write_u32(&entry->failures, 0);
		pg_atomic_write_u64(&entry->next_due, plat_clock());
	}
	else if (!is_done)
		pg_atomic_write_u64(&entry->next_due,
							plat_worker_retry_time(pg_atomic_read_u32(&entry->failures)));
	pg_atomic_exchange_u64(&entry->worker, 0);
	if (pg_atomic_read_u64(&entry->wanted) != 0)
		plat_worker_signal(&plat_workers->launcher);
}

/*
 * Become the worker of the database; false if it has one, or is gone.
 */
static bool
claim(Oid database)
{
	uint64		none = 0;

	entry = plat_worker_find(database);
	if (entry == NULL ||
		!pg_atomic_compare_exchange_u64(&entry->worker, &none,
										plat_worker_this_process()))
		return false;
	before_shmem_exit(note_end, (Datum) 0);
	plat_worker_serves = true;
	return true;
}

/*
 * Settings that work here must not depend on, whatever the database, its
 * owner or the server is given. Those that this server does not have are left
 * out.
 */
static void
pin_settings(void)
{
	static const char *const settings[][2] = {
		{"application_name", "platpat worker"},
		{"search_path", "pg_catalog, pg_temp"},
		{"DateStyle", "ISO"},
		{"default_tablespace", ""},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"idle_in_transaction_session_timeout", "0"},
		{"jit", "off"},
		{"lock_timeout", "1s"},
		{"row_security", "on"},
		{"standard_conforming_strings", "on"},
		{"transaction_timeout", "0"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
							PGC_S_OVERRIDE);
}

/*
 * The extension of our name in this database and its version, in the current
 * memory context; InvalidOid without one.
 */
static Oid
find_extension(char **version)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	Oid			oid = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("platpat"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(rel), &isnull);

		oid = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		*version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return oid;
}

/*
 * Whether the extension's objects are those that the library was made for;
 * the log hears once of those that are not.
 */
static bool
is_our_version(const char *version)
{
	static bool has_complained = false;

	if (strcmp(version, PLAT_VERSION) == 0)
		return true;
	if (!has_complained)
		ereport(LOG,
				(errmsg("platpat does nothing in the background of database \"%s\"",
						get_database_name(MyDatabaseId)),
				 errdetail("The loaded library is platpat %s, the extension there is %s.",
						   PLAT_VERSION, version),
				 errhint("Run ALTER EXTENSION platpat UPDATE, or restart the server to load the new library.")));
	has_complained = true;
	return false;
}

/*
 * Find the extension and lock it until the end of the transaction, so that it
 * stays. One that another session is about to drop or to alter is not waited
 * for.
 */
static PlatExtension
lock_extension(void)
{
	char	   *version = NULL;
	Oid			found = find_extension(&version);

	if (!OidIsValid(found))
		return EXTENSION_ABSENT;
	if (!ConditionalLockDatabaseObject(ExtensionRelationId, found, 0,
									   AccessShareLock))
		return EXTENSION_LOCKED;
	/* It may have gone before the lock was there. */
	if (find_extension(&version) != found || !is_our_version(version))
		return EXTENSION_ABSENT;
	return EXTENSION_READY;
}

/*
 * Whether this process is the worker of a database.
 */
bool
plat_worker_is_this(void)
{
	return plat_worker_serves;
}

/*
 * Timeout handler: what has caught its cancellation and goes on is ended with
 * the process, which the launcher starts again after a while.
 */
static void
give_up(void)
{
	ProcDiePending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/*
 * Give what follows the whole of platpat.worker_statement_timeout: for serve
 * of modules that go on after an error within a transaction. Does nothing in
 * other processes.
 */
void
plat_worker_restart_timeout(void)
{
	if (!plat_worker_serves)
		return;
	timeout_started = plat_clock();
	disable_timeout(STATEMENT_TIMEOUT, false);
	disable_timeout(last_timeout, false);
	if (plat_worker_statement_timeout == 0)
		return;
	enable_timeout_after(STATEMENT_TIMEOUT, plat_worker_statement_timeout);
	if (plat_worker_statement_timeout <= INT_MAX - PATIENCE_MS)
		enable_timeout_after(last_timeout, plat_worker_statement_timeout + PATIENCE_MS);
}

/*
 * Nothing runs that has to be bounded.
 */
static void
stop_timeout(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	disable_timeout(last_timeout, false);
}

/*
 * Whether it was platpat.worker_statement_timeout that has canceled what ran
 * until now, and not an operator.
 */
bool
plat_worker_has_timed_out(void)
{
	return plat_worker_serves && plat_worker_statement_timeout > 0 &&
		plat_clock() - timeout_started >=
		(uint64) plat_worker_statement_timeout * 1000000;
}

/*
 * Begin a transaction of serve of a module, with a snapshot and bounded by
 * platpat.worker_statement_timeout.  False, and no transaction, if the
 * extension is not there any more, or about to go: serve returns then.
 */
bool
plat_worker_begin(void)
{
	Assert(plat_worker_serves);
	CHECK_FOR_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, "platpat: what is due");
	plat_worker_restart_timeout();
	extension = lock_extension();
	/* A snapshot of before the lock could show tables that are gone. */
	if (extension == EXTENSION_READY)
		PushActiveSnapshot(GetTransactionSnapshot());
	else
		plat_worker_commit();
	return extension == EXTENSION_READY;
}

/*
 * After a transaction: an advisory lock that a function of users has taken for
 * the session is not kept from everybody else.
 */
static void
rest(void)
{
	LockReleaseSession(USER_LOCKMETHOD);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(round_context);
}

/*
 * Commit the transaction that plat_worker_begin() has begun.
 */
void
plat_worker_commit(void)
{
	stop_timeout();
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
	rest();
}

/*
 * Undo the transaction that plat_worker_begin() has begun, after an error that
 * the caller has caught and copied or reported.
 */
void
plat_worker_abort(void)
{
	FlushErrorState();
	stop_timeout();
	if (IsTransactionState())
		AbortCurrentTransaction();
	rest();
}

/*
 * Do a step of serve of a module in a transaction, with SPI connected; false if
 * the extension is not there any more.
 */
bool
plat_worker_run(void (*step) (void *arg), void *arg)
{
	if (!plat_worker_begin())
		return false;
	SPI_connect();
	step(arg);
	SPI_finish();
	plat_worker_commit();
	return true;
}

/*
 * The same for a step that may fail: returns NULL, or the error that it came
 * to, after all was undone, in the current memory context.  *is_done is whether
 * the step came to its end.
 */
ErrorData *
plat_worker_try(void (*step) (void *arg), void *arg, bool *is_done)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	*is_done = false;
	PG_TRY();
	{
		*is_done = plat_worker_run(step, arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		plat_worker_abort();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

/*
 * Call every module that works in databases; returns when the first wants to
 * be called again.
 */
static uint64
serve_modules(void)
{
	uint64		due = PLAT_WORKER_NEVER;

	for (int i = 0; plat_worker_modules[i]; i++)
	{
		long		pause;

		if (plat_worker_modules[i]->serve == NULL)
			continue;
		CHECK_FOR_INTERRUPTS();
		pause = plat_worker_modules[i]->serve();
		Assert(!IsTransactionState());
		if (pause != PLAT_SERVE_NEVER)
			due = Min(due, plat_clock() + (uint64) pause * 1000000);
		if (extension != EXTENSION_READY)
			break;
	}
	return due;
}

/*
 * A round: look whether the extension is there, and call the modules if so.
 * Returns when the next is due.
 */
static uint64
run_round(void)
{
	uint64		due = PLAT_WORKER_NEVER;

	if (plat_worker_begin())
	{
		plat_worker_commit();
		due = serve_modules();
	}
	MemoryContextReset(round_context);
	pgstat_report_stat(false);
	return due;
}

/*
 * Read postgresql.conf anew if the postmaster has told to.
 */
static void
reload_settings(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/*
 * Until when a worker without anything to do stays: for a while after it had
 * something, and for what is due within such a while after the last round.
 */
static uint64
end_of_stay(uint64 due, uint64 round_at, uint64 busy_at)
{
	uint64		linger = (uint64) plat_worker_linger * 1000000;

	return due <= round_at + linger ? due : busy_at + linger;
}

/*
 * Wait until there is something to do: true if there is another round, false
 * if the worker has stayed long enough, or others need its place.
 */
static bool
wait_for_more(uint64 due, uint64 busy_at)
{
	uint64		round_at = plat_clock();

	for (;;)
	{
		uint64		now = plat_clock();
		uint64		end = end_of_stay(due, round_at, busy_at);

		if (pg_atomic_read_u64(&entry->wanted) != 0 || due <= now)
			return true;
		if (now >= end || pg_atomic_read_u32(&entry->leave) ||
			pg_atomic_read_u32(&plat_workers->queued) > 0)
			return false;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) ((end - now + 999999) / 1000000),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		reload_settings();
	}
}

/*
 * Whether the worker has to end after the present round, whatever there is to
 * do.
 */
static bool
must_leave(uint64 started)
{
	return extension != EXTENSION_READY ||
		pg_atomic_read_u32(&entry->leave) ||
		(pg_atomic_read_u32(&plat_workers->queued) > 0 &&
		 plat_clock() > started + TURN);
}

/*
 * Rounds until there is nothing to do.  Being woken is forgotten before a
 * round looks, so that it is the next one's if it comes meanwhile.
 */
static void
run_rounds(void)
{
	uint64		started = plat_clock();
	uint64		busy_at = 0;
	uint64		due;

	do
	{
		bool		wanted = pg_atomic_exchange_u64(&entry->wanted, 0) != 0;

		due = run_round();
		if (extension == EXTENSION_LOCKED)
			return;
		pg_atomic_write_u32(&entry->failures, 0);
		if (wanted || due <= plat_clock())
			busy_at = plat_clock();
	} while (!must_leave(started) && wait_for_more(due, busy_at));
	if (extension == EXTENSION_ABSENT)
		due = PLAT_WORKER_NEVER;
	pg_atomic_write_u64(&entry->next_due, due);
	is_done = true;
}

/*
 * The worker's process.  An error that a module lets through ends it with a
 * line in the log, and the launcher starts it again after a while.
 */
void
plat_worker_database_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);

	if (!claim(database))
		return;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pin_settings();
	last_timeout = RegisterTimeout(USER_TIMEOUT, give_up);
	round_context = AllocSetContextCreate(TopMemoryContext, "platpat round",
										  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(round_context);
	run_rounds();
}
