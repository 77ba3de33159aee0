/*
 * clock.h
 *		Time as nanoseconds: reading the clock, and intervals.
 *
 * See clock.c for what is not inline.
 */
#ifndef PLAT_CLOCK_H
#define PLAT_CLOCK_H

#include <time.h>

#include "utils/timestamp.h"

#define PLAT_SECOND UINT64CONST(1000000000)

/* The longest time that anything of ours may take: 100 years. */
#define PLAT_MAX_INTERVAL_NS (UINT64CONST(3155760000) * PLAT_SECOND)

extern double plat_interval_ns(const Interval *interval);
extern Interval *plat_interval_from_ns(uint64 ns);
extern TimestampTz plat_clock_to_timestamp(uint64 when);

/*
 * Nanoseconds of a clock that does not go back, whatever the time of day
 * does. All processes of the machine read the same.
 */
static inline uint64
plat_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64) now.tv_sec * PLAT_SECOND + now.tv_nsec;
}

/* A time in microseconds, rounded up. */
static inline int64
plat_ns_to_us(uint64 ns)
{
	return (int64) (ns / 1000 + (ns % 1000 != 0));
}

#endif							/* PLAT_CLOCK_H */
