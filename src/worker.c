/*
 * worker.c
 *		The background worker: does what the modules have to do from time to
 *		time.
 *
 * There is one for the server, if the library is preloaded.  It starts with
 * the postmaster, on a standby as well, and is connected to no database.  It
 * keeps nothing that would be missed: when it is killed the server starts
 * anew, as after the crash of any process, and when it ends it is started
 * again.
 *
 * In shared memory it has its process id and its number among the processes,
 * which only it writes, and the modules that want to be called at once, which
 * anybody adds to; all may be read at any time.
 */
#include "postgres.h"

#include <dlfcn.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "compat.h"
#include "shmem.h"
#include "worker.h"

/* Seconds until a worker that has ended is started again. */
#define RESTART_SECONDS 1

typedef struct PlatSharedWorker
{
	pg_atomic_uint32 pid;		/* 0 while there is none */
	pg_atomic_uint32 number;	/* of the process that is, or was */
	pg_atomic_uint32 wanted;	/* bits of modules, in their order */
} PlatSharedWorker;

static const PlatModule *const *all_modules = NULL;
static PlatSharedWorker *shared = NULL;

extern PGDLLEXPORT void plat_worker_main(Datum arg);

static Size
shmem_size(void)
{
	return sizeof(PlatSharedWorker);
}

static void
shmem_fill(void *part, Size size)
{
	PlatSharedWorker *worker = part;

	pg_atomic_init_u32(&worker->pid, 0);
	pg_atomic_init_u32(&worker->number, 0);
	pg_atomic_init_u32(&worker->wanted, 0);
}

static void
shmem_adopt(void *part)
{
	shared = part;
}

const PlatModule plat_worker_module = {
	.name = "worker",
	.shmem_size = shmem_size,
	.shmem_fill = shmem_fill,
	.shmem_adopt = shmem_adopt,
};

/*
 * The file that this library was loaded from.  The worker must load the same,
 * and by which name it is found is up to dynamic_library_path.  A path that is
 * longer than a worker's registration can hold is left to be found.
 */
static const char *
library_path(void)
{
	Dl_info		info;

	if (dladdr(&all_modules, &info) == 0 || info.dli_fname == NULL ||
		strlen(info.dli_fname) >= sizeof(((BackgroundWorker *) NULL)->bgw_library_name))
		return "$libdir/platpat";
	return info.dli_fname;
}

/*
 * Called from the library's init when it is preloaded, with the table of
 * modules, closed by NULL and not copied. pg_upgrade wants no workers.
 */
void
plat_worker_init(const PlatModule *const *modules)
{
	BackgroundWorker worker;

	all_modules = modules;
	if (IsBinaryUpgrade)
		return;
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = RESTART_SECONDS;
	strlcpy(worker.bgw_library_name, library_path(),
			sizeof(worker.bgw_library_name));
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "plat_worker_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "platpat worker");
	snprintf(worker.bgw_type, BGW_MAXLEN, "platpat worker");
	RegisterBackgroundWorker(&worker);
}

/*
 * How the worker is, for status(): a constant.
 */
const char *
plat_worker_state(void)
{
	return shared && pg_atomic_read_u32(&shared->pid) != 0 ? "running" :
		"not running";
}

/*
 * Have the worker call a module at once. Whoever has its place by now is not
 * disturbed by that.
 */
void
plat_worker_wake(const PlatModule *module)
{
	int			i = 0;

	if (shared == NULL || pg_atomic_read_u32(&shared->pid) == 0)
		return;
	while (all_modules[i] != module)
		i++;
	pg_atomic_fetch_or_u32(&shared->wanted, (uint32) 1 << i);
	SetLatch(&ProcGlobal->allProcs[pg_atomic_read_u32(&shared->number)].procLatch);
}

/*
 * Call the modules that are due, or all; returns the milliseconds until one
 * is.
 */
static long
work(bool all)
{
	static uint64 due[32];
	uint32		wanted = pg_atomic_exchange_u32(&shared->wanted, 0);
	uint64		next = plat_clock() + 60 * PLAT_SECOND;
	uint64		now;

	for (int i = 0; all_modules[i]; i++)
	{
		if (all_modules[i]->work == NULL)
			continue;
		if (all || due[i] <= plat_clock() || (wanted & ((uint32) 1 << i)))
			due[i] = plat_clock() + (uint64) all_modules[i]->work() * 1000000;
		next = Min(next, due[i]);
	}
	now = plat_clock();
	return next > now ? (long) ((next - now + 999999) / 1000000) : 0;
}

static void
note_end(int code, Datum arg)
{
	pg_atomic_write_u32(&shared->pid, 0);
}

/*
 * The worker's process. It works once more when it is told to end, and ends
 * with a status that has it started again if the server goes on.
 */
void
plat_worker_main(Datum arg)
{
	bool		is_new = true;	/* the process, or its settings */

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	pg_atomic_write_u32(&shared->number, (uint32) plat_proc_number());
	pg_write_barrier();
	pg_atomic_write_u32(&shared->pid, (uint32) MyProcPid);
	before_shmem_exit(note_end, (Datum) 0);
	while (!ShutdownRequestPending)
	{
		long		pause = work(is_new);

		is_new = false;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 pause, PG_WAIT_EXTENSION);
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
