/*
 * admin.h
 *		The role that works across tenants, for platpat.status().
 */
#ifndef PLAT_ADMIN_H
#define PLAT_ADMIN_H

/* admin.c */
extern const char *plat_admin_role_problem(void);

#endif							/* PLAT_ADMIN_H */
