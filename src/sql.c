/*
 * sql.c
 *		Running SQL from C, as the caller or as the owner of our tables.
 *
 * Every command is either constant or built with quote_identifier and
 * quote_literal; values travel as parameters.  Every command runs under a
 * search_path without schemas that users create in: an operator that fits the
 * argument types better would win over pg_catalog's even if it comes later in
 * the path, and would run as whoever called us.
 *
 * The caller has connected SPI.  Nothing is shared between backends.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "executor/spi.h"
#include "jit/jit.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "compat.h"
#include "sql.h"

/*
 * The longest piece of a user's text that a message repeats, in bytes: enough
 * to recognise it, and a megabyte of it helps nobody in a log.
 */
#define CLIP_BYTES 200

/* The search_path of our own statements. */
#define PINNED_PATH "pg_catalog, pg_temp"

/*
 * The oid of a table of ours; XX000 if it is missing. It exists as long as
 * our functions do, because the extension owns both; only a superuser who
 * takes the table out of the extension can see the error.
 */
Oid
plat_our_table(const char *table)
{
	Oid			schema = get_namespace_oid("platpat", false);
	Oid			relid = get_relname_relid(table, schema);

	if (!OidIsValid(relid))
		elog(ERROR, "table platpat.%s is missing", table);
	return relid;
}

/*
 * Pin what decides how SQL text is read and written: names and operators
 * resolve to core's objects, and expressions deparse in one way.  Compiling a
 * query over catalogs, whose cost is always overestimated, takes a hundred
 * times as long as running it.  Undone by plat_sql_unpin, or by an error with
 * its (sub)transaction.
 */
int
plat_sql_pin(void)
{
	int			level = NewGUCNestLevel();

	/* Setting it again would have all names looked up anew. */
	if (strcmp(namespace_search_path, PINNED_PATH) == 0 && !quote_all_identifiers &&
		!jit_enabled)
		return level;
	(void) set_config_option("search_path", PINNED_PATH,
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("quote_all_identifiers", "off",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

/*
 * Undo plat_sql_pin, and whatever triggers have SET meanwhile. Levels are
 * closed in the order opposite to that in which they were opened.
 */
void
plat_sql_unpin(int level)
{
	AtEOXact_GUC(false, level);
}

/*
 * Run a utility command as the current user, with the privileges of that
 * user. Its event triggers fire, ours included.
 */
void
plat_sql_run(const char *command)
{
	int			level = plat_sql_pin();
	int			code = SPI_execute(command, false, 0);

	plat_sql_unpin(level);
	if (code < 0)
		elog(ERROR, "SPI_execute failed with %s for: %s",
			 SPI_result_code_string(code), command);
}

/*
 * Run a query as the current user; returns the number of rows. It sees what
 * was written before in the same transaction. The result is good until the
 * next query; plat_sql_value() reads it.
 */
uint64
plat_sql_query(const char *command, int nargs, Oid *types, Datum *values,
			   const char *nulls)
{
	int			level = plat_sql_pin();
	int			code = SPI_execute_with_args(command, nargs, types, values,
											 nulls, false, 0);

	plat_sql_unpin(level);
	if (code < 0)
		elog(ERROR, "SPI_execute_with_args failed with %s for: %s",
			 SPI_result_code_string(code), command);
	return SPI_processed;
}

/*
 * Run a statement as the current user, planning it only the first time;
 * returns the number of rows.  The search_path is the caller's: the statement
 * must not leave anything to it.
 */
uint64
plat_sql_execute_saved(PlatSavedPlan *saved, Datum *values, const char *nulls)
{
	int			code;

	if (saved->plan == NULL)
	{
		int			level = plat_sql_pin();
		SPIPlanPtr	plan = SPI_prepare(saved->command, saved->nargs,
									   saved->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "SPI_prepare failed with %s for: %s",
				 SPI_result_code_string(SPI_result), saved->command);
		saved->plan = plan;
		plat_sql_unpin(level);
	}
	code = SPI_execute_plan(saved->plan, values, nulls, false, 0);
	if (code < 0)
		elog(ERROR, "SPI_execute_plan failed with %s for: %s",
			 SPI_result_code_string(code), saved->command);
	return SPI_processed;
}

/*
 * Become the owner of a table of ours; returns whom to go back to, and the
 * security context in *context. The flag keeps whatever runs meanwhile from
 * changing roles, as in a SECURITY DEFINER function.  42P01 if the table has
 * gone since it was found.
 */
Oid
plat_sql_become_owner(Oid table, int *context)
{
	Relation	rel = RelationIdGetRelation(table);
	Oid			owner;
	Oid			user;

	if (!RelationIsValid(rel))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("extension platpat was dropped meanwhile")));
	owner = rel->rd_rel->relowner;
	RelationClose(rel);
	GetUserIdAndSecContext(&user, context);
	SetUserIdAndSecContext(owner, *context | SECURITY_LOCAL_USERID_CHANGE);
	return user;
}

/*
 * Run a command as the owner of our table, for reading and writing what the
 * caller has no privilege on.  An error restores the user with the
 * transaction.
 */
uint64
plat_sql_as_owner(const char *table, const char *command, int nargs,
				  Oid *types, Datum *values, const char *nulls)
{
	int			context;
	Oid			user = plat_sql_become_owner(plat_our_table(table), &context);
	uint64		rows = plat_sql_query(command, nargs, types, values, nulls);

	SetUserIdAndSecContext(user, context);
	return rows;
}

/*
 * Read as the owner of our table what the active snapshot sees: for functions
 * that answer for their statement and may run in parallel workers.
 */
uint64
plat_sql_read(const char *table, const char *command, int nargs, Oid *types,
			  Datum *values)
{
	int			context;
	Oid			user = plat_sql_become_owner(plat_our_table(table), &context);
	int			level = plat_sql_pin();
	int			code = SPI_execute_with_args(command, nargs, types, values,
											 NULL, true, 0);

	plat_sql_unpin(level);
	SetUserIdAndSecContext(user, context);
	if (code < 0)
		elog(ERROR, "SPI_execute_with_args failed with %s for: %s",
			 SPI_result_code_string(code), command);
	return SPI_processed;
}

/*
 * The text of a value of the last query's result, columns from 1; NULL for
 * SQL NULL. It lives until SPI_finish(), or longer where the caller has
 * switched to another memory context.
 */
char *
plat_sql_value(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						column);
}

/*
 * A copy of text short enough for a message, cut between characters of the
 * database's encoding, so that the message is valid text.
 */
char *
plat_clip(const char *text)
{
	return pnstrdup(text, pg_mbcliplen(text, strlen(text), CLIP_BYTES));
}

/*
 * A copy of a name argument that must be neither NULL nor empty: 22004,
 * naming what it is.
 */
char *
plat_name_arg(FunctionCallInfo fcinfo, int argno, const char *what)
{
	if (PG_ARGISNULL(argno) || NameStr(*PG_GETARG_NAME(argno))[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null or empty", what)));
	return pstrdup(NameStr(*PG_GETARG_NAME(argno)));
}

/*
 * Raise 22004 for an argument that must not be NULL. Functions that set or
 * allow something are not STRICT, because NULL must never read as "allowed".
 */
void
plat_refuse_null(FunctionCallInfo fcinfo, int argno, const char *what)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
}

/*
 * A text argument that must be neither NULL nor empty (22004) nor longer than
 * so many bytes (22023), as it was given.
 */
text *
plat_text_arg(FunctionCallInfo fcinfo, int argno, const char *what, int max)
{
	text	   *value = PG_ARGISNULL(argno) ? NULL : PG_GETARG_TEXT_PP(argno);

	if (value == NULL || VARSIZE_ANY_EXHDR(value) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null or empty", what)));
	if (VARSIZE_ANY_EXHDR(value) > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is too long", what),
				 errdetail("It has %d bytes, of at most %d.",
						   (int) VARSIZE_ANY_EXHDR(value), max)));
	return value;
}
