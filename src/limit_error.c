/*
 * limit_error.c
 *		How a caller learns that it was refused: errors, and HTTP headers.
 *
 * The headers are those of the IETF draft "RateLimit header fields for HTTP"
 * (draft-ietf-httpapi-ratelimit-headers-10) and Retry-After of RFC 9110.  An
 * error in the style of PostgREST carries them, with status 429, in the form
 * that PostgREST documents for SQLSTATE PGRST.  Nothing here charges.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "compat.h"
#include "limit.h"
#include "limit_arg.h"

#define PLAT_ERRCODE_POSTGREST MAKE_SQLSTATE('P', 'G', 'R', 'S', 'T')

/* The largest number that a structured field can have, of RFC 9651. */
#define MAX_FIELD 999999999999999.0

typedef enum ErrorStyle
{
	STYLE_NATIVE, STYLE_POSTGREST
} ErrorStyle;

static const struct config_enum_entry style_options[] = {
	{"native", STYLE_NATIVE, false},
	{"postgrest", STYLE_POSTGREST, false},
	{NULL, 0, false}
};

/* platpat.limit_error_style */
static int	error_style = STYLE_NATIVE;

PG_FUNCTION_INFO_V1(plat_limit_headers);

/*
 * Part of define_settings of the module.
 */
void
plat_limit_define_error_setting(void)
{
	DefineCustomEnumVariable("platpat.limit_error_style",
							 "How enforce_rate_limit() and enforce_tenant_limit() raise.",
							 NULL,
							 &error_style, STYLE_NATIVE, style_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);
}

/*
 * A time in whole seconds, rounded up: who comes back then is not early.
 */
static double
whole_seconds(double ns)
{
	return Min(ceil(ns / 1e9), MAX_FIELD);
}

/*
 * What headers say of an outcome.  Times are nanoseconds; a wait of
 * PLAT_LIMIT_NEVER is one that nobody knows.
 */
typedef struct Headers
{
	const char *policy;
	double		limit;
	double		window;
	double		remaining;
	double		more_in;		/* until there is more than now */
	bool		is_refused;
	bool		knows_wait;
	double		wait;
} Headers;

/*
 * Append the headers as a JSON object.
 */
static void
append_headers(StringInfo json, const Headers *headers)
{
	StringInfoData value;

	initStringInfo(&value);
	appendStringInfo(&value, "\"%s\";q=%.0f;w=%.0f", headers->policy,
					 floor(Min(headers->limit, MAX_FIELD)),
					 Max(whole_seconds(headers->window), 1));
	appendStringInfoString(json, "{\"RateLimit-Policy\": ");
	escape_json(json, value.data);

	resetStringInfo(&value);
	appendStringInfo(&value, "\"%s\";r=%.0f", headers->policy,
					 floor(Min(headers->remaining, MAX_FIELD)));
	if (!headers->is_refused || headers->knows_wait)
		appendStringInfo(&value, ";t=%.0f", whole_seconds(headers->more_in));
	appendStringInfoString(json, ", \"RateLimit\": ");
	escape_json(json, value.data);

	if (headers->is_refused && headers->knows_wait)
		appendStringInfo(json, ", \"Retry-After\": \"%.0f\"",
						 Max(whole_seconds(headers->wait), 1));
	appendStringInfoChar(json, '}');
}

/*
 * Append a member of a JSON object that is not its first: null for what JSON
 * has no number for.
 */
static void
append_number(StringInfo json, const char *name, const char *format,
			  double number)
{
	char		text[64] = "null";

	if (isfinite(number))
		snprintf(text, sizeof(text), format, number);
	appendStringInfo(json, ", \"%s\": %s", name, text);
}

/*
 * The facts of a refusal as a JSON object for programs.
 */
static char *
detail_json(const PlatRefusal *refusal)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"%s\": ", refusal->key_label);
	escape_json(&json, refusal->key);
	append_number(&json, "limit", "%.15g", refusal->limit);
	append_number(&json, "remaining", "%.15g", refusal->remaining);
	append_number(&json, "retry_after", "%.6f",
				  refusal->wait == PLAT_LIMIT_NEVER ? get_float8_infinity() :
				  ceil((double) refusal->wait / 1e3) / 1e6);
	appendStringInfoChar(&json, '}');
	return json.data;
}

/*
 * What to do about it, for people.
 */
static char *
hint_of(const PlatRefusal *refusal)
{
	if (refusal->no_place)
		return pstrdup("The shared table is full. Raise platpat.limit_slots, or set platpat.limit_on_full to evict.");
	if (refusal->wait == PLAT_LIMIT_NEVER)
		return pstrdup("It costs more than the whole quota.");
	return psprintf("Try again in %.3f seconds.",
					ceil((double) refusal->wait / 1e6) / 1e3);
}

/*
 * Raise for PostgREST: the message is the body of the response, the detail
 * its status and headers, both JSON.
 */
static void
raise_for_postgrest(const PlatRefusal *refusal, const char *message,
					const char *hint)
{
	bool		knows_wait = refusal->wait != PLAT_LIMIT_NEVER;
	Headers		headers = {
		.policy = refusal->policy,
		.limit = isfinite(refusal->limit) ? refusal->limit : MAX_FIELD,
		.window = (double) refusal->window,
		.remaining = refusal->remaining,
		.more_in = knows_wait ? (double) refusal->wait : 0,
		.is_refused = true,
		.knows_wait = knows_wait,
		.wait = knows_wait ? (double) refusal->wait : 0,
	};
	StringInfoData body;
	StringInfoData status;

	initStringInfo(&body);
	appendStringInfo(&body, "{\"code\": \"%s\", \"message\": ",
					 refusal->no_place ? "54000" : "53400");
	escape_json(&body, message);
	appendStringInfoString(&body, ", \"details\": ");
	escape_json(&body, detail_json(refusal));
	appendStringInfoString(&body, ", \"hint\": ");
	escape_json(&body, hint);
	appendStringInfoChar(&body, '}');

	initStringInfo(&status);
	appendStringInfo(&status, "{\"status\": %d, \"headers\": ",
					 refusal->no_place ? 503 : 429);
	append_headers(&status, &headers);
	appendStringInfoChar(&status, '}');
	ereport(ERROR,
			(errcode(PLAT_ERRCODE_POSTGREST),
			 errmsg_internal("%s", body.data),
			 errdetail_internal("%s", status.data)));
}

/*
 * Raise that a request is over its limit: 53400, 54000 if the table is full;
 * in the style of PostgREST PGRST with status 429 or 503.
 */
void
plat_limit_raise(const PlatRefusal *refusal)
{
	char	   *message = psprintf("%s exceeded for %s \"%s\"", refusal->what,
								   refusal->key_label, refusal->key);
	char	   *hint = hint_of(refusal);

	if (error_style == STYLE_POSTGREST)
		raise_for_postgrest(refusal, message, hint);
	ereport(ERROR,
			(errcode(refusal->no_place ? ERRCODE_PROGRAM_LIMIT_EXCEEDED :
					 ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg_internal("%s", message),
			 errdetail_internal("%s", detail_json(refusal)),
			 errhint("%s", hint)));
}

/*
 * The name of a policy as headers can carry it: 22023 unless it is printable
 * ASCII without quotes and backslashes.
 */
static char *
policy_arg(FunctionCallInfo fcinfo, int argno)
{
	char	   *policy = text_to_cstring(PG_GETARG_TEXT_PP(argno));

	for (const char *c = policy; *c; c++)
		if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("policy must be printable ASCII without quotes and backslashes")));
	return policy;
}

/*
 * A time to wait in nanoseconds; 22023 if it is negative.
 */
static double
wait_arg(FunctionCallInfo fcinfo, int argno, const char *what)
{
	double		ns = plat_interval_ns(PG_GETARG_INTERVAL_P(argno));

	if (ns < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", what)));
	return ns;
}

/*
 * platpat.rate_limit_headers(allowed boolean, remaining float8, retry_after
 * interval, reset_after interval, rate float8, burst float8, per interval,
 * policy text) returns jsonb: IMMUTABLE, PARALLEL SAFE, for PUBLIC.
 *
 * The first four as consume_rate_limit() gave them, the others as it got
 * them.  Retry-After is there for a refusal whose wait is known.  Raises
 * 22004 for any other NULL than retry_after, 22023 for what cannot be.
 */
Datum
plat_limit_headers(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {
		"allowed", "remaining", NULL, "reset_after", "rate", "burst", "per",
		"policy"
	};
	PlatRate	rate;
	Headers		headers = {0};
	StringInfoData json;

	for (int i = 0; i < lengthof(names); i++)
		if (names[i])
			plat_refuse_null(fcinfo, i, names[i]);
	rate.rate = PG_GETARG_FLOAT8(4);
	rate.burst = PG_GETARG_FLOAT8(5);
	rate.per_ns = plat_interval_ns(PG_GETARG_INTERVAL_P(6));
	plat_limit_refuse(plat_rate_problem(&rate, 0), &rate, 0);
	headers.policy = policy_arg(fcinfo, 7);
	headers.limit = rate.burst;
	headers.window = (double) plat_rate_ns(&rate, rate.burst);
	headers.remaining = PG_GETARG_FLOAT8(1);
	if (!(headers.remaining >= 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("remaining is %g", headers.remaining)));
	headers.is_refused = !PG_GETARG_BOOL(0);
	headers.knows_wait = !PG_ARGISNULL(2);
	if (headers.knows_wait)
		headers.wait = wait_arg(fcinfo, 2, "retry_after");

	/* More comes with the next token, or when the bucket is full. */
	headers.more_in = headers.is_refused ? headers.wait :
		Min(wait_arg(fcinfo, 3, "reset_after"), rate.per_ns / rate.rate);
	initStringInfo(&json);
	append_headers(&json, &headers);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}
