/*
 * user_function.h
 *		Functions that users have given us; see user_function.c.
 */
#ifndef PLAT_USER_FUNCTION_H
#define PLAT_USER_FUNCTION_H

/* A function that users have given us, as it is now. */
typedef struct PlatUserFunction
{
	char	   *signature;		/* as it is stored */
	Oid			oid;
	Oid			owner;
	char	   *search_path;	/* that it is called under */
} PlatUserFunction;

/* What to go back to after a call. */
typedef struct PlatFunctionScope
{
	Oid			user;
	int			context;
	int			level;			/* of settings */
} PlatFunctionScope;

extern PlatUserFunction plat_function_find(const char *signature);
extern char *plat_function_check(Oid oid, int nargs, const Oid *types,
								 const char *wanted, bool owned);
extern bool plat_function_takes(Oid oid, int nargs, const Oid *types);
extern void plat_function_check_caller(Oid oid);
extern void plat_function_check_owner(const char *signature,
									  const char *what);
extern void plat_function_enter(const PlatUserFunction *function,
								const char *search_path,
								PlatFunctionScope *scope);
extern void plat_function_leave(const PlatFunctionScope *scope);

#endif							/* PLAT_USER_FUNCTION_H */
