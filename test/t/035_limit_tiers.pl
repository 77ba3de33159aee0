# Tiers and tenants in dumps and restores, roles, and settings of roles.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('tiers');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $contents = q(SELECT * FROM platpat.tiers ORDER BY tier; SELECT * FROM platpat.tenants ORDER BY tenant;
	SELECT * FROM platpat.removed_defaults ORDER BY table_name, key;);

$node->safe_psql('postgres', q(
	CREATE ROLE app LOGIN;
	CREATE ROLE admin LOGIN;
	SELECT platpat.grant_admin('admin');
	-- edited, deleted, renamed and new tiers
	UPDATE platpat.tiers SET rate = 7, burst = 70, time_zone = 'Europe/Prague' WHERE tier = 'standard';
	DELETE FROM platpat.tiers WHERE tier = 'free';
	UPDATE platpat.tiers SET tier = 'gold' WHERE tier = 'premium';
	INSERT INTO platpat.tiers (tier, rate, burst, per, hourly_quota, daily_quota, weekly_quota, monthly_quota, max_concurrency)
	VALUES ('own', 1.5, 3.25, '1 min', 1, 2, 3, 4, 5), ('no limits', NULL, NULL, '1 s', NULL, NULL, NULL, NULL, NULL);
	SELECT platpat.set_tier('t' || g, (ARRAY['standard', 'gold', 'own', 'no limits'])[1 + g % 4]) FROM generate_series(1, 100) AS g;
	INSERT INTO platpat.tenants (tenant, rate, burst, per, daily_quota, time_zone) VALUES ('special', 3, 4, '1 day', 5, 'Asia/Kathmandu');
	INSERT INTO platpat.tenants (tenant) VALUES ('without a tier');
));
my $before = $node->safe_psql('postgres', $contents);
like($before, qr/^tiers\|free\ntiers\|premium$/m, 'a dump knows which shipped tiers are gone');
$node->command_ok([ 'pg_dump', '-Fd', '-j2', '-f', "$dir/dump", $node->connstr('postgres') ], 'dump');
for my $try (1 .. 4)
{
	$node->safe_psql('postgres', "CREATE DATABASE copy$try");
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-j4', '-d', $node->connstr("copy$try"), "$dir/dump" ], "parallel restore $try");
	is($node->safe_psql("copy$try", $contents), $before, 'tiers and tenants are as they were');
}
$node->command_ok([ 'pg_dump', '-f', "$dir/plain.sql", $node->connstr('postgres') ], 'dump as a script');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql", $node->connstr('plain') ], 'restore from a script');
is($node->safe_psql('plain', $contents), $before, 'and there they are the same');
# A second time, so that what a restore leaves behind is restored as well.
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/again", $node->connstr('copy1') ], 'dump of the copy');
$node->safe_psql('postgres', 'CREATE DATABASE again');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('again'), "$dir/again" ], 'restore of the copy');
is($node->safe_psql('again', $contents), $before, 'nothing is lost on the way');

# The default tier of a role, of a database, and of the server.
sub tier_of
{
	my ($tenant) = @_;
	my ($state, $out) = run_as($node, 'app', "SELECT platpat.set_tenant('$tenant', false); SELECT tier FROM platpat.peek_tenant_limit()");

	return $state ne '' ? $state : (split /\n/, $out)[-1];
}
is(tier_of('unknown'), '42704', 'no default tier, no request');
is(tier_of('without a tier'), '42704', 'nor for a tenant without one');
is(tier_of('t1'), 'gold', 'which is no matter for one with a tier');
$node->safe_psql('postgres', q(ALTER DATABASE postgres SET platpat.limit_default_tier = 'standard'));
is(tier_of('unknown'), 'standard', 'a database has a default');
is(tier_of('special'), 'standard', 'also for a tenant with values of its own');
$node->safe_psql('postgres', q(ALTER ROLE app SET platpat.limit_default_tier = 'own'));
is(tier_of('unknown'), 'own', 'a role has one');
refused_as($node, 'app', q(SET platpat.limit_default_tier = 'gold'), '42501', 'an application cannot choose it');
is(value_as($node, 'app', q(SET platpat.limit_error_style = 'postgrest'; SHOW platpat.limit_error_style)), 'postgrest', 'but how it is told');

# Options of a connection do not lift it either.
my ($ret, $out, $err) = $node->psql('postgres', 'SHOW platpat.limit_default_tier',
	connstr => $node->connstr('postgres') . " user=app options='-c platpat.limit_default_tier=gold'");
ok($ret != 0 || $out ne 'gold', 'nor by options of the connection');

# What administrators may, and what nobody else does.
is(value_as($node, 'admin', q(SELECT platpat.set_tier('new', 'own'); SELECT tier FROM platpat.tenants WHERE tenant = 'new')), "\nown", 'an administrator sets tiers');
value_as($node, 'admin', q(UPDATE platpat.tiers SET rate = 8 WHERE tier = 'own'; DELETE FROM platpat.tenants WHERE tenant = 'new';
	SELECT count(*) FROM platpat.stat_tenants; SELECT count(*) FROM platpat.metrics(); SELECT platpat.reset_stats(), platpat.reset_rate_limits()));
pass('and edits the tables, looks, and resets');
my @refused = grep { (run_as($node, 'app', $_))[0] ne '42501' } (
	q(SELECT platpat.set_tier('t1', 'own')), q(SELECT platpat.reset_tenant_limit('t1')), q(SELECT platpat.reset_rate_limits()),
	q(SELECT platpat.reset_rate_limit('k')), q(SELECT platpat.refund_rate_limit('k', 1, 1)), q(SELECT platpat.reset_stats()),
	q(TABLE platpat.tenants), q(TABLE platpat.stat_tenants), q(TABLE platpat.stat_rate_limits), q(TABLE platpat.quota_usage),
	q(SELECT * FROM platpat.metrics()), q(SELECT * FROM platpat.limit_state()), q(DELETE FROM platpat.tiers),
	q(INSERT INTO platpat.tenants VALUES ('x')), q(TRUNCATE platpat.tiers));
none(\@refused, 'an application may do none of this');

# Changes reach a session whatever way they come.
my $app = PlatSession->of($node, 'app');
$app->ask(q(SELECT platpat.set_tenant('t4', false)));
my $look = 'SELECT tier, burst FROM platpat.peek_tenant_limit()';
is($app->ask($look), 'standard|70', 'a session has looked');
$node->safe_psql('postgres', q(SET session_replication_role = replica; UPDATE platpat.tiers SET burst = 71 WHERE tier = 'standard'));
is($app->ask($look), 'standard|71', 'and hears of a change that a replication worker makes');
$node->safe_psql('postgres', q(BEGIN; SELECT platpat.set_tier('t4', 'gold'); ROLLBACK));
is($app->ask($look), 'standard|71', 'not of one that is rolled back');
$node->safe_psql('postgres', q(BEGIN; SELECT platpat.set_tier('t4', 'gold'); PREPARE TRANSACTION 'tier'));
is($app->ask($look), 'standard|71', 'nor of one that is only prepared');
$node->safe_psql('postgres', q(COMMIT PREPARED 'tier'));
is($app->ask($look), 'gold|2000', 'but once it is committed');
$node->safe_psql('postgres', q(BEGIN; UPDATE platpat.tiers SET burst = 1 WHERE tier = 'gold'; PREPARE TRANSACTION 'burst'));
$node->safe_psql('postgres', q(ROLLBACK PREPARED 'burst'));
is($app->ask($look), 'gold|2000', 'and not when it is given up');
$node->safe_psql('postgres', q(BEGIN; SAVEPOINT s; SELECT platpat.set_tier('t4', 'own'); ROLLBACK TO s; COMMIT));
is($app->ask($look), 'gold|2000', 'nor of one that a savepoint takes back');
$node->safe_psql('postgres', q(UPDATE platpat.tiers SET tier = 'au' WHERE tier = 'gold'));
is($app->ask($look), 'au|2000', 'a tier that is renamed keeps its tenants');
refused_as($node, 'postgres', q(DELETE FROM platpat.tiers WHERE tier = 'au'), '23503', 'and one that has some stays');
$node->safe_psql('postgres', q(UPDATE platpat.tenants SET rate = 5, burst = 6 WHERE tenant = 't4'));
is($app->ask($look), 'au|6', 'what a tenant has of its own comes before its tier');
$node->safe_psql('postgres', q(UPDATE platpat.tenants SET rate = NULL, burst = NULL WHERE tenant = 't4'));
$node->safe_psql('postgres', q(SELECT platpat.set_tier('t4', 'standard')));
is($app->ask($look), 'standard|71', 'set_tier() moves it');

# The session that makes a change sees it before anybody else does.
my $maker = PlatSession->of($node, 'postgres');
$maker->ask(q(SET platpat.allow_bypass_role = on; SELECT platpat.set_tenant('t4', false)));
is($maker->ask("BEGIN; SELECT platpat.set_tier('t4', 'own') \\g /dev/null\n$look"), 'own|3.25', 'a change counts at once for who makes it');
is($app->ask($look), 'standard|71', 'and for others not before it is committed');
is($maker->ask("ROLLBACK; $look"), 'standard|71', 'nor for its maker when it is rolled back');
$maker->quit;

# What is allowed follows, not only what is shown.
$node->safe_psql('postgres', q(INSERT INTO platpat.tiers (tier, rate, burst, per) VALUES ('one', 1, 1, '1 day'), ('three', 1, 3, '1 day')));
my $passed = 'SELECT count(*) FROM generate_series(1, 10) WHERE platpat.allow_tenant_request()';
$app->ask(q(SET platpat.tenant_switching = 'free'; SELECT platpat.set_tenant('moving', false)));
$node->safe_psql('postgres', q(SELECT platpat.set_tier('moving', 'one')));
is($app->ask($passed), 1, 'a tenant has the burst of its tier');
$app->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$node->safe_psql('postgres', q(SELECT platpat.set_tier('moving', 'three')));
is($app->ask($passed), 2, 'and of another at the next call, in an old snapshot as well');
$app->ask(q(COMMIT; SELECT platpat.set_tenant('t4', false)));
$app->ask('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1');
$node->safe_psql('postgres', q(DELETE FROM platpat.tenants WHERE tenant = 't4'));
is($app->ask($look), 'own|3.25', 'of a deletion, in an old snapshot');
$node->safe_psql('postgres', q(TRUNCATE platpat.tiers));
is($app->ask($look), 'ERROR 42704', 'and of TRUNCATE');
$app->quit;
$node->stop;

# Where tenants are uuids there is one spelling of each.
my $uuids = new_node('uuids', conf => "platpat.tenant_type = 'uuid'\n");
$uuids->safe_psql('postgres', q(CREATE ROLE app LOGIN; SELECT platpat.set_tier('{3F2504E0-4F89-41D3-9A0C-0305E82C3301}', 'premium')));
is($uuids->safe_psql('postgres', 'SELECT tenant, tier FROM platpat.tenants'), '3f2504e0-4f89-41d3-9a0c-0305e82c3301|premium', 'set_tier() spells a uuid as its type prints it');
$uuids->safe_psql('postgres', q(SELECT platpat.set_tier('3f2504e04f8941d39a0c0305e82c3301'::uuid, 'standard')));
is($uuids->safe_psql('postgres', 'SELECT tenant, tier FROM platpat.tenants'), '3f2504e0-4f89-41d3-9a0c-0305e82c3301|standard', 'so that there is one row of it');
is((split /\n/, value_as($uuids, 'app', q(SELECT platpat.set_tenant('3F2504E0-4F89-41D3-9A0C-0305E82C3301', false); SELECT tier FROM platpat.peek_tenant_limit())))[-1],
	'standard', 'which set_tenant() finds in any spelling');
refused_as($uuids, 'postgres', q(INSERT INTO platpat.tenants (tenant) VALUES ('3F2504E0-4F89-41D3-9A0C-0305E82C3302')), '22023', 'a row in another spelling is refused');
refused_as($uuids, 'postgres', q(SELECT platpat.set_tier('acme', 'free')), '22023', 'and so is what is no uuid');
$uuids->stop;

done_testing();
