/*
 * module.h
 *		How a module plugs into the library.
 *
 * The library's init knows every module, no module knows the init: this
 * header is what they share.
 */
#ifndef PLAT_MODULE_H
#define PLAT_MODULE_H

#include <limits.h>

/* What serve returns to be called only when somebody wakes the database. */
#define PLAT_SERVE_NEVER LONG_MAX

/* Where the rows of metrics() go; see metrics.h. */
typedef struct PlatMetrics PlatMetrics;

/*
 * What the library needs to know about a module; every field but the name may
 * be NULL.
 *
 * define_settings runs once from _PG_init, with whether the server is
 * starting, and must not raise.  admin_grants lists, closed by NULL, what
 * platpat.grant_admin(role) hands out, as it stands between GRANT and TO.
 *
 * A module with a part in the shared memory says in shmem_size how much it
 * wants; shmem_fill makes a new part of that size ready and shmem_adopt notes where it is
 * in this process, both of which must not fail.  shmem_start runs after both
 * in the postmaster of a server that preloads us, at its start and after a
 * crash; it may read files, and must not raise.
 *
 * work does what is due in the background and returns the milliseconds until
 * it wants to be called again; it runs in the launcher, without a database,
 * and must not raise.
 *
 * serve does what is due in the current database, in the database's worker,
 * outside of a transaction: it starts transactions of its own, each of which
 * first calls plat_worker_begin().  It returns the milliseconds until it wants
 * to be called again, 0 for at once, and may raise.  Another session wakes it
 * with plat_worker_wake_at_commit().
 *
 * discard makes the session new for its next client, after DISCARD ALL.
 *
 * put_metrics adds the module's rows to metrics(), reset_stats sets what it
 * counts for the current database to 0.
 */
typedef struct PlatModule
{
	const char *name;
	void		(*define_settings) (bool preload);
	const char *const *admin_grants;
	Size		(*shmem_size) (void);
	void		(*shmem_fill) (void *part, Size size);
	void		(*shmem_adopt) (void *part);
	void		(*shmem_start) (void);
	long		(*work) (void);
	long		(*serve) (void);
	void		(*discard) (void);
	void		(*put_metrics) (PlatMetrics *metrics);
	void		(*reset_stats) (void);
} PlatModule;

#endif							/* PLAT_MODULE_H */
