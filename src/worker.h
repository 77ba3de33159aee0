/*
 * worker.h
 *		The background workers: the launcher, and those of the databases.
 *
 * See worker.c for the first, worker_database.c for the others, and
 * worker_table.c for how they are woken.
 */
#ifndef PLAT_WORKER_H
#define PLAT_WORKER_H

#include "module.h"

extern const PlatModule plat_worker_module;
extern void plat_worker_init(const PlatModule *const *modules);
extern const char *plat_worker_state(void);

/* For work of modules, in the launcher. */
extern void plat_worker_wake(const PlatModule *module);

/* For serve of modules, in the worker of a database. */
extern void plat_worker_wake_at_commit(const char *topic);
extern void plat_worker_wake_database(const char *topic);
extern uint64 plat_worker_take_topics(void);
extern bool plat_worker_has_topics(void);
extern bool plat_worker_has_topic(uint64 topics, const char *topic);
extern bool plat_worker_begin(void);
extern void plat_worker_commit(void);
extern void plat_worker_abort(void);
extern bool plat_worker_run(void (*step) (void *arg), void *arg);
extern ErrorData *plat_worker_try(void (*step) (void *arg), void *arg,
								  bool *is_done);
extern bool plat_worker_is_this(void);
extern void plat_worker_restart_timeout(void);
extern bool plat_worker_has_timed_out(void);

#endif							/* PLAT_WORKER_H */
