/*
 * sql.h
 *		Running SQL from C, as the caller or as the owner of our tables.
 *
 * SPI is connected by the caller of everything that runs a command; see sql.c
 * for what each function promises.
 */
#ifndef PLAT_SQL_H
#define PLAT_SQL_H

#include "executor/spi.h"
#include "fmgr.h"

/* A statement that is planned once a session; zero but for what it is. */
typedef struct PlatSavedPlan
{
	const char *command;
	int			nargs;
	Oid			types[8];
	SPIPlanPtr	plan;
} PlatSavedPlan;

/* sql.c */
extern Oid	plat_our_table(const char *table);
extern int	plat_sql_pin(void);
extern void plat_sql_unpin(int level);
extern void plat_sql_run(const char *command);
extern uint64 plat_sql_query(const char *command, int nargs, Oid *types,
							 Datum *values, const char *nulls);
extern Oid	plat_sql_become_owner(Oid table, int *context);
extern uint64 plat_sql_execute_saved(PlatSavedPlan *saved, Datum *values,
									 const char *nulls);
extern uint64 plat_sql_as_owner(const char *table, const char *command,
								int nargs, Oid *types, Datum *values,
								const char *nulls);
extern uint64 plat_sql_read(const char *table, const char *command, int nargs,
							Oid *types, Datum *values);
extern char *plat_sql_value(uint64 row, int column);
extern char *plat_clip(const char *text);
extern void plat_refuse_null(FunctionCallInfo fcinfo, int argno,
							 const char *what);
extern text * plat_text_arg(FunctionCallInfo fcinfo, int argno,
							const char *what, int max);
extern char *plat_name_arg(FunctionCallInfo fcinfo, int argno,
						   const char *what);

#endif							/* PLAT_SQL_H */
