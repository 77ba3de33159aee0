/*
 * module.h
 *		How a module plugs into the library.
 *
 * The library's init knows every module, no module knows the init: this
 * header is what they share.
 */
#ifndef PLAT_MODULE_H
#define PLAT_MODULE_H

/*
 * What the library needs to know about a module; every field but the name may
 * be NULL.
 *
 * define_settings runs once from _PG_init, preloaded or not, and must not
 * raise.  admin_grants lists, closed by NULL, what platpat.grant_admin(role)
 * hands out, as it stands between GRANT and TO.
 */
typedef struct PlatModule
{
	const char *name;
	void		(*define_settings) (void);
	const char *const *admin_grants;
} PlatModule;

#endif							/* PLAT_MODULE_H */
