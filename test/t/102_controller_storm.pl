# Protected tables stay protected against their owner: he does all the damage
# that he can, in several sessions at once, while the worker and others repair
# it and an application goes on.  When he stops nothing is open.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

# PLAT_STORM is how many seconds the storm lasts.
my $seconds = $ENV{PLAT_STORM} || 60;
my $node = new_node('storm', conf => q(
log_line_prefix = '%m [%p] %b %e '
restart_after_crash = off
max_connections = 60
deadlock_timeout = 100ms
log_statement = none
log_min_error_statement = panic
));

sub query
{
	my ($sql, $dbname) = @_;

	return $node->safe_psql($dbname // 'postgres', $sql);
}

sub until_true
{
	my ($sql, $dbname) = @_;

	return if $node->poll_query_until($dbname // 'postgres', $sql);
	diag(query('SELECT controller, status, drift, failing, sqlstate, error FROM platpat.controller_status', $dbname));
	diag(query('SELECT * FROM platpat.controller_keys WHERE drifts', $dbname));
	diag(query('SELECT t.*, p, a FROM platpat.protected_tables t LEFT JOIN platpat.protections p USING (table_name) LEFT JOIN platpat.adopted_tables a USING (table_name) WHERE NOT protected', $dbname));
	die "never true: $sql";
}

# What is not as it shall be.
sub drift
{
	my ($dbname) = @_;

	return query(q(SELECT key, action, desired - 'x', actual FROM platpat.drift('protections')), $dbname);
}

my @tenants = map { { text => "t$_", bigint => $_, uuid => "00000000-0000-4000-8000-00000000000$_" } } 1 .. 3;

query(q(
CREATE ROLE landlord LOGIN;
CREATE ROLE app LOGIN;
CREATE SCHEMA lot AUTHORIZATION landlord;
GRANT USAGE ON SCHEMA lot TO app;
ALTER ROLE landlord SET lock_timeout = '2s';
ALTER ROLE app SET lock_timeout = '2s';
SET SESSION AUTHORIZATION landlord;
-- all tables of the storm: what is made anew is made in the same way
CREATE TABLE lot.plans (name text PRIMARY KEY, type text, ddl text);
INSERT INTO lot.plans
	SELECT 'plain_' || i, ty, format('CREATE TABLE lot.plain_%s (tenant_id %s, n int)', i, ty)
	FROM generate_series(1, 18) i, LATERAL (SELECT (ARRAY['text', 'bigint', 'uuid'])[i % 3 + 1] AS ty) t;
INSERT INTO lot.plans
	SELECT 'part_' || i, ty, format('CREATE TABLE lot.part_%1$s (tenant_id %2$s, n int) PARTITION BY RANGE (n);
		CREATE TABLE lot.part_%1$s_a PARTITION OF lot.part_%1$s FOR VALUES FROM (0) TO (10);
		CREATE TABLE lot.part_%1$s_b PARTITION OF lot.part_%1$s DEFAULT', i, ty)
	FROM generate_series(1, 6) i, LATERAL (SELECT (ARRAY['text', 'bigint', 'uuid'])[i % 3 + 1] AS ty) t;
INSERT INTO lot.plans
	SELECT 'base_' || i, ty, format('CREATE TABLE lot.base_%1$s (tenant_id %2$s, n int); CREATE TABLE lot.base_%1$s_a (more int) INHERITS (lot.base_%1$s)', i, ty)
	FROM generate_series(1, 6) i, LATERAL (SELECT (ARRAY['text', 'bigint', 'uuid'])[i % 3 + 1] AS ty) t;
CREATE FUNCTION lot.make(name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE p lot.plans;
BEGIN
	SELECT * INTO p FROM lot.plans t WHERE t.name = make.name;
	EXECUTE p.ddl;
	EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON lot.%I TO app', p.name);
	PERFORM platpat.protect(format('lot.%I', p.name)::regclass);
END $$;
SELECT lot.make(name) FROM lot.plans;
-- One damage of many, on a table by chance; what fails is nobody's harm.
CREATE FUNCTION lot.damage() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	p lot.plans;
	t text;
	what int := floor(random() * 24);
	command text;
	col text;
BEGIN
	SELECT * INTO p FROM lot.plans ORDER BY random() LIMIT 1;
	SELECT format('lot.%I', relname) INTO t FROM pg_class WHERE relnamespace = 'lot'::regnamespace AND relkind IN ('r', 'p')
		AND relname LIKE p.name || '%' ORDER BY random() LIMIT 1;
	IF t IS NULL THEN PERFORM lot.make(p.name); RETURN 'make'; END IF;
	SELECT attname INTO col FROM pg_attribute WHERE attrelid = t::regclass AND attnum = 1;
	command := CASE what
		WHEN 0 THEN format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', t)
		WHEN 1 THEN format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', t)
		WHEN 2 THEN format('DROP POLICY platpat_tenant ON %s', t)
		WHEN 3 THEN format('DROP POLICY platpat_access ON %s', t)
		WHEN 4 THEN format('ALTER POLICY platpat_tenant ON %s USING (true) WITH CHECK (true)', t)
		WHEN 5 THEN format('ALTER POLICY platpat_tenant ON %s TO landlord', t)
		WHEN 6 THEN format('ALTER POLICY platpat_tenant ON %s RENAME TO was_%s', t, floor(random() * 1000)::text)
		WHEN 7 THEN format('CREATE POLICY foreign_%s ON %s USING (true)', floor(random() * 1000)::text, t)
		WHEN 8 THEN format('ALTER POLICY platpat_access ON %s USING (true)', t)
		WHEN 9 THEN format('ALTER TABLE %s ALTER %I DROP DEFAULT', t, col)
		WHEN 10 THEN format('ALTER TABLE %s ALTER %I DROP NOT NULL', t, col)
		WHEN 11 THEN (SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index WHERE indrelid = t::regclass LIMIT 1)
		WHEN 12 THEN format('DROP TRIGGER platpat_truncate ON %s', t)
		WHEN 13 THEN format('ALTER TABLE %s DISABLE TRIGGER ALL', t)
		WHEN 14 THEN format('REVOKE TRIGGER ON %s FROM landlord', t)
		WHEN 15 THEN format('ALTER TABLE %s RENAME COLUMN %I TO %I', t, col, CASE col WHEN 'tenant_id' THEN 'owner_id' ELSE 'tenant_id' END)
		WHEN 16 THEN format('ALTER TABLE %s RENAME TO %I', t, p.name || '_' || floor(random() * 1000)::text)
		WHEN 17 THEN format('DROP TABLE %s', t)
		WHEN 18 THEN format('ALTER TABLE lot.%I DETACH PARTITION %s', p.name, t)
		WHEN 19 THEN format('CREATE TABLE lot.%I PARTITION OF lot.%I FOR VALUES FROM (%s) TO (%s)', p.name || '_' || floor(random() * 1000)::text, p.name, 10 + what, 11 + what)
		WHEN 20 THEN format('ALTER TABLE lot.%I ATTACH PARTITION %s DEFAULT', p.name, t)
		WHEN 21 THEN format('ALTER TABLE %s NO INHERIT lot.%I', t, p.name)
		WHEN 22 THEN format('ALTER TABLE %s INHERIT lot.%I', t, p.name)
		ELSE format('DROP POLICY platpat_tenant ON %s; DROP POLICY platpat_access ON %s; ALTER TABLE %s DISABLE ROW LEVEL SECURITY;
			ALTER TABLE %s DISABLE TRIGGER ALL; INSERT INTO %s (n) VALUES (1)', t, t, t, t, t) END;
	EXECUTE command;
	RETURN command;
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;
END $$;
-- Once in a while all is made anew, so that there is something to damage.
CREATE FUNCTION lot.renew() RETURNS void LANGUAGE plpgsql AS $$
DECLARE p lot.plans;
BEGIN
	SELECT * INTO p FROM lot.plans ORDER BY random() LIMIT 1;
	EXECUTE format('DROP TABLE IF EXISTS lot.%I CASCADE', p.name);
	PERFORM lot.make(p.name);
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
));
is(query('SELECT count(*) FROM platpat.protections'), 30, 'there are 30 protected tables');

my $dir = PostgreSQL::Test::Utils::tempdir();
my %scripts = (
	damage => "SELECT lot.damage();\n",
	undone => "BEGIN;\nSELECT lot.damage();\nSELECT lot.damage();\n\\sleep 5 ms\nROLLBACK;\n",
	long => "\\set ms random(1, 1500)\nBEGIN;\nSELECT lot.damage();\n\\sleep :ms ms\nCOMMIT;\n",
	several => "BEGIN;\nSELECT lot.damage();\nSELECT lot.damage();\nSELECT lot.damage();\nCOMMIT;\n",
	renew => "SELECT lot.renew();\n\\sleep 50 ms\n",
	reconcile => "SELECT count(*) FROM platpat.reconcile('protections');\n\\sleep 200 ms\n",
	drift => "SELECT count(*) FROM platpat.drift();\n\\sleep 100 ms\n",
	use => q(
\set i random(1, 18)
\set t random(1, 3)
SELECT lot.write(:i, :t);
\sleep 3 ms
));
append_to_file("$dir/$_.sql", $scripts{$_}) for keys %scripts;
# The application writes rows that say whose they are, and looks for others'.
query(q(
CREATE TABLE leaks (at timestamptz DEFAULT clock_timestamp(), name text, tenant text, seen bigint);
GRANT INSERT ON leaks TO app;
GRANT SELECT ON lot.plans TO app;
CREATE FUNCTION tenant_of(type text, t int) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT CASE type WHEN 'text' THEN 't' || t WHEN 'bigint' THEN t::text ELSE '00000000-0000-4000-8000-00000000000' || t END $$;
CREATE FUNCTION lot.write(i int, t int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE p lot.plans;
BEGIN
	SELECT * INTO p FROM lot.plans ORDER BY random() LIMIT 1;
	PERFORM platpat.set_tenant(tenant_of(p.type, t));
	EXECUTE format('INSERT INTO lot.%I (tenant_id, n) VALUES (%L, %s)', p.name, tenant_of(p.type, t), floor(random() * 20));
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
));

sub storm
{
	my ($role, $clients, @scripts) = @_;
	my %storm = (out => '');

	$storm{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', $clients, '-T', $seconds, '-U', $role, '--max-tries', 1000000,
			(map { ('-f', "$dir/$_") } @scripts), $node->connstr('postgres') ],
		'<', \undef, '>', \$storm{out}, '2>&1');
	return \%storm;
}
my $offset = -s $node->logfile;
my @storms = (
	storm('landlord', 5, 'damage.sql@10', 'undone.sql@3', 'several.sql@3', 'long.sql@1', 'renew.sql@2'),
	storm('app', 2, 'use.sql'),
	storm('postgres', 2, 'reconcile.sql', 'drift.sql'));
for (@storms)
{
	IPC::Run::finish($_->{run});
	note($_->{out} =~ /^(?:number of transactions actually processed|number of failed transactions).*$/mg);
	diag($_->{out}) if $_->{out} =~ /abort/;
}
is(scalar(grep { $_->{out} =~ /abort/ } @storms), 0, 'the storm is over');

# Nothing is open, after a while.
my $from = Time::HiRes::time;
until_true(q(SELECT bool_and(protected) FROM platpat.protected_tables t));
note(sprintf 'all tables are protected %.1f s after the storm', Time::HiRes::time - $from);
query(q(SELECT platpat.wake_controller('protections')));
until_true(q(SELECT count(*) = 0 FROM platpat.drift('protections') d WHERE NOT EXISTS
	(SELECT FROM platpat.controller_keys k WHERE k.controller = 'protections' AND k.key = d.key AND k.error IS NOT NULL)));
note(sprintf 'and complete after %.1f s', Time::HiRes::time - $from);
is(query(q(SELECT table_name FROM platpat.protected_tables WHERE NOT protected)), '', 'every table is protected');
my @failed = split /\n/, query(q(SELECT d.key || ': ' || k.error FROM platpat.drift('protections') d JOIN platpat.controller_keys k USING (key) WHERE k.controller = 'protections'));
note("$_\n") for @failed;
none([ grep { !/no tenant/ } @failed ], 'what is not complete has rows without a tenant');
cmp_ok(query('SELECT count(*) FROM platpat.protected_tables'), '>', 20, 'of which there are many');

# Canaries of every tenant in every table, and an application that looks.
query(q(
DO $$
DECLARE r record;
BEGIN
	FOR r IN SELECT t.table_name, t.tenant_column, format_type(a.atttypid, NULL) AS type FROM platpat.protected_tables t
		JOIN pg_attribute a ON a.attrelid = t.table_name AND a.attname = t.tenant_column
		JOIN pg_class c ON c.oid = t.table_name WHERE c.relkind = 'r' LOOP
		EXECUTE format('GRANT SELECT ON %s TO app', r.table_name);
		BEGIN
			EXECUTE format('INSERT INTO %s (%I, n) SELECT tenant_of(%L, t)::%s, 1 FROM generate_series(1, 3) t', r.table_name, r.tenant_column, r.type, r.type);
		EXCEPTION WHEN check_violation THEN NULL;
		END;
	END LOOP;
END $$;
CREATE FUNCTION look() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE r record; mine bigint; others bigint;
BEGIN
	FOR r IN SELECT t.table_name, t.tenant_column, format_type(a.atttypid, NULL) AS type FROM platpat.protected_tables t
		JOIN pg_attribute a ON a.attrelid = t.table_name AND a.attname = t.tenant_column WHERE has_table_privilege(t.table_name, 'SELECT') LOOP
		PERFORM platpat.set_tenant(tenant_of(r.type, 2));
		EXECUTE format('SELECT count(*) FILTER (WHERE %1$I::text = tenant_of(%2$L, 2)), count(*) FILTER (WHERE %1$I::text IS DISTINCT FROM tenant_of(%2$L, 2)) FROM %3$s',
			r.tenant_column, r.type, r.table_name) INTO mine, others;
		IF others > 0 THEN RETURN NEXT r.table_name || ' shows ' || others || ' rows of others'; END IF;
		IF mine > 0 THEN RETURN NEXT 'mine'; END IF;
	END LOOP;
END $$;
));
query('ALTER ROLE app SET platpat.tenant_switching = free');
my @seen = split /\n/, value_as($node, 'app', 'SELECT look()');
none([ grep { $_ ne 'mine' } @seen ], 'a tenant sees no row of another one');
cmp_ok(scalar(@seen), '>', 20, 'but its own');
my $log = slurp_file($node->logfile, $offset);
none([ $log =~ /^.*(?:PANIC|TRAP|XX000|terminated by signal).*$/mg ], 'the log has no error that nobody should see');
my $deadlocks = () = $log =~ /deadlock detected/g;
note("$deadlocks deadlocks");
cmp_ok($deadlocks, '<', 5 * $seconds, 'and no storm of deadlocks');

# ---------------------------------------------------------- one damage at a time

query(q(DROP SCHEMA lot CASCADE));
query(q(CREATE SCHEMA calm AUTHORIZATION landlord; SET SESSION AUTHORIZATION landlord;
CREATE TABLE calm.t (tenant_id text, n int);
CREATE TABLE calm.other (tenant_id text, n int);
SELECT platpat.protect('calm.t'), platpat.protect('calm.other')));
my $owner = PlatSession->of($node, 'landlord');
my $watcher = PlatSession->of($node, 'postgres');
my @damages = ('ALTER TABLE calm.t DISABLE ROW LEVEL SECURITY', 'DROP POLICY platpat_tenant ON calm.t', 'ALTER POLICY platpat_tenant ON calm.t USING (true)',
	'ALTER TABLE calm.t NO FORCE ROW LEVEL SECURITY', 'DROP TRIGGER platpat_truncate ON calm.t');
my $count = $ENV{PLAT_STORM} ? 40 : 200;
my @times;
for my $i (0 .. $count - 1)
{
	$owner->ask($damages[ $i % @damages ]);
	my $start = Time::HiRes::time;
	until ($watcher->ask(q(SELECT protected FROM platpat.protected_tables WHERE table_name = 'calm.t'::regclass)) eq 't')
	{
		last if Time::HiRes::time - $start > 30;
	}
	push @times, Time::HiRes::time - $start;
}
@times = sort { $a <=> $b } @times;
note(sprintf 'from damage to repair: p50 %.1f ms, p99 %.1f ms, at most %.1f ms', map { 1000 * $_ } $times[ @times / 2 ], $times[ @times * 0.99 ], $times[-1]);
cmp_ok($times[-1], '<', 30, "each of $count damages is repaired");

# Rows that keep a table from being complete do not keep it open.
$owner->ask(q(ALTER TABLE calm.t ALTER tenant_id DROP NOT NULL; ALTER TABLE calm.t DISABLE TRIGGER ALL));
my $open = q(BEGIN; ALTER TABLE calm.t ALTER tenant_id DROP NOT NULL; ALTER TABLE calm.t DISABLE ROW LEVEL SECURITY; %s; COMMIT);
my %obstacles = (
	'a row without a tenant' => [ q(INSERT INTO calm.t VALUES (NULL, 1)), qr/has no tenant/ ],
	'a tenant too long for an index' => [ q(DELETE FROM calm.t; DROP INDEX calm.t_tenant_id_idx; ALTER TABLE calm.t ALTER tenant_id SET STORAGE EXTERNAL; INSERT INTO calm.t VALUES (repeat('x', 10000), 1)), qr/index row/ ],
	'a column of another type' => [ q(DELETE FROM calm.t; DROP POLICY platpat_tenant ON calm.t; DROP POLICY platpat_access ON calm.t; ALTER TABLE calm.t ALTER tenant_id DROP DEFAULT, ALTER tenant_id TYPE numeric USING 1), qr/type is numeric|cannot protect/ ],
	'a column that is gone' => [ q(DROP POLICY IF EXISTS platpat_tenant ON calm.t; DROP POLICY IF EXISTS platpat_access ON calm.t; ALTER TABLE calm.t DROP tenant_id CASCADE), qr/does not exist/ ]);
for my $name ('a row without a tenant', 'a tenant too long for an index', 'a column of another type', 'a column that is gone')
{
	my ($sql, $expected) = @{ $obstacles{$name} };
	my $answer = $owner->ask("ALTER TABLE calm.t DISABLE ROW LEVEL SECURITY; $sql; ALTER TABLE calm.t DISABLE ROW LEVEL SECURITY");
	is($answer =~ /ERROR/ ? $answer . $owner->said : '', '', "the owner brings about $name");
	until_true(q(SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'calm.t'::regclass));
	until_true(q(SELECT error IS NOT NULL FROM platpat.controller_keys WHERE controller = 'protections' AND key = 'calm.t'));
	like(query(q(SELECT error FROM platpat.controller_keys WHERE controller = 'protections' AND key = 'calm.t')), $expected, 'which leaves the table closed, and is told');
}

# Nor does a table that somebody keeps locked keep others open.
$owner->ask('BEGIN; LOCK TABLE calm.t');
query('ALTER TABLE calm.other DISABLE ROW LEVEL SECURITY');
until_true(q(SELECT relrowsecurity FROM pg_class WHERE oid = 'calm.other'::regclass));
pass('one table that is locked for long does not keep another one open');
is(query(q(SELECT actual FROM platpat.protection_specs() WHERE key = 'calm.t')), '{"locked": "by another session"}', 'nor anybody from looking');
$owner->ask('COMMIT; DROP TABLE calm.t');
until_true(q(SELECT status = 'Ready' FROM platpat.controller_status WHERE controller = 'protections'));
pass('in the end all is well');
$_->quit for $owner, $watcher;

# ------------------------------------------------------------------ many tables

query(q(CREATE SCHEMA many));
query(q(DO $$ BEGIN
	FOR i IN 1 .. 1000 LOOP
		EXECUTE format('CREATE TABLE many.t%s (tenant_id bigint, n int)', i);
		PERFORM platpat.protect(format('many.t%s', i)::regclass);
		IF i % 100 = 0 THEN COMMIT; END IF;
	END LOOP; END $$));
until_true(q(SELECT keys = 1001 AND status = 'Ready' FROM platpat.controller_status WHERE controller = 'protections'));
is(drift(), '', 'a thousand tables are as they shall be');
my $session = PlatSession->of($node, 'postgres');
my $pid = $session->ask('SELECT pg_backend_pid()');
sub cpu { my @stat = split ' ', slurp_file("/proc/$pid/stat") =~ s/^.*\) //sr; return ($stat[11] + $stat[12]) / 100; }
is($session->ask(q(SELECT * FROM platpat.reconcile('protections'))), '', 'a pass finds nothing');
my $used = cpu();
$session->ask(q(SELECT * FROM platpat.reconcile('protections'))) for 1 .. 5;
note(sprintf 'a pass over 1000 tables takes %.0f ms of CPU', (cpu() - $used) * 1000 / 5);
query('ALTER TABLE many.t500 DISABLE ROW LEVEL SECURITY');
$from = Time::HiRes::time;
until_true(q(SELECT relrowsecurity FROM pg_class WHERE oid = 'many.t500'::regclass));
note(sprintf 'and one damage among them is repaired after %.0f ms', (Time::HiRes::time - $from) * 1000);
is(query(q(SELECT count(*) FROM platpat.protected_tables WHERE protected)), 1001, 'one damage among them is repaired');
$session->quit;

$node->stop;
done_testing();
