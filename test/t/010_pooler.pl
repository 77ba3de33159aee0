# Transactions of many clients share one server connection of PgBouncer: each
# sees the rows of its own tenant and never those of the client before it,
# however that one left.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use PlatSession;
use PlatTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('pooler');
my $clients = 8;

$node->safe_psql('postgres', qq{
	CREATE ROLE app LOGIN;
	ALTER ROLE app SET platpat.session_tenant = off;
	CREATE ROLE careless LOGIN;
	CREATE TABLE item (tenant_id text, writer text NOT NULL, n int NOT NULL);
	INSERT INTO item SELECT t, t, 0
	  FROM unnest(ARRAY['a', 'b']) t, generate_series(1, 3);
	INSERT INTO item SELECT 't' || c, 't' || c, n
	  FROM generate_series(0, $clients - 1) c, generate_series(1, 20) n;
	SELECT platpat.protect('item');
	GRANT SELECT, INSERT, UPDATE, DELETE ON item TO app, careless;});

# start_pooler($name, @settings): where a PgBouncer of our own listens.
my %poolers;

sub start_pooler
{
	my ($name, @settings) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $server = 'host=' . $node->host . ' port=' . $node->port . ' dbname=postgres';

	append_to_file("$dir/users", qq("app" ""\n"careless" ""\n));
	append_to_file("$dir/ini", join "\n",
		'[databases]', "one = $server pool_size=1", "two = $server pool_size=2",
		'[pgbouncer]', 'pool_mode = transaction',
		'listen_addr =', "listen_port = $port", "unix_socket_dir = $dir",
		'auth_type = trust', "auth_file = $dir/users",
		"logfile = $dir/log", "pidfile = $dir/pid",
		'server_reset_query = DISCARD ALL', @settings, '');
	$poolers{$name} = IPC::Run::start([ 'pgbouncer', '--quiet', "$dir/ini" ],
		'<', \undef, '>', "$dir/out", '2>', "$dir/err");
	for (1 .. 100)
	{
		return "host=$dir port=$port" if -S "$dir/.s.PGSQL.$port";
		usleep(100_000);
	}
	die 'PgBouncer did not start: ' . slurp_file("$dir/err");
}

sub stop_poolers
{
	$_->kill_kill for values %poolers;
	%poolers = ();
	return;
}
END { my $status = $?; stop_poolers(); $? = $status; }

local $ENV{PATH} = "$ENV{PATH}:/usr/sbin:/sbin";
my $pooler = start_pooler('plain');

sub client
{
	return PlatSession->new("$pooler dbname=one user=" . ($_[0] // 'app'));
}

my $tenants = q{SELECT string_agg(DISTINCT tenant_id, ',') FROM item};
my $set_by_nobody = q{SELECT coalesce(platpat.current_tenant_or_null(), 'none')};

# ------------------------------------------------ two clients, one connection

my ($anna, $bert) = (client(), client());
my $pid = $anna->ask('SELECT pg_backend_pid()');
is($bert->ask('SELECT pg_backend_pid()'), $pid, 'two clients share a server connection');

is($anna->ask("BEGIN; SELECT platpat.set_tenant('a') \\g /dev/null\n$tenants; COMMIT"),
	'a', 'a transaction sees its tenant');
is($bert->ask($tenants), 'ERROR 42501',
	'a client that forgets set_tenant gets an error and not the tenant before it');
is($bert->ask("BEGIN; SELECT platpat.set_tenant('b') \\g /dev/null\n$tenants; COMMIT"),
	'b', 'the other client sees its own tenant');
is($anna->ask($tenants), 'ERROR 42501', 'and leaves nothing either');
is($anna->ask("INSERT INTO item (writer, n) VALUES ('a', 1)"), 'ERROR 42501',
	'nothing can be written without a tenant');

# Bert's transaction begins in the moment in which Anna's ends.
$anna->ask("BEGIN; SELECT platpat.set_tenant('a')");
$bert->tell("BEGIN; $tenants; ROLLBACK");
is($anna->ask($tenants), 'a', 'a transaction keeps its tenant while another client waits');
$anna->ask('COMMIT');
is($bert->answer, 'ERROR 42501', 'the client that waited starts without a tenant');

$anna->ask("BEGIN; SELECT platpat.set_tenant('a'); ROLLBACK");
is($bert->ask($set_by_nobody), 'none', 'no tenant is left after a rollback');

is($anna->ask("BEGIN; SELECT platpat.set_tenant('a'); SELECT 1 / 0"),
	'ERROR 22012', 'a transaction fails');
$bert->tell($set_by_nobody);
$anna->ask('ROLLBACK');
is($bert->answer, 'none', 'no tenant is left after an error');

$anna->ask("BEGIN; SAVEPOINT s; SELECT platpat.set_tenant('a'); RELEASE s; COMMIT AND CHAIN");
is($anna->ask($tenants), 'ERROR 42501', 'a chained transaction starts without a tenant');
$anna->ask('ROLLBACK');

$anna->ask("SELECT platpat.set_tenant('a')");
like($anna->said, qr/WARNING:  25P01/, 'set_tenant outside a transaction warns');
is($bert->ask($set_by_nobody), 'none', 'and leaves no tenant');
is($bert->ask('SELECT pg_backend_pid()'), $pid, 'all of this on one server connection');

# PgBouncer closes the connection of a client that vanishes in a transaction.
$anna->ask("BEGIN; SELECT platpat.set_tenant('a')");
$bert->tell("$set_by_nobody; SELECT pg_backend_pid() <> $pid");
$anna->vanish;
is($bert->answer, "none\nt", 'no tenant is left when a client vanishes in a transaction');

$anna = client();
$anna->ask("BEGIN; SELECT platpat.set_tenant('a'); COMMIT");
$anna->vanish;
is($bert->ask($set_by_nobody), 'none', 'nor when it vanishes between transactions');

# --------------------------------------------------------- tenant of a session

is($bert->ask("SELECT platpat.set_tenant('a', false)"), 'ERROR 42501',
	'a role with platpat.session_tenant = off cannot set the tenant of the session');
is($bert->ask('SET platpat.session_tenant = on'), 'ERROR 42501',
	'and cannot allow that to itself');
is($bert->ask($set_by_nobody), 'none', 'no tenant is set then');
$bert->quit;

{
	local $ENV{PGOPTIONS} = '-c platpat.tenant=a';
	my ($out, $err) = run_command(
		[ 'psql', '-XAtc', $set_by_nobody, "$pooler dbname=one user=app" ]);
	is($out, '', 'a tenant in the connection options is no way in');
	like($err, qr/unsupported startup parameter/, 'PgBouncer refuses it');
}

# What docs/recipes.md warns of: without that setting the tenant stays on the
# connection, and server_reset_query is not run between transactions.
my ($early, $late) = (client('careless'), client('careless'));
is($early->ask("SELECT platpat.set_tenant('a', false)"), 'a', 'a careless role sets it');
is($late->ask($tenants), 'a', 'and the next client acts for that tenant');

my $always = start_pooler('always', 'server_reset_query_always = 1');
($early, $late) = map { PlatSession->new("$always dbname=one user=careless") } 1 .. 2;
is($early->ask('SELECT pg_backend_pid()'), $late->ask('SELECT pg_backend_pid()'),
	'with server_reset_query_always too they share a connection');
is($early->ask("SELECT platpat.set_tenant('a', false)"), 'a', 'the tenant of the session is set');
is($late->ask($tenants), 'ERROR 42501', 'DISCARD ALL takes it away');

# ------------------------------------------------------------------ under load

# Divides by zero unless the client sees all of its own rows and no other.
my $check = q{
	SELECT 1 / (count(*) >= 20 AND bool_and(tenant_id = 't' || :client_id))::int FROM item;
};
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my %scripts = (
	work => qq{
		\\set n random(1, 20)
		BEGIN;
		SELECT platpat.set_tenant('t' || :client_id);
		$check
		UPDATE item SET n = n WHERE n = :n;
		DELETE FROM item WHERE n = 100;
		INSERT INTO item (writer, n) VALUES ('t' || :client_id, 100);
		$check
		COMMIT;},
	undone => qq{
		BEGIN;
		SELECT platpat.set_tenant('t' || :client_id);
		$check
		DELETE FROM item;
		ROLLBACK;},
	failing => qq{
		BEGIN;
		SELECT platpat.set_tenant('t' || :client_id);
		DO \$\$ BEGIN
			DELETE FROM item;
			PERFORM 1 / 0;
		EXCEPTION WHEN division_by_zero THEN END \$\$;
		$check
		COMMIT;},
	forgetful => q{
		BEGIN;
		DO $$ BEGIN
			PERFORM FROM item;
			RAISE 'there are rows without a tenant';
		EXCEPTION WHEN insufficient_privilege THEN END $$;
		COMMIT;},
	check => $check);
append_to_file("$dir/$_", $scripts{$_}) for keys %scripts;

# pgbench($connection, $user, $transactions, @scripts): it succeeds if no
# client has met an error; also what it wrote.
sub pgbench
{
	my ($connection, $user, $transactions, @files) = @_;
	my $out = '';
	my $ok = IPC::Run::run(
		[
			'pgbench', '--no-vacuum', '--client', $clients, '--transactions', $transactions,
			(map { "--file=$dir/$_" } @files), "$connection user=$user"
		],
		'>', \$out, '2>&1');
	return ($ok, $out);
}

for my $database (qw(one two))
{
	my ($ok, $out) = pgbench("$pooler dbname=$database", 'app', 150,
		'work@5', 'undone@2', 'failing@2', 'forgetful@3');
	ok($ok, "$clients clients under load never see a row of another tenant: $database")
	  or diag($out);
	my $all = $clients * 150;
	like($out, qr{actually processed: $all/$all\b}, 'and all of their transactions ran');
}
is( $node->safe_psql('postgres',
		q{SELECT count(*) FILTER (WHERE n = 100) > 0, count(*) FILTER (WHERE writer <> tenant_id) FROM item}),
	't|0', 'every row belongs to the tenant of the client that wrote it');

# The check can fail: the careless clients from above have left their tenant.
is(client('careless')->ask("SELECT platpat.set_tenant('t0', false)"), 't0',
	'a tenant is left on the connection');
my ($ok, $out) = pgbench("$pooler dbname=one", 'careless', 10, 'check');
ok(!$ok, 'the check of the load finds a foreign tenant');
like($out, qr/division by zero/, 'by its division by zero');

stop_poolers();
done_testing();
