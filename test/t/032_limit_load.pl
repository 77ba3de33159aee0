# Limits under load: the sum of what is granted never exceeds what the rates
# allow, a full table does what it is told to, and waits end when they are told.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('load', conf => q(
max_connections = 60
platpat.limit_flush_interval = 50ms
));
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# load($script, %opt): run a script from 16 clients; the seconds that it took.
sub load
{
	my ($script, %opt) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/load.sql';
	my ($out, $err) = ('', '');

	append_to_file($file, $script);
	my $start = time;
	IPC::Run::run([ 'pgbench', '-n', '-M', 'prepared', '-c', 16, '-j', 2, '-U', $opt{user} // 'app',
			'-t', $opt{transactions} // 500, '-f', $file, $node->connstr('postgres') ],
		'>', \$out, '2>', \$err)
	  or die "pgbench: $err";
	return time - $start;
}

sub granted
{
	my ($like) = @_;

	return query("SELECT coalesce(sum(allowed), 0) FROM platpat.stat_rate_limits WHERE key LIKE '$like'");
}

# What comes in meanwhile counts for nothing: exactly the burst is granted.
load(q(SELECT platpat.allow_request('hot', 1, 4321, 1, '1 day')));
is(granted('hot'), 4321, '16 clients get exactly the burst of one key');
is(query(q(SELECT denied FROM platpat.stat_rate_limits WHERE key = 'hot')), 8000 - 4321, 'and every other call is refused');

# With a rate: no more than burst + rate * time, and hardly less.
my $start = time;
load(q(SELECT count(*) FROM generate_series(1, 100) WHERE platpat.allow_request('rated', 3000, 50)));
my $bound = 50 + 3000 * (time - $start);
my $got = granted('rated');
ok($got <= $bound && $got > 50, "a rate holds, too: $got of at most $bound");

# Costs that are rounded up, and another rate for every other call.
$start = time;
load(q(SELECT count(*) FROM generate_series(1, 100) AS g WHERE platpat.allow_request('mixed', 700 + g % 2, 7, 0.7)));
$bound = (7 + 701 * (time - $start)) / 0.7;
$got = granted('mixed');
ok($got <= $bound, "mixed rates and costs hold: $got of at most $bound");

# Many keys: each exactly its burst.
my $allowed = q(SELECT value FROM platpat.metrics() WHERE name = 'platpat_limit_requests_total' AND labels ->> 'result' = 'allowed');
my $allowed_before = query($allowed);
load(q(\set k random(1, 100000)
SELECT count(*) FROM generate_series(1, 50) AS g WHERE platpat.allow_request('key ' || (:k * 7919 + g * 104729) % 100000, 1, 3, 1, '30 days')),
	transactions => 600);
is(query(q(SELECT count(*) FROM platpat.stat_rate_limits WHERE key LIKE 'key %' AND allowed > 3)), 0, 'no key of 100,000 gets more than its burst');
is(query(q(SELECT count(*) FROM platpat.stat_rate_limits WHERE key LIKE 'key %' AND allowed < 3 AND denied > 0)), 0, 'nor is one refused before');
my $evicted = query(q(SELECT value FROM platpat.metrics() WHERE name = 'platpat_limit_evictions_total' AND labels ->> 'entry' = 'live'));
ok(granted('key %') + 3 * $evicted > 200_000, 'and there were many');
my $granted = query($allowed) - $allowed_before;
cmp_ok($granted, '<=', 3 * (100_000 + $evicted), 'what is granted beyond the bursts is what evictions account for');

# Refunds: all that is taken is given back, so nobody is ever refused.
load(q(SELECT platpat.allow_request('back', 1, 16, 1, '30 days');
SELECT platpat.refund_rate_limit('back', 1, 16, 1, '30 days')), user => 'postgres');
is(query(q(SELECT denied FROM platpat.stat_rate_limits WHERE key = 'back')), 0, 'what is given back can be taken again');
is(query(q(SELECT round(remaining::numeric, 3) FROM platpat.peek_rate_limit('back', 1, 16, 1, '30 days'))), '16.000', 'and the bucket is full at the end');

# Several keys: together or not at all.
load(q(SELECT platpat.allow_requests('{pair 1, pair 2, pair 3}', '{1e-6, 1e-6, 1e-6}', '{900, 500, 700}')));
is(query(q(SELECT string_agg(allowed::text, ' ' ORDER BY key) FROM platpat.stat_rate_limits WHERE key LIKE 'pair %')), '500 500 500', 'three keys are charged together');
is(query(q(SELECT string_agg(round(b - p.remaining)::text, ' ' ORDER BY k)
	FROM (VALUES ('pair 1', 900), ('pair 2', 500), ('pair 3', 700)) AS v(k, b), platpat.peek_rate_limit(k, 1e-6, b) AS p)),
	'500 500 500', 'and nothing is lost of those who were refused');

# Tenants: rate and quotas together.
query(q(INSERT INTO platpat.tiers (tier, rate, burst, per, daily_quota, monthly_quota) VALUES ('load', 1, 5000, '1 day', NULL, 3333);
	SELECT platpat.set_tier('load', 'load')));
load(q(BEGIN;
SELECT platpat.set_tenant('load');
SELECT platpat.allow_tenant_request();
ROLLBACK;));
is(query(q(SELECT allowed, denied FROM platpat.stat_tenants WHERE tenant = 'load')), '3333|4667', 'exactly the quota is granted');
is(query(q(SELECT used FROM platpat.quota_usage WHERE tenant = 'load')), 3333, 'and counted');

# The same while the tier changes all the time: nothing but the quota counts.
query(q(INSERT INTO platpat.tiers (tier, rate, burst, per, monthly_quota) VALUES ('other', 2, 6000, '1 day', 3000), ('same', 1, 5000, '1 day', 3000);
	SELECT platpat.set_tier('swing', 'same')));
my $swing = IPC::Run::start([ 'pgbench', '-n', '-c', 1, '-T', 600, '-U', 'postgres', '-f', '-', $node->connstr('postgres') ],
	'<', \"SELECT platpat.set_tier('swing', CASE WHEN random() < 0.5 THEN 'other' ELSE 'same' END);\n\\sleep 1 ms\n", '>', \my $out, '2>', \my $err);
load(q(BEGIN;
SELECT platpat.set_tenant('swing');
SELECT platpat.allow_tenant_request();
ROLLBACK;));
$swing->kill_kill;
is(query(q(SELECT used FROM platpat.quota_usage WHERE tenant = 'swing')), 3000, 'a tier that changes under load does not matter');

# Waits: in the order in which they came, and open to cancellation.  The first
# who waits may go after half a second, the second after a whole one: whoever
# overtakes goes too early, however slow the machine is.
my @waiting;
my $since = query(q(SELECT extract(epoch FROM clock_timestamp())));
query(q(SELECT platpat.allow_request('queue', 2, 1)));
for my $i (1 .. 3)
{
	my $session = PlatSession->of($node, 'app');
	$session->tell(q(SELECT extract(epoch FROM clock_timestamp()) FROM (SELECT platpat.wait_for_rate_limit('queue', 2, 1) AS w OFFSET 0) AS s WHERE w));
	push @waiting, $session;
	# a place in the queue counts as granted
	$node->poll_query_until('postgres', qq(SELECT allowed = 1 + $i FROM platpat.stat_rate_limits WHERE key = 'queue'))
	  or die 'nobody waits';
}
my @after = map { $_->answer - $since } @waiting;
none([ grep { $after[ $_ - 1 ] < $_ / 2 - 0.01 } 1 .. 3 ], "those who wait come up in the order in which they came: @after");
$_->quit for @waiting;

# With a longest wait: refused at once, and nothing is charged for it.
query(q(SELECT platpat.allow_request('patience', 1, 1, 1, '1 day')));
is(query(q(SET statement_timeout = '60s'; SELECT count(*) FROM generate_series(1, 50) WHERE platpat.wait_for_rate_limit('patience', 1, 1, 1, '1 day', '23 hours'))), 0, 'who may not wait long enough does not wait');
is(query(q(SELECT retry_after BETWEEN '23 hours' AND '1 day' FROM platpat.peek_rate_limit('patience', 1, 1, 1, '1 day'))), 't', 'and takes no place');
is(query(q(SET statement_timeout = '60s'; SELECT platpat.wait_for_rate_limit('impatience', 1, 1, 1, '1 day', '0'), platpat.wait_for_rate_limit('impatience', 1, 1, 1, '1 day', '0'))), 't|f', 'who may not wait at all passes when there is no need to');
refused_as($node, 'app', q(SELECT platpat.wait_for_rate_limit('impatience', 1, 1, 1, '1 day', '-1 s')), '22023', 'nobody waits for less than no time');
query('CREATE UNLOGGED TABLE passed (); GRANT INSERT ON passed TO app');
$start = time;
load(q(INSERT INTO passed SELECT WHERE platpat.wait_for_rate_limit('patient', 200, 5, 1, '1 s', '50 ms')), transactions => 30);
$bound = 5 + 200 * (time - $start);
$got = query('SELECT count(*) FROM passed');
ok($got <= $bound && $got > 5, "nor do more than may when 16 clients wait: $got of at most $bound");

# Who is sure to give up takes no place, however many do at once.
query(q(SELECT platpat.allow_request('herd', 1, 1, 1, '10 days')));
load(q(SET statement_timeout = '20ms';
DO $$BEGIN PERFORM platpat.wait_for_rate_limit('herd', 1, 1, 1, '10 days'); RAISE 'a wait of days is over';
EXCEPTION WHEN query_canceled THEN END$$), transactions => 20);
is(query(q(SELECT retry_after BETWEEN '9 days' AND '10 days' FROM platpat.peek_rate_limit('herd', 1, 1, 1, '10 days'))), 't', '320 waits that time out leave the queue empty');
cmp_ok(query(q(SELECT allowed FROM platpat.stat_rate_limits WHERE key = 'herd')), '==', 1, 'in which none had a place');

# A place is not given back while somebody has queued up behind it, whose turn
# is promised.
query(q(SELECT platpat.allow_request('line', 1, 1, 1, '10 days')));
my @line;
for my $days (20, 30)
{
	push @line, PlatSession->of($node, 'app')->tell(q(SELECT platpat.wait_for_rate_limit('line', 1, 1, 1, '10 days')));
	$node->poll_query_until('postgres', qq(SELECT reset_after > '$days days'::interval - '1 hour' FROM platpat.peek_rate_limit('line', 1, 1, 1, '10 days')))
	  or die 'nobody waits';
}
for my $pair ([ 0, 30 ], [ 1, 20 ])
{
	my ($who, $days) = @$pair;
	my ($pid) = query(q(SELECT pid FROM pg_stat_activity WHERE query LIKE '%line%' AND state = 'active' AND pid <> pg_backend_pid() ORDER BY backend_start LIMIT 1));
	query("SELECT pg_cancel_backend($pid)");
	is($line[$who]->answer, 'ERROR 57014', 'one gives up');
	is(query(qq(SELECT reset_after BETWEEN '$days days'::interval - '1 hour' AND '$days days' FROM platpat.peek_rate_limit('line', 1, 1, 1, '10 days'))),
		't', 'and those behind keep their turns, or the place is free');
}
$_->quit for @line;

sub stop_wait
{
	my ($how, $state) = @_;
	my $end = $how =~ /^pg_/ ? "SELECT $how(pid) FROM pg_stat_activity WHERE query LIKE '%wait_for_rate_limit%' AND pid <> pg_backend_pid()" : '';
	my $setting = $end ? '' : "SET statement_timeout = '1s'; ";

	query(q(SELECT platpat.reset_rate_limit('stuck'), platpat.allow_request('stuck', 1, 1, 1, '10 days')));
	my $session = PlatSession->of($node, 'app');
	$session->tell($setting . q(SELECT platpat.wait_for_rate_limit('stuck', 1, 1, 1, '10 days')));
	# a wait that ends by itself may be over before anybody looks
	if ($end)
	{
		$node->poll_query_until('postgres', q(SELECT retry_after > '15 days' FROM platpat.peek_rate_limit('stuck', 1, 1, 1, '10 days')))
		  or die 'nobody waits';
		query($end);
	}
	if ($state) { is($session->answer, $state, "$how ends a wait of days"); }
	$node->poll_query_until('postgres', q(SELECT retry_after BETWEEN '9 days' AND '10 days' FROM platpat.peek_rate_limit('stuck', 1, 1, 1, '10 days')))
	  or die 'the place is not given back';
	pass("after $how the place in the queue is free");
	return;
}
stop_wait('pg_cancel_backend', 'ERROR 57014');
stop_wait('pg_terminate_backend');
stop_wait('statement_timeout', 'ERROR 57014');

# A table of 1024 entries, ten times as many live keys, and 7,000 locks, for
# which the server has room with few to spare.
query(q(SELECT format('CREATE TABLE t%s ()', g) FROM generate_series(1, 7000) AS g \gexec));
my $lockers = query(q(SELECT sum(setting::int) FROM pg_settings
	WHERE name IN ('max_connections', 'max_worker_processes', 'autovacuum_max_workers', 'max_wal_senders', 'max_prepared_transactions')));
$node->append_conf('postgresql.conf', sprintf "platpat.limit_slots = 1024\nmax_locks_per_transaction = %d\n", 1 + 7050 / $lockers);
$node->restart;
my $quotas = query('SELECT count(*) FROM platpat.quota_usage');
sub take_locks
{
	my $session = PlatSession->of($node, 'postgres');

	return $session->tell(q(BEGIN;
		DO $$BEGIN FOR i IN 1..7000 LOOP EXECUTE format('LOCK TABLE t%s', i); END LOOP; END$$;
		SELECT count(*) >= 7000 FROM pg_locks WHERE mode = 'AccessExclusiveLock'));
}
my $locks = take_locks();
my $flood = q(SELECT count(*) FROM generate_series(1, 10240) AS g WHERE platpat.allow_request('flood ' || g, 1, 1, 1, '30 days'));
is(query($flood), 10240, 'ten times as many keys as slots are all new');
is($locks->answer, 't', 'while another session takes 7,000 locks');
$locks->quit;
sub figure
{
	my ($name, $labels) = @_;

	return query("SELECT value FROM platpat.metrics() WHERE name = 'platpat_limit_$name' AND labels = '$labels'");
}
is(figure('slots', '{"state": "total"}'), 1024, 'the table does not grow');
is(figure('slots', '{"state": "used"}'), 1024, 'and is full');
is(figure('evictions_total', '{"entry": "live"}'), 10240 + $quotas - 1024, 'every entry that had to go is counted');
is(figure('requests_total', '{"result": "allowed"}'), 10240, 'and what it counted is not lost');

# Quotas stay when buckets can go.
query(q(SET platpat.allow_bypass_role = on; SELECT platpat.set_tenant('load', false); SELECT platpat.allow_tenant_request()));
$locks = take_locks();
query($flood =~ s/flood/again/r);
is($locks->answer, 't', 'there is room for 7,000 locks when the table is full, too');
$locks->quit;
is(query(q(SELECT used FROM platpat.quota_usage WHERE tenant = 'load')), 3333, 'a quota outlives a flood of keys');

# Nor do keys take the place of a tenant, however long they owe.
query(q(INSERT INTO platpat.tiers (tier, rate, burst, per) VALUES ('flooded', 1, 5, '1 day'); SELECT platpat.set_tier('flooded', 'flooded')));
my $attack = q(SELECT count(*) FROM generate_series(1, 10240) AS g WHERE platpat.allow_request('junk %s ' || g, 1, 3e9, 3e9));
my $victim = q(SET platpat.allow_bypass_role = on; SELECT platpat.set_tenant('flooded', false);
	SELECT count(*) FROM generate_series(1, 10) WHERE platpat.allow_tenant_request());
my $served = 0;
for my $round (1 .. 5)
{
	value_as($node, 'app', sprintf $attack, $round);
	$served += (split /\n/, query($victim))[-1];
}
is($served, 5, 'a flood of keys frees no tenant of its limit');

# Not even where there is nothing but tenants: a table full of their quotas.
query(q(SET platpat.allow_bypass_role = on; SET platpat.tenant_switching = 'free'; UPDATE platpat.tiers SET daily_quota = 3 WHERE tier = 'free';
	SELECT count(platpat.allow_tenant_request()) FROM generate_series(1, 3000) AS g, LATERAL (SELECT platpat.set_tenant('crowd ' || g, false)) AS s));
my $crowd = q(SELECT count(*), sum(used) FROM platpat.quota_usage WHERE tenant LIKE 'crowd %');
my $before_flood = query($crowd);
value_as($node, 'app', sprintf $attack, 'crowd');
is(query($crowd), $before_flood, 'keys take no place of a tenant, however many come');
query(q(SELECT count(*) FILTER (WHERE platpat.reset_tenant_limit('crowd ' || g)) FROM generate_series(1, 3000) AS g));

$node->append_conf('postgresql.conf', 'platpat.limit_on_full = deny');
$node->restart;
my $passed = query($flood);
ok($passed > 900 && $passed <= 1024, "deny: no more than there is place for ($passed)");
is(figure('refused_total', '{}'), 10240 - $passed, 'deny: the others are counted');
is(query(q(SELECT count(*) FROM generate_series(1, 100) AS g, platpat.consume_rate_limit('more ' || g, 1, 1, 1, '30 days') AS r
	WHERE NOT r.allowed AND r.retry_after > '29 days')), 100, 'deny: a new key has to wait for a place');
is((split /\n/, query($victim))[-1], 5, 'deny: a tenant finds its place all the same');
refused_as($node, 'app', q(SELECT platpat.enforce_rate_limit('more ' || g, 1, 1, 1, '30 days') FROM generate_series(1, 100) AS g), '54000', 'deny: an error says that the table is full');

$node->append_conf('postgresql.conf', 'platpat.limit_on_full = allow');
$node->reload;
$node->poll_query_until('postgres', q(SELECT current_setting('platpat.limit_on_full') = 'allow'));
is(query(q(SELECT count(*) FROM generate_series(1, 100) AS g WHERE platpat.allow_request('more ' || g % 2, 1, 1, 1, '30 days'))), 100, 'allow: who finds no place passes');
is(query(q(SELECT count(*) FROM generate_series(1, 3) WHERE platpat.wait_for_rate_limit('more 1', 1, 1, 1, '30 days'))), 3, 'allow: and need not wait');
$node->stop;

done_testing();
