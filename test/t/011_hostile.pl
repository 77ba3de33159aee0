# An application role cannot choose, forge or leave a tenant but through
# set_tenant(), cannot change how tenants are judged, and cannot work across
# tenants unless a superuser has granted that; whoever may leaves a trace.
# With the library preloaded and without.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatSession;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

# What an application would like to have, by setting.
my %wish = (
	'platpat.tenant'            => 'zeta',
	'platpat.on_missing_tenant' => 'empty',
	'platpat.tenant_switching'  => 'free',
	'platpat.tenant_type'       => 'bigint',
	'platpat.session_tenant'    => 'off',
	'platpat.allow_bypass_role' => 'on',
	'platpat.allow_drop'        => 'on');

my %setting_default = (
	'platpat.tenant'            => '',
	'platpat.on_missing_tenant' => 'error',
	'platpat.tenant_switching'  => 'locked',
	'platpat.tenant_type'       => 'text',
	'platpat.session_tenant'    => 'on',
	'platpat.allow_bypass_role' => 'off',
	'platpat.allow_drop'        => 'off');

my $seen = q{SELECT coalesce(string_agg(DISTINCT tenant_id, ',' ORDER BY tenant_id), 'nothing') FROM item};

sub hostile_node
{
	my ($name, %opt) = @_;
	my $node = new_node($name, %opt, conf => q(log_line_prefix = '%m [%p] %e '));

	$node->safe_psql('postgres', q{
		CREATE ROLE app LOGIN;
		CREATE ROLE acme_bi LOGIN;
		ALTER ROLE acme_bi SET platpat.tenant = 'acme';
		CREATE ROLE pooled LOGIN;
		ALTER ROLE pooled SET platpat.session_tenant = off;
		CREATE ROLE landlord LOGIN;
		CREATE DATABASE shop OWNER landlord;
		GRANT CREATE ON SCHEMA public TO app;
		CREATE TABLE item (tenant_id text, n int);
		INSERT INTO item VALUES ('acme', 1), ('zeta', 2);
		SELECT platpat.protect('item');
		GRANT SELECT, INSERT, UPDATE, DELETE ON item TO PUBLIC;});
	return $node;
}

# The answer to a script at a login with these options, or the SQLSTATE with
# which the server refused the login.
sub at_login
{
	my ($node, $role, $options, $script) = @_;
	my $offset = -s $node->logfile;
	my $answer = eval {
		local $ENV{PGOPTIONS} = $options;
		PlatSession->of($node, $role)->ask($script);
	};

	return $answer if defined $answer;
	my ($state) = slurp_file($node->logfile, $offset) =~ / (\w{5}) FATAL:/;
	return "FATAL $state";
}

my $loaded = hostile_node('loaded');
my $lazy = hostile_node('lazy', preload => 0);

# -------------------------------------------------------------- the settings

# One statement each; %s are the setting and the value.
my @attempts = (
	'SET %s = %s',
	'SET LOCAL %s = %s',
	q{SELECT set_config('%s', '%s', false)},
	q{SELECT set_config('%s', '%s', true)},
	'ALTER ROLE app SET %s = %s',
	'ALTER ROLE app IN DATABASE postgres SET %s = %s',
	'ALTER ROLE ALL SET %s = %s',
	'ALTER DATABASE postgres SET %s = %s',
	'ALTER SYSTEM SET %s = %s',
	'CREATE FUNCTION pg_temp.f() RETURNS int SET %s = %s LANGUAGE sql RETURN 1',
	'ALTER FUNCTION mine() SET %s = %s');

$loaded->safe_psql('postgres',
	'SET ROLE app; CREATE FUNCTION mine() RETURNS text LANGUAGE sql RETURN platpat.current_tenant()');
my $app = PlatSession->of($loaded, 'app');
for my $setting (sort keys %wish)
{
	is(join(', ', grep { $app->ask(sprintf($_, $setting, $wish{$setting})) ne 'ERROR 42501' } @attempts),
		'', "an application role has no way to set $setting");
	is($app->ask("SHOW $setting"), $setting_default{$setting}, "and it keeps its default");
	is(at_login($loaded, 'app', "-c $setting=$wish{$setting}", 'SELECT 1'),
		'FATAL 42501', "$setting in the options of the connection refuses the login");
}
is($app->ask('RESET platpat.tenant'), 'ERROR 42501', 'nor can it RESET one');
is( PlatSession->of($loaded, 'landlord')
	  ->ask('ALTER DATABASE shop SET platpat.tenant = zeta'),
	'ERROR 42501', 'the owner of a database cannot bind it to a tenant');
is($app->ask('SELECT mine()'), 'ERROR 42501', 'after all that there is no tenant');

# While the library is not there anybody can make placeholders of these names.
for my $setting (sort keys %wish)
{
	my $after = "SELECT platpat.current_tenant_or_null() \\g /dev/null\nSHOW $setting";
	my @taken;

	for my $attempt (@attempts[0 .. 3])
	{
		my $session = PlatSession->of($lazy, 'app');
		$session->ask('BEGIN; ' . sprintf($attempt, $setting, $wish{$setting}));
		push @taken, "$attempt inside" if $session->ask($after) ne $setting_default{$setting};
		$session->ask('COMMIT');
		push @taken, $attempt if $session->ask($after) ne $setting_default{$setting};
	}
	is("@taken", '', "a placeholder of $setting from before does not become the setting");
	is(at_login($lazy, 'app', "-c $setting=$wish{$setting}", $after),
		$setting_default{$setting}, 'nor does one in the options of the connection');
	is( join(', ', grep {
			PlatSession->of($lazy, 'app')->ask(sprintf($_, $setting, $wish{$setting})) ne 'ERROR 42501' }
			  @attempts[4 .. 9]),
		'', "nobody can store $setting before the library is there");
}
my $lazy_app = PlatSession->of($lazy, 'app');
$lazy_app->ask('SET platpat.tenant = acme');
is($lazy_app->ask($seen), 'ERROR 42501', 'a policy does not read a placeholder');
is($lazy_app->ask('SET platpat.tenant = acme'), 'ERROR 42501',
	'once the library is there the setting is refused');
is( PlatSession->of($lazy, 'landlord')
	  ->ask('ALTER DATABASE shop SET platpat.tenant = zeta'),
	'ERROR 42501', 'the owner of a database cannot bind it, the library not loaded');

for my $node ($loaded, $lazy)
{
	my $name = $node->name;

	is(PlatSession->of($node, 'app')->ask('SET SESSION AUTHORIZATION acme_bi'),
		'ERROR 42501', "$name: an application role cannot become another one");

	# -------------------------------------------------------- bound roles
	my $bound = PlatSession->of($node, 'acme_bi');
	is($bound->ask($seen), 'acme', "$name: a bound role begins with its tenant");
	is($bound->ask("SELECT platpat.set_tenant('zeta')"), 'ERROR 42501',
		"$name: set_tenant cannot leave it");
	is($bound->ask("SELECT platpat.set_tenant('zeta', false)"), 'ERROR 42501',
		"$name: nor for the session");
	is($bound->ask("BEGIN; SELECT platpat.set_tenant('acme'); COMMIT"), 'acme',
		"$name: set_tenant may name it");
	is($bound->ask("UPDATE item SET tenant_id = 'zeta'"), 'ERROR 42501',
		"$name: it cannot write to another tenant");
	for my $way ('SELECT platpat.reset_tenant()', 'RESET ALL', 'DISCARD ALL',
		'BEGIN; RESET ALL; COMMIT', 'SET platpat.tenant = zeta',
		'RESET platpat.tenant', 'RESET SESSION AUTHORIZATION', 'RESET ROLE',
		'ALTER ROLE acme_bi RESET platpat.tenant', 'ALTER ROLE acme_bi RESET ALL')
	{
		$bound->ask($way);
		is($bound->ask($seen), 'acme', "$name: still bound after $way");
	}
	is(PlatSession->of($node, 'acme_bi')->ask($seen), 'acme',
		"$name: and at the next login");
	is( PlatSession->of($node, 'acme_bi')
		  ->ask("SET platpat.tenant = 'zeta' \\g /dev/null\n$seen"),
		$name eq 'lazy' ? 'acme' : 'ERROR 42501',
		"$name: setting it before anything else does not help");

	# The options of the connection outrank settings of roles.
	my $refused = $name eq 'lazy' ? 'ERROR 42501' : 'FATAL 42501';
	is(at_login($node, 'acme_bi', '-c platpat.tenant=zeta', "SELECT platpat.set_tenant('zeta')"),
		$refused, "$name: options of the connection do not unbind a role");
	is(at_login($node, 'pooled', '-c platpat.session_tenant=on', "SELECT platpat.set_tenant('zeta', false)"),
		$refused, "$name: nor give it the tenant of the session");

	$node->safe_psql('postgres', q{ALTER DATABASE shop SET platpat.tenant = 'acme'});
	$node->safe_psql('shop', 'CREATE EXTENSION platpat');
	my $shop = PlatSession->of($node, 'app', 'shop');
	is($shop->ask('SELECT platpat.current_tenant()'), 'acme', "$name: a bound database");
	is($shop->ask("SELECT platpat.set_tenant('zeta')"), 'ERROR 42501',
		"$name: binds whoever connects to it");
	is( PlatSession->of($node, 'landlord', 'shop')
		  ->ask('ALTER DATABASE shop RESET platpat.tenant'),
		'ERROR 42501', "$name: its owner cannot unbind it");
	is( PlatSession->of($node, 'landlord', 'shop')
		  ->ask('ALTER DATABASE shop RESET ALL'),
		'', "$name: RESET ALL of the owner");
	is(PlatSession->of($node, 'app', 'shop')->ask('SELECT platpat.current_tenant()'),
		'acme', "$name: leaves it bound");
}

# ------------------------------- wrappers, and roles that policies do not bind

my $node = $loaded;
my $sql = sub { $node->safe_psql('postgres', @_) };

$sql->(q{
	CREATE ROLE operator LOGIN;
	CREATE ROLE other_operator LOGIN;
	CREATE ROLE auditor LOGIN BYPASSRLS;
	GRANT app TO auditor, operator;
	SELECT platpat.grant_admin('operator');
	GRANT CREATE ON SCHEMA public TO operator;
	CREATE FUNCTION act_for(text) RETURNS text SECURITY DEFINER
		LANGUAGE sql AS 'SELECT platpat.set_tenant($1)';
	CREATE FUNCTION root_admin() RETURNS void SECURITY DEFINER
		LANGUAGE sql AS $$SELECT platpat.as_admin('by a superuser')$$;
	SET ROLE app;
	CREATE FUNCTION app_act_for(text) RETURNS text SECURITY DEFINER
		LANGUAGE sql AS 'SELECT platpat.set_tenant($1)';
	SET ROLE operator;
	CREATE FUNCTION operator_admin() RETURNS void SECURITY DEFINER
		LANGUAGE sql AS $$SELECT platpat.as_admin('by the operator')$$;});

$app = PlatSession->of($node, 'app');
is($app->ask("BEGIN; SELECT act_for('acme') \\g /dev/null\n$seen; COMMIT"), 'acme',
	'a wrapper of a superuser sets the tenant of its caller');
is($app->ask($seen), 'ERROR 42501', 'for the transaction');
refused_as($node, 'postgres', "SELECT app_act_for('acme')", '42501',
	'a wrapper does not make its superuser caller subject to policies');
for my $role (qw(postgres auditor))
{
	my ($state, undef, $err) = run_as($node, $role, "SELECT platpat.set_tenant('acme')");
	is($state, '42501', "$role bypasses row security and cannot act for a tenant");
	like($err, qr/^HINT: .*SET ROLE/m, 'the hint names SET ROLE');
	is(value_as($node, $role, "BEGIN; SET LOCAL ROLE app; SELECT platpat.set_tenant('acme'); $seen"),
		"acme\nacme", "$role can after SET ROLE");
}
is( value_as($node, 'postgres',
		"SET SESSION AUTHORIZATION app; BEGIN; SELECT platpat.set_tenant('acme'); $seen"),
	"acme\nacme", 'or as another session user');
is( value_as($node, 'postgres',
		"SET platpat.allow_bypass_role = on; SELECT platpat.set_tenant('acme')"),
	'acme', 'platpat.allow_bypass_role lifts that');

# ------------------------------------------------ who may work across tenants

refused_as($node, 'app', q{SELECT platpat.as_admin('curious')}, '42501',
	'as_admin without a grant');
for my $wrapper (qw(root_admin operator_admin))
{
	refused_as($node, $_, "SELECT $wrapper()", '42501',
		"as_admin in a SECURITY DEFINER function, called by $_: $wrapper")
	  for qw(app operator);
}
refused_as($node, 'operator', $_, '42501', "the operator has no way in: $_")
  for (
	'SET ROLE platpat_admin',
	'SET SESSION AUTHORIZATION platpat_admin',
	'GRANT platpat_admin TO operator',
	'GRANT platpat_admin TO app',
	'ALTER ROLE platpat_admin LOGIN',
	q{SELECT platpat.grant_admin('app')},
	'GRANT EXECUTE ON FUNCTION platpat.as_admin(text) TO app; SET ROLE app; SELECT platpat.as_admin(\'x\')');
is(at_login($node, 'operator', '-c role=platpat_admin', 'SELECT 1') =~ /(42501)/ ? $1 : 'in',
	'42501', 'nor through the options of the connection');
is(at_login($node, 'platpat_admin', '', 'SELECT 1'), 'FATAL 28000', 'nor by logging in');
refused_as($node, 'operator', 'SELECT platpat.as_admin(NULL)', '22004', 'a reason is needed');
refused_as($node, 'operator', q{SELECT platpat.as_admin(E' \n')}, '22004', 'that says something');

my $operator = PlatSession->of($node, 'operator');
my $admin = q{SELECT platpat.as_admin('repair 7') \g /dev/null};
my $offset = -s $node->logfile;
is($operator->ask("BEGIN; $admin\n$seen; COMMIT"), 'acme,zeta', 'as_admin opens all tenants');
is($operator->ask('TABLE platpat.admin_log') =~ s/^[^|]*\|(.*)\|.*$/$1/r,
	'operator|operator|repair 7', 'and leaves a row');
my $log = slurp_file($node->logfile, $offset);
like($log, qr/LOG:  role "operator" \(logged in as "operator"\) works across tenants/,
	'and a line in the server log');
like($log, qr/DETAIL:  Reason: repair 7/, 'with the reason');

$offset = -s $node->logfile;
$operator->ask("BEGIN; SELECT platpat.as_admin('secretly'); ROLLBACK");
is($operator->ask(q{SELECT count(*) FROM platpat.admin_log WHERE reason = 'secretly'}),
	'0', 'the row is undone with the transaction');
like(slurp_file($node->logfile, $offset), qr/DETAIL:  Reason: secretly/,
	'the line in the server log stays');
is( value_as($node, 'postgres',
		"SET SESSION AUTHORIZATION operator; BEGIN; $admin\nSELECT current_user"),
	'platpat_admin', 'the outer user counts, not who has logged in');
like(value_as($node, 'postgres',
		"SET ROLE operator; BEGIN; $admin\nCOMMIT; SELECT role_name, login_name FROM platpat.admin_log ORDER BY logged_at DESC LIMIT 1"),
	qr/^operator\|postgres$/, 'both are written down');

# What the administrator can read and write it cannot read and write here.
refused_as($node, 'operator', "BEGIN; $admin\n$_", '42501', "as administrator: $_")
  for (
	q{UPDATE platpat.admin_log SET reason = 'tea'},
	'DELETE FROM platpat.admin_log',
	'TRUNCATE platpat.admin_log',
	q{INSERT INTO platpat.admin_log VALUES (now(), 'app', 'app', 'framed', now())},
	'WITH gone AS (DELETE FROM platpat.admin_log RETURNING 1) SELECT count(*) FROM gone',
	"COPY platpat.admin_log FROM STDIN;\n\\.",
	'MERGE INTO platpat.admin_log l USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE',
	'ALTER TABLE platpat.admin_log DISABLE TRIGGER ALL',
	'DROP TABLE platpat.admin_log CASCADE',
	'SET LOCAL session_replication_role = replica',
	'DELETE FROM platpat.protections',
	q{INSERT INTO platpat.protections VALUES ('item', 'n', true)},
	'UPDATE platpat.protections SET access = false',
	'TRUNCATE platpat.protections',
	'DELETE FROM platpat.protected_schemas',
	q{INSERT INTO platpat.protected_schemas VALUES ('public', 'n')},
	q{SELECT * FROM platpat.unprotect('item')},
	'TRUNCATE item',
	'DROP TABLE item',
	'ALTER TABLE item NO FORCE ROW LEVEL SECURITY',
	'CREATE ROLE mine',
	'SET ROLE postgres',
	'SET ROLE app',
	'RESET ROLE',
	'SET SESSION AUTHORIZATION postgres',
	'RESET SESSION AUTHORIZATION');

# --------------------------------------------------------------- and it ends

# After each of these the operator is the operator, and no tenant is open.
my %ends = (
	'COMMIT' => "BEGIN; $admin\nCOMMIT",
	'ROLLBACK' => "BEGIN; $admin\nROLLBACK",
	'a statement of its own' => $admin,
	'an error' => "BEGIN; $admin\nSELECT 1 / 0; ROLLBACK",
	'COMMIT after an error' => "BEGIN; $admin\nSELECT 1 / 0; COMMIT",
	'ROLLBACK TO' => "BEGIN; SAVEPOINT s; $admin\nROLLBACK TO s",
	'ROLLBACK TO and COMMIT' => "BEGIN; SAVEPOINT s; $admin\nROLLBACK TO s; COMMIT",
	'ROLLBACK TO over a released savepoint' =>
	  "BEGIN; SAVEPOINT s; SAVEPOINT t; $admin\nRELEASE t; ROLLBACK TO s",
	'COMMIT AND CHAIN' => "BEGIN; $admin\nCOMMIT AND CHAIN",
	'ROLLBACK AND CHAIN' => "BEGIN; $admin\nROLLBACK AND CHAIN",
	'PREPARE TRANSACTION' => "BEGIN; $admin\nPREPARE TRANSACTION 'p'",
	'a DO block' => q{DO $$ BEGIN PERFORM platpat.as_admin('block'); END $$},
	'an error in a DO block' =>
	  q{DO $$ BEGIN PERFORM platpat.as_admin('block'); PERFORM 1 / 0; END $$},
	'an exception block' => q{BEGIN; DO $$ BEGIN
			PERFORM platpat.as_admin('block'); PERFORM 1 / 0;
		EXCEPTION WHEN division_by_zero THEN END $$},
	'COMMIT in a DO block' => q{DO $$ BEGIN
			PERFORM platpat.as_admin('block'); COMMIT;
			IF current_user <> 'operator' THEN RAISE 'still %', current_user; END IF;
		END $$},
	'ROLLBACK in a DO block' => q{DO $$ BEGIN
			PERFORM platpat.as_admin('block'); ROLLBACK;
			IF current_user <> 'operator' THEN RAISE 'still %', current_user; END IF;
		END $$},
	'COMMIT in a procedure' => 'CALL work()',
	'two calls' => "BEGIN; $admin\n$admin\nCOMMIT");

$operator->ask(q{CREATE PROCEDURE work() LANGUAGE plpgsql AS $$ BEGIN
	FOR i IN 1 .. 2 LOOP
		PERFORM platpat.as_admin('batch ' || i);
		IF (SELECT count(*) FROM item) <> 2 THEN RAISE 'rows are missing'; END IF;
		COMMIT;
		IF current_user <> 'operator' THEN RAISE 'still %', current_user; END IF;
	END LOOP; END $$});
for my $end (sort keys %ends)
{
	my $answer = $operator->ask($ends{$end});
	is($answer, $end =~ /error/ ? 'ERROR 22012' : '', "as_admin, then $end");
	is($operator->ask('SELECT current_user'), 'operator', 'the role is the caller again');
	is($operator->ask($seen), 'ERROR 42501', 'and no tenant is open');
	$operator->ask('ROLLBACK');
}
is($operator->ask("COMMIT PREPARED 'p'"), '', 'whoever has prepared it may commit it');
$sql->(q{ROLLBACK PREPARED 'p'}) if $sql->('SELECT count(*) FROM pg_prepared_xacts');

is( $operator->ask("BEGIN; SAVEPOINT s; $admin\nSAVEPOINT t; SELECT 1 / 0; ROLLBACK TO t; $seen; RELEASE s; $seen; COMMIT"),
	'ERROR 22012', 'an error after a later savepoint');
is( $operator->ask("BEGIN; SAVEPOINT s; $admin\nSAVEPOINT t; ROLLBACK TO t; $seen; RELEASE s; $seen; COMMIT"),
	"acme,zeta\nacme,zeta", 'ROLLBACK TO a later savepoint does not end it');

# Privileges dropped after a call that was undone stay dropped.
is( $operator->ask("BEGIN; SAVEPOINT s; $admin\nROLLBACK TO s; SET ROLE app; COMMIT; SELECT current_user"),
	'app', 'the end of a call that was undone does not change the role');
$operator->quit;

# A plan that was made for the administrator is not used for anybody else.
$sql->(q{CREATE FUNCTION seen() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
	RETURN (SELECT string_agg(tenant_id, ',' ORDER BY tenant_id) FROM item); END $$});
is( value_as($node, 'operator',
		"SET plan_cache_mode = force_generic_plan; BEGIN; $admin\nSELECT seen(); COMMIT;
		BEGIN; SELECT platpat.set_tenant('acme') \\g /dev/null\nSELECT seen(); COMMIT"),
	"acme,zeta\nacme", 'a plan made under as_admin obeys the policies afterwards');

# Writing across tenants, and a parallel plan.
is( value_as($node, 'operator',
		"BEGIN; $admin\nUPDATE item SET n = n + 1;
		SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0;
		SET LOCAL min_parallel_table_scan_size = 0; SELECT count(*) FROM item; ROLLBACK"),
	'2', 'workers see what the administrator sees');

# --------------------------------------------- a platpat_admin that is a trap

my %traps = (
	'can log in'             => [ 'LOGIN',       'NOLOGIN' ],
	'is a superuser'         => [ 'SUPERUSER',   'NOSUPERUSER' ],
	'does not have BYPASSRLS' => [ 'NOBYPASSRLS', 'BYPASSRLS' ]);
for my $trap (sort keys %traps)
{
	my ($set, $mend) = @{ $traps{$trap} };
	$sql->("ALTER ROLE platpat_admin $set");
	my ($state, undef, $err) = run_as($node, 'operator', "BEGIN; $admin\n$seen");
	like($err, qr/ERROR:  55000: .*\n.*platpat_admin" \Q$trap\E/, "as_admin refuses a platpat_admin that $trap");
	refused_as($node, 'postgres', q{SELECT platpat.grant_admin('other_operator')}, '55000',
		'and so does grant_admin');
	$sql->("ALTER ROLE platpat_admin $mend");
}
$sql->('GRANT platpat_admin TO app');
refused_as($node, 'operator', $admin, '55000', 'as_admin refuses one that has members');
refused_as($node, 'postgres', q{SELECT platpat.grant_admin('other_operator')}, '55000',
	'and so does grant_admin');
is($sql->(q{SELECT hint IS NOT NULL FROM platpat.status() WHERE item = 'admin role'}), 't',
	'status() has a hint');
$sql->('REVOKE platpat_admin FROM app');
is(value_as($node, 'operator', "BEGIN; $admin\n$seen"), 'acme,zeta', 'mended, it works again');

# The same for one that was there before the first grant.
for my $made ('LOGIN BYPASSRLS', 'SUPERUSER', 'ADMIN app', 'ROLE app', 'NOBYPASSRLS')
{
	$lazy->safe_psql('postgres', "CREATE ROLE platpat_admin $made");
	refused_as($lazy, 'postgres', q{SELECT platpat.grant_admin('app')}, '55000',
		"grant_admin refuses a platpat_admin made with $made");
	refused_as($lazy, 'app', q{SELECT platpat.as_admin('x')}, '42501', 'and grants nothing');
	$lazy->safe_psql('postgres', 'DROP ROLE platpat_admin');
}

$sql->(q{SELECT platpat.revoke_admin('operator')});
refused_as($node, 'operator', $admin, '42501', 'revoke_admin takes the right back');

done_testing();
