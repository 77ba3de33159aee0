/*
 * admin.h
 *		Work across tenants, for the library's init and platpat.status().
 */
#ifndef PLAT_ADMIN_H
#define PLAT_ADMIN_H

#include "module.h"

/* admin.c */
extern const PlatModule plat_admin_module;
extern void plat_admin_know_modules(const PlatModule *const *modules);
extern const char *plat_admin_role_problem(void);
extern void plat_admin_refuse_ddl(void);

#endif							/* PLAT_ADMIN_H */
