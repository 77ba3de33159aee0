# A dump carries the protection: restored in any of the usual ways, or upgraded
# in place, every table is protected as it was, edited choices included, and
# new tables still will be.  Who is subject to policies cannot dump.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('dump', extension => 0);
my $dir = PostgreSQL::Test::Utils::tempdir();
my ($acme, $zeta) = map { "00000000-0000-4000-8000-00000000000$_" } 1, 2;

$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE landlord LOGIN;
	CREATE ROLE operator LOGIN;
	CREATE ROLE backup LOGIN BYPASSRLS IN ROLE pg_read_all_data;
	CREATE DATABASE shop OWNER landlord;});
$node->safe_psql('shop', q{CREATE EXTENSION platpat; SELECT platpat.grant_admin('operator')});
$node->safe_psql('shop', qq{
	SET SESSION AUTHORIZATION landlord;
	CREATE SCHEMA crm;
	CREATE TABLE crm.customer (tenant_id uuid, id int, PRIMARY KEY (tenant_id, id));
	CREATE TABLE crm.invoice (tenant_id uuid, customer int,
		FOREIGN KEY (tenant_id, customer) REFERENCES crm.customer);
	CREATE TABLE crm.currency (code text PRIMARY KEY);
	INSERT INTO crm.customer SELECT t, n FROM unnest('{$acme,$zeta}'::uuid[]) t, generate_series(1, 5) n;
	INSERT INTO crm.invoice SELECT tenant_id, id FROM crm.customer;
	INSERT INTO crm.currency VALUES ('EUR');
	SELECT platpat.protect_schema('crm');
	CREATE TABLE crm.late (tenant_id uuid, n int);

	CREATE SCHEMA lot;
	CREATE TABLE lot.item (tenant_id text, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
	CREATE TABLE lot.part (n int, tenant_id bigint, at date) PARTITION BY RANGE (at);
	CREATE TABLE lot.part_1 PARTITION OF lot.part FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
	CREATE TABLE lot.part_2 PARTITION OF lot.part FOR VALUES FROM ('2026-07-01') TO ('2027-01-01')
		PARTITION BY LIST (n);
	CREATE TABLE lot.part_2_rest PARTITION OF lot.part_2 DEFAULT;
	CREATE TABLE lot.base (tenant_id varchar(20), n int);
	CREATE TABLE lot.child (more text) INHERITS (lot.base);
	CREATE TABLE lot.own (tenant_id int, n int);
	CREATE POLICY reading ON lot.own FOR SELECT TO app USING (n > 0);
	CREATE POLICY writing ON lot.own FOR INSERT WITH CHECK (n > 0);
	CREATE POLICY never ON lot.own AS RESTRICTIVE FOR DELETE USING (false);
	CREATE TABLE lot.closed (tenant_id text, n int);
	CREATE TABLE lot."Od d""; table" ("Ten ant" text, n int);
	INSERT INTO lot.item SELECT t, n FROM unnest('{1,2}'::text[]) t, generate_series(1, 3) n;
	INSERT INTO lot.part SELECT n, n % 2 + 1, date '2026-01-01' + n FROM generate_series(1, 300) n;
	INSERT INTO lot.base SELECT t, 1 FROM unnest('{1,2}'::text[]) t;
	INSERT INTO lot.child SELECT t, 1 FROM unnest('{1,2}'::text[]) t;
	INSERT INTO lot.own SELECT t, 1 FROM unnest('{1,2}'::int[]) t;
	INSERT INTO lot.closed SELECT t, 1 FROM unnest('{1,2}'::text[]) t;
	INSERT INTO lot."Od d""; table" SELECT t, 1 FROM unnest('{1,2}'::text[]) t;
	SELECT platpat.protect(t::regclass) FROM unnest('{lot.item,lot.part,lot.base,lot.own}'::text[]) t;
	SELECT platpat.protect('lot.closed');
	SELECT platpat.protect('lot.closed', access => false);
	SELECT platpat.protect('lot."Od d""; table"', 'Ten ant');
	CREATE VIEW lot.seen WITH (security_invoker) AS SELECT * FROM lot.item;
	GRANT USAGE ON SCHEMA crm, lot TO app;
	GRANT ALL ON ALL TABLES IN SCHEMA crm, lot TO app;
	RESET SESSION AUTHORIZATION;
	SET ROLE operator;
	BEGIN;
	SELECT platpat.as_admin('before the dump');
	COMMIT;});

# Everything about a database that decides on protection, as text.
sub state_of
{
	my ($dbname, $of) = @_;
	my $state = join "\n", map { ($of // $node)->safe_psql($dbname, $_) } (
		q{SELECT * FROM platpat.protections ORDER BY table_name::text},
		q{SELECT * FROM platpat.protected_schemas ORDER BY 1},
		q{SELECT * FROM platpat.protected_tables ORDER BY table_name::text},
		q{SELECT role_name, login_name, reason, statement_start FROM platpat.admin_log},
		q{SELECT polrelid::regclass::text, polname, polcmd, polpermissive, polroles::regrole[],
			pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
			FROM pg_policy ORDER BY 1, 2},
		q{SELECT oid::regclass::text, relrowsecurity, relforcerowsecurity, relowner::regrole, relacl,
			reloptions FROM pg_class WHERE relnamespace IN ('crm'::regnamespace, 'lot'::regnamespace) ORDER BY 1},
		q{SELECT attrelid::regclass::text, attname, attnotnull, pg_get_expr(adbin, adrelid)
			FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
			JOIN pg_class c ON c.oid = attrelid
			WHERE relnamespace IN ('crm'::regnamespace, 'lot'::regnamespace) AND attnum > 0 ORDER BY 1, 2},
		q{SELECT tgrelid::regclass::text, pg_get_triggerdef(oid), tgenabled FROM pg_trigger
			WHERE NOT tgisinternal ORDER BY 1, 2},
		q{SELECT schemaname, tablename, indexdef FROM pg_indexes
			WHERE schemaname IN ('crm', 'lot') ORDER BY indexdef},
		q{SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
			FROM pg_constraint WHERE connamespace IN ('crm'::regnamespace, 'lot'::regnamespace) ORDER BY 1, 2},
		q{SELECT evtname, evtevent, evtenabled, evtfoid::regproc, evttags FROM pg_event_trigger ORDER BY 1},
		q{SELECT has_function_privilege('operator', 'platpat.as_admin(text)', 'EXECUTE'),
			has_function_privilege('app', 'platpat.as_admin(text)', 'EXECUTE'),
			has_table_privilege('operator', 'platpat.admin_log', 'SELECT')},
		q{SELECT count(*) FROM crm.customer}, q{SELECT count(*) FROM crm.invoice},
		q{SELECT count(*) FROM lot.item}, q{SELECT tableoid::regclass, count(*) FROM lot.part GROUP BY 1 ORDER BY 1},
		q{SELECT tableoid::regclass, count(*) FROM lot.base GROUP BY 1 ORDER BY 1},
		q{SELECT count(*) FROM lot.own}, q{SELECT count(*) FROM lot.closed},
		q{SELECT count(*) FROM lot."Od d""; table"});
	return $state;
}

# Of each table the rows that an application sees as tenant 1, or the tenant's uuid.
sub seen_in
{
	my ($dbname, $of) = @_;

	return value_as(
		$of // $node, 'app', qq{BEGIN; SELECT platpat.set_tenant('1') \\g /dev/null
			SELECT (SELECT count(*) FROM lot.item), (SELECT count(*) FROM lot.part),
				(SELECT count(*) FROM lot.part_2_rest), (SELECT count(*) FROM lot.base),
				(SELECT count(*) FROM lot.child), (SELECT count(*) FROM lot.own),
				(SELECT count(*) FROM lot.closed), (SELECT count(*) FROM lot."Od d""; table"),
				(SELECT count(*) FROM lot.seen);
			COMMIT; BEGIN; SELECT platpat.set_tenant('$acme') \\g /dev/null
			SELECT (SELECT count(*) FROM crm.customer), (SELECT count(*) FROM crm.invoice)},
		dbname => $dbname);
}

my @connection = ('--host', $node->host, '--port', $node->port);

# A program that must succeed silently enough.
sub succeeds
{
	my ($name, @command) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ shift(@command), @connection, @command ],
		'<', \undef, '>', \$out, '2>', \$err);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($ok, $name) or diag("$out\n$err");
	return;
}

sub dump_text
{
	my ($name, $dbname, @options) = @_;

	succeeds($name, 'pg_dump', '--file', "$dir/$dbname.sql", @options, $dbname);
	# Since the releases of August 2025 dumps have random keys in them.
	return slurp_file("$dir/$dbname.sql") =~ s/^\\(?:un)?restrict .*$//gmr;
}

my $before = state_of('shop');
my $seen = seen_in('shop');
is($seen, "3|150|60|2|1|1|0|1|3\n5|5", 'an application sees what is its own');
is($node->safe_psql('shop', 'SELECT count(*) FROM platpat.protected_tables'), '13',
	'there is something to lose');
is($node->safe_psql('shop', 'SELECT count(*) FROM platpat.protected_tables
	WHERE NOT (protected AND tenant_default AND not_null AND tenant_index)'), '0', 'all of it intact');

# ------------------------------------------------------------------- restores

succeeds('pg_dump -Fc', 'pg_dump', '--format', 'custom', '--file', "$dir/shop.dump", 'shop');
my $text = dump_text('pg_dump', 'shop');
my %restores = (
	serial   => sub { succeeds('pg_restore', 'pg_restore', '--exit-on-error', '--dbname', $_[0], "$dir/shop.dump") },
	parallel => sub { succeeds('pg_restore -j4', 'pg_restore', '--exit-on-error', '--jobs', 4, '--dbname', $_[0], "$dir/shop.dump") },
	script   => sub { succeeds('psql', 'psql', '-XqAtv', 'ON_ERROR_STOP=1', '--file', "$dir/shop.sql", '--output', '/dev/null', $_[0]) },
	sections => sub {
		succeeds("pg_restore --section=$_", 'pg_restore', '--exit-on-error', '--section', $_, '--dbname', $_[0], "$dir/shop.dump")
		  for qw(pre-data data post-data) });
for my $how (sort keys %restores)
{
	$node->safe_psql('postgres', "CREATE DATABASE $how OWNER landlord");
	$restores{$how}->($how);
	is(state_of($how), $before, "$how: everything is as it was");
	is(seen_in($how), $seen, "$how: an application sees what is its own");
}
is(dump_text('dumping what was restored', 'serial'), $text, 'gives the same dump');

succeeds('pg_restore --clean over what is there', 'pg_restore', '--exit-on-error', '--clean',
	'--if-exists', '--dbname', 'parallel', "$dir/shop.dump");
is(state_of('parallel'), $before, 'clean: everything is as it was');

# It goes on protecting.
$node->safe_psql('serial', q{
	SET SESSION AUTHORIZATION landlord;
	CREATE TABLE crm.fresh (tenant_id uuid, n int);
	CREATE TABLE lot.part_3 PARTITION OF lot.part FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
	CREATE TABLE lot.grandchild () INHERITS (lot.child);});
is( $node->safe_psql('serial', q{
		SELECT string_agg(table_name::text, ',' ORDER BY table_name::text) FROM platpat.protected_tables
		WHERE protected AND tenant_default AND not_null
		AND table_name::text IN ('crm.fresh', 'lot.part_3', 'lot.grandchild')}),
	'crm.fresh,lot.grandchild,lot.part_3', 'new tables of a restored database are protected');
is(value_as($node, 'landlord', q{SELECT count(*) FROM platpat.protect('lot.closed')}, dbname => 'serial'),
	'0', 'a restored access => false is not undone');

# One table at a time; the policies come with it, the wish does not.
succeeds('pg_dump of one table', 'pg_dump', '--table', 'lot.item', '--file', "$dir/item.sql", 'shop');
$node->safe_psql('serial', 'DROP TABLE lot.item CASCADE');
succeeds('is restored', 'psql', '-XqAtv', 'ON_ERROR_STOP=1', '--file', "$dir/item.sql", '--output', '/dev/null', 'serial');
is(value_as($node, 'app', q{BEGIN; SELECT platpat.set_tenant('1') \g /dev/null
	SELECT count(*) FROM lot.item}, dbname => 'serial'), '3', 'and is closed');
is( $node->safe_psql('serial', q{SELECT platpat.protect('lot.item');
	SELECT access FROM platpat.protections WHERE table_name = 'lot.item'::regclass}),
	't', 'protect() has nothing to do but to remember it');

# -------------------------------------------------------------------- event log

# A projection that is behind, held up by a prepared transaction, goes on where
# it was, with nothing lost or applied twice: a worker looks into the database
# while it is being restored.
$node->safe_psql('postgres', 'CREATE DATABASE facts');
$node->safe_psql('facts', q{
	CREATE EXTENSION platpat;
	CREATE TABLE audit (position bigint PRIMARY KEY);
	CREATE FUNCTION note(first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO audit SELECT position FROM platpat.events WHERE position BETWEEN first AND last; END $$;
	CREATE FUNCTION handle(payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT payload';
	SELECT platpat.create_projection('audit', 'note(bigint, bigint)', read_models => '{audit}');
	SELECT platpat.create_command('handle', 'handle(jsonb)');
	SELECT platpat.execute_command('handle', '{"a": 1}', 'key');});
$node->safe_psql('facts', $_)
  for q{SELECT platpat.append_event('thing', i::text, 'made', '{}') FROM generate_series(1, 1000) i},
  q{SELECT platpat.wait_for_projection('audit', platpat.last_position(), '1 min')},
  q{SELECT platpat.ack_events('index', 5) FROM (SELECT count(*) FROM platpat.fetch_events('index', 5)) f},
  q{BEGIN; SELECT platpat.append_event('thing', 'held', 'made', '{}'); PREPARE TRANSACTION 'held'},
  q{SELECT platpat.append_event('thing', i::text, 'changed', '{}', 1) FROM generate_series(1, 1000) i};
is($node->safe_psql('facts', 'SELECT count(*) FROM audit'), '1000', 'half of the events are not applied');

sub facts_of
{
	my ($dbname, $of) = @_;
	return join "\n", map { ($of // $node)->safe_psql($dbname, $_) } (
		'SELECT * FROM platpat.events ORDER BY position', 'SELECT * FROM platpat.event_streams ORDER BY aggregateid',
		'SELECT * FROM platpat.projections', 'SELECT * FROM platpat.event_consumers', 'SELECT * FROM platpat.commands',
		'SELECT * FROM platpat.command_results', 'SELECT last_value FROM platpat.event_position');
}

# What must be true of a restored log, however it came there.
sub log_goes_on
{
	my ($dbname, $how, $of) = @_;
	my $to = $of // $node;

	is($to->safe_psql($dbname, q{SELECT platpat.wait_for_projection('audit', platpat.last_position(), '1 min')}),
		't', "$how: the projection goes on");
	is($to->safe_psql($dbname, 'SELECT count(*), count(e.position) FROM audit FULL JOIN platpat.events e USING (position)'),
		'2000|2000', "$how: with every event once");
	is($to->safe_psql($dbname, q{SELECT platpat.append_event('thing', '1', 'changed', '{}', 2) > 2001}), 't', "$how: and so does the log");
	is((run_as($to, 'postgres', q{SELECT platpat.execute_command('handle', '{"a": 2}', 'key')}, dbname => $dbname))[0],
		'22023', "$how: keys are remembered");
	is($to->safe_psql($dbname, q{SELECT min(position) FROM platpat.fetch_events('index')}), '6', "$how: consumers are");
	is((run_as($to, 'postgres', 'DELETE FROM platpat.events', dbname => $dbname))[0], '42501', "$how: it is append only");
	return;
}

my $facts = facts_of('facts');
succeeds('pg_dump of a log', 'pg_dump', '--format', 'custom', '--file', "$dir/facts.dump", 'facts');
for my $options ([], [ '--jobs', 4 ], ['--single-transaction'])
{
	my $how = "pg_restore @$options";
	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS again');
	$node->safe_psql('postgres', 'CREATE DATABASE again');
	succeeds($how, 'pg_restore', '--exit-on-error', @$options, '--dbname', 'again', "$dir/facts.dump");
	is(facts_of('again'), $facts, "$how: the log is as it was");
	log_goes_on('again', $how);
}
succeeds('pg_dump --inserts', 'pg_dump', '--inserts', '--file', "$dir/facts.sql", 'facts');
$node->safe_psql('postgres', 'DROP DATABASE again');
$node->safe_psql('postgres', 'CREATE DATABASE again');
succeeds('psql', 'psql', '-XqAtv', 'ON_ERROR_STOP=1', '--file', "$dir/facts.sql", '--output', '/dev/null', 'again');
log_goes_on('again', 'a script of INSERTs');
$node->safe_psql('postgres', 'DROP DATABASE again');
$node->safe_psql('facts', "ROLLBACK PREPARED 'held'");

# ---------------------------------------------------------------- who may dump

for my $role (qw(landlord app))
{
	my ($out, $err) = run_command(
		[ 'pg_dump', @connection, '--username', $role, '--table', 'lot.item', 'shop' ]);
	like($err, qr/query would be affected by row-level security policy for table "item"/,
		"$role is subject to policies and cannot dump");
	unlike($out, qr/^[12]\t/m, 'and gets no rows');
}
my ($out, $err) = run_command(
	[ 'pg_dump', @connection, '--username', 'app', '--enable-row-security', '--table', 'lot.item', 'shop' ]);
like($err, qr/no tenant is set/, 'without a tenant not even a part');
is(dump_text('a role with BYPASSRLS and pg_read_all_data dumps', 'shop', '--username', 'backup'),
	$text, 'the same as a superuser');

# --------------------------------------------------------------------- pg_upgrade

# It looks for libraries where LOAD does, and that does not follow
# dynamic_library_path; Debian's extension_destdir it follows.
if ($ENV{PLAT_CONF} =~ /extension_control_path/)
{
	note('pg_upgrade needs the library installed in the system');
	done_testing();
	exit;
}
$node->safe_psql('postgres', "DROP DATABASE $_") for keys %restores;
my $new = PostgreSQL::Test::Cluster->new('upgraded');
$new->init;
$new->append_conf('postgresql.conf', PlatTest::extension_conf(1));
$node->stop;
my $bindir = $new->config_data('--bindir');
my $log = '';
chdir $dir;
my $ok = IPC::Run::run(
	[
		'pg_upgrade', '--old-bindir', $bindir, '--new-bindir', $bindir,
		'--old-datadir', $node->data_dir, '--new-datadir', $new->data_dir,
		'--old-port', $node->port, '--new-port', $new->port,
		'--socketdir', PostgreSQL::Test::Utils::tempdir_short(), '--link'
	],
	'<', \undef, '>&', \$log);
ok($ok, 'pg_upgrade') or diag($log);
$new->start;
is(state_of('shop', $new), $before, 'upgraded: everything is as it was');
is(seen_in('shop', $new), $seen, 'upgraded: an application sees what is its own');
log_goes_on('facts', 'upgraded', $new);
$new->safe_psql('shop', 'CREATE TABLE crm.fresh (tenant_id uuid, n int)');
is( $new->safe_psql('shop', q{SELECT protected FROM platpat.protected_tables WHERE table_name = 'crm.fresh'::regclass}),
	't', 'and a new table is protected');
$new->stop;

done_testing();
