/*
 * limit_arg.c
 *		The arguments of the functions of module limit: checked, and computed
 *		once for each call site.
 *
 * What a call site has computed from its arguments is kept for its next call,
 * because they are mostly the same.  Nothing is shared between backends.
 */
#include "postgres.h"

#include "utils/float.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "limit_arg.h"
#include "shmem.h"

/*
 * Raise 22023 for a limit or a cost that cannot be; PLAT_LIMIT_FINE passes.
 */
void
plat_limit_refuse(PlatLimitProblem problem, const PlatRate *rate, double cost)
{
	switch (problem)
	{
		case PLAT_LIMIT_FINE:
			return;
		case PLAT_LIMIT_BAD_RATE:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("rate is %g", rate->rate),
					 errdetail("It is a positive, finite number of tokens per time.")));
			break;
		case PLAT_LIMIT_BAD_BURST:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("burst is %g", rate->burst),
					 errdetail("It is a positive, finite number of tokens.")));
			break;
		case PLAT_LIMIT_BAD_PER:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the time that the rate is for must be positive and finite")));
			break;
		case PLAT_LIMIT_BAD_COST:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("cost is %g", cost),
					 errdetail("It is a finite number of tokens and not negative.")));
			break;
		case PLAT_LIMIT_TOO_SLOW:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a bucket of %g tokens would take more than 100 years to fill",
							rate->burst)));
			break;
		case PLAT_LIMIT_COST_TOO_HIGH:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("cost %g is more than burst %g", cost, rate->burst),
					 errdetail("It could never be granted.")));
			break;
	}
}

/*
 * Make what the call site keeps between calls, in the memory of its
 * expression, and look up of which type its key is: text, uuid or bigint.
 */
PlatLimitSite *
plat_limit_make_site(FunctionCallInfo fcinfo)
{
	PlatLimitSite *site;
	Oid		   *types;
	int			nargs;

	plat_shmem_require();
	site = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(PlatLimitSite));
	(void) get_func_signature(fcinfo->flinfo->fn_oid, &types, &nargs);
	site->key_type = types[0];
	fcinfo->flinfo->fn_extra = site;
	return site;
}

/*
 * Compute what the call site keeps from its arguments: 22004 for NULL, 22023
 * for a limit or a cost that cannot be.
 */
void
plat_limit_read_rate(FunctionCallInfo fcinfo, PlatLimitSite *site)
{
	static const char *const names[] = {"key", "rate", "burst", "cost", "per"};

	for (int i = 1; i < 5; i++)
		plat_refuse_null(fcinfo, i, names[i]);
	site->has_rate = false;
	site->rate.rate = PG_GETARG_FLOAT8(1);
	site->rate.burst = PG_GETARG_FLOAT8(2);
	site->cost = PG_GETARG_FLOAT8(3);
	site->per = *PG_GETARG_INTERVAL_P(4);
	site->rate.per_ns = plat_interval_ns(&site->per);
	plat_limit_refuse(plat_rate_problem(&site->rate, site->cost),
					  &site->rate, site->cost);
	site->cost_ns = plat_rate_ns(&site->rate, site->cost);
	site->burst_ns = plat_rate_ns(&site->rate, site->rate.burst);
	site->has_rate = true;
}
