# The windows of quotas, against PostgreSQL's own calendar: years of days in the
# zones with the strangest of them, and every zone at its changes of offset.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('calendar', preload => 0);
my @zones = qw(UTC Europe/Prague America/New_York Australia/Lord_Howe Asia/Kathmandu America/Sao_Paulo Africa/Cairo
  Asia/Beirut Pacific/Apia America/Havana Atlantic/Azores America/St_Johns Antarctica/Troll Asia/Gaza);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# Every window holds its moment, begins where another ends, and covers the dates
# that it should.  25 years, every 7 hours and 13 minutes.
my $list = join ',', @zones;
my $where = "FROM unnest('{$list}'::text[]) AS zone,
	generate_series('2006-01-01Z'::timestamptz, '2031-01-01Z', '7 hours 13 min') AS moment,
	platpat.quota_window('%s', zone, moment) AS w";
for my $unit (qw(day week month))
{
	my $bad = query(sprintf(qq(
		SELECT count(*), min(format('%%s %%s', zone, moment)) $where, platpat.quota_window('$unit', zone, w.ends_at) AS next
		WHERE NOT (w.starts_at <= moment AND moment < w.ends_at AND next.starts_at = w.ends_at
			AND date_trunc('$unit', w.starts_at AT TIME ZONE zone) = date_trunc('$unit', moment AT TIME ZONE zone)
			AND date_trunc('$unit', (w.ends_at - interval '1 us') AT TIME ZONE zone) = date_trunc('$unit', moment AT TIME ZONE zone)
			AND date_trunc('$unit', w.ends_at AT TIME ZONE zone) > date_trunc('$unit', moment AT TIME ZONE zone)
			AND date_trunc('$unit', (w.starts_at - interval '1 us') AT TIME ZONE zone) < date_trunc('$unit', moment AT TIME ZONE zone))),
		$unit));
	is($bad, '0|', "each $unit of 25 years in " . @zones . ' zones');
}
is(query(sprintf("SELECT count(*) $where WHERE NOT (w.starts_at <= moment AND moment < w.ends_at AND w.ends_at - w.starts_at = '1 hour'"
	# but for clocks that are set by half an hour, or at one minute past midnight
	. " AND (zone ~ 'Lord_Howe|St_Johns' OR extract(minute FROM w.starts_at AT TIME ZONE zone) = 0))", 'hour')), 0, 'and each hour');

# Every zone that there is, at every quarter of an hour around midnight of the
# days on which its offset changes.
my $failures = query(q(
	WITH days AS (
		SELECT name AS zone, day, (day::timestamp AT TIME ZONE name) AS midnight
		FROM pg_timezone_names, generate_series('2015-01-01'::date, '2027-01-01', '1 day') AS day
		WHERE name !~ '^posix/|^right/|Factory'
			AND ((day + interval '1 day')::timestamp AT TIME ZONE name) - (day::timestamp AT TIME ZONE name) <> '24 hours')
	SELECT count(*) > 1000, count(*) FILTER (WHERE NOT (w.starts_at <= moment AND moment < w.ends_at
		AND (moment AT TIME ZONE zone)::date = ((w.ends_at - interval '1 us') AT TIME ZONE zone)::date))
	FROM days, generate_series(midnight - interval '3 hours', midnight + interval '28 hours', '30 min') AS moment,
		platpat.quota_window('day', zone, moment) AS w));
is($failures, 't|0', 'the days of all zones on which clocks are changed');

is(query(q(SELECT string_agg(extract(day FROM ends_at - starts_at)::text, ' ' ORDER BY y) FROM generate_series(1996, 2104, 4) AS y,
		platpat.quota_window('month', 'UTC', make_timestamptz(y, 2, 10, 0, 0, 0, 'UTC')))),
	join(' ', map { $_ == 2100 ? 28 : 29 } map { 1996 + 4 * $_ } 0 .. 27), 'leap years');
is(query(q(SET timezone = 'UTC'; SELECT count(*), min(ends_at - starts_at), max(ends_at - starts_at)
	FROM generate_series('1970-01-01Z'::timestamptz, '2070-01-01Z', '1 day') AS d, platpat.quota_window('day', 'Europe/Prague', d))),
	'36526|23:00:00|1 day 01:00:00', 'a century of days has those of 23 and of 25 hours');
is(query(q(SET timezone = 'UTC'; SELECT string_agg(DISTINCT extract(isodow FROM starts_at)::text, ' ')
	FROM generate_series('2020-01-01Z'::timestamptz, '2030-01-01Z', '1 day') AS d, platpat.quota_window('week', 'UTC', d))),
	'1', 'weeks begin on Monday');
$node->stop;

done_testing();
