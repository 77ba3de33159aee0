/*
 * worker.c
 *		The launcher: does what the modules have to do from time to time for
 *		the whole server, and starts the workers of databases.
 *
 * There is one for the server, if the library is preloaded.  It starts when
 * sessions can connect, on a standby as well, and is connected to no database:
 * it reads shared catalogs only.  It keeps nothing that would be missed: when
 * it is killed the server starts anew, as after the crash of any process, and
 * when it ends it is started again.
 *
 * In the shared memory of worker_table.c it has its process, which only it
 * writes, and the modules that want to be called at once, which anybody adds
 * to; both are atomic.  How databases get workers is told in worker_launch.c.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "compat.h"
#include "worker.h"
#include "worker_table.h"

/* Seconds until a launcher that has ended is started again. */
#define RESTART_SECONDS 1

int			plat_worker_linger = 1000;
int			plat_worker_statement_timeout = 60000;

const PlatModule *const *plat_worker_modules = NULL;

extern PGDLLEXPORT void plat_worker_main(Datum arg);

static void
define_settings(bool preload)
{
	DefineCustomIntVariable("platpat.max_workers",
							"Databases that platpat works in at a time.",
							"Each takes one of max_worker_processes meanwhile.",
							&plat_worker_most, 2, 1, 64,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("platpat.worker_linger",
							"How long the worker of a database stays when there is nothing left to do.",
							NULL,
							&plat_worker_linger, 1000, 0, 10000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("platpat.worker_naptime",
							"The time between two looks for new databases.",
							NULL,
							&plat_worker_naptime, 60, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("platpat.worker_statement_timeout",
							"The longest time that a transaction of a database's worker may take.",
							"0 for no limit.",
							&plat_worker_statement_timeout, 60000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

const PlatModule plat_worker_module = {
	.name = "worker",
	.define_settings = define_settings,
	.shmem_size = plat_worker_table_size,
	.shmem_fill = plat_worker_table_fill,
	.shmem_adopt = plat_worker_table_adopt,
};

/*
 * Called from the library's init when it is preloaded, with the table of
 * modules, closed by NULL and not copied. pg_upgrade wants no workers.
 */
void
plat_worker_init(const PlatModule *const *modules)
{
	BackgroundWorker worker;

	plat_worker_modules = modules;
	if (IsBinaryUpgrade)
		return;
	plat_worker_describe(&worker, "plat_worker_main", "platpat launcher");
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = RESTART_SECONDS;
	RegisterBackgroundWorker(&worker);
}

/*
 * How the launcher is, for status(): a constant.
 */
const char *
plat_worker_state(void)
{
	return plat_workers && pg_atomic_read_u64(&plat_workers->launcher) != 0 ?
		"running" : "not running";
}

/*
 * Have the launcher call work of a module at once.
 */
void
plat_worker_wake(const PlatModule *module)
{
	int			i = 0;

	if (plat_workers == NULL ||
		pg_atomic_read_u64(&plat_workers->launcher) == 0)
		return;
	while (plat_worker_modules[i] != module)
		i++;
	pg_atomic_fetch_or_u32(&plat_workers->wanted, (uint32) 1 << i);
	plat_worker_signal(&plat_workers->launcher);
}

/*
 * Call the modules that are due, or all; returns the milliseconds until one
 * is.
 */
static long
work(bool all)
{
	static uint64 due[32];
	uint32		wanted = pg_atomic_exchange_u32(&plat_workers->wanted, 0);
	uint64		next = plat_clock() + 60 * PLAT_SECOND;
	uint64		now;

	for (int i = 0; plat_worker_modules[i]; i++)
	{
		const PlatModule *module = plat_worker_modules[i];

		if (module->work == NULL)
			continue;
		if (all || due[i] <= plat_clock() || (wanted & ((uint32) 1 << i)))
			due[i] = plat_clock() + (uint64) module->work() * 1000000;
		next = Min(next, due[i]);
	}
	now = plat_clock();
	return next > now ? (long) ((next - now + 999999) / 1000000) : 0;
}

/*
 * At the end of the process: nobody waits for a place that nobody gives.
 */
static void
note_end(int code, Datum arg)
{
	pg_atomic_write_u32(&plat_workers->queued, 0);
	pg_atomic_write_u64(&plat_workers->launcher, 0);
}

/*
 * Become a process that can be found, ended and told to read its settings
 * anew, and that reads shared catalogs. Cancelling makes no sense here.
 */
static void
begin_process(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, SIG_IGN);
	pg_atomic_write_u64(&plat_workers->launcher, plat_worker_this_process());
	before_shmem_exit(note_end, (Datum) 0);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
}

/*
 * The launcher's process. It works once more when it is told to end, and ends
 * with a status that has it started again if the server goes on.
 */
void
plat_worker_main(Datum arg)
{
	bool		is_new = true;	/* the process, or its settings */

	begin_process();
	while (!ShutdownRequestPending)
	{
		long		work_pause = work(is_new);
		long		launch_pause = plat_worker_launch();

		is_new = false;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(work_pause, launch_pause), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			is_new = true;
		}
	}
	(void) work(true);
	proc_exit(1);
}
