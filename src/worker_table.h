/*
 * worker_table.h
 *		What the files of module worker share: its part of the shared memory,
 *		and its settings.
 *
 * Each function is described in the file that it is listed under.
 */
#ifndef PLAT_WORKER_TABLE_H
#define PLAT_WORKER_TABLE_H

#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "storage/lwlock.h"

#include "module.h"

/* Databases that workers can be started for. */
#define PLAT_WORKER_DATABASES 1024

/* The time at which nothing is due any more. */
#define PLAT_WORKER_NEVER PG_UINT64_MAX

/*
 * A process: its id in the upper half, its number among the processes in the
 * lower one, so that who reads the one has the other; 0 for none.
 */
typedef pg_atomic_uint64 PlatSharedProcess;

/*
 * A database.  Times are of plat_clock(), in nanoseconds.
 */
typedef struct PlatSharedDatabase
{
	pg_atomic_uint32 oid;		/* 0 while the entry is free */
	pg_atomic_uint32 failures;	/* starts since the last round that passed */
	pg_atomic_uint32 leave;		/* somebody wants the database for himself */
	uint32		scan;			/* the last one when the entry was made */
	pg_atomic_uint64 wanted;	/* since when a worker is, or 0 */
	pg_atomic_uint64 topics;	/* what it is to look at, as bits */
	pg_atomic_uint64 next_due;
	PlatSharedProcess worker;
} PlatSharedDatabase;

typedef struct PlatSharedWorkers
{
	PlatSharedProcess launcher;
	pg_atomic_uint32 wanted;	/* bits of modules, in their order */
	pg_atomic_uint32 queued;	/* databases that wait for a worker */
	LWLock		lock;
	uint32		scan;			/* counts the readings of pg_database */
	PlatSharedDatabase databases[PLAT_WORKER_DATABASES];
} PlatSharedWorkers;

/* worker.c */
extern int	plat_worker_linger; /* milliseconds */
extern int	plat_worker_statement_timeout;	/* milliseconds, 0 for none */
extern const PlatModule *const *plat_worker_modules;

/* worker_launch.c */
extern int	plat_worker_naptime;	/* seconds */
extern int	plat_worker_most;
extern void plat_worker_describe(BackgroundWorker *worker,
								 const char *function, const char *name);
extern long plat_worker_launch(void);
extern uint64 plat_worker_retry_time(uint32 failures);

/* worker_table.c */
extern PlatSharedWorkers *plat_workers;
extern bool plat_worker_serves;
extern Size plat_worker_table_size(void);
extern void plat_worker_table_fill(void *part, Size size);
extern void plat_worker_table_adopt(void *part);
extern PlatSharedDatabase *plat_worker_find(Oid database);
extern PlatSharedDatabase *plat_worker_make(Oid database);
extern uint64 plat_worker_this_process(void);
extern void plat_worker_signal(PlatSharedProcess *process);

#endif							/* PLAT_WORKER_TABLE_H */
