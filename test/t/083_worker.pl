# The launcher and the workers of databases: that they come when there is
# something to do, go when there is not, and are in nobody's way.
#
# What workers do is the business of the modules.  Here CREATE EXTENSION wakes
# them, and a launcher that is started anew looks into every database.  With
# the longest stay, 10 s, they would make commands fail that wait for sessions
# to end for 5 s.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = q(
log_min_messages = debug1
log_line_prefix = '%m [%p] %b '
restart_after_crash = on
platpat.worker_naptime = 1s
platpat.worker_linger = 10s
platpat.max_workers = 10
platpat.allow_drop = on
max_worker_processes = 20
);
my $node = new_node('workers', init => [ allows_streaming => 1 ], extension => 0, conf => $conf);

sub query
{
	my ($sql, $dbname) = @_;

	return $node->safe_psql($dbname // 'postgres', $sql);
}

# Wait until a query is true.
sub until_true
{
	my ($sql, $on) = @_;

	($on // $node)->poll_query_until('postgres', $sql) or die "never true: $sql";
	return;
}

sub launcher
{
	return query(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'platpat launcher'));
}

# A condition: so many workers are in a database.
sub workers
{
	my ($dbname, $count) = @_;

	return qq(SELECT count(*) = $count FROM pg_stat_activity
		WHERE backend_type = 'platpat worker' AND datname = '$dbname');
}

# Have a worker in a database, which stays for a while.
sub bring_worker
{
	my ($dbname) = @_;

	query('DROP EXTENSION IF EXISTS platpat', $dbname);
	query('CREATE EXTENSION platpat', $dbname);
	until_true(workers($dbname, 1));
	return;
}

sub set
{
	my ($name, $value) = @_;

	query("ALTER SYSTEM SET $name = '$value'");
	query('SELECT pg_reload_conf()');
	return;
}

# End the launcher, and wait for the next.
sub renew_launcher
{
	my $old = launcher();

	query("SELECT pg_terminate_backend($old)");
	until_true(qq(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'platpat launcher' AND pid <> $old));
	return;
}

sub log_since
{
	my ($offset, $on) = @_;

	return substr slurp_file(($on // $node)->logfile), $offset;
}

# How many workers were started since then.
sub starts
{
	my ($offset, $on) = @_;

	return scalar(() = log_since($offset, $on) =~ /starting background worker process "platpat worker"/g);
}

# Wait until so many were.
sub until_starts
{
	my ($offset, $count, $on) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if starts($offset, $on) >= $count;
		select undef, undef, undef, 0.1;
	}
	die "fewer than $count workers were started";
}

# One assertion: launcher and workers have written nothing since then, but that
# a controller has done its work.
sub is_quiet
{
	my ($offset, $name) = @_;

	none([ grep { !/ has done something about / } log_since($offset) =~ /^.*\] platpat \w+ (?:LOG|WARNING|ERROR|FATAL|PANIC): .*$/mg ], $name);
	return;
}

# Kill a process, and wait until the server has started anew.
sub crash
{
	my ($process) = @_;
	my $offset = -s $node->logfile;

	kill 'KILL', $process;
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'platpat launcher'))
	  or die 'there is no launcher';
	return;
}

# Coming and going.
until_true(q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'platpat launcher' AND datname IS NULL));
pass('the launcher is in no database');
query("CREATE DATABASE $_") for qw(shop other);
bring_worker('shop');
pass('CREATE EXTENSION brings a worker');
until_true(q(SELECT application_name = 'platpat worker' AND usename IS NOT NULL AND state = 'idle' FROM pg_stat_activity
	WHERE backend_type = 'platpat worker' AND datname = 'shop'));
pass('which can be seen');
set('platpat.worker_linger', '0');
until_true(workers('shop', 0));
pass('a SIGHUP makes it leave, and an idle database has none');
set('platpat.worker_linger', '10s');
my $offset = -s $node->logfile;
query('BEGIN; DROP EXTENSION platpat; CREATE EXTENSION platpat; ROLLBACK', 'shop');
query('CREATE EXTENSION platpat', 'other');
until_true(workers('other', 1));
is(starts($offset), 1, 'what is rolled back wakes nobody');

# In nobody's way: commands that want the database for themselves.
my $space = PostgreSQL::Test::Utils::tempdir();
query("CREATE TABLESPACE space LOCATION '$space'");
bring_worker('shop');
query('CREATE DATABASE copy TEMPLATE shop');
pass('CREATE DATABASE with a template that has a worker');
bring_worker('shop');
query('ALTER DATABASE shop SET TABLESPACE space');
pass('SET TABLESPACE');
bring_worker('shop');
query('ALTER DATABASE shop RENAME TO store');
pass('RENAME');
bring_worker('store');
bring_worker('other');
query('DROP DATABASE store');
query('DROP TABLESPACE space');
pass('DROP DATABASE, while workers are in others, too');
bring_worker('other');
query('DROP DATABASE other WITH (FORCE)');
pass('DROP DATABASE with force');
query("CREATE DATABASE d$_") for 1 .. 4;
for my $round (1 .. 3)
{
	query('CREATE EXTENSION platpat', "d$_") for 1 .. 4;
	for (1 .. 4)
	{
		query("DROP DATABASE d$_");
		query("CREATE DATABASE d$_");
	}
}
query("DROP DATABASE d$_") for 1 .. 4;
pass('databases that come and go while workers start');
query('CREATE EXTENSION platpat', 'template1');
query('CREATE DATABASE d1');
query('DROP DATABASE d1');
query('DROP EXTENSION platpat; DROP SCHEMA platpat', 'template1');
until_true(workers('template1', 0));
pass('templates have no workers');

# The extension comes and goes.
$offset = -s $node->logfile;
query('DROP EXTENSION platpat', 'copy');
for (1 .. 10)
{
	query('CREATE EXTENSION platpat', 'copy');
	query('DROP EXTENSION platpat', 'copy');
}
query('CREATE EXTENSION platpat', 'copy');
set('platpat.worker_linger', '0');
until_true(workers('copy', 0));
my $session = PlatSession->of($node, 'postgres', 'copy');
$session->ask('BEGIN; DROP EXTENSION platpat');
my $started = starts($offset);
renew_launcher();
until_starts($offset, $started + 2);
until_true(workers('copy', 0));
$session->ask('COMMIT');
$session->quit;
is_quiet($offset, 'the extension is dropped and made again without a word from workers');
query('CREATE EXTENSION platpat', 'copy');

# What is not ours, and what is not there, is looked at once at most.
query('CREATE DATABASE foreigner');
query('CREATE SCHEMA platpat; CREATE TABLE platpat.events (id int)', 'foreigner');
query('CREATE DATABASE broken');
query('CREATE DATABASE closed ALLOW_CONNECTIONS false');
query('CREATE DATABASE pattern IS_TEMPLATE true');
query(q(UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'));
until_true(q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'platpat worker'));
$offset = -s $node->logfile;
renew_launcher();
my $open = query(q(SELECT count(*) FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2));
is($open, 3, 'three databases are open');
until_starts($offset, $open);
query('CREATE DATABASE late');
until_starts($offset, $open + 1);
query('CREATE DATABASE later');
until_starts($offset, $open + 2);
is(starts($offset), $open + 2, 'a new launcher looks into each of them once, and then into new ones');
is_quiet($offset, 'without a word, whoever has a schema of our name');
is(query('SELECT count(*) FROM platpat.events', 'foreigner'), 0, 'and leaves that alone');
query(q(UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'broken'));
query(q(ALTER DATABASE pattern IS_TEMPLATE false));
query("DROP DATABASE $_") for qw(foreigner broken closed late later pattern);

# An extension of another version, in a copy that nobody has woken.
$offset = -s $node->logfile;
my $version = query(q(SELECT extversion FROM pg_extension WHERE extname = 'platpat'), 'copy');
query(q(UPDATE pg_extension SET extversion = '0.0.0' WHERE extname = 'platpat'), 'copy');
query('CREATE DATABASE copied TEMPLATE copy');
$node->wait_for_log(qr/platpat does nothing in the background of database "copied"/, $offset);
like(log_since($offset), qr/the extension there is 0\.0\.0\./, 'another version is left alone, and the log says so');
query("UPDATE pg_extension SET extversion = '$version' WHERE extname = 'platpat'", 'copied');
query('DROP DATABASE copy');
set('platpat.worker_linger', '10s');

# The launcher is cancelled, ended, killed.
my $launcher = launcher();
query("SELECT pg_cancel_backend($launcher)");
bring_worker('copied');
is(launcher(), $launcher, 'cancelling does not disturb the launcher');
my $worker = query(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'platpat worker' AND datname = 'copied'));
renew_launcher();
bring_worker('postgres');
pass('a launcher that was ended comes again');
is(query(q(SELECT count(*) FROM (SELECT FROM pg_stat_activity WHERE backend_type = 'platpat worker' GROUP BY datid HAVING count(*) > 1) s)),
	0, 'and starts no second worker where there is one');
crash(launcher());
bring_worker('copied');
pass('so it is when it was killed');
crash(query(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'platpat worker' AND datname = 'copied')));
bring_worker('copied');
pass('or when a worker was');
$offset = -s $node->logfile;
query(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'platpat worker'));
until_true(workers('copied', 0));
query('DROP DATABASE copied');
pass('a worker may be ended');

# More databases than workers.
set('platpat.max_workers', 1);
query("CREATE DATABASE $_") for qw(first second);
bring_worker('first');
query('CREATE EXTENSION platpat', 'second');
until_true(workers('second', 1));
ok(query(workers('first', 0)) eq 't', 'a worker without work makes room for another database');
query('ALTER SYSTEM RESET platpat.max_workers');

# No slot for a worker.
query('ALTER SYSTEM SET max_worker_processes = 2');
query('ALTER SYSTEM SET max_logical_replication_workers = 0');
query('DROP EXTENSION platpat', 'second');
$offset = -s $node->logfile;
$node->restart;
until_starts($offset, 3);
pass('where there is one slot, databases take turns');
until_true(q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'platpat worker'));
$offset = -s $node->logfile;
bring_worker('first');
query('CREATE EXTENSION platpat', 'second');
until_true(workers('second', 1));
is(scalar(() = log_since($offset) =~ /platpat finds no free slot/g), 1, 'one line says that there is no slot, and the launcher goes on');
query('ALTER SYSTEM RESET ALL');
$node->restart;

# Load: nothing that was committed is left lying, whatever becomes of launchers.
query('CREATE EXTENSION IF NOT EXISTS platpat', 'first');
query(q(
CREATE TABLE counted (id int, n bigint);
INSERT INTO counted VALUES (1, 0);
CREATE FUNCTION count_events(first bigint, last bigint) RETURNS void LANGUAGE sql AS $$
	UPDATE public.counted SET n = n + (SELECT count(*) FROM platpat.events WHERE position BETWEEN first AND last) $$;
SELECT platpat.create_projection('counted', 'count_events(bigint, bigint)');
), 'first');
$offset = -s $node->logfile;
my @writers = map { PlatSession->of($node, 'postgres', 'first') } 1 .. 3;
$_->tell(q(DO $$ BEGIN FOR i IN 1 .. 500 LOOP
	PERFORM platpat.append_event('order', gen_random_uuid(), 'placed', '{}'); COMMIT; END LOOP; END $$)) for @writers;
renew_launcher() for 1 .. 3;
is(join('', map { $_->answer } @writers), '', 'events are appended while launchers come and go');
$_->quit for @writers;
$node->poll_query_until('first', 'SELECT n = 1500 FROM counted');
is(query('SELECT n FROM counted', 'first'), 1500, 'and each is worked on, once');
is_quiet($offset, 'without a word');

# A standby has no workers until it is promoted.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
until_true(q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'platpat launcher'), $standby);
$node->wait_for_catchup($standby);
is(starts(0, $standby), 0, 'a standby starts no workers');
$standby->promote;
until_starts(0, 3, $standby);
pass('and does when it is promoted');
$standby->stop;
$node->stop;

done_testing();
