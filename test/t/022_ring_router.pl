# Three real clusters as shards and a fourth one that knows the ring: an
# application finds its way to each tenant's shard, SQL does with dblink, and
# growing moves what plan_ring() said.  And one cluster that is partitioned and
# indexed by the immutable forms.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use PlatTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @init = (init => [ extra => [ '--locale=C', '--encoding=UTF8' ] ]);
my $directory = new_node('directory', @init);
my $sql = sub { $directory->safe_psql('postgres', @_) };
my %shards;

$sql->(q{CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink; CREATE ROLE app LOGIN});

# A cluster that becomes a foreign server of the directory; platpat is not
# needed on it.
sub start_shard
{
	my ($name) = @_;
	my $node = new_node($name, @init, extension => 0);

	$node->safe_psql('postgres', q{CREATE ROLE app LOGIN; CREATE DATABASE shop OWNER app});
	$node->safe_psql('shop', q{SET ROLE app; CREATE TABLE users (tenant_id text PRIMARY KEY, name text NOT NULL)});
	$sql->("CREATE SERVER $name FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '"
		  . $node->host . "', port '" . $node->port . "', dbname 'shop');
		CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (user 'app')");
	$shards{$name} = $node;
	return $node;
}
start_shard("shard_$_") for qw(a b c);
$sql->(q{
	SELECT platpat.add_shard('shard_a', server => 'shard_a'), platpat.add_shard('shard_b');
	SELECT platpat.alter_shard('shard_b', server => 'shard_b');
	SELECT platpat.add_shard('shard_c', server => 'shard_c');});

# ------------------------------------------------------------ create_user, twice

# Tenants 1 to 300 by the application, 301 to 600 by SQL.
my $users = join '', map { "tenant-$_\tUser $_\n" } 1 .. 300;
my $connection = $directory->connstr('postgres') . ' user=app';
my ($out, $err) = ('', '');
# Another python3 in the PATH does not have Debian's modules.
my $ok = IPC::Run::run([ '/usr/bin/python3', tree('test/clients/router.py'), $connection ],
	'<', \$users, '>', \$out, '2>', \$err);
ok($ok, 'an application creates 300 users') or diag($err);
is( $sql->(q{SELECT count(*) FROM (SELECT dblink_exec(platpat.server_for('tenant-' || i),
		format('INSERT INTO users VALUES (%L, %L)', 'tenant-' || i, 'User ' || i)) AS done
		FROM generate_series(301, 600) i) x WHERE done = 'INSERT 0 1'}),
	'300', 'SQL creates 300 more by way of dblink');

# Where each tenant really is, and where shard_for says that it is.
sub placed
{
	return join "\n", sort map {
		my $name = $_;
		map { "$_ $name" } split /\n/, $shards{$name}->safe_psql('shop', 'SELECT tenant_id FROM users')
	} keys %shards;
}

sub said
{
	return join "\n", sort split /\n/,
	  $sql->(q{SELECT 'tenant-' || i || ' ' || platpat.shard_for('tenant-' || i) FROM generate_series(1, 600) i});
}
is(placed(), said(), 'each user is on the shard that shard_for says, and nowhere else');
for my $name (sort keys %shards)
{
	cmp_ok($shards{$name}->safe_psql('shop', 'SELECT count(*) FROM users'), '>', 100, "$name has its part");
	is($shards{$name}->safe_psql('shop', q{SELECT count(*) FROM users WHERE name <> replace(tenant_id, 'tenant-', 'User ')}),
		'0', "$name has them as they were given");
}
is( $sql->(q{SELECT string_agg(name, ',') FROM dblink(platpat.server_for('tenant-42'),
		$$SELECT name FROM users WHERE tenant_id = 'tenant-42'$$) AS u(name text)}),
	'User 42', 'SQL finds a user that the application created');

# -------------------------------------------------------------- a fourth shard

my $planned = $sql->(q{SELECT string_agg(from_shard || '>' || to_shard, ',' ORDER BY from_shard) FROM platpat.plan_ring('{shard_d}')});
is($planned, 'shard_a>shard_d,shard_b>shard_d,shard_c>shard_d', 'all shards would give to the new one only');
my $sample = q{FROM generate_series(1::bigint, 200000) i};
$sql->(qq{CREATE TABLE plan AS SELECT * FROM platpat.plan_ring('{shard_d}');
	CREATE TABLE before AS SELECT i, platpat.shard_for(i) AS shard $sample});
my %before = map { split / / } split /\n/, said();
start_shard('shard_d');
$sql->(q{SELECT platpat.add_shard('shard_d', server => 'shard_d')});
my %after = map { split / / } split /\n/, said();
my @moved = grep { $before{$_} ne $after{$_} } sort keys %before;
none([ grep { $after{$_} ne 'shard_d' } @moved ], 'keys move to the new shard only');
cmp_ok(scalar @moved, '>', 60, 'some do');
is( $sql->(q{
		SELECT from_shard, to_shard FROM plan
		EXCEPT SELECT b.shard, platpat.shard_for(i) FROM before b WHERE b.shard <> platpat.shard_for(i)}),
	'', 'every planned pair moves keys');
# Four standard deviations of a sample of that size.
is( $sql->(q{
		SELECT count(*) FROM plan p FULL JOIN
			(SELECT b.shard AS from_shard, platpat.shard_for(i) AS to_shard, count(*) / 200000.0 AS share
			   FROM before b WHERE b.shard <> platpat.shard_for(i) GROUP BY 1, 2) m USING (from_shard, to_shard)
		 WHERE m.share IS NULL OR p.share IS NULL OR abs(m.share - p.share) > 4 * sqrt(p.share * (1 - p.share) / 200000)}),
	'0', 'as many as planned, and no other pair does');

# Move the users, from shard to shard.
for my $tenant (@moved)
{
	$sql->(qq{
		SELECT dblink_exec('$after{$tenant}', format('INSERT INTO users VALUES (%L, %L)', tenant_id, name))
		  FROM dblink('$before{$tenant}', \$\$DELETE FROM users WHERE tenant_id = '$tenant' RETURNING *\$\$)
			AS u(tenant_id text, name text)});
}
is(placed(), said(), 'after the moves each user is where shard_for says again');
($users, $out, $err) = ("tenant-601\tUser 601\n", '', '');
$ok = IPC::Run::run([ '/usr/bin/python3', tree('test/clients/router.py'), $connection ],
	'<', \$users, '>', \$out, '2>', \$err);
ok($ok, 'the application goes on') or diag($err);
is( $sql->(q{SELECT count(*) FROM dblink(platpat.server_for('tenant-601'), $$SELECT 1 FROM users
		WHERE tenant_id = 'tenant-601'$$) AS u(n int)}), '1', 'on the ring of four');

# What is missing is said, and asks for nothing that the role may not have.
$sql->(q{SELECT platpat.alter_shard('shard_d', server => '')});
my ($lost) = grep { $after{$_} eq 'shard_d' } sort keys %after;
refused_as($directory, 'app', "SELECT platpat.server_for('$lost')", '55000', 'a shard without a server: 55000');
refused_as($directory, 'postgres', q{SELECT platpat.alter_shard('shard_d', server => 'nowhere')}, '42704',
	'a server that does not exist: 42704');
refused_as($directory, 'app', q{SELECT platpat.add_shard('shard_e')}, '42501', 'an application changes no ring');
$_->stop for values %shards;

# ------------------------------------------------------------- immutable forms

my @list = map { "shard_$_" } qw(a b c d);
my $list = "'{" . join(',', @list) . "}'";
my $partitions = join '', map { "CREATE TABLE account_$_ PARTITION OF account FOR VALUES IN ('$_');" } @list;
$sql->(qq{
	SET client_min_messages = warning;
	CREATE TABLE item (tenant_id text, n int, bucket int GENERATED ALWAYS AS
		(platpat.jump_hash(platpat.xxh64(tenant_id), 16)) STORED);
	INSERT INTO item SELECT 'tenant-' || i, i FROM generate_series(1, 20000) i;
	CREATE INDEX item_shard ON item (platpat.consistent_hash(tenant_id, $list));
	CREATE TABLE account (tenant_id text, n int) PARTITION BY LIST (platpat.consistent_hash(tenant_id, $list));
	$partitions
	INSERT INTO account SELECT tenant_id, n FROM item;
	CREATE TABLE half (tenant_id text) PARTITION BY RANGE (platpat.modulo_hash(tenant_id, 16));
	CREATE TABLE half_0 PARTITION OF half FOR VALUES FROM (0) TO (8);
	CREATE TABLE half_1 PARTITION OF half FOR VALUES FROM (8) TO (16);
	INSERT INTO half SELECT tenant_id FROM item;
	ANALYZE;});

my $of_shard = "WHERE platpat.consistent_hash(tenant_id, $list) = 'shard_b'";
like($sql->("EXPLAIN (COSTS OFF) SELECT * FROM item $of_shard"), qr/item_shard/, 'an expression index finds the keys of a shard');
is( $sql->("SELECT count(*) FROM item $of_shard"),
	$sql->(q{SELECT count(*) FROM item WHERE platpat.shard_for(tenant_id) = 'shard_b'}), 'those that shard_for says');
is($sql->('SELECT count(*) FROM item WHERE bucket <> platpat.jump_hash(platpat.xxh64(tenant_id), 16) OR bucket NOT BETWEEN 0 AND 15'),
	'0', 'a generated column has the bucket');
is($sql->(q{SELECT platpat.create_ring('buckets', 'jump', shards => (SELECT array_agg(i::text) FROM generate_series(0, 15) i));
	SELECT count(*) FROM item WHERE bucket::text <> platpat.shard_for(tenant_id, 'buckets')}), "\n0", 'that of a jump ring');
is($sql->(q{UPDATE item SET tenant_id = 'tenant-0' WHERE n = 1;
	SELECT bucket = platpat.jump_hash(platpat.xxh64('tenant-0'), 16) FROM item WHERE n = 1}), 't', 'and follows the key');
is($sql->(q{SELECT count(*) FROM account WHERE tableoid::regclass::text <> 'account_' || platpat.shard_for(tenant_id)}),
	'0', 'a table is partitioned as the ring is');
my $pruned = $sql->("EXPLAIN (COSTS OFF) SELECT * FROM account WHERE platpat.consistent_hash(tenant_id, $list) = 'shard_c'");
like($pruned, qr/account_shard_c/, 'a query for one shard reads its partition');
unlike($pruned, qr/account_shard_[abd]/, 'and no other');
is($sql->(q{SELECT count(*) FILTER (WHERE tableoid = 'half_0'::regclass) > 9000,
		count(*) FILTER (WHERE tableoid = 'half_1'::regclass) > 9000,
		count(*) FILTER (WHERE (tableoid = 'half_1'::regclass) <> (platpat.modulo_hash(tenant_id, 16) >= 8)) FROM half}),
	't|t|0', 'so is one by ranges of buckets');

# --------------------------------------------------------- the current tenant

$sql->(q{
	CREATE TABLE memo (tenant_id text, shard text, body text);
	SELECT platpat.protect('memo');
	CREATE POLICY here ON memo AS RESTRICTIVE USING (shard = platpat.shard_for(platpat.current_tenant()));
	GRANT SELECT, INSERT ON memo TO app;
	ALTER TABLE memo ALTER shard SET DEFAULT platpat.shard_for(platpat.current_tenant());
	SELECT platpat.pin_key('big', 'shard_a');});
my $as = sub { "BEGIN; SELECT platpat.set_tenant('$_[0]') \\g /dev/null\n$_[1]; COMMIT" };
for my $tenant ('acme', 'zeta', 'big')
{
	is( value_as($directory, 'app', $as->($tenant, q{INSERT INTO memo (body) VALUES ('x') RETURNING shard})),
		$sql->("SELECT platpat.shard_for('$tenant')"), "a row of tenant $tenant knows its shard");
	is(value_as($directory, 'app', $as->($tenant, 'SELECT count(*) FROM memo')), '1', 'and is seen');
}
refused_as($directory, 'app', $as->('acme', q{INSERT INTO memo (shard) VALUES ('elsewhere')}), '42501',
	'no row of another shard can be written');
$sql->(q{SELECT platpat.pin_key('big', 'shard_b')});
is(value_as($directory, 'app', $as->('big', 'SELECT count(*) FROM memo')), '0',
	'a tenant that moved away has no rows here');
refused_as($directory, 'app', 'SELECT platpat.shard_for(platpat.current_tenant())', '42501', 'without a tenant there is no shard');
is(value_as($directory, 'app', $as->('acme', 'SELECT platpat.shard_for(platpat.current_tenant())')),
	$sql->(q{SELECT platpat.shard_for('acme')}), 'the shard of the current tenant');

done_testing();
