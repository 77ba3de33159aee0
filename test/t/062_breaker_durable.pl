# What becomes of circuit breakers when a server ends, well or badly; on a
# standby, in a dump, with more of them than there is room for, and without
# preloading.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

my $node = new_node('breakers', init => [ allows_streaming => 1 ], conf => q(
restart_after_crash = on
platpat.breaker_entries = 16
platpat.bulkhead_entries = 16
));

sub query
{
	my ($sql, $on) = @_;

	return ($on // $node)->safe_psql('postgres', $sql);
}

# The states of all breakers that are not closed.
sub states
{
	my ($on) = @_;

	return query(q(SELECT string_agg(breaker || ' ' || state || CASE WHEN forced THEN ' forced' ELSE '' END, ', ' ORDER BY breaker)
		FROM platpat.stat_breakers WHERE state <> 'closed' OR forced), $on);
}

# What tells one writing of the file from another: numbers of inodes come again,
# and times may be the same.
sub writing
{
	return join ' ', map { $_ // 0 } (Time::HiRes::stat($node->data_dir . '/pg_stat/platpat_breaker.stat'))[ 1, 7, 9 ];
}

# The same when nothing is left to be written.
sub settled
{
	my $last = '';

	until ($last eq writing())
	{
		$last = writing();
		select undef, undef, undef, 0.3;
	}
	return $last;
}

# Wait until the file has been written since a moment, as these told it.

sub wait_for_file
{
	my ($before) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if writing() ne $before;
		select undef, undef, undef, 0.1;
	}
	die 'the file is not written';
}

query(q(
SELECT platpat.create_breaker('shut', 1, '1 day');
SELECT platpat.create_breaker('open', 1, '1 hour');
SELECT platpat.create_breaker('probed', 1, '1 ms', probe_timeout => '1 day');
SELECT platpat.create_breaker('ready', 1, '1 ms');
SELECT platpat.create_breaker('held', 1, '1 ms');
SELECT platpat.create_breaker('off', 1, '1 ms');
SELECT platpat.record_success('shut');
SELECT platpat.record_failure(b) FROM unnest('{open,probed,ready}'::text[]) b;
SELECT pg_sleep(0.01);
SELECT platpat.allow_call('probed'), platpat.breaker_state('ready');
SELECT platpat.force_breaker('held', 'open'), platpat.force_breaker('off', 'disabled');
));
my $all = 'held open forced, off disabled forced, open open, probed half_open, ready half_open';
is(states(), $all, 'breakers in every state');
my $since = query(q(SELECT since FROM platpat.stat_breakers WHERE breaker = 'open'));

# A restart keeps them, but for a probe, whose caller is gone.
query(q(SELECT platpat.alter_breaker('probed', timeout => '1 day')));
for my $end (qw(fast immediate))
{
	$node->stop($end);
	$node->start;
	like(states(), qr/^held open forced, off disabled forced, open open, probed (?:open|half_open), ready half_open$/, "$end: states survive");
	is(query(q(SELECT probes FROM platpat.stat_breakers WHERE breaker = 'probed')), '0', "$end: probes do not");
	is(query(q(SELECT since FROM platpat.stat_breakers WHERE breaker = 'open')), $since, "$end: since when it is open is known");
	is(query(q(SELECT platpat.breaker_retry_after('open') BETWEEN '50 min' AND '1 hour')), 't', "$end: and for how long it will be");
}

# A crash keeps what the worker has seen, which changes wake.
my $before = settled();
query(q(SELECT platpat.record_failure('shut')));
wait_for_file($before);
my $session = PlatSession->of($node, 'postgres');
my $pid = $session->ask('SELECT pg_backend_pid()');
my $offset = -s $node->logfile;
kill 'KILL', $pid;
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
$node->poll_query_until('postgres', 'SELECT true');
like(states(), qr/open open, .*shut open$/, 'the crash of a session loses nothing');
$before = settled();
query(q(SELECT platpat.force_breaker('shut', 'auto')));
wait_for_file($before);
die_and_start($node);
unlike(states(), qr/shut/, 'nor does the death of the postmaster');
is(query(q(SELECT transitions, openings, last_recovery > '0' FROM platpat.stat_breakers WHERE breaker = 'shut')), '2|1|t', 'recoveries are remembered');

# The death of a probe is a failure of what is called.
query(q(SELECT platpat.create_breaker('dies', 1, '1 ms', backoff => 1000, max_timeout => '1 hour', probe_timeout => '1 day'); SELECT platpat.record_failure('dies')));
$node->poll_query_until('postgres', q(SELECT platpat.breaker_state('dies') = 'half_open'));
$before = settled();
$session = PlatSession->of($node, 'postgres');
$pid = $session->ask('SELECT pg_backend_pid()');
$session->ask(q(BEGIN; SELECT platpat.allow_call('dies')));
wait_for_file($before);
$offset = -s $node->logfile;
kill 'KILL', $pid;
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
$node->poll_query_until('postgres', 'SELECT true');
is(query(q(SELECT openings, probes FROM platpat.stat_breakers WHERE breaker = 'dies')), '2|0', 'a killed probe has failed');

# One that has succeeded has not, though there is no change of state to write.
query(q(SELECT platpat.create_breaker('lives', 1, '1 ms', success_threshold => 3, probe_timeout => '1 day'); SELECT platpat.record_failure('lives')));
$node->poll_query_until('postgres', q(SELECT platpat.breaker_state('lives') = 'half_open'));
$before = settled();
query(q(SELECT platpat.allow_call('lives')));
wait_for_file($before);
$before = settled();
query(q(SELECT platpat.record_success('lives')));
wait_for_file($before);
$session = PlatSession->of($node, 'postgres');
$pid = $session->ask('SELECT pg_backend_pid()');
$offset = -s $node->logfile;
kill 'KILL', $pid;
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
$node->poll_query_until('postgres', 'SELECT true');
is(query(q(SELECT state, openings FROM platpat.stat_breakers WHERE breaker = 'lives')), 'half_open|1', 'a probe that is over does not fail with a crash');

# A spoiled file is put aside.
$node->stop;
my $file = $node->data_dir . '/pg_stat/platpat_breaker.stat';
append_to_file($file, 'x');
$offset = -s $node->logfile;
$node->start;
is(states(), '', 'with a spoiled file all breakers begin closed');
ok($node->log_contains(qr/platpat_breaker.stat" is damaged; all circuit breakers begin closed/, $offset), 'and the log says so');

# A standby has breakers of its own, by the definitions of its primary.
query(q(SELECT platpat.record_failure('open')));
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is(states($standby), '', 'a standby does not take the states of its primary for its own');
is(query(q(SELECT platpat.allow_call('open')), $standby), 't', 'calls are let through there');
query(q(SELECT platpat.record_failure('open')), $standby);
is(query(q(SELECT platpat.allow_call('open')), $standby), 'f', 'until they fail there');
is(query(q(SELECT platpat.breaker_call('shut', 'SELECT pg_is_in_recovery() AS r') ->> 'r'), $standby), 'true', 'breaker_call() works');
query(q(SELECT platpat.force_breaker('open', 'auto'); SELECT platpat.drop_breaker('open'); SELECT platpat.create_breaker('open', 2, '1 day')));
$node->wait_for_catchup($standby);
is(query(q(SELECT platpat.breaker_state('open')), $standby), 'closed', 'a breaker that was dropped and made again is new there, too');
refused_as($standby, 'postgres', q(SELECT platpat.create_breaker('x')), '25006', 'definitions are made on the primary');
$standby->stop;

# Dump and parallel restore bring the definitions, those of rings too; the states
# begin anew.
query(q(SELECT platpat.create_bulkhead('pool', 3, 4, '{"batch": 1}', 'session')));
query(q(SELECT platpat.create_ring('r' || i, shards => ARRAY['a', 'b', 'c']), platpat.pin_key('k', 'b', 'r' || i) FROM generate_series(1, 50) i));
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fd', '-f', $dump, $node->connstr('postgres') ], 'a dump');
query('CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-j', 4, '-e', '-d', $node->connstr('restored'), $dump ], 'is restored');
for my $table (qw(breakers bulkheads rings shards pins))
{
	my $rows = "SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM platpat.$table t";
	is($node->safe_psql('restored', $rows), query($rows), "$table are the same");
}
query(q(SELECT platpat.record_failure('held')));
is($node->safe_psql('restored', q(SELECT platpat.breaker_state('held'))), 'closed', 'databases share no states');
query('DROP DATABASE restored');

# There is room for so many that have something to remember.  Idle ones share.
query(q(SELECT platpat.create_breaker('b' || i, 2, '1 day') FROM generate_series(1, 40) i));
is(query(q(SELECT count(*) FROM generate_series(1, 40) i WHERE platpat.allow_call('b' || i))), '40', 'idle breakers share the room');
my ($state, $out, $err) = run_as($node, 'postgres', q(SELECT count(platpat.record_failure('b' || i)) FROM generate_series(1, 40) i));
is($state, '54000', 'breakers that remember failures do not');
like($err, qr/HINT:.*platpat.breaker_entries/, 'the hint says what to raise');
is(query(q(SELECT count(*) FROM platpat.stat_breakers WHERE failures_in_row = 1)), '15', 'what the others remember is not lost');
query(q(SELECT platpat.drop_breaker('b' || i) FROM generate_series(1, 40) i));
query(q(SELECT platpat.drop_breaker(breaker) FROM platpat.breakers));
query(q(SELECT platpat.create_breaker('c' || i, 2, '1 day') FROM generate_series(1, 16) i));
is(query(q(SELECT count(platpat.record_failure('c' || i)) FROM generate_series(1, 16) i)), '16', 'those that were dropped give way, whatever they remember');
query(q(SELECT platpat.force_breaker('c' || i, 'open') FROM generate_series(1, 16) i));
query('CREATE DATABASE gone');
$node->safe_psql('gone', q(CREATE EXTENSION platpat; SELECT platpat.create_breaker('g')));
refused_as($node, 'postgres', q(SELECT platpat.allow_call('g')), '54000', 'those of another database do not, ', dbname => 'gone');
query(q(SELECT platpat.alter_controller('breakers', paused => true)));
query(q(SELECT platpat.drop_breaker('c1')));
query(q(SELECT platpat.create_breaker('d'), platpat.record_failure('d')));
query(q(SELECT platpat.drop_breaker('c2')));
refused_as($node, 'postgres', q(SELECT platpat.allow_call('g')), '54000', 'not even dropped ones', dbname => 'gone');
query(q(SELECT platpat.alter_controller('breakers', paused => false)));
is(query(q(SELECT platpat.wait_ready('breakers', '1 min'))), 't', 'the controller sweeps');
is($node->safe_psql('gone', q(SELECT platpat.allow_call('g'))), 't', 'so those give way');
query(q(SELECT platpat.alter_controller('breakers', paused => true)));
query(q(SELECT platpat.create_breaker('e')));
query(q(SELECT platpat.allow_call('e')));
is($node->safe_psql('gone', q(SELECT platpat.allow_call('g'))), 't', 'until somebody has swept there, for an idle one');
$node->safe_psql('gone', q(SELECT platpat.force_breaker('g', 'open')));
query('DROP DATABASE gone');
query(q(SELECT platpat.create_breaker('f')));
is(query(q(SELECT platpat.allow_call('f'))), 't', 'those of a dropped database give way');
query(q(SELECT platpat.drop_breaker(breaker) FROM platpat.breakers));
# whoever drops one and does not commit takes nothing from it, nor does one who
# makes one lose it to a session that does not see it yet
query(q(SELECT platpat.create_breaker('v' || i, 1, '1 day'), platpat.record_failure('v' || i) FROM generate_series(1, 16) i));
query(q(SELECT platpat.create_breaker('other')));
refused_as($node, 'postgres', q(BEGIN; SELECT platpat.drop_breaker('v1'); SELECT platpat.allow_call('other'); ROLLBACK), '54000', 'a drop that is not committed makes no room');
is(query(q(SELECT platpat.breaker_state('v1'))), 'open', 'and takes nothing away');
query(q(SELECT platpat.drop_breaker('v1')));
my $maker = PlatSession->of($node, 'postgres');
$maker->ask(q(BEGIN; SELECT platpat.create_breaker('fresh'), platpat.force_breaker('fresh', 'open')));
refused_as($node, 'postgres', q(SELECT platpat.allow_call('other')), '54000', 'one that is just being made keeps its place');
$maker->ask('COMMIT');
is(query(q(SELECT platpat.breaker_state('fresh'))), 'open', 'and its state');
query(q(SELECT platpat.drop_breaker(breaker) FROM platpat.breakers));
# a window remembers, too
query(q(SELECT platpat.create_breaker('w', 2, '1 day', failure_window => '1 hour'), platpat.record_failure('w'), platpat.record_success('w')));
query(q(SELECT platpat.create_breaker('i' || i) FROM generate_series(1, 40) i));
query(q(SELECT count(platpat.allow_call('i' || i)) FROM generate_series(1, 40) i));
query(q(SELECT platpat.record_failure('w')));
is(query(q(SELECT platpat.breaker_state('w'))), 'open', 'a failure in the window keeps the room of its breaker');
query(q(SELECT platpat.create_bulkhead('p' || i, 1, scope => 'session') FROM generate_series(1, 40) i));
is(query(q(SELECT count(*) FILTER (WHERE platpat.acquire_slot('p' || i) AND platpat.release_slot('p' || i)) FROM generate_series(1, 40) i)), '40', 'so do idle bulkheads');
my @holders = map { PlatSession->of($node, 'postgres') } 1 .. 3;
my $taken = 0;
for my $i (1 .. 17)
{
	my $got = $holders[ $i % 3 ]->ask("SELECT platpat.acquire_slot('p$i')");
	$taken++ if $got eq 't';
	is($got, 'ERROR 54000', 'a bulkhead more than there is room for is refused') if $i == 17;
}
is($taken, 16, 'all others have their slots');

# Without preloading there is none, before PostgreSQL 17.
my $plain = new_node('plain', preload => 0);
query(q(SELECT platpat.create_breaker('b'), platpat.create_bulkhead('p', 1)), $plain);
my $version = query(q(SELECT current_setting('server_version_num')::int / 10000), $plain);
for my $call (q(allow_call('b')), q(breaker_state('b')), q(acquire_slot('p')), q(release_slot('p')))
{
	refused_as($plain, 'postgres', "SELECT platpat.$call", $version >= 17 ? '' : '55000', "$call without preloading");
}

done_testing();
