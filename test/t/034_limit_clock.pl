# The time of day steps: nobody gets a quota twice, and nobody is locked out for
# longer than a window.
#
# libfaketime moves the server's time of day by what a file says; it leaves the
# clock alone that the rates run on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatSession;
use PlatTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1';
plan skip_all => 'libfaketime is not there' if !$library;

my $clock = PostgreSQL::Test::Utils::tempdir() . '/clock';

# Set the time of day of the server; it goes on from there.
sub set_clock
{
	my ($time) = @_;

	open my $out, '>', "$clock.new" or die $!;
	print {$out} "\@$time\n";
	close $out;
	rename "$clock.new", $clock or die $!;
	return;
}

set_clock('2026-03-10 12:00:00');
chmod 0755, PostgreSQL::Test::Utils::tempdir();
my $node;
my %fake = (
	LD_PRELOAD                   => $library,
	FAKETIME_TIMESTAMP_FILE      => $clock,
	FAKETIME_NO_CACHE            => 1,
	DONT_FAKE_MONOTONIC          => 1,
	FAKETIME_DONT_FAKE_MONOTONIC => 1,
	TZ                           => 'UTC');
{
	local @ENV{ keys %fake } = values %fake;
	$node = new_node('clock', conf => "platpat.limit_flush_interval = 100ms\ntimezone = UTC\n");
}
like($node->safe_psql('postgres', 'SELECT clock_timestamp()'), qr/^2026-03-10 12:0/, 'the server believes the clock');
$node->safe_psql('postgres', q(CREATE ROLE app LOGIN;
	UPDATE platpat.tiers SET rate = 1000000, burst = 1000000, daily_quota = 100;));

# How many of so many requests pass at this time of day.
sub passed_at
{
	my ($time, $requests) = @_;

	set_clock($time);
	my $out = value_as($node, 'app', qq(SELECT platpat.set_tenant('acme', false);
		SELECT count(*) FILTER (WHERE platpat.allow_tenant_request()) FROM generate_series(1, $requests)));
	return (split /\n/, $out)[-1];
}

is(passed_at('2026-03-10 12:00:00', 60), 60, 'a part of the quota');
is(passed_at('2026-03-10 09:00:00', 30), 30, 'a step back within the day goes on with the same quota');
is(passed_at('2026-03-10 23:00:00', 30), 10, 'and so does one forward');
is(passed_at('2026-03-10 23:59:50', 30), 0, 'the quota is used up');
is(passed_at('2026-03-11 00:00:01', 30), 30, 'midnight brings the next');
is(passed_at('2026-03-10 23:59:50', 30), 0, 'a step back over midnight brings nothing back');
is(passed_at('2026-03-11 00:00:02', 200), 70, 'nor does midnight, when it comes again');
is(passed_at('2026-03-10 23:59:50', 30), 0, 'and once more');
is(passed_at('2026-03-11 00:00:03', 30), 0, 'back and forth');
is(passed_at('2026-03-12 00:00:00', 100), 100, 'nobody is locked out for longer than a day');

# An hour that somebody took for another year locks out nobody.
is(passed_at('2030-01-01 00:00:00', 200), 100, 'a step of years has a quota of its own');
is(passed_at('2026-03-12 12:00:00', 30), 0, 'the day that it came from is remembered');
is(passed_at('2026-03-13 00:00:00', 200), 100, 'and the next day has its quota');

# Rates go by another clock.
is($node->safe_psql('postgres', q(SELECT count(*) FILTER (WHERE platpat.allow_request('k', 1, 3, 1, '1 day')) FROM generate_series(1, 5))), 3, 'a bucket');
set_clock('2027-01-01 00:00:00');
is($node->safe_psql('postgres', q(SELECT platpat.allow_request('k', 1, 3, 1, '1 day'))), 'f', 'is not filled by a step of the time of day');
set_clock('2025-01-01 00:00:00');
is($node->safe_psql('postgres', q(SELECT retry_after BETWEEN '23 hours' AND '1 day' FROM platpat.peek_rate_limit('k', 1, 3, 1, '1 day'))), 't', 'nor emptied by one back');

# Both days that are remembered survive a restart, wherever the clock is.
is(passed_at('2026-03-14 23:59:00', 100), 100, 'a day');
is(passed_at('2026-03-15 00:01:00', 40), 40, 'and a part of the next');
set_clock('2026-03-14 23:59:30');

# On PostgreSQL 15 the postmaster acts in signal handlers, where libfaketime
# shows it the true time, and so it does to the launcher that is started there.
# It must not be the one that writes the quotas.  While the true time is the
# server's, one that has ended is started again outside of a handler.
my $file = $node->data_dir . '/pg_stat/platpat_limit.stat';

# numbers of inodes come again
sub writing { return join ' ', map { $_ // 0 } (Time::HiRes::stat($file))[ 1, 7, 9 ] }

sub is_written
{
	my $before = writing();

	value_as($node, 'app', qq(SELECT platpat.set_tenant('flush', false); SELECT platpat.allow_tenant_request()));
	for (1 .. 50)
	{
		return 1 if writing() ne $before;
		select undef, undef, undef, 0.1;
	}
	return 0;
}

my $launcher = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'platpat launcher');
my $written = 0;
for my $attempt (1 .. 10)
{
	last if $written = is_written() && is_written();
	my $pid = $node->safe_psql('postgres', $launcher);
	set_clock(POSIX::strftime('%Y-%m-%d %H:%M:%S', gmtime));
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('postgres', "SELECT EXISTS ($launcher AND pid <> $pid)") or die 'no launcher';
	set_clock('2026-03-14 23:59:30');
}
ok($written, 'quotas are written by the clock of the server');
{
	local @ENV{ keys %fake } = values %fake;
	die_and_start($node);
}
is(passed_at('2026-03-14 23:59:40', 10), 0, 'the first is used up after a restart');
is(passed_at('2026-03-15 00:02:00', 100), 60, 'and of the other the rest is left');

# Further back than is remembered: what was used counts there, too.
is(passed_at('2026-03-12 13:00:00', 10), 0, 'a step back over days frees nothing');
is(passed_at('2026-03-13 00:00:01', 200), 100, 'and locks out until the next of them');
is(passed_at('2026-03-12 13:00:00', 10), 0, 'once more back');
is(passed_at('2026-03-16 00:00:00', 200), 100, 'the right time has its quota');

# Hours, with several quotas at a time.
$node->safe_psql('postgres', q(INSERT INTO platpat.tiers (tier, rate, burst, hourly_quota, daily_quota) VALUES ('hours', 1000000, 1000000, 10, 25);
	SELECT platpat.set_tier('hourly', 'hours')));
sub hourly
{
	my ($time, $requests) = @_;

	set_clock($time);
	my $out = value_as($node, 'app', qq(SELECT platpat.set_tenant('hourly', false);
		SELECT count(*) FILTER (WHERE platpat.allow_tenant_request()) FROM generate_series(1, $requests)));
	return (split /\n/, $out)[-1];
}
is(hourly('2026-04-01 12:30:00', 20), 10, 'the quota of an hour');
is(hourly('2026-04-01 11:59:59', 20), 0, 'a step back into the hour before frees nothing');
is(hourly('2026-04-01 12:59:50', 20), 0, 'nor does the way back');
is(hourly('2026-04-01 13:00:00', 20), 10, 'the next hour has its quota');
is(hourly('2026-04-01 12:59:59', 20), 0, 'the hour before is still used up');
is(hourly('2026-04-01 13:30:00', 20), 0, 'and this one as well');
is(hourly('2026-04-01 14:00:00', 20), 5, 'what steps back were refused is not charged to the day');
is(hourly('2026-04-01 23:00:00', 20), 0, 'whose quota holds in every hour');
is(hourly('2026-04-02 00:00:00', 20), 10, 'until it ends');

# A wait goes by the clock that does not step.
my $waiter = PlatSession->of($node, 'app');
my $begin = clock_gettime(CLOCK_MONOTONIC);
$waiter->ask(q(SELECT platpat.allow_request('wait', 1, 1, 1, '1 s')));
$waiter->tell(q(SELECT platpat.wait_for_rate_limit('wait', 1, 1, 1, '1 s')));
set_clock('2026-06-01 00:00:00');
is($waiter->answer, 't', 'a wait ends, whatever the time of day does');
cmp_ok(clock_gettime(CLOCK_MONOTONIC) - $begin, '>=', 1, 'and not because of it');
set_clock('2025-01-01 00:00:00');
is($waiter->ask(q(SELECT platpat.wait_for_rate_limit('wait', 1, 1, 1, '1 s'))), 't', 'nor does a step back make it endless');
$waiter->quit;
$node->stop;

done_testing();
