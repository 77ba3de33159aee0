/*
 * shmem.h
 *		The shared memory of platpat, for the modules that live in it.
 *
 * See shmem.c for what each function promises.
 */
#ifndef PLAT_SHMEM_H
#define PLAT_SHMEM_H

#include "storage/lwlock.h"

#include "module.h"

extern void plat_shmem_init(const PlatModule *const *modules, bool preload);
extern bool plat_shmem_attach(void);
extern void plat_shmem_require(void);
extern bool plat_shmem_is_preloaded(void);
extern void plat_shmem_init_lock(LWLock *lock);

#endif							/* PLAT_SHMEM_H */
