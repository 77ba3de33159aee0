# The windows of quotas are those of the calendar: computed a second time from
# nothing but the local date of an instant, over years, in zones that do odd
# things to their days.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('calendar', conf => "timezone = 'UTC'\n");
my $sql = sub { $node->safe_psql('postgres', @_) };

# calendar: the windows as they should be.  A day begins with the first instant
# that has its date or, where the date is skipped, a later one; all changes of
# clocks since 1975 are at full quarters of an hour.
#
# walked: the windows as quota_window() gives them, each asked for at the end
# of the one before.
$sql->(q{
	CREATE TABLE zones AS SELECT unnest(ARRAY['UTC', 'Europe/Prague', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kathmandu',
		'America/Sao_Paulo', 'Africa/Cairo', 'Asia/Beirut', 'Pacific/Apia', 'America/Havana', 'Antarctica/Troll']) AS zone;
	CREATE FUNCTION begins(zone text, day date) RETURNS timestamptz LANGUAGE sql STABLE AS $$
		SELECT min(u) FROM generate_series(day::timestamp AT TIME ZONE zone - '4 h'::interval,
			day::timestamp AT TIME ZONE zone + '4 h'::interval, '15 min') AS u
		WHERE (u AT TIME ZONE zone)::date >= day $$;
	CREATE TABLE calendar AS
		SELECT zone, unit, starts_at, lead(starts_at) OVER (PARTITION BY zone, unit ORDER BY starts_at) AS ends_at
		FROM (SELECT DISTINCT zone, unit, begins(zone, day) AS starts_at
			FROM zones, unnest('{day,week,month}'::text[]) AS unit, generate_series('2007-01-01'::date, '2031-12-31', '1 day') AS g, date(g) AS day
			WHERE CASE unit WHEN 'day' THEN true WHEN 'week' THEN extract(isodow FROM day) = 1 ELSE extract(day FROM day) = 1 END) AS s;
	DELETE FROM calendar WHERE ends_at IS NULL;
	CREATE TABLE walked AS
		WITH RECURSIVE walk AS (
			SELECT zone, unit, w.starts_at, w.ends_at
			FROM zones, unnest('{day,week,month}'::text[]) AS unit, platpat.quota_window(unit, zone, begins(zone, '2007-01-01')) AS w
			UNION ALL
			SELECT zone, unit, w.starts_at, w.ends_at
			FROM walk, platpat.quota_window(unit, zone, walk.ends_at) AS w
			WHERE walk.ends_at < begins(zone, '2031-12-01') AND w.ends_at > walk.ends_at)
		SELECT * FROM walk;
	ANALYZE calendar;});

for my $unit (qw(day week month))
{
	my $range = qq{unit = '$unit' AND starts_at BETWEEN '2007-02-01' AND '2031-11-01'};
	my $expected = $sql->("SELECT count(*) FROM calendar WHERE $range");
	cmp_ok($expected, '>', 11 * 290, "${unit}s of 25 years in 11 zones");
	none([ split /\n/, $sql->(qq{(TABLE calendar EXCEPT TABLE walked) INTERSECT SELECT * FROM calendar WHERE $range}) ], "no $unit is missing");
	none([ split /\n/, $sql->(qq{SELECT * FROM walked WHERE $range EXCEPT TABLE calendar}) ], "and no $unit is another");
}

# Whatever moment of a window is asked for: its first, its last, one between.
none([ split /\n/, $sql->(q{
	SELECT zone, unit, moment, c.starts_at, c.ends_at, w FROM calendar AS c,
		unnest(ARRAY[c.starts_at, c.ends_at - '1 us'::interval, c.starts_at + (c.ends_at - c.starts_at) * 0.37]) AS moment,
		platpat.quota_window(unit, zone, moment) AS w
	WHERE (w.starts_at, w.ends_at) IS DISTINCT FROM (c.starts_at, c.ends_at)}) ], 'any moment of a window finds it');

# Where no midnight is skipped or repeated, PostgreSQL says the same.
none([ split /\n/, $sql->(q{
	SELECT zone, unit, starts_at FROM walked
	WHERE zone IN ('UTC', 'Europe/Prague', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kathmandu')
		AND (starts_at <> date_trunc(unit, starts_at, zone) OR ends_at <>
			(date_trunc(unit, starts_at AT TIME ZONE zone) + ('1 ' || unit)::interval) AT TIME ZONE zone)}) ], 'as date_trunc() does');

# What is special about the zones is there.
my %lengths = (
	'Europe/Prague'       => '23:00:00 24:00:00 25:00:00',
	'America/New_York'    => '23:00:00 24:00:00 25:00:00',
	'Australia/Lord_Howe' => '23:30:00 24:00:00 24:30:00',
	'America/Sao_Paulo'   => '23:00:00 24:00:00 25:00:00',
	'Africa/Cairo'        => '23:00:00 24:00:00 25:00:00',
	'Asia/Beirut'         => '23:00:00 24:00:00 25:00:00',
	'America/Havana'      => '23:00:00 24:00:00 25:00:00',
	'Antarctica/Troll'    => '22:00:00 24:00:00 26:00:00',
	'Asia/Kathmandu'      => '24:00:00',
	'UTC'                 => '24:00:00');
for my $zone (sort keys %lengths)
{
	is($sql->(qq{SELECT string_agg(DISTINCT extract(epoch FROM ends_at - starts_at) * interval '1 s' || '', ' ') FROM walked WHERE zone = '$zone' AND unit = 'day'}),
		$lengths{$zone}, "$zone: days of $lengths{$zone}");
}
my $window = sub { $sql->("SET timezone = '$_[1]'; SELECT starts_at, ends_at FROM platpat.quota_window('$_[0]', '$_[1]', '$_[2]')") };
is($window->('day', 'Pacific/Apia', '2011-12-29 12:00'), '2011-12-29 00:00:00-10|2011-12-31 00:00:00+14', 'Samoa went without the 30th of December 2011');
is($window->('week', 'Pacific/Apia', '2011-12-31 12:00'), '2011-12-26 00:00:00-10|2012-01-02 00:00:00+14', 'and had a week of six days');
is($window->('day', 'America/Sao_Paulo', '2018-11-04 12:00'), '2018-11-04 01:00:00-02|2018-11-05 00:00:00-02', 'a day without a midnight begins at 1');
is($window->('day', 'Africa/Cairo', '2024-04-26 00:30'), '2024-04-26 01:00:00+03|2024-04-27 00:00:00+03', 'in Cairo as well');
is($window->('month', 'Asia/Kathmandu', '2024-02-29 23:59:59.999999'), '2024-02-01 00:00:00+05:45|2024-03-01 00:00:00+05:45', 'February has a leap day');
is($sql->(q{SELECT string_agg(extract(day FROM ends_at - starts_at)::text, ' ' ORDER BY y)
	FROM unnest('{1900,1996,2000,2023,2100,2400}'::int[]) AS y, platpat.quota_window('month', 'UTC', make_timestamptz(y, 2, 15, 0, 0, 0))}),
	'28 29 29 28 28 29', 'when it is due');
is($sql->(q{SELECT string_agg(DISTINCT extract(isodow FROM starts_at)::text, ',') || ' ' || string_agg(DISTINCT (ends_at - starts_at)::text, ',')
	FROM generate_series('1990-01-01'::timestamptz, '2040-01-01', '17 h') AS m, platpat.quota_window('week', 'UTC', m)}),
	'1 7 days', 'weeks are from Monday to Monday');

# Hours are 3600 seconds, and full ones of the local clock.
# hours($zones, $year, $what): a query of the hours of a year, each asked for at
# the end of the one before, in the zones that a condition names.
sub hours
{
	my ($zones, $year, $what) = @_;
	my $next = $year + 1;

	return qq{
	WITH RECURSIVE walk AS (
		SELECT zone, w.starts_at, w.ends_at, w.starts_at AS expected
		FROM zones, platpat.quota_window('hour', zone, '$year-01-01') AS w WHERE zone $zones
		UNION ALL
		SELECT zone, w.starts_at, w.ends_at, walk.ends_at
		FROM walk, platpat.quota_window('hour', zone, walk.ends_at) AS w
		WHERE walk.ends_at < '$next-01-01' AND w.ends_at > walk.ends_at)
	$what};
}
for my $year (2011, 2024)
{
	my $zones = q{<> 'Australia/Lord_Howe'};
	none([ split /\n/, $sql->(hours($zones, $year, q{
		SELECT * FROM walk WHERE starts_at <> expected OR ends_at <> starts_at + '3600 s'::interval
			OR starts_at <> date_trunc('hour', starts_at, zone) OR extract(minute FROM starts_at AT TIME ZONE zone) <> 0})) ],
		"$year: hours are full ones, and follow each other");
	cmp_ok($sql->(hours($zones, $year, 'SELECT min(n) FROM (SELECT count(*) AS n FROM walk GROUP BY zone) AS s')), '>=', 8760, "$year: all of them");
}
is($window->('hour', 'Asia/Kathmandu', '2026-05-05 05:05:05.5'), '2026-05-05 05:00:00+05:45|2026-05-05 06:00:00+05:45', 'in Nepal they begin at a quarter past those of others');

# Where the clock moves by half an hour, an hour is cut short.
none([ split /\n/, $sql->(hours(q{= 'Australia/Lord_Howe'}, 2024, 'SELECT * FROM walk WHERE starts_at <> expected')) ],
	'hours follow each other where the clock moves by half an hour');

# Every zone that the server knows.  To AT TIME ZONE some of their names are
# abbreviations first, of zones without daylight saving time.
$sql->(q{CREATE TABLE every AS SELECT name AS zone, unit, moment
	FROM pg_timezone_names, unnest('{hour,day,week,month}'::text[]) AS unit,
		unnest('{2000-02-29 11:59:59Z, 2011-12-30 10:00Z, 2016-12-31 23:59:59.999999Z, 2024-03-31 01:00Z, 2024-11-03 06:00Z,
			2026-01-01 00:00Z, 2026-10-25 00:59:59Z, 2037-06-15 12:34:56.789Z}'::timestamptz[]) AS moment});
cmp_ok($sql->('SELECT count(DISTINCT zone) FROM every'), '>', 300, 'hundreds of zones');
none([ split /\n/, $sql->(q{
	SELECT zone, unit, moment, w, before, after FROM every,
		platpat.quota_window(unit, zone, moment) AS w,
		platpat.quota_window(unit, zone, w.starts_at - '1 us'::interval) AS before,
		platpat.quota_window(unit, zone, w.ends_at) AS after
	WHERE (w.starts_at <= moment AND moment < w.ends_at AND before.ends_at = w.starts_at AND after.starts_at = w.ends_at
		AND (unit = 'hour' OR zone IN (SELECT abbrev FROM pg_timezone_abbrevs) OR (w.starts_at AT TIME ZONE zone)::date = date_trunc(unit, moment AT TIME ZONE zone)::date)) IS NOT TRUE}) ],
	'windows of every zone hold their moment, and adjoin');

# Where clocks went from 0:01 back to 23:01, the first minute belongs to the day
# before.
is((run_as($node, 'postgres', q{SELECT count(*) FROM generate_series(1987, 2010) AS y,
		generate_series(make_timestamptz(y, 10, 20, 0, 0, 0), make_timestamptz(y, 11, 10, 0, 0, 0), '15 min') AS m, platpat.quota_window('day', 'America/St_Johns', m)}))[0],
	'', 'each moment of Newfoundland has a day');

# The session's own zone does not matter.
is($sql->(q{SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SELECT extract(epoch FROM starts_at)::bigint FROM platpat.quota_window('day', 'Europe/Prague', '2026-07-01 00:00Z')}),
	$sql->(q{SELECT extract(epoch FROM '2026-06-30 22:00Z'::timestamptz)::bigint}), 'only the zone that is given counts');
is($sql->(q{SELECT (platpat.quota_window('day')).starts_at = date_trunc('day', now(), 'UTC')}), 't', 'which is UTC, and the moment now, if none is');

# ------------------------------------------------------------------- refusals

for my $case (
	[ q{NULL, 'UTC', now()}, '22004' ], [ q{'day', NULL, now()}, '22004' ], [ q{'day', 'UTC', NULL}, '22004' ],
	map({ [ "'$_', 'UTC', now()", '22023' ] } '', 'Day', 'days', 'year', 'quarter', 'minute', ' day'),
	map({ [ "'day', '$_', now()", '22023' ] } 'nowhere', 'Europe/Nowhere', 'x' x 300, '../../etc/passwd'),
	map({ [ "'day', 'UTC', '$_'", '22008' ] } 'infinity', '-infinity', '294276-12-31 23:59:59Z'),
	[ q{'month', 'UTC', '4714-11-24 00:00Z BC'}, '22008' ], [ q{'month', 'UTC', '294276-12-01 00:00Z'}, '22008' ],
	[ q{'hour', 'UTC', '294276-12-31 23:30Z'}, '22008' ])
{
	my ($arguments, $state) = @$case;
	refused_as($node, 'postgres', "SELECT platpat.quota_window($arguments)", $state, substr($arguments, 0, 50) . ": $state");
}
is($sql->(q{SELECT count(*) FROM unnest('{hour,day,week,month}'::text[]) AS u, unnest('{4713-06-01 00:00Z BC, 0001-01-01 00:00Z, 294276-10-30 00:00Z}'::timestamptz[]) AS m,
	platpat.quota_window(u, 'UTC', m) AS w WHERE w.starts_at <= m AND m < w.ends_at}), 12, 'short of the ends of time all is well');

$node->stop;
done_testing();
