/*
 * platpat.h
 *		What every module of platpat shares: how a module plugs in.
 */
#ifndef PLAT_PLATPAT_H
#define PLAT_PLATPAT_H

/*
 * What the library needs to know about a module; both fields are optional.
 *
 * define_settings runs once from _PG_init, preloaded or not, and must not
 * raise.  admin_functions lists, as regprocedure text and closed by NULL, the
 * functions that platpat.grant_admin(role) hands out.
 */
typedef struct PlatModule
{
	const char *name;
	void		(*define_settings) (void);
	const char *const *admin_functions;
} PlatModule;

/* platpat.c */
extern const PlatModule *const *plat_modules(void);
extern bool plat_is_preloaded(void);

/* Each module's row of the table. */
extern const PlatModule plat_tenant_module;
extern const PlatModule plat_admin_module;
extern const PlatModule plat_policy_module;

#endif							/* PLAT_PLATPAT_H */
