/*
 * limit_arg.h
 *		The arguments of the functions of module limit.
 *
 * What the hot path needs is inline; the rest is described in limit_arg.c.
 */
#ifndef PLAT_LIMIT_ARG_H
#define PLAT_LIMIT_ARG_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "limit.h"
#include "sql.h"
#include "tenant_id.h"

/* What a call site of the functions by key keeps. */
typedef struct PlatLimitSite
{
	Oid			key_type;
	TupleDesc	desc;			/* of the result, once it was needed */
	HeapTupleHeader form;		/* a result, to be filled in; likewise */
	char		key[40];		/* the text form of a uuid or a number */
	bool		has_rate;		/* all of what follows is there */
	double		cost;
	Interval	per;
	PlatRate	rate;
	uint64		cost_ns;
	uint64		burst_ns;
} PlatLimitSite;

extern PlatLimitSite *plat_limit_make_site(FunctionCallInfo fcinfo);
extern void plat_limit_read_rate(FunctionCallInfo fcinfo, PlatLimitSite *site);
extern void plat_limit_refuse(PlatLimitProblem problem, const PlatRate *rate,
							  double cost);

/* What the call site keeps between calls; made by its first. */
static inline PlatLimitSite *
plat_limit_site(FunctionCallInfo fcinfo)
{
	if (likely(fcinfo->flinfo->fn_extra != NULL))
		return fcinfo->flinfo->fn_extra;
	return plat_limit_make_site(fcinfo);
}

/*
 * Read the first argument as a key of callers: 22004 for NULL and for the
 * empty string. The text stays where it is.
 */
static pg_attribute_always_inline void
plat_limit_read_key(FunctionCallInfo fcinfo, PlatLimitSite *site, PlatSlotKey *key)
{
	if (unlikely(PG_ARGISNULL(0)))
		plat_refuse_null(fcinfo, 0, "key");
	if (likely(site->key_type == TEXTOID))
	{
		text	   *value = PG_GETARG_TEXT_PP(0);

		key->name = VARDATA_ANY(value);
		key->len = VARSIZE_ANY_EXHDR(value);
	}
	else if (site->key_type == UUIDOID)
	{
		plat_print_uuid(PG_GETARG_UUID_P(0), site->key);
		key->name = site->key;
		key->len = 36;
	}
	else
	{
		key->name = site->key;
		key->len = pg_lltoa(PG_GETARG_INT64(0), site->key);
	}
	if (unlikely(key->len == 0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key must not be empty")));
	key->space = PLAT_SPACE_KEY;
	key->hash = plat_slots_hash(MyDatabaseId, PLAT_SPACE_KEY,
								key->name, key->len);
}

/*
 * Whether the arguments are those that the call site has computed from.
 */
static inline bool
plat_limit_same_rate(FunctionCallInfo fcinfo, const PlatLimitSite *site)
{
	if (!site->has_rate || PG_ARGISNULL(1) || PG_ARGISNULL(2) ||
		PG_ARGISNULL(3) || PG_ARGISNULL(4))
		return false;
	return site->rate.rate == PG_GETARG_FLOAT8(1) &&
		site->rate.burst == PG_GETARG_FLOAT8(2) &&
		site->cost == PG_GETARG_FLOAT8(3) &&
		memcmp(&site->per, PG_GETARG_INTERVAL_P(4), sizeof(Interval)) == 0;
}

/*
 * Read the arguments (key, rate, burst, cost, per) as a charge.
 */
static pg_attribute_always_inline void
plat_limit_read_charge(FunctionCallInfo fcinfo, PlatLimitSite *site, PlatCharge *charge)
{
	plat_limit_read_key(fcinfo, site, &charge->key);
	plat_slots_prefetch(charge->key.hash);
	if (unlikely(!plat_limit_same_rate(fcinfo, site)))
		plat_limit_read_rate(fcinfo, site);
	charge->cost = site->cost_ns;
	charge->limit = site->burst_ns;
	charge->epoch = PLAT_EPOCH_KEY;
}

#endif							/* PLAT_LIMIT_ARG_H */
