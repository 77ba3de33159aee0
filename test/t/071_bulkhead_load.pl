# Bulkheads under load: never more inside than there are slots, whoever comes,
# goes, is cancelled or killed; nothing is left over; and who is let in next is
# who was promised to be.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('storm', conf => "max_connections = 130\n");
my $scripts = 0;

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

sub wait_until
{
	my ($condition, $what) = @_;

	$node->poll_query_until('postgres', "SELECT $condition") or die "never: $what";
	return;
}

# "in_use|waiting" of a bulkhead.
sub figures
{
	return query("SELECT in_use, waiting FROM platpat.stat_bulkheads WHERE bulkhead = '$_[0]'");
}

# start_load($script, @options): pgbench under way, as role app.
sub start_load
{
	my ($script, @options) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/load' . $scripts++ . '.sql';
	my $load = { out => '' };

	append_to_file($file, $script);
	$load->{run} = IPC::Run::start([ 'pgbench', '-n', '-U', 'app', '-f', $file, @options, $node->connstr('postgres') . ' application_name=load' ],
		'<', \undef, '>', \$load->{out}, '2>', \$load->{err});
	return $load;
}

sub end_load
{
	my ($load) = @_;

	$load->{run}->finish or die "pgbench: $load->{err}";
	return;
}

query(q(CREATE ROLE app LOGIN;
	CREATE UNLOGGED TABLE held (bulkhead text, entered numeric, gone numeric, others int);
	CREATE UNLOGGED TABLE barged ();
	GRANT INSERT ON held, barged TO app;
	SELECT platpat.create_bulkhead('small', 3, 200)));

# Each transaction notes when it is inside: from after it has got the slot until
# before it gives it back; and how many hold a lock that only those inside hold.
my $section = q(BEGIN;
SELECT platpat.acquire_slot('%s', '2 min', %s);
SELECT pg_advisory_lock_shared(4711);
SELECT extract(epoch FROM clock_timestamp()) AS entered \gset
SELECT count(*) AS others FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND granted \gset
\sleep 1 ms
SELECT pg_advisory_unlock_shared(4711);
INSERT INTO held VALUES ('%1$s', :entered, extract(epoch FROM clock_timestamp()), :others);
);

# The most that were inside at a time, by the times that they noted.
sub most_inside
{
	my ($bulkhead) = @_;

	return query(qq(SELECT max(inside) FROM (SELECT sum(step) OVER (ORDER BY at, step) AS inside
		FROM held, LATERAL (VALUES (entered, 1), (gone, -1)) AS v(at, step) WHERE bulkhead = '$bulkhead') AS s));
}

# 100 wait for 3 slots, and then come back again and again.
my @holders = map { PlatSession->of($node, 'app') } 1 .. 3;
$_->ask(q(BEGIN; SELECT platpat.acquire_slot('small'))) for @holders;
my $load = start_load(sprintf($section, 'small', q((ARRAY['critical', 'standard', 'batch'])[1 + :client_id % 3])) . 'COMMIT;',
	'-c', 100, '-t', 15, '-j', 2);
wait_until(q((SELECT waiting = 100 FROM platpat.stat_bulkheads WHERE bulkhead = 'small')), '100 wait');
is(figures('small'), '3|100', '100 clients wait for 3 slots');
is(query(q(SELECT count(*), count(DISTINCT pid), count(*) FILTER (WHERE waiting) FROM platpat.bulkhead_holders WHERE bulkhead = 'small')),
	'103|103|100', 'and are all listed');
is(query(q(SELECT count(*) FROM held)), 0, 'while nobody is inside');
$_->quit for @holders;
end_load($load);
is(query('SELECT count(*) FROM held'), 1500, 'all are served in the end');
my ($by_time, $by_lock) = (most_inside('small'), query('SELECT max(others) FROM held'));
ok($by_time > 1 && $by_time <= 3, "never more than 3 inside, by the times that they noted: $by_time");
ok($by_lock > 1 && $by_lock <= 3, "nor by the locks that they held: $by_lock");
is(figures('small'), '0|0', 'nothing is left over');
is(query(q(SELECT acquired, rejected, timed_out, high_water, wait_p50 > '0' FROM platpat.stat_bulkheads WHERE bulkhead = 'small')),
	'1503|0|0|3|t', 'and each slot was counted once');

# A storm: transactions with savepoints, slots taken twice, slots of the
# session, rollbacks; in which somebody is cancelled or killed all the time, on
# the side of the server or on that of the client.
query(q(SELECT platpat.create_bulkhead('storm', 4, 100, '{"critical": 1}'), platpat.create_bulkhead('lounge', 5, 100, scope => 'session')));
my $storm = q(\set dice random(1, 100)
\set class random(1, 3)
BEGIN;
SAVEPOINT a;
\if :dice <= 40
SELECT platpat.acquire_slot('storm', '1 min');
ROLLBACK TO a;
\endif
\if :dice > 70
SELECT platpat.acquire_slot('lounge', '1 min', 'batch');
\endif
) . sprintf($section =~ s/^BEGIN;\n//r, 'storm', q((ARRAY['critical', 'standard', 'batch'])[:class])) . q(
SAVEPOINT b;
SELECT platpat.acquire_slot('storm');
\if :dice % 2 = 0
ROLLBACK TO b;
\else
RELEASE b;
\endif
\if :dice > 85
SELECT platpat.release_slot('lounge');
\endif
\if :dice % 10 = 0
ROLLBACK;
\else
COMMIT;
\endif
\if :dice <= 5
DISCARD ALL;
\endif
);
sub start_storm
{
	my ($seed) = @_;

	return start_load($storm, '-c', 10, '-T', 600, "--random-seed=$seed");
}
my @storms = map { start_storm($_) } 1 .. 4;
my $killer = PlatSession->of($node, 'postgres');
my %killed = (pg_cancel_backend => 0, pg_terminate_backend => 0, client => 0, replaced => 0);
wait_until(q((SELECT acquired > 50 FROM platpat.stat_bulkheads WHERE bulkhead = 'storm')), 'the storm begins');
for my $round (1 .. 240)
{
	my $how = $round % 2 ? 'pg_cancel_backend' : 'pg_terminate_backend';

	# of those who wait in every other round, so that enough of them are hit
	my $victims = $round % 4 < 2 ? 'pid IN (SELECT pid FROM platpat.bulkhead_holders WHERE waiting)' : 'true';
	$killed{$how} += $killer->ask(qq(SELECT count(*) FROM (SELECT $how(pid) FROM pg_stat_activity
		WHERE application_name = 'load' AND $victims ORDER BY random() LIMIT 1) AS s));
	my $i = $round % @storms;
	$storms[$i]{run}->pump_nb;
	if ($round % 40 == 0)
	{
		$storms[$i]{run}->kill_kill(grace => 0);
		$killed{client} += 10;
	}
	elsif ($storms[$i]{run}->pumpable)
	{
		next;
	}
	# pgbench ends when all its clients have
	$storms[$i] = start_storm(100 + $round);
	$killed{replaced}++;
}
$_->{run}->kill_kill(grace => 0) for @storms;
wait_until(q((SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'load')), 'all clients are gone');
note(join ', ', map { "$_ $killed{$_}" } sort keys %killed);
cmp_ok($killed{pg_cancel_backend}, '>', 30, 'many were cancelled');
cmp_ok($killed{pg_terminate_backend}, '>', 30, 'many were terminated');
is(figures($_), '0|0', "$_: nothing is left over of the storm") for qw(storm lounge);
is(query('SELECT count(*) FROM platpat.bulkhead_holders'), 0, 'nor is anybody listed');
$by_time = most_inside('storm');
ok($by_time > 1 && $by_time <= 4, "never more than 4 were inside: $by_time");
is(query(q(SELECT string_agg(bulkhead || ' ' || high_water, ', ' ORDER BY bulkhead) FROM platpat.stat_bulkheads)),
	'lounge 5, small 3, storm 4', 'and high water is the size, never more');

# Who is let in next, in bulkheads that have been through a storm.

# Confirmed in the queue, or inside, before the next one comes.
sub line_up
{
	my ($bulkhead, @names) = @_;
	my %class = (c => 'critical', s => 'standard', b => 'batch');
	my %line;

	for my $name (@names)
	{
		my $session = $line{$name} = PlatSession->of($node, 'app');

		$session->{pid} = $session->ask('SELECT pg_backend_pid()');
		$session->ask('BEGIN');
		$session->tell(sprintf q(SELECT platpat.acquire_slot('%s', NULL, '%s')), $bulkhead, $class{ substr $name, 0, 1 });
		wait_until("EXISTS (SELECT FROM platpat.bulkhead_holders WHERE pid = $session->{pid} AND bulkhead = '$bulkhead')", "$name is there");
	}
	return %line;
}

# release($bulkhead, $line, $name): who is inside now and was not before.
sub release
{
	my ($bulkhead, $line, $name) = @_;
	my $inside = "SELECT pid FROM platpat.bulkhead_holders WHERE bulkhead = '$bulkhead' AND NOT waiting";
	my %before = map { $_ => 1 } split /\n/, query($inside);
	my @new;

	$line->{$name}->ask('COMMIT');
	for my $pid (grep { !$before{$_} } split /\n/, query($inside))
	{
		my ($who) = grep { $line->{$_}{pid} == $pid } keys %$line;

		is($line->{$who}->answer, 't', "$who knows that it has a slot");
		push @new, $who;
	}
	return @new ? join(' ', sort @new) : 'nobody';
}

# First come first served, critical before standard before batch; while others
# try to get ahead all the time.
query(q(SELECT platpat.alter_bulkhead('small', size => 1), platpat.reset_stats()));
my %line = line_up('small', qw(s0 b1 s1 c1 b2 c2 s2 s3 c3 b3));
my $barging = start_load(q(BEGIN;
SELECT platpat.try_acquire_slot('small', 'critical') AS got \gset
\if :got
INSERT INTO barged DEFAULT VALUES;
\endif
COMMIT;
), '-c', 3, '-T', 600);
my ($last, @order) = ('s0');
for (1 .. 9)
{
	my $tried = query(q(SELECT rejected FROM platpat.stat_bulkheads WHERE bulkhead = 'small'));

	wait_until(qq((SELECT rejected > $tried + 20 FROM platpat.stat_bulkheads WHERE bulkhead = 'small')), 'others try');
	push @order, $last = release('small', \%line, $last);
}
$barging->{run}->kill_kill(grace => 0);
wait_until(q((SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'load')), 'nobody tries any more');
is("@order", 'c1 c2 c3 s1 s2 s3 b1 b2 b3', 'first come first served within a class, and the more urgent class first');
is(query('SELECT count(*) FROM barged'), 0, 'nobody gets ahead of those who wait');
is(query(q(SELECT acquired FROM platpat.stat_bulkheads WHERE bulkhead = 'small')), 10, 'nor is any slot counted that they got');
is(release('small', \%line, $last), 'nobody', 'the last leaves');
$_->quit for values %line;

# Reserves: a slot goes to whom it is reserved for, though others came earlier
# or are more urgent, and stays free where these do not come.
query(q(SELECT platpat.alter_bulkhead('storm', size => 3, reserved => '{"critical": 1, "batch": 1}')));
%line = line_up('storm', qw(c0 s0 b0 b1 s1 c1 b2 s2 c2 s3));
is(figures('storm'), '3|7', 'seven wait for three slots, of which two are reserved');
my @expected = (
	[ s0 => 'c1', 'critical goes first' ],
	[ c0 => 'c2', 'also into what is reserved for it' ],
	[ b0 => 'b1', 'the reserve of batch is not for standard' ],
	[ c1 => 's1', 'what is nobody\'s is for standard, as it goes before batch' ],
	[ b1 => 'b2', 'the reserve of batch is for batch once more' ],
	[ c2 => 'nobody', 'the reserve of critical stays free' ],
	[ s1 => 's2', 'standard follows standard' ],
	[ b2 => 'nobody', 'the reserve of batch stays free, too' ],
	[ s2 => 's3', 'and the last' ]);
is(release('storm', \%line, $_->[0]), $_->[1], "$_->[0] leaves: $_->[2]") for @expected;
is(join(' ', map { query("SELECT platpat.try_acquire_slot('storm', '$_')") } qw(critical standard batch)), 't f t', 'what is free is free for those only');
release('storm', \%line, 's3');
is(figures('storm'), '0|0', 'all are gone');
$_->quit for values %line;

# A client that is killed has its slot go to who is next, be it one that was
# killed in the queue; which it leaves earlier if the server looks.
%line = line_up('small', qw(s0 s1 s2 s3));
$line{$_}->vanish for qw(s2 s0);
is($line{s1}->answer, 't', 'the slot of a client that is killed goes to the next');
$line{s1}->ask('COMMIT');
is($line{s3}->answer, 't', 'one that was killed in the queue holds nobody up');
is(figures('small'), '1|0', 'and has left');
$line{s1}->quit;
$line{s3}->vanish;
wait_until(q((SELECT in_use = 0 FROM platpat.stat_bulkheads WHERE bulkhead = 'small')), 'all is free');
my %only = line_up('small', 's0');
my $watched = PlatSession->of($node, 'app');
$watched->ask(q(SET client_connection_check_interval = '50ms'));
$watched->tell(q(SELECT platpat.acquire_slot('small', NULL)));
wait_until(q((SELECT waiting = 1 FROM platpat.stat_bulkheads WHERE bulkhead = 'small')), 'it waits');
$watched->vanish;
wait_until(q((SELECT waiting = 0 FROM platpat.stat_bulkheads WHERE bulkhead = 'small')), 'it is gone');
is(figures('small'), '1|0', 'with client_connection_check_interval it leaves the queue before its turn');
$only{s0}->quit;

$killer->quit;
$node->stop;
done_testing();
