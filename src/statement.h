/*
 * statement.h
 *		A caller's statement, run with its arguments and returned as JSON.
 *
 * See statement.c for what each function promises.
 */
#ifndef PLAT_STATEMENT_H
#define PLAT_STATEMENT_H

#include "fmgr.h"

typedef struct PlatStatement
{
	char	   *command;
	int			nargs;
	Datum	   *args;			/* of type text */
	bool	   *nulls;
	bool		has_begun;		/* it has come to be executed */
} PlatStatement;

extern void plat_statement_args(FunctionCallInfo fcinfo, int command,
								int args, PlatStatement *statement);
extern ErrorData *plat_statement_run(FunctionCallInfo fcinfo,
									 PlatStatement *statement);

#endif							/* PLAT_STATEMENT_H */
