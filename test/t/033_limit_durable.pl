# What becomes of quotas and buckets when a server ends, well or badly; and what
# there is on a standby, after its promotion, and without preloading.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

my $charge = q(SELECT platpat.set_tenant('%s', false);
	SELECT count(*) FILTER (WHERE platpat.allow_tenant_request())
	FROM generate_series(1, %d););
my $usage = q(SELECT tenant, used FROM platpat.quota_usage ORDER BY tenant);

# charge($node, $tenant, $times): how many requests of the tenant passed
sub charge
{
	my ($node, $tenant, $times) = @_;

	return (split /\n/, value_as($node, 'app', sprintf($charge, $tenant, $times)))[-1];
}

sub usage
{
	my ($node) = @_;

	return $node->safe_psql('postgres', $usage);
}

sub stat_file
{
	my ($node) = @_;

	return $node->data_dir . '/pg_stat/platpat_limit.stat';
}

# What tells one writing of a file from another: numbers of inodes come again,
# and times may be the same.
sub writing
{
	my ($file) = @_;

	return join ' ', map { $_ // 0 } (Time::HiRes::stat($file))[ 1, 7, 9 ];
}

# Wait until the worker has written the file once more than now.
sub wait_for_flush
{
	my ($node) = @_;
	my $file = stat_file($node);
	my $before = writing($file);

	# a new use makes the file differ
	charge($node, 'flush', 1);
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if writing($file) ne $before;
		select undef, undef, undef, 0.1;
	}
	die "nothing was written to $file";
}

# The process of the node's launcher, which writes the files.
sub worker_pid
{
	my ($node) = @_;
	my $data = $node->data_dir;

	for my $process (grep { (readlink("$_/cwd") // '') eq $data } glob '/proc/[0-9]*')
	{
		open my $in, '<', "$process/cmdline" or next;
		return $process =~ s{.*/}{}r if <$in> =~ /platpat launcher/;
	}
	return;
}

# Kill a process of the node, and wait until the server has started anew.
sub crash
{
	my ($node, $process) = @_;
	my $offset = -s $node->logfile;

	kill 'KILL', $process;
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server is gone';
	return;
}

# Wait until the worker writes nothing for two seconds, whatever is used.
sub wait_for_quiet
{
	my ($node) = @_;
	my $quiet = 0;

	for (1 .. $PostgreSQL::Test::Utils::timeout_default)
	{
		my $before = writing(stat_file($node));
		charge($node, 'flush', 1);
		sleep 1;
		$quiet = writing(stat_file($node)) eq $before ? $quiet + 1 : 0;
		return if $quiet == 2;
	}
	die 'the worker goes on writing';
}

sub make_app
{
	my ($node) = @_;

	$node->safe_psql('postgres', q(CREATE ROLE app LOGIN;
		UPDATE platpat.tiers SET rate = 1000000, burst = 1000000, daily_quota = NULL, monthly_quota = 1000;));
	return;
}

my $node = new_node('primary', init => [ allows_streaming => 1 ], conf => q(
platpat.limit_flush_interval = 100ms
restart_after_crash = on
));
make_app($node);

# Ends that are expected lose nothing, down to the last request.
is(charge($node, 'acme', 100), 100, 'a quota is there to be used');
$node->restart;
is(usage($node), 'acme|100', 'a restart keeps what was used');
charge($node, 'acme', 1);
$node->stop('immediate');
$node->start;
is(usage($node), 'acme|101', 'so does an immediate shutdown');
is(charge($node, 'acme', 2000), 899, 'the rest of the quota and no more is left');
$node->restart;
is(charge($node, 'acme', 10), 0, 'who has used it up has none after a restart');

# A crash loses what was used since the last writing.
charge($node, 'globex', 50);
wait_for_flush($node);
wait_for_flush($node);
my $before = usage($node);
my $session = PlatSession->of($node, 'postgres');
my $pid = $session->ask('SELECT pg_backend_pid()');
crash($node, $pid);
like(usage($node), qr/^acme\|1000\nflush\|\d+\nglobex\|50$/, 'the crash of a session loses nothing that was written');
crash($node, worker_pid($node));
like(usage($node), qr/^acme\|1000\nflush\|\d+\nglobex\|50$/, 'nor does that of the worker');

wait_for_flush($node);
charge($node, 'globex', 7);
wait_for_flush($node);
die_and_start($node);
like(usage($node), qr/^acme\|1000\nflush\|\d+\nglobex\|57$/, 'nor does the death of the postmaster');

# The interval changes with a SIGHUP, and a death loses what it saw last: all of
# it, for nothing but the worker writes.
$node->append_conf('postgresql.conf', "platpat.limit_flush_interval = 1h\n");
$node->reload;
wait_for_quiet($node);
charge($node, 'globex', 100);
like(usage($node), qr/^globex\|157$/m, 'used after the last writing');
die_and_start($node);
like(usage($node), qr/^globex\|57$/m, 'the last interval is lost, and no more');
wait_for_quiet($node);
$node->append_conf('postgresql.conf', "platpat.limit_flush_interval = 100ms\n");
$node->reload;
wait_for_flush($node);
pass('a SIGHUP ends an interval of an hour');

# Buckets begin full.
$node->safe_psql('postgres', q(SELECT platpat.allow_request('bucket', 1, 1, 1, '1 day')));
$node->restart;
is($node->safe_psql('postgres', q(SELECT platpat.allow_request('bucket', 1, 1, 1, '1 day'))),
	't', 'a bucket is full after a restart');

# The worker may come and go.
is($node->safe_psql('postgres', q(SELECT value FROM platpat.status() WHERE item = 'worker')),
	'running', 'there is a worker');
my $worker = worker_pid($node);
is($node->safe_psql('postgres', q(SELECT count(datname) FROM pg_stat_activity WHERE backend_type = 'platpat launcher')), 0, 'which is in no database, so that DROP DATABASE need not wait for it');
kill 'TERM', $worker;
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if (worker_pid($node) // $worker) != $worker;
	select undef, undef, undef, 0.1;
}
wait_for_flush($node);
pass('one that is ended comes back and works');

# Files that cannot be believed are put aside.
sub spoiled
{
	my ($what, $reason, $spoil) = @_;
	my $file = stat_file($node);

	charge($node, 'hooli', 10);
	$node->stop;
	unlink "$file.rejected";
	my $content = slurp_file($file);
	open my $out, '>', $file or die $!;
	binmode $out;
	print {$out} $spoil->($content);
	close $out;
	my $offset = -s $node->logfile;
	$node->start;
	is(usage($node), '', "$what: quotas begin anew");
	ok($node->log_contains(qr/platpat_limit.stat" \Q$reason\E; all quotas begin anew/, $offset), "$what: the log says so");
	ok(-e "$file.rejected", "$what: the file is there to be looked at");
	return;
}

spoiled('an empty file', 'is damaged', sub { return '' });
spoiled('garbage', 'is of another kind or version', sub { return 'x' x 10_000 });
spoiled('half a file', 'is damaged', sub { return substr $_[0], 0, length($_[0]) / 2 });
spoiled('a file that lacks its end', 'is damaged', sub { return substr $_[0], 0, -4 });
spoiled('a file with more behind', 'is damaged', sub { return $_[0] . 'x' });
spoiled('one bit', 'is damaged', sub { my $c = $_[0]; substr($c, length($c) - 60, 1) ^= "\x10"; return $c });
spoiled('the seed', 'is damaged', sub { my $c = $_[0]; substr($c, 16, 1) ^= "\x01"; return $c });
spoiled('another system', 'belongs to another database system', sub { my $c = $_[0]; substr($c, 8, 1) ^= "\x01"; return $c });

# A file that is larger than the table has its surplus left out.
$node->safe_psql('postgres', q(INSERT INTO platpat.tenants (tenant) SELECT 'many-' || g FROM generate_series(1, 3000) AS g));
$node->safe_psql('postgres', q(SET platpat.allow_bypass_role = on; SET platpat.tenant_switching = 'free';
	SELECT count(*) FROM (SELECT platpat.set_tenant('many-' || g, false), platpat.allow_tenant_request()
		FROM generate_series(1, 3000) AS g) AS s));
is($node->safe_psql('postgres', 'SELECT count(*) FROM platpat.quota_usage'), 3000, 'many quotas');
$node->append_conf('postgresql.conf', "platpat.limit_slots = 1024\n");
my $offset = -s $node->logfile;
$node->restart;
my $kept = $node->safe_psql('postgres', 'SELECT count(*) FROM platpat.quota_usage');
ok($kept > 900 && $kept <= 1024, "a table of 1024 takes as many as fit ($kept)");
my $lost = 3000 - $kept;
ok($node->log_contains(qr/$lost quotas found no place in the shared table/, $offset), 'and the log tells of the others');
$node->append_conf('postgresql.conf', "platpat.limit_slots = 131072\n");
$node->restart;
is($node->safe_psql('postgres', 'SELECT count(*) FROM platpat.quota_usage'), $kept, 'a larger table takes those all');

# Databases come and go, and share nothing.
charge($node, 'acme', 5);
$node->safe_psql('postgres', 'CREATE DATABASE pattern');
$node->safe_psql('pattern', 'CREATE EXTENSION platpat');
$node->safe_psql('pattern', q(SET platpat.allow_bypass_role = on; SELECT platpat.set_tenant('acme', false); SELECT platpat.allow_tenant_request()));
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE pattern');
is($node->safe_psql('pattern', 'SELECT tenant, used FROM platpat.quota_usage'), 'acme|1', 'a database has its own quotas');
is($node->safe_psql('copy', 'SELECT count(*) FROM platpat.quota_usage'), 0, 'a copy of it begins anew');
is(join('', map { $node->safe_psql($_, q(SELECT platpat.allow_request('key', 1, 1, 1, '1 day'))) } qw(pattern copy pattern copy)), 'ttff', 'a key is another one in each database');
$node->safe_psql('postgres', "DROP DATABASE $_") for qw(pattern copy);
pass('databases can be dropped while the worker runs');

# A base backup's copy of the file belongs to another server.
wait_for_flush($node);
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
ok(-e stat_file($standby), 'the backup has a copy of the file');
$standby->start;
ok($standby->log_contains(qr/platpat_limit.stat" is a copy in a base backup; all quotas begin anew/), 'which the standby puts aside');
$node->wait_for_catchup($standby);
is(usage($standby), '', 'so it begins with nothing used');

# A standby counts for itself, by the tiers of its primary.
is(charge($standby, 'acme', 3), 3, 'requests are charged on a standby');
is($standby->safe_psql('postgres', q(SELECT count(*) FILTER (WHERE platpat.allow_request('standby', 1, 2, 1, '1 day')) FROM generate_series(1, 5))),
	2, 'and keys are');
is(usage($standby), 'acme|3', 'it counts for itself');
like(usage($node), qr/^acme\|5$/m, 'and so does its primary');
my $reader = PlatSession->of($standby, 'app');
$reader->ask(q(SELECT platpat.set_tenant('acme', false)));
is($reader->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT tier FROM platpat.peek_tenant_limit()'), 'free', 'a session of the standby');
$node->safe_psql('postgres', q(SELECT platpat.set_tier('acme', 'premium')));
$node->wait_for_catchup($standby);
is($reader->ask('SELECT tier FROM platpat.peek_tenant_limit()'), 'premium', 'hears of another tier from its next call on');
$reader->quit;
$standby->restart;
is(usage($standby), 'acme|3', 'a standby keeps its own counts');
$standby->promote;
is(usage($standby), 'acme|3', 'and goes on with them when it is promoted');
is(charge($standby, 'acme', 2000), 997, 'to the end of the quota');
$standby->stop;
$node->stop;

# Without preloading.
my $bare = new_node('bare', preload => 0);
SKIP:
{
	my $version = $bare->safe_psql('postgres', 'SHOW server_version_num');

	skip 'PostgreSQL 17 and later have shared memory without preloading', 23 if $version >= 170000;
	$bare->safe_psql('postgres', 'SET platpat.allow_bypass_role = on; CREATE ROLE app LOGIN');
	for my $view (qw(stat_rate_limits stat_tenants quota_usage))
	{
		my ($state, undef, $err) = run_as($bare, 'postgres', "TABLE platpat.$view");
		ok($state eq '55000' && $err =~ /HINT:  Add platpat to shared_preload_libraries and restart the server\./, "$view needs preloading, and says so")
		  or diag($err);
	}
	for my $call (
		q(refund_rate_limit('k', 1, 1)), q(reset_rate_limits()), q(limit_state()), q(allow_request(1, 1, 1)),
		q(allow_request('3f2504e0-4f89-41d3-9a0c-000000000001'::uuid, 1, 1)),
		q(allow_request('k', 1, 1)), q(consume_rate_limit('k', 1, 1)), q(peek_rate_limit('k', 1, 1)),
		q(wait_for_rate_limit('k', 1, 1)), q(enforce_rate_limit('k', 1, 1)), q(reset_rate_limit('k')),
		q(allow_requests('{k}', '{1}', '{1}')), q(allow_statement('k', 1, 1)), 'metrics()', 'reset_stats()',
		q(reset_tenant_limit('t')))
	{
		my ($state, undef, $err) = run_as($bare, 'postgres', "SELECT platpat.$call");
		ok($state eq '55000' && $err =~ /HINT:  Add platpat to shared_preload_libraries and restart the server\./, "$call needs preloading, and says so")
		  or diag($err);
	}
	refused_as($bare, 'app', q(SELECT platpat.set_tenant('acme'); SELECT platpat.allow_tenant_request()), '42501', 'a tenant is asked for first');
	refused_as($bare, 'app', q(SELECT platpat.set_tenant('acme', false); SELECT platpat.allow_tenant_request()), '55000', 'tenants need it, too');
	is(value_as($bare, 'postgres', q(SELECT platpat.set_tier('acme', 'premium');
		SELECT tier, (SELECT ends_at > starts_at FROM platpat.quota_window('day')),
			platpat.rate_limit_headers(true, 1, '0', '0', 1, 1) ->> 'RateLimit'
		FROM platpat.tenants)), "\npremium|t|\"default\";r=1;t=0", 'what needs none works without');
	is(value_as($bare, 'postgres', q(SELECT platpat.create_ring('r', shards => '{a}'); SELECT platpat.shard_for('k', 'r'))) =~ s/^\n//r, 'a', 'as do the rings');
}
$bare->stop;

done_testing();
