/*
 * event_command.c
 *		Commands: named functions that change things, once for each key.
 *
 * A handler runs as whoever calls the command, in the caller's transaction:
 * what it raises undoes all of it, the note of its answer included.  Two
 * calls with the same key at the same time meet at the unique index of that
 * note: the second waits for the first and then finds its answer, or does the
 * work if the first has failed.
 *
 * Nothing here is shared.
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "clock.h"
#include "compat.h"
#include "config_table.h"
#include "event.h"
#include "sql.h"
#include "tenant.h"

/* Longest idempotency key in bytes. */
#define KEY_MAX 255

PG_FUNCTION_INFO_V1(plat_event_create_command);
PG_FUNCTION_INFO_V1(plat_event_alter_command);
PG_FUNCTION_INFO_V1(plat_event_drop_command);
PG_FUNCTION_INFO_V1(plat_event_execute_command);

/* A command, as its row says. */
typedef struct Command
{
	char	   *name;
	Oid			handler;
	char	   *breaker;		/* NULL for none */
	char	   *bulkhead;		/* likewise */
	Datum		timeout;		/* of type interval */
	char	   *class;
} Command;

/* A call that has a key. */
typedef struct Keyed
{
	Datum		values[5];		/* tenant, command, key, hash of payload, role */
	char		nulls[6];
} Keyed;

static const Oid keyed_types[] = {TEXTOID, TEXTOID, TEXTOID, INT8OID, NAMEOID};

#define THIS_KEY \
	" WHERE tenant IS NOT DISTINCT FROM $1 AND command = $2 AND idempotency_key = $3"

/*
 * Raise 42704.
 */
pg_noreturn static void
no_such_command(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("command \"%s\" does not exist", plat_clip(name))));
}

/*
 * Check that an argument names a breaker or a bulkhead (42704); NULL and the
 * empty string name none.
 */
static void
check_guard(FunctionCallInfo fcinfo, int argno, const char *what)
{
	Oid			types[] = {TEXTOID};
	Datum		values[1];

	if (PG_ARGISNULL(argno) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(argno)) == 0)
		return;
	values[0] = PG_GETARG_DATUM(argno);
	if (plat_sql_query(psprintf("SELECT FROM platpat.%ss WHERE %s = $1", what, what),
					   1, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s \"%s\" does not exist", what,
						plat_clip(TextDatumGetCString(values[0])))));
}

/*
 * Check the arguments that create and alter have in common, which may be NULL,
 * and return the text to store for the handler.
 */
static Datum
check_arguments(FunctionCallInfo fcinfo)
{
	static const Oid types[] = {JSONBOID};
	double		timeout = PG_ARGISNULL(4) ? 0 : plat_interval_ns(PG_GETARG_INTERVAL_P(4));
	char	   *class = PG_ARGISNULL(5) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(5));
	char	   *handler;

	if (!(timeout >= 0) || timeout > (double) PLAT_MAX_INTERVAL_NS)
		plat_refuse_value("timeout is out of range", "It is between 0 and 100 years.");
	if (class && strcmp(class, "critical") != 0 && strcmp(class, "standard") != 0 &&
		strcmp(class, "batch") != 0)
		plat_refuse_value(psprintf("class is \"%s\"", plat_clip(class)),
						  "It is critical, standard or batch.");
	check_guard(fcinfo, 2, "breaker");
	check_guard(fcinfo, 3, "bulkhead");
	if (PG_ARGISNULL(1))
		return (Datum) 0;
	handler = plat_function_check(PG_GETARG_OID(1), 1, types,
								  "a function (payload jsonb) that returns jsonb", false);
	if (get_func_rettype(PG_GETARG_OID(1)) != JSONBOID)
		plat_refuse_value(psprintf("function %s does not fit", handler),
						  "It is to be a function (payload jsonb) that returns jsonb.");
	return CStringGetTextDatum(handler);
}

/*
 * The arguments as parameters of a statement; nulls has room for six.
 */
static void
read_arguments(FunctionCallInfo fcinfo, Datum *values, char *nulls)
{
	for (int i = 0; i < 6; i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	values[0] = CStringGetTextDatum(plat_event_name(fcinfo, 0, "command"));
	values[1] = check_arguments(fcinfo);
}

static const Oid argument_types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INTERVALOID, TEXTOID};

/*
 * platpat.create_command(command text, handler regprocedure, breaker text,
 * bulkhead text, timeout interval, class text) returns void: VOLATILE, for
 * administrators. Raises 22004, 22023, 42704, 42710, 42883.
 */
Datum
plat_event_create_command(PG_FUNCTION_ARGS)
{
	Datum		values[6];
	char		nulls[] = "      ";

	plat_refuse_null(fcinfo, 1, "handler");
	plat_refuse_null(fcinfo, 4, "timeout");
	plat_refuse_null(fcinfo, 5, "class");
	SPI_connect();
	read_arguments(fcinfo, values, nulls);
	if (plat_sql_as_owner("commands",
						  "INSERT INTO platpat.commands VALUES"
						  " ($1, $2, nullif($3, ''), nullif($4, ''), $5, $6) ON CONFLICT DO NOTHING",
						  6, (Oid *) argument_types, values, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("command \"%s\" already exists",
						plat_clip(TextDatumGetCString(values[0])))));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * Raise 42501 unless the caller owns the present handler of a command, which
 * others may call by that name with their own rights. One that is gone is for
 * superusers to replace.
 */
static void
check_handler_owner(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	char	   *handler;

	if (superuser() ||
		plat_sql_as_owner("commands", "SELECT handler FROM platpat.commands WHERE command = $1",
						  1, types, values, NULL) == 0)
		return;
	handler = plat_sql_value(0, 1);
	if (!object_ownercheck(ProcedureRelationId, plat_function_find(handler).oid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of function %s", handler),
				 errdetail("Others call it by the name of the command, with their own rights.")));
}

/*
 * platpat.alter_command(command text, ...) returns void: VOLATILE, for
 * administrators. Raises 22004, 22023, 42501, 42704, 42883.
 */
Datum
plat_event_alter_command(PG_FUNCTION_ARGS)
{
	Datum		values[6];
	char		nulls[] = "      ";

	SPI_connect();
	read_arguments(fcinfo, values, nulls);
	if (!PG_ARGISNULL(1))
		check_handler_owner(TextDatumGetCString(values[0]));
	if (plat_sql_as_owner("commands",
						  "UPDATE platpat.commands SET handler = coalesce($2, handler),"
						  " breaker = nullif(coalesce($3, breaker), ''),"
						  " bulkhead = nullif(coalesce($4, bulkhead), ''),"
						  " timeout = coalesce($5, timeout), class = coalesce($6, class)"
						  " WHERE command = $1",
						  6, (Oid *) argument_types, values, nulls) == 0)
		no_such_command(TextDatumGetCString(values[0]));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * platpat.drop_command(command text) returns void: VOLATILE, for
 * administrators. Raises 22004 and 42704.
 */
Datum
plat_event_drop_command(PG_FUNCTION_ARGS)
{
	char	   *name = plat_event_name(fcinfo, 0, "command");
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	SPI_connect();
	if (plat_sql_as_owner("commands", "DELETE FROM platpat.commands WHERE command = $1",
						  1, types, values, NULL) == 0)
		no_such_command(name);
	(void) plat_sql_as_owner("command_results",
							 "DELETE FROM platpat.command_results WHERE command = $1",
							 1, types, values, NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * Find a command and its handler, which the caller must be allowed to execute
 * (42501): an answer that is only repeated says as much as a new one.
 */
static Command
find_command(const char *name)
{
	Command		command = {0};
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	bool		isnull;

	if (plat_sql_as_owner("commands",
						  "SELECT handler, breaker, bulkhead, class, timeout"
						  " FROM platpat.commands WHERE command = $1",
						  1, types, values, NULL) == 0)
		no_such_command(name);
	command.name = pstrdup(name);
	command.breaker = plat_sql_value(0, 2);
	command.bulkhead = plat_sql_value(0, 3);
	command.class = plat_sql_value(0, 4);
	command.timeout = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5, &isnull);
	command.handler = plat_function_find(plat_sql_value(0, 1)).oid;
	if (!plat_may_execute(command.handler))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(command.handler));
	return command;
}

/*
 * The call of the handler as SQL, with its payload as parameter $1.
 */
static char *
handler_call(const Command *command)
{
	return psprintf("SELECT %s($1::pg_catalog.jsonb)",
					quote_qualified_identifier(get_namespace_name(get_func_namespace(command->handler)),
											   get_func_name(command->handler)));
}

/*
 * Run a query of one row with one value of type jsonb, as the caller and with
 * the caller's search_path; NULL for SQL NULL. Returned in the SPI context.
 */
static Jsonb *
query_json(const char *query, int nargs, Oid *types, Datum *values)
{
	int			code = SPI_execute_with_args(query, nargs, types, values, NULL, false, 1);
	bool		isnull;
	Datum		value;

	if (code != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "SPI_execute_with_args failed with %s for: %s",
			 SPI_result_code_string(code), query);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

/*
 * The only value of an object that breaker_call() or bulkhead_call() has made
 * of a row; NULL for a null of JSON, which is what SQL NULL became.
 */
static Jsonb *
unwrap(Jsonb *object)
{
	Oid			types[] = {JSONBOID};
	Datum		values[] = {JsonbPGetDatum(object)};

	return query_json("SELECT nullif(v.value, 'null') FROM pg_catalog.jsonb_each($1) v",
					  1, types, values);
}

/*
 * Call the handler, through the bulkhead and the breaker if there are any: the
 * breaker is asked first, so that who would be refused does not wait for a
 * slot.  These are the functions that anybody may call.
 */
static Jsonb *
call_handler(const Command *command, Datum payload)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INTERVALOID, TEXTOID};
	Datum		values[6];
	Oid			json = JSONBOID;
	const char *query = handler_call(command);

	if (command->breaker == NULL && command->bulkhead == NULL)
		return query_json(query, 1, &json, &payload);
	values[0] = CStringGetTextDatum(command->breaker ? command->breaker : "");
	values[1] = CStringGetTextDatum(query);
	values[2] = CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(jsonb_out, payload)));
	values[3] = CStringGetTextDatum(command->bulkhead ? command->bulkhead : "");
	values[4] = command->timeout;
	values[5] = CStringGetTextDatum(command->class);
	if (command->bulkhead == NULL)
		return unwrap(query_json("SELECT platpat.breaker_call($1, $2, $3)", 3, types, values));
	if (command->breaker == NULL)
		return unwrap(query_json("SELECT platpat.bulkhead_call($4, $2, $5, $6, $3)", 6, types, values));
	return unwrap(unwrap(query_json("SELECT platpat.breaker_call($1,"
									" 'SELECT platpat.bulkhead_call($1, $2, $3, $4, $5)',"
									" $4, $2, $5::pg_catalog.text, $6, $3)", 6, types, values)));
}

/*
 * Take the key for this call. Returns whether it was free or over; otherwise
 * the answer is there.
 */
static bool
take_key(const Keyed *keyed)
{
	return plat_sql_as_owner("command_results",
							 "INSERT INTO platpat.command_results AS r"
							 " (tenant, command, idempotency_key, payload_hash, role_name)"
							 " VALUES ($1, $2, $3, $4, $5)"
							 " ON CONFLICT (tenant, command, idempotency_key) DO UPDATE"
							 " SET payload_hash = $4, role_name = $5, answered = false,"
							 " response = NULL, created_at = now()"
							 " WHERE r.created_at < now() - interval '24 hours'",
							 5, (Oid *) keyed_types, (Datum *) keyed->values, keyed->nulls) > 0;
}

/*
 * Raise unless the answer for a key, in the current row, is for this call:
 * 42501 if another role has asked, 22023 if it was for another payload, 55000
 * if it is this transaction that is still at it.
 */
static void
check_stored(const char *key)
{
	if (plat_sql_value(0, 2)[0] != 't')
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("idempotency key \"%s\" was used by another role", plat_clip(key))));
	if (plat_sql_value(0, 3)[0] != 't')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("idempotency key \"%s\" was used for another payload", plat_clip(key))));
	if (plat_sql_value(0, 4)[0] != 't')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the command with idempotency key \"%s\" is being executed", plat_clip(key)),
				 errdetail("Its handler has called it again.")));
}

/*
 * The answer that was given for a key; 40001 if it is too new to be seen.
 */
static Jsonb *
stored_answer(const Keyed *keyed, const char *key)
{
	bool		isnull;
	Datum		value;

	if (plat_sql_as_owner("command_results",
						  "SELECT response, role_name = $5, payload_hash = $4, answered"
						  " FROM platpat.command_results" THIS_KEY,
						  5, (Oid *) keyed_types, (Datum *) keyed->values, keyed->nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the answer for idempotency key \"%s\" cannot be seen", plat_clip(key)),
				 errhint("Repeat the transaction.")));
	check_stored(key);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

/*
 * Keep an answer for the calls to come.
 */
static void
store_answer(const Keyed *keyed, Jsonb *answer)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, JSONBOID};
	Datum		values[] = {keyed->values[0], keyed->values[1], keyed->values[2],
	answer ? JsonbPGetDatum(answer) : (Datum) 0};
	char		nulls[] = {keyed->nulls[0], ' ', ' ', answer ? ' ' : 'n', '\0'};

	(void) plat_sql_as_owner("command_results",
							 "UPDATE platpat.command_results SET response = $4, answered = true" THIS_KEY,
							 4, types, values, nulls);
}

/*
 * The answer for a call with a key: the one before, or a new one.
 */
static Jsonb *
answer_once(const Command *command, Datum payload, const char *key)
{
	const char *tenant = plat_tenant_current();
	Keyed		keyed = {.nulls = "     "};
	Jsonb	   *answer;

	keyed.values[0] = tenant ? CStringGetTextDatum(tenant) : (Datum) 0;
	keyed.nulls[0] = tenant ? ' ' : 'n';
	keyed.values[1] = CStringGetTextDatum(command->name);
	keyed.values[2] = CStringGetTextDatum(key);
	keyed.values[3] = DirectFunctionCall2(jsonb_hash_extended, payload, Int64GetDatum(0));
	keyed.values[4] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
	if (!take_key(&keyed))
		return stored_answer(&keyed, key);
	answer = call_handler(command, payload);
	store_answer(&keyed, answer);
	return answer;
}

/*
 * The idempotency key; NULL for none. 22004 for the empty string, 22023 for
 * one that is too long.
 */
static char *
key_arg(FunctionCallInfo fcinfo)
{
	char	   *key = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));

	if (key && key[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("idempotency_key must not be empty")));
	if (key && strlen(key) > KEY_MAX)
		plat_refuse_value("idempotency_key is too long",
						  psprintf("It has at most %d bytes.", KEY_MAX));
	return key;
}

/*
 * platpat.execute_command(command text, payload jsonb, idempotency_key text)
 * returns jsonb: VOLATILE, for PUBLIC; the handler says who may.
 *
 * Calls the handler and returns its answer.  A key is unique for a tenant and
 * a command: a call that comes again within 24 hours gets the answer of the
 * first and does nothing.  Raises 22004, 22023, 40001, 42501, 42704, what the
 * breaker and the bulkhead raise, and what the handler does.
 */
Datum
plat_event_execute_command(PG_FUNCTION_ARGS)
{
	char	   *name = plat_event_name(fcinfo, 0, "command");
	char	   *key = key_arg(fcinfo);
	Command		command;
	Jsonb	   *answer;

	plat_refuse_null(fcinfo, 1, "payload");
	SPI_connect();
	command = find_command(name);
	answer = key ? answer_once(&command, PG_GETARG_DATUM(1), key) :
		call_handler(&command, PG_GETARG_DATUM(1));
	if (answer)
		answer = (Jsonb *) DatumGetPointer(SPI_datumTransfer(JsonbPGetDatum(answer), false, -1));
	SPI_finish();
	if (answer == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(answer);
}
