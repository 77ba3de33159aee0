# Installing gives nobody a way in: not through a schema, objects or files that
# were there before.  Uninstalling opens no table: it is refused while tables
# are protected, and when it is forced they show no rows.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('install', extension => 0);

sub sql
{
	my ($dbname, $sql) = @_;

	return $node->safe_psql($dbname, $sql);
}

# One assertion: a script of the superuser ends in this SQLSTATE.
sub refused
{
	my ($dbname, $sql, $state, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return refused_as($node, 'postgres', $sql, $state, $name, dbname => $dbname);
}

my $remains = q{SELECT (SELECT count(*) FROM pg_extension WHERE extname = 'platpat')
	+ (SELECT count(*) FROM pg_event_trigger)};

sql('postgres', q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE boss LOGIN SUPERUSER;
	CREATE ROLE app LOGIN;
	CREATE ROLE landlord LOGIN;
	CREATE DATABASE trap;
	CREATE DATABASE one;
	CREATE DATABASE two;
	GRANT CREATE ON DATABASE trap TO mallory;});

# ----------------------------------------------- a schema that was there before

value_as($node, 'mallory', 'CREATE SCHEMA platpat', dbname => 'trap');
refused('trap', 'CREATE EXTENSION platpat', '42501', 'a schema of another role is refused');
refused('trap', 'CREATE EXTENSION platpat SCHEMA platpat', '42501', 'named or not');
is(sql('trap', $remains), '0', 'and nothing remains');
sql('trap', 'ALTER SCHEMA platpat OWNER TO boss; CREATE EXTENSION platpat');
is(sql('trap', q{SELECT platpat.current_tenant_or_null() IS NULL}), 't',
	'a schema of another superuser will do');
sql('trap', 'DROP EXTENSION platpat; DROP SCHEMA platpat');
refused_as($node, 'mallory', 'CREATE EXTENSION platpat', '42501',
	'an ordinary role cannot install', dbname => 'trap');
refused('trap', 'CREATE EXTENSION platpat SCHEMA public', '0A000', 'the schema is fixed');

# ------------------------------------------------ objects that were there before

# Every name of the extension, made by a role that may create in the schema.
sql('one', 'CREATE EXTENSION platpat');
my @traps = split /\n/, sql('one', q{
	SELECT format('CREATE FUNCTION platpat.%I(%s) RETURNS int LANGUAGE sql AS ''SELECT 1''',
		p.proname, oidvectortypes(p.proargtypes))
	FROM pg_proc p WHERE p.pronamespace = 'platpat'::regnamespace
	UNION ALL
	SELECT format('CREATE %s platpat.%I %s', w.what, c.relname, w.rest)
	FROM pg_class c, (VALUES ('TABLE', '(i int)'), ('VIEW', 'AS SELECT 1'),
		('SEQUENCE', ''), ('TYPE', 'AS ENUM ()')) w(what, rest)
	WHERE c.relnamespace = 'platpat'::regnamespace AND c.relkind IN ('r', 'v')
	ORDER BY 1});
cmp_ok(scalar @traps, '>', 30, 'there are names to occupy');
sql('trap', 'CREATE SCHEMA platpat; GRANT CREATE, USAGE ON SCHEMA platpat TO mallory');
my @fallen;
for my $trap (@traps)
{
	my ($state, $out) = run_as($node, 'postgres', "BEGIN; SET ROLE mallory; $trap; RESET ROLE;
		SELECT 'set'; CREATE EXTENSION platpat", dbname => 'trap');
	push @fallen, "$state: $trap" if $out ne 'set' || $state !~ /^(42723|42P07|42710)$/;
}
none(\@fallen, 'an object of a name of ours makes the installation fail');
is(sql('trap', $remains), '0', 'and nothing remains');

# Names that do not collide, but that a careless script or our DDL would take
# for those of core or of ours, and so call as superuser.
my $steal = q{LANGUAGE plpgsql AS 'BEGIN PERFORM platpat.steal(); RETURN NULL; END'};
my @snares = (
	(map { "CREATE FUNCTION platpat.$_ $steal" }
		'check_install(varchar) RETURNS int',
		'check_install(anyelement) RETURNS int',
		'check_install(text, int DEFAULT 0) RETURNS int',
		'check_install(VARIADIC text[]) RETURNS int',
		'pg_extension_config_dump(regclass, text) RETURNS int',
		'pg_extension_config_dump(text, text) RETURNS int',
		'clock_timestamp() RETURNS timestamptz',
		'current_tenant(int DEFAULT 0) RETURNS text',
		'current_tenant(VARIADIC int[]) RETURNS text',
		'protect(text) RETURNS int',
		'protect(regclass, text DEFAULT NULL) RETURNS int'),
	(map { "CREATE FUNCTION platpat.same($_, $_) RETURNS boolean $steal;
			CREATE OPERATOR platpat.= (LEFTARG = $_, RIGHTARG = $_, FUNCTION = platpat.same)" }
		qw(oid name text regclass boolean)),
	(map { "CREATE DOMAIN platpat.$_ AS int CHECK (platpat.steal() IS NULL)" }
		qw(text name regclass boolean timestamptz uuid bigint)));
@fallen = ();
for my $snare (@snares)
{
	my (undef, $out, $err) = run_as($node, 'postgres', qq{BEGIN;
		SET LOCAL ROLE mallory;
		CREATE FUNCTION platpat.steal() RETURNS int LANGUAGE plpgsql AS
			\$\$BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN 1; END\$\$;
		$snare;
		RESET ROLE;
		SELECT 'set';
		SAVEPOINT s;
		CREATE EXTENSION platpat;
		SET LOCAL search_path = platpat, public;
		CREATE TABLE public.item (tenant_id pg_catalog.text);
		SELECT platpat.protect('public.item'::pg_catalog.regclass) \\g /dev/null
		SELECT count(*) FROM platpat.protected_tables WHERE protected;
		INSERT INTO public.item VALUES ('acme'), ('zeta');
		GRANT SELECT ON public.item TO app;
		SET LOCAL ROLE app;
		SELECT platpat.set_tenant('acme'::pg_catalog.text) \\g /dev/null
		SELECT * FROM public.item;
		RESET ROLE;
		SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}, dbname => 'trap');
	my ($state) = $err =~ /ERROR:  (\w+):/;
	# To fail because a call is ambiguous is as good as not to care.
	my $unharmed = $state ? "$state $out" eq '42725 set' : $out eq "set\n1\nacme\nf";
	push @fallen, ($state // '') . ", $out: $snare" if !$unharmed;
}
none(\@fallen, 'names that lie in wait beside ours are not called');

# ---------------------------------------------------------- not preloaded, files

my $lazy = new_node('lazy', preload => 0);
$lazy->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE TABLE item (tenant_id text);
	INSERT INTO item VALUES ('acme'), ('zeta');
	SELECT platpat.protect('item');
	GRANT SELECT ON item TO app;});
is(value_as($lazy, 'app', q{BEGIN; SELECT platpat.set_tenant('zeta') \g /dev/null
	SELECT * FROM item}), 'zeta', 'without preloading tenants are isolated too');
refused_as($lazy, 'app', 'SELECT * FROM item', '42501', 'also in the first statement of a session');
is( $lazy->safe_psql('postgres',
		q{SELECT value, hint IS NOT NULL FROM platpat.status() WHERE item = 'preloaded'}),
	'no|t', 'status() tells, with a hint');
is( sql('one', q{SELECT value, hint IS NOT NULL FROM platpat.status() WHERE item = 'preloaded'}),
	'yes|f', 'and is content with a preloaded one');
$lazy->stop;

refused('one', q{SELECT platpat.check_install('9.9.9')}, '55000',
	'a script of another version is refused');
SKIP:
{
	skip 'the extension is in the system', 2 if !$ENV{PLAT_DESTDIR};

	# The new files are there and the old library is loaded still.
	my $copy = PostgreSQL::Test::Utils::tempdir() . '/dest';
	PostgreSQL::Test::RecursiveCopy::copypath($ENV{PLAT_DESTDIR}, $copy);
	my ($dir) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--sharedir' ]);
	my $control = slurp_file("$copy$dir/extension/platpat.control");
	my ($version) = $control =~ /^default_version = '(.*)'/m;
	my $script = slurp_file("$copy$dir/extension/platpat--$version.sql");
	append_to_file("$copy$dir/extension/platpat--9.9.9.sql",
		$script =~ s/'\Q$version\E'/'9.9.9'/gr);
	append_to_file("$copy$dir/extension/platpat.control", "default_version = '9.9.9'\n");
	my $newer = new_node('newer', extension => 0, conf => $ENV{PLAT_CONF} =~ s/\Q$ENV{PLAT_DESTDIR}\E/$copy/gr);
	my ($state, undef, $err) = run_as($newer, 'postgres', 'CREATE EXTENSION platpat');
	is($state, '55000', 'as by CREATE EXTENSION with new files and an old library');
	like($err, qr/restart the server/, 'with a hint to restart');
	$newer->stop;
}

# ------------------------------------------------------------- several databases

sql('two', 'CREATE EXTENSION platpat');
for my $dbname (qw(one two))
{
	sql($dbname, q{
		CREATE TABLE item (tenant_id text, n int);
		INSERT INTO item VALUES ('acme', 1), ('zeta', 2);
		ALTER TABLE item OWNER TO landlord;
		CREATE TABLE part (tenant_id text, n int) PARTITION BY HASH (n);
		CREATE TABLE part_0 PARTITION OF part FOR VALUES WITH (MODULUS 1, REMAINDER 0);
		INSERT INTO part VALUES ('acme', 1), ('zeta', 2);
		CREATE TABLE own (tenant_id text, n int);
		CREATE POLICY everybody ON own USING (true);
		ALTER TABLE own ENABLE ROW LEVEL SECURITY;
		INSERT INTO own VALUES ('acme', 1), ('zeta', 2);
		GRANT ALL ON item, part, part_0, own TO app;});
}
my $protect = q{SELECT platpat.protect(t) FROM unnest('{item,part,own}'::regclass[]) t};
sql('one', $protect);
is(sql('one', 'SELECT count(*) FROM platpat.protected_tables WHERE protected'), '4',
	'protected in one database');
is(sql('two', 'SELECT count(*) FROM platpat.protected_tables'), '0', 'and not in the other');
sql('two', 'DROP EXTENSION platpat');
is(sql('one', 'SELECT count(*) FROM platpat.protected_tables WHERE protected'), '4',
	'dropped in one it stays in the other');
sql('two', "CREATE EXTENSION platpat; $protect");
is(sql('two', 'SELECT count(*) FROM platpat.protected_tables WHERE protected'), '4',
	'dropped and created again it works');

# ----------------------------------------------------------- refusing to go

refused('one', $_, '2BP01', "refused: $_")
  for (
	'DROP EXTENSION platpat',
	'DROP EXTENSION platpat CASCADE',
	'DROP EXTENSION IF EXISTS nothing, "platpat" CASCADE',
	'DROP SCHEMA platpat',
	'DROP SCHEMA platpat CASCADE',
	'CREATE SCHEMA other; DROP SCHEMA other, platpat CASCADE',
	q{DO $$ BEGIN DROP EXTENSION platpat CASCADE; END $$},
	q{DO $$ BEGIN EXECUTE 'DROP SCHEMA platpat CASCADE'; END $$},
	'DROP FUNCTION platpat.current_tenant() CASCADE',
	'DROP FUNCTION platpat.refuse_truncate() CASCADE',
	'DROP TABLE platpat.protections CASCADE',
	'DROP EVENT TRIGGER platpat_command_start');
refused('one', 'ALTER SCHEMA platpat RENAME TO other', '0A000', 'the schema keeps its name');
refused('one', 'ALTER EXTENSION platpat SET SCHEMA public', '0A000', 'and the extension its schema');
for my $role (qw(app landlord))
{
	refused_as($node, $role, 'DROP EXTENSION platpat CASCADE', '2BP01', "$role cannot drop it",
		dbname => 'one');
	refused_as($node, $role, 'SET platpat.allow_drop = on; DROP EXTENSION platpat CASCADE', '2BP01',
		"$role cannot force that", dbname => 'one');
}

# Owned by a superuser who can be dropped with everything.
sql('postgres', 'CREATE DATABASE bossy');
value_as($node, 'boss', "CREATE EXTENSION platpat; CREATE TABLE public.item (tenant_id text);
	SELECT platpat.protect('item'); CREATE TABLE public.plain ()", dbname => 'bossy');
refused('bossy', 'DROP OWNED BY boss CASCADE', '2BP01', 'DROP OWNED BY the owner is refused');
refused('bossy', 'DROP OWNED BY app, boss', '2BP01', 'among others too');
refused_as($node, 'boss', 'DROP OWNED BY CURRENT_USER', '2BP01', 'and by the owner itself',
	dbname => 'bossy');
refused('bossy', 'DROP ROLE boss', '2BP01', 'the owner cannot be dropped');
is(sql('bossy', q{DROP OWNED BY app; SELECT count(*) FROM platpat.protected_tables WHERE protected}),
	'1', 'DROP OWNED BY anybody else is not hindered');
sql('bossy', 'REASSIGN OWNED BY boss TO postgres; DROP OWNED BY boss');
is(sql('bossy', q{SELECT count(*) FROM platpat.protected_tables WHERE protected}),
	'1', 'nor by a former owner');

# -------------------------------------------------------- forced: closed, not open

my $counts = q{SELECT (SELECT count(*) FROM item), (SELECT count(*) FROM part),
	(SELECT count(*) FROM part_0)};
sub all_closed
{
	my ($dbname, $how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(value_as($node, 'app', $counts, dbname => $dbname), '0|0|0', "$how: an application sees no rows");
	is(value_as($node, 'landlord', 'SELECT count(*) FROM item', dbname => $dbname), '0',
		"$how: nor does the owner");
	refused_as($node, 'app', 'INSERT INTO item (n) VALUES (3)', '42501', "$how: nor can it write",
		dbname => $dbname);
	is(sql($dbname, $counts), '2|2|2', "$how: the rows are there");
	return;
}

sql('one', 'SET platpat.allow_drop = on; DROP EXTENSION platpat CASCADE');
is(sql('one', $remains), '0', 'dropped by force');
all_closed('one', 'DROP EXTENSION');
is(value_as($node, 'app', 'SELECT count(*) FROM own', dbname => 'one'), '2',
	'a table with a permissive policy of its own opens: that is why it takes force');
sql('one', "CREATE EXTENSION platpat; $protect");
is(value_as($node, 'app', qq{BEGIN; SELECT platpat.set_tenant('acme') \\g /dev/null\n$counts},
	dbname => 'one'), '0|0|0', 'created again and protected again they stay closed');
sql('one', $protect =~ s/\(t\)/(t, access => true)/r);
is(value_as($node, 'app', qq{BEGIN; SELECT platpat.set_tenant('acme') \\g /dev/null\n$counts},
	dbname => 'one'), '1|1|1', 'until access => true opens them to their tenants');
is(value_as($node, 'app', qq{BEGIN; SELECT platpat.set_tenant('acme') \\g /dev/null\nSELECT count(*) FROM own},
	dbname => 'one'), '1', 'for all of them');

sql('two', 'SET platpat.allow_drop = on; DROP SCHEMA platpat CASCADE');
is(sql('two', $remains), '0', 'the schema dropped by force');
all_closed('two', 'DROP SCHEMA');

refused('one', "ALTER TABLE $_ DROP COLUMN tenant_id", '2BP01', "the policies hold the tenant column of $_")
  for qw(item part);
sql('one', 'ALTER TABLE item DROP COLUMN tenant_id CASCADE; ALTER TABLE part DROP COLUMN tenant_id CASCADE');
all_closed('one', 'DROP COLUMN');
is( sql('one', q{SELECT string_agg(table_name::text, ',' ORDER BY table_name::text)
	FROM platpat.protected_tables WHERE NOT protected}),
	'item,part,part_0', 'protected_tables shows what is broken');
sql('one', 'DROP TABLE item, part');
is(sql('one', 'SELECT string_agg(table_name::text, \',\') FROM platpat.protected_tables'), 'own',
	'and forgets what is dropped');

sql('one', q{SELECT platpat.unprotect('own'); DROP EXTENSION platpat});
is(sql('one', $remains), '0', 'with no table protected it can be dropped');

done_testing();
