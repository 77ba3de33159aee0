/*
 * retry.c
 *		Tests of whose fault a failure is, and of waiting after it: no server, no
 *		lock.  Prints TAP; t/100_controller_core.pl compiles it together with
 *		src/retry_core.c and runs it.
 */
#include "postgres.h"

#include "utils/elog.h"
#include "utils/errcodes.h"

#include "retry_core.h"
#include "tap.h"

int
main(void)
{
	begin();
	expect(plat_retry_blame(ERRCODE_DIVISION_BY_ZERO) == PLAT_BLAME_ITEM, "22012");
	expect(plat_retry_blame(ERRCODE_UNIQUE_VIOLATION) == PLAT_BLAME_ITEM, "23505");
	expect(plat_retry_blame(ERRCODE_RAISE_EXCEPTION) == PLAT_BLAME_ITEM, "P0001");
	expect(plat_retry_blame(ERRCODE_QUERY_CANCELED) == PLAT_BLAME_ITEM, "57014");
	expect(plat_retry_blame(ERRCODE_ADMIN_SHUTDOWN) == PLAT_BLAME_MOMENT, "57P01");
	expect(plat_retry_blame(ERRCODE_T_R_DEADLOCK_DETECTED) == PLAT_BLAME_MOMENT, "40P01");
	expect(plat_retry_blame(ERRCODE_LOCK_NOT_AVAILABLE) == PLAT_BLAME_MOMENT, "55P03");
	expect(plat_retry_blame(ERRCODE_DISK_FULL) == PLAT_BLAME_MOMENT, "53100");
	expect(plat_retry_blame(ERRCODE_IO_ERROR) == PLAT_BLAME_MOMENT, "58030");
	expect(plat_retry_blame(ERRCODE_CONNECTION_FAILURE) == PLAT_BLAME_MOMENT, "08006");
	expect(plat_retry_blame(ERRCODE_UNDEFINED_TABLE) == PLAT_BLAME_CODE, "42P01");
	expect(plat_retry_blame(ERRCODE_INTERNAL_ERROR) == PLAT_BLAME_CODE, "XX000");
	expect(plat_retry_blame(ERRCODE_FEATURE_NOT_SUPPORTED) == PLAT_BLAME_CODE, "0A000");
	end("whose fault an error is");

	begin();
	expect(plat_retry_backoff(1, 0.5) == INT64CONST(5000000), "first");
	expect(plat_retry_backoff(2, 0.5) == INT64CONST(10000000), "second");
	expect(plat_retry_backoff(6, 0.5) == INT64CONST(160000000), "sixth");
	expect(plat_retry_backoff(7, 0.5) == INT64CONST(300000000), "seventh");
	expect(plat_retry_backoff(PG_INT32_MAX, 0.5) == INT64CONST(300000000), "last");
	expect(plat_retry_backoff(0, 0.5) == INT64CONST(5000000), "none");
	end("how long to wait after failures");

	begin();
	expect(plat_retry_backoff(1, 0) == INT64CONST(4350000), "least");
	expect(plat_retry_backoff(1, 1) == INT64CONST(5650000), "most");
	expect(plat_retry_backoff(100, 1) == INT64CONST(339000000), "most of all");
	end("chance moves it by 13 %");

	printf("1..%d\n", tests);
	return failures > 0;
}
