/*
 * worker.h
 *		The background worker; see worker.c.
 */
#ifndef PLAT_WORKER_H
#define PLAT_WORKER_H

#include "module.h"

extern const PlatModule plat_worker_module;
extern void plat_worker_init(const PlatModule *const *modules);
extern const char *plat_worker_state(void);
extern void plat_worker_wake(const PlatModule *module);

#endif							/* PLAT_WORKER_H */
