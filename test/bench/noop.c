/*
 * noop.c
 *		Functions that do nothing, with the signatures of those that are
 *		measured: what a call costs by itself.
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(noop);
PG_FUNCTION_INFO_V1(noop_row);

Datum
noop(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

/* A row would have to be made, so NULL stands for it. */
Datum
noop_row(PG_FUNCTION_ARGS)
{
	PG_RETURN_NULL();
}
