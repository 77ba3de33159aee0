/*
 * clock.c
 *		Intervals as nanoseconds, and moments of the clock as times of day.
 *
 * Nothing here is shared.
 */
#include "postgres.h"

#include "utils/float.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "compat.h"

/*
 * The length of an interval in nanoseconds: months of 30 days, days of 24
 * hours, as intervals compare. Infinite, with its sign, for an infinite one.
 */
double
plat_interval_ns(const Interval *interval)
{
	double		days = interval->month * (double) DAYS_PER_MONTH + interval->day;

	if (INTERVAL_NOT_FINITE(interval))
		return interval->month < 0 ? -get_float8_infinity() :
			get_float8_infinity();
	return (days * USECS_PER_DAY + interval->time) * 1000;
}

/*
 * An interval of that many nanoseconds, rounded up to a microsecond.
 */
Interval *
plat_interval_from_ns(uint64 ns)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = plat_ns_to_us(ns);
	return interval;
}

/*
 * The time of day at a moment of plat_clock(), as the present time of day has
 * it.
 */
TimestampTz
plat_clock_to_timestamp(uint64 when)
{
	int64		ago = (int64) (plat_clock() - when);

	return GetCurrentTimestamp() - ago / 1000;
}
