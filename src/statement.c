/*
 * statement.c
 *		A caller's statement, run with its arguments and returned as JSON.
 *
 * Arguments are text, and become of the type that their places in the
 * statement want, as with the extended query protocol.  The statement runs as
 * the caller, with the caller's search_path, in a subtransaction.  Nothing
 * here is shared.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "nodes/params.h"
#include "parser/parse_param.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"

#include "compat.h"
#include "sql.h"
#include "statement.h"

/* What the parser finds out of the parameters. */
typedef struct Parameters
{
	Oid		   *types;
	int			count;
} Parameters;

/*
 * Read the command and its arguments from those of a function: 22004 for
 * NULL, 22023 for arguments that are no list. Elements may be NULL.
 */
void
plat_statement_args(FunctionCallInfo fcinfo, int command, int args,
					PlatStatement *statement)
{
	ArrayType  *array;

	plat_refuse_null(fcinfo, command, "command");
	plat_refuse_null(fcinfo, args, "args");
	array = PG_GETARG_ARRAYTYPE_P(args);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("args must have one dimension")));
	statement->command = text_to_cstring(PG_GETARG_TEXT_PP(command));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT,
					  &statement->args, &statement->nulls, &statement->nargs);
}

static void
setup_parser(ParseState *pstate, void *arg)
{
	Parameters *parameters = arg;

	setup_parse_variable_parameters(pstate, &parameters->types,
									&parameters->count);
}

/*
 * The arguments as values of the types that were found out.
 */
static ParamListInfo
make_params(const PlatStatement *statement, const Parameters *parameters)
{
	ParamListInfo list = makeParamList(statement->nargs);

	for (int i = 0; i < statement->nargs; i++)
	{
		ParamExternData *param = &list->params[i];
		Oid			input;
		Oid			io_param;

		/* What the statement does not mention has no type. */
		param->ptype = OidIsValid(parameters->types[i]) ?
			parameters->types[i] : TEXTOID;
		param->pflags = PARAM_FLAG_CONST;
		param->isnull = statement->nulls[i];
		getTypeInputInfo(param->ptype, &input, &io_param);
		param->value = OidInputFunctionCall(input, param->isnull ? NULL :
											TextDatumGetCString(statement->args[i]),
											io_param, -1);
	}
	return list;
}

/*
 * Raise for what SPI cannot run.
 */
static void
check_code(int code, const char *command)
{
	if (code >= 0)
		return;
	if (code == SPI_ERROR_TRANSACTION || code == SPI_ERROR_COPY)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot run transaction commands or COPY to or from the client here")));
	elog(ERROR, "SPI failed with %s for: %s", SPI_result_code_string(code),
		 command);
}

/*
 * Add the rows of the last command to the result of the function.
 */
static void
put_rows(ReturnSetInfo *result)
{
	TupleDesc	desc;

	if (SPI_tuptable == NULL)
		return;
	desc = BlessTupleDesc(SPI_tuptable->tupdesc);
	for (uint64 i = 0; i < SPI_tuptable->numvals; i++)
	{
		Datum		row = heap_copy_tuple_as_datum(SPI_tuptable->vals[i], desc);
		Datum		json = DirectFunctionCall1(row_to_json, row);
		Datum		value = DirectFunctionCall1(jsonb_in,
												CStringGetDatum(TextDatumGetCString(json)));
		bool		isnull = false;

		tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
		pfree(DatumGetPointer(value));
		pfree(DatumGetPointer(json));
		pfree(DatumGetPointer(row));
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Run the statement; its rows are the result of the function.
 */
static void
run(PlatStatement *statement, ReturnSetInfo *result)
{
	Parameters	parameters = {
		.types = palloc0(sizeof(Oid) * Max(statement->nargs, 1)),
		.count = statement->nargs,
	};
	SPIExecuteOptions options = {0};
	SPIPlanPtr	plan;
	int			code;

	plan = SPI_prepare_params(statement->command, setup_parser, &parameters, 0);
	if (plan == NULL)
		check_code(SPI_result, statement->command);
	if (parameters.count > statement->nargs)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_PARAMETER),
				 errmsg("there is no parameter $%d", parameters.count),
				 errdetail("The command was given %d arguments.", statement->nargs)));
	options.params = make_params(statement, &parameters);
	statement->has_begun = true;
	code = SPI_execute_plan_extended(plan, &options);
	statement->has_begun = code >= 0;
	check_code(code, statement->command);
	put_rows(result);
}

/*
 * Run a statement as the caller in a subtransaction; the function, which
 * returns setof jsonb, returns its rows.  Returns NULL, or the error that the
 * statement came to, after it was undone: to be thrown again.
 */
ErrorData *
plat_statement_run(FunctionCallInfo fcinfo, PlatStatement *statement)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	statement->has_begun = false;
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		SPI_connect();
		run(statement, (ReturnSetInfo *) fcinfo->resultinfo);
		SPI_finish();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}
