/*
 * limit_window.c
 *		The windows of quotas: hours, days, weeks and months of a calendar.
 *
 * A day is from midnight to midnight of the time zone, whether that takes 23,
 * 24 or 25 hours; weeks begin on Monday, as in ISO 8601.  Hours are 3600
 * seconds, also the one that a clock repeats, but for the one in which it is
 * changed by a part of an hour.  Windows follow each other
 * without gap or overlap, and are told apart by their ends.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "limit_core.h"

static const char *const unit_names[PLAT_WINDOW_UNITS] = {
	"hour", "day", "week", "month"
};

/*
 * The unit of this name, false if there is none.
 */
bool
plat_window_parse(const char *name, PlatWindowUnit *unit)
{
	for (int i = 0; i < PLAT_WINDOW_UNITS; i++)
	{
		if (strcmp(name, unit_names[i]) == 0)
		{
			*unit = (PlatWindowUnit) i;
			return true;
		}
	}
	return false;
}

/*
 * The name of a unit, a constant.
 */
const char *
plat_window_name(PlatWindowUnit unit)
{
	return unit_names[unit];
}

/*
 * The instant at which a date begins, given as its Julian day: its midnight;
 * where the clock skips midnight, the instant at which it does, and where the
 * clock repeats it, the first.  False if timestamps do not reach there.
 */
static bool
midnight(int date, pg_tz *zone, TimestampTz *instant)
{
	struct pg_tm tm = {0};
	struct pg_tm before;
	fsec_t		fsec;
	int			offset;

	j2date(date, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, 0, &offset, instant) != 0 ||
		timestamp2tm(*instant - 1, &offset, &before, &fsec, NULL, zone) != 0)
		return false;
	/* Of two midnights PostgreSQL takes the second. */
	if (before.tm_mday == tm.tm_mday)
		return tm2timestamp(&tm, 0, &offset, instant) == 0;
	return true;
}

/*
 * The first day of the window of a date, and the first after it, as Julian
 * days.
 */
static void
date_bounds(PlatWindowUnit unit, const struct pg_tm *tm, int *first, int *after)
{
	int			date = date2j(tm->tm_year, tm->tm_mon, tm->tm_mday);

	switch (unit)
	{
		case PLAT_WINDOW_WEEK:
			*first = date - (j2day(date) + 6) % 7;
			*after = *first + 7;
			break;
		case PLAT_WINDOW_MONTH:
			*first = date2j(tm->tm_year, tm->tm_mon, 1);
			*after = tm->tm_mon == 12 ? date2j(tm->tm_year + 1, 1, 1) :
				date2j(tm->tm_year, tm->tm_mon + 1, 1);
			break;
		default:
			*first = date;
			*after = date + 1;
			break;
	}
}

/*
 * The hour of a time zone, given how far now is into it by its clock.  Where
 * clocks are changed by a part of an hour, that is where one hour ends and
 * another begins; otherwise the two would overlap.
 */
static bool
hour_bounds(pg_tz *zone, TimestampTz now, TimestampTz elapsed,
			TimestampTz *start, TimestampTz *end)
{
	pg_time_t	after;
	pg_time_t	change;
	TimestampTz changed;
	long		offset_before;
	long		offset_after;
	int			dst_before;
	int			dst_after;

	*start = now - elapsed;
	*end = *start + USECS_PER_HOUR;
	if (!IS_VALID_TIMESTAMP(*start) || !IS_VALID_TIMESTAMP(*end))
		return false;
	after = timestamptz_to_time_t(*start);
	if (pg_next_dst_boundary(&after, &offset_before, &dst_before, &change,
							 &offset_after, &dst_after, zone) != 1)
		return true;
	changed = time_t_to_timestamptz(change);
	if (changed >= *end || (offset_after - offset_before) % SECS_PER_HOUR == 0)
		return true;
	if (now < changed)
		*end = changed;
	else
		*start = changed;
	return true;
}

/*
 * The window of a date. False if timestamps do not reach there.
 */
static bool
days_bounds(PlatWindowUnit unit, pg_tz *zone, const struct pg_tm *tm,
			TimestampTz *start, TimestampTz *end)
{
	int			first;
	int			after;

	date_bounds(unit, tm, &first, &after);
	return midnight(first, zone, start) && midnight(after, zone, end);
}

/*
 * The window that now lies in: *start <= now < *end.  False if now or an end
 * is beyond what timestamps can say.
 *
 * A clock that goes back over midnight, from 0:01 to 23:01 say, has shown some
 * of the next date already.  That date begins when it is there to stay, and
 * until then it is the one before.
 */
bool
plat_window_bounds(PlatWindowUnit unit, pg_tz *zone, TimestampTz now,
				   TimestampTz *start, TimestampTz *end)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;

	if (TIMESTAMP_NOT_FINITE(now) ||
		timestamp2tm(now, &offset, &tm, &fsec, NULL, zone) != 0)
		return false;
	if (unit == PLAT_WINDOW_HOUR)
		return hour_bounds(zone, now,
						   (tm.tm_min * SECS_PER_MINUTE + tm.tm_sec) * USECS_PER_SEC + fsec,
						   start, end);
	if (!days_bounds(unit, zone, &tm, start, end))
		return false;
	if (now < *start)
	{
		j2date(date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - 1,
			   &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
		if (!days_bounds(unit, zone, &tm, start, end))
			return false;
	}
	return *start <= now && now < *end;
}
