# The recipes of docs/recipes.md, run: test/recipes holds their code, and its
# marked regions are the code blocks of the page, byte for byte.
#
# The check programs print lines "name: value".  Every recipe has to keep the
# same promises, on a connection of its own and through PgBouncer.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use File::Find;
use IPC::Run;
use PlatSession;
use PlatTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my @promises = (
	'acme sees' => 'anvil',
	'globex sees' => 'rocket',
	'without a tenant' => '42501',
	'row of another tenant' => '42501',
	'acme still sees' => 'anvil',
	'one connection' => 'true');

# Per recipe: its table, how the owner makes it, how the promises are tried, and
# what docs/recipes.md says about its pitfalls.
my %recipes = (
	psql => {
		table => 'orders',
		migrate => [qw(psql -X -v ON_ERROR_STOP=1 -f migrate.sql)],
		check => [qw(psql -XAtq -f check.sql)],
		pitfalls => [
			'outside a transaction' => '42501',
			'for the session' => '42501',
			'another tenant inside' => '42501'
		]
	},
	sqlalchemy => {
		table => 'orders',
		migrate => [qw(sh migrate.sh)],
		check => [qw(python3 check.py)],
		pitfalls => [
			'after commit' => 'anvil',
			'after a savepoint' => 'anvil',
			'outside a transaction' => '42501',
			'connection without a session' => '42501',
			'session kept for another tenant' => 'anvil',
			'first transaction after checkout' => 'anvil',
			'second transaction after checkout' => '42501',
			'for the session' => '42501'
		]
	},
	django => {
		table => 'shop_order',
		migrate => [qw(sh migrate.sh)],
		check => [qw(python3 check.py)],
		pitfalls => [
			'failed request' => '500',
			'after a failed request' => 'anvil',
			'outside a transaction' => '42501',
			'response streamed later' => '42501',
			'another tenant inside' => '42501'
		]
	},
	node => {
		table => 'orders',
		migrate => [qw(sh migrate.sh)],
		check => [qw(node check.js)],
		pitfalls => [
			'interleaved' => 'true',
			'outside a transaction' => '42501',
			'for the session' => '42501',
			'client kept for later' => 'rocket',
			'one round trip' => 'anvil',
			'after termination' => 'anvil'
		]
	});

# ------------------------------------------------------------------- the pages

# The code blocks of a page, in order, each as "language\ncode".
sub blocks
{
	my ($page) = @_;
	my $text = slurp_file(tree($page));
	my @blocks;

	push @blocks, "$1\n$2" while $text =~ /^```(\w*)\n(.*?)^```$/msg;
	return \@blocks;
}

# The marked regions of test/recipes in the same form.
sub regions
{
	my %language = (py => 'python');
	my @regions;

	find(
		sub {
			return unless -f && /\.(\w+)$/;
			my $language = $language{$1} // $1;
			my $mark = qr{(?:\#|--|//|;)};
			my $text = slurp_file($_);
			push @regions, "$language\n$1"
			  while $text =~ /^$mark recipe: \S+\n(.*?)^$mark end$/msg;
		},
		tree('test/recipes'));
	return \@regions;
}

# What is in the first list and not in the second.
sub missing
{
	my ($list, $from) = @_;
	my %known = map { $_ => 1 } @$from;

	return [ grep { !$known{$_} } @$list ];
}

my $english = blocks('docs/recipes.md');
my $regions = regions();

cmp_ok(scalar @$regions, '>', 10, 'the recipes have code');
none(missing($regions, $english), 'all of it is in docs/recipes.md');
none(missing($english, $regions), 'and nothing else is');
is_deeply(blocks('docs/ru/recipes.md'), $english, 'the Russian page has the same blocks');

# ----------------------------------------------------- servers, pooler, programs

my $node = new_node('recipes', extension => 0, init => [ allows_streaming => 1 ]);
my $work = PostgreSQL::Test::Utils::tempdir_short();

# A copy, because Python and npm write beside what they run.
IPC::Run::run([ 'cp', '-R', tree('test/recipes') . '/.', $work ])
  or die "cannot copy test/recipes";
# Another python3 in the PATH does not have Debian's modules.
mkdir "$work/bin";
symlink '/usr/bin/python3', "$work/bin/python3" or die "symlink: $!";
local $ENV{PATH} = "$work/bin:$ENV{PATH}:/usr/sbin:/sbin";
delete @ENV{qw(PYTHONPATH PYTHONHOME DJANGO_SETTINGS_MODULE PGAPPNAME)};

# run_in($directory, \%environment, $name, @command): the output of a command;
# one assertion that it succeeds.
sub run_in
{
	my ($dir, $environment, $name, @command) = @_;
	my ($out, $err) = ('', '');

	local %ENV = (%ENV, %$environment);
	my $ok = IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err,
		init => sub { chdir "$work/$dir" or die "chdir: $!" });

	ok($ok, $name) or diag("$out\n$err");
	return $out;
}

need_node_modules("$work/node");

$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION platpat');
$node->safe_psql('shop', slurp_file(tree('test/recipes/setup.sql')));

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $server = 'host=' . $node->host . ' port=' . $node->port;
append_to_file("$work/users", qq("shop_app" ""\n));
# The recipe's lines first; these go on in the section that it opens.
append_to_file("$work/pooler.ini", join "\n",
	slurp_file("$work/pgbouncer/pgbouncer.ini"),
	'default_pool_size = 1', 'query_wait_timeout = 20', 'listen_addr =', "listen_port = $port", "unix_socket_dir = $work",
	'auth_type = trust', "auth_file = $work/users",
	'[databases]', "* = $server", '');
my $pooler = IPC::Run::start([ 'pgbouncer', '--quiet', "$work/pooler.ini" ],
	'<', \undef, '>', "$work/pooler.out", '2>', "$work/pooler.err");
END { my $status = $?; $pooler->kill_kill if $pooler; $? = $status; }
for (1 .. 100)
{
	last if -S "$work/.s.PGSQL.$port";
	usleep(100_000);
}

# ----------------------------------------------------------------- the recipes

my %direct = (PGHOST => $node->host, PGPORT => $node->port);
my %pooled = (PGHOST => $work, PGPORT => $port);

# The environment that logs in to a recipe's database.
sub login
{
	my ($recipe, $role, $connection) = @_;

	return { %{ $connection // \%direct }, PGUSER => $role, PGDATABASE => "shop_$recipe" };
}

# The answers of a check program, one assertion each.
sub check
{
	my ($recipe, $how, $connection) = @_;
	my $it = $recipes{$recipe};
	my @expected = (@promises, @{ $it->{pitfalls} });
	my $out = run_in($recipe, login($recipe, 'shop_app', $connection),
		"$recipe runs $how", @{ $it->{check} });
	my %answers = $out =~ /^([a-z ]+): (.*)$/mg;
	while (my ($name, $value) = splice @expected, 0, 2)
	{
		is(delete $answers{$name}, $value, "$recipe $how, $name");
	}
	none([ sort keys %answers ], "$recipe $how, nothing else");
	is( $node->safe_psql("shop_$recipe",
			"SELECT string_agg(tenant_id || ' ' || item, ',' ORDER BY tenant_id) FROM $it->{table}"),
		'acme anvil,globex rocket', "$recipe $how, what is stored");
	return;
}

for my $recipe (sort keys %recipes)
{
	my $it = $recipes{$recipe};

	$node->safe_psql('postgres', "CREATE DATABASE shop_$recipe TEMPLATE shop");
	run_in($recipe, login($recipe, 'postgres'), "$recipe migrates", @{ $it->{migrate} });
	is( $node->safe_psql("shop_$recipe", qq{
			SELECT tableowner, protected, tenant_default, not_null, tenant_index
			  FROM pg_tables, platpat.protected_tables
			 WHERE tablename = '$it->{table}' AND table_name = '$it->{table}'::regclass}),
		'shop_owner|t|t|t|t', "$recipe protects what its owner makes");

	check($recipe, 'on a connection', \%direct);
	$node->safe_psql("shop_$recipe", "DELETE FROM $it->{table}");
	check($recipe, 'through PgBouncer', \%pooled);
}

# ---------------------------------------------------------- what only one has

my $owner = login('django', 'shop_owner');
run_in('django', $owner, 'the migration of Django says what its model says',
	qw(python3 manage.py makemigrations --check --dry-run));
run_in('django', $owner, 'it can be undone', qw(python3 manage.py migrate shop zero));
is($node->safe_psql('shop_django', 'SELECT count(*) FROM platpat.protected_tables'),
	'0', 'nothing is left of it then');

my $app = login('psql', 'shop_app');
like(run_in('psql', $app, 'a script runs for a tenant', qw(sh report.sh)),
	qr/^ anvil\n\(1 row\)$/m, 'it sees the rows of that tenant');
like(run_in('psql', $app, 'one round trip is a transaction', qw(psql -X -f round_trip.sql)),
	qr/^ anvil\n\(1 row\)$/m, 'with the rows of its tenant');

run_in('psql', login('psql', 'postgres'), 'a backfill runs',
	qw(psql -X -v ON_ERROR_STOP=1 -f backfill.sql));
is($node->safe_psql('shop_psql', 'SELECT count(*), sum(amount) FROM orders'),
	'2|0', 'over the rows of all tenants');
is($node->safe_psql('shop_psql', 'SELECT role_name FROM platpat.admin_log'),
	'shop_owner', 'and leaves its trace');

# Two clients of PgBouncer on one server connection.
my ($anna, $bert) =
  map { PlatSession->new("host=$work port=$port user=shop_app dbname=shop_psql") } 1 .. 2;
is($anna->ask('SELECT pg_backend_pid()'), $bert->ask('SELECT pg_backend_pid()'),
	'clients of PgBouncer share a connection');
is($anna->ask("BEGIN; SELECT platpat.set_tenant('acme') \\g /dev/null\nSELECT item FROM orders; COMMIT"),
	'anvil', 'one acts for its tenant');
is($bert->ask('SELECT item FROM orders'), 'ERROR 42501', 'the next one gets nothing of it');
is($bert->ask("SELECT platpat.set_tenant('acme', false)"), 'ERROR 42501',
	'and cannot set a tenant that would stay');
$_->quit for $anna, $bert;

# A read-only replica.
$node->backup('replica');
my $replica = PostgreSQL::Test::Cluster->new('recipes_replica');
$replica->init_from_backup($node, 'replica', has_streaming => 1);
$replica->start;
my %shop = (dbname => 'shop_psql');
is( value_as($replica, 'shop_app',
		"BEGIN; SELECT platpat.set_tenant('acme'); SELECT item FROM orders; COMMIT", %shop),
	"acme\nanvil", 'a replica shows the rows of the tenant');
refused_as($replica, 'shop_app', 'SELECT item FROM orders', '42501',
	'and none without a tenant', %shop);
refused_as($replica, 'shop_owner', "SELECT platpat.as_admin('look')", '25006',
	'as_admin writes its trace and so cannot run there', %shop);
$replica->stop;

done_testing();
