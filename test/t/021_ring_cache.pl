# A lookup answers for what its statement sees: the ring as it was or as it is
# now, never a mixture, and never one that is out of date.  In sessions, under
# cursors, in parallel workers, on a standby and under load; and what large
# rings, dumps and a server without MD5 make of it.
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

my $node = new_node(
	'ring',
	init => [ allows_streaming => 1, extra => [ '--locale=C', '--encoding=UTF8' ] ],
	conf => "max_connections = 50\nshared_buffers = 64MB\nautovacuum = off\nlog_statement = none\n");
my $sql = sub { $node->safe_psql('postgres', @_) };

# Ring 'r' belongs to exactly one of its shards, so that one key shows which
# version of it a statement has.
$sql->(q{
	SELECT platpat.create_ring('r', shards => '{a,b,c}');
	CREATE FUNCTION give_all_to(owner text) RETURNS void LANGUAGE sql AS
		$$UPDATE platpat.shards SET weight = (shard = owner)::int WHERE ring = 'r'$$;
	SELECT give_all_to('a');
	CREATE TABLE number AS SELECT generate_series(1, 200000) AS n;
	CREATE TABLE gate ();
	CREATE TABLE other ();
	ANALYZE number;});
my $owner = q{SELECT platpat.shard_for('k', 'r')};

sub session { return PlatSession->of($node, 'postgres') }

# Wait until so many locks are waited for.
sub wait_for_waiters
{
	my ($count) = @_;
	return $node->poll_query_until('postgres',
		"SELECT count(*) >= $count FROM pg_locks WHERE NOT granted")
	  || die 'nobody waits';
}

my ($reader, $writer) = (session(), session());

# ------------------------------------------------------- from one statement on

is($reader->ask($owner), 'a', 'a session looks a key up');
$writer->ask("SELECT give_all_to('b')");
is($reader->ask($owner), 'b', 'its next statement sees a change');
$reader->ask('PREPARE looking AS ' . $owner);
is($reader->ask('EXECUTE looking'), 'b', 'and so does a prepared statement');
$writer->ask("SELECT give_all_to('c')");
is($reader->ask('EXECUTE looking'), 'c', 'each time');

# Nothing in these statements but the lookup makes a backend look around.
$reader->ask('BEGIN');
is($reader->ask($owner), 'c', 'in a transaction');
$writer->ask("SELECT give_all_to('a')");
is($reader->ask($owner), 'a', 'the next statement sees a change');
$writer->ask("SELECT give_all_to('b')");
is($reader->ask('EXECUTE looking'), 'b', 'the next prepared one, too');
$writer->ask(q{SELECT platpat.drop_ring('r'); SELECT platpat.create_ring('r', shards => '{x}')});
is($reader->ask($owner), 'x', 'and one after the ring was made again');
$reader->ask('COMMIT');
$writer->ask(q{SELECT platpat.drop_ring('r'); SELECT platpat.create_ring('r', shards => '{a,b,c}'); SELECT give_all_to('a')});

for my $edit (
	[ q{UPDATE platpat.shards SET shard = 'z' WHERE ring = 'r' AND shard = 'a'}, 'z', 'a renamed shard' ],
	[ q{UPDATE platpat.shards SET shard = 'a' WHERE ring = 'r' AND shard = 'z'}, 'a', 'its old name' ],
	[ q{SELECT platpat.alter_shard('b', 'r', weight => 1); DELETE FROM platpat.shards WHERE ring = 'r' AND shard = 'a'}, 'b', 'a deleted shard' ],
	[ q{SELECT platpat.pin_key('k', 'c', 'r')}, 'c', 'a pin' ],
	[ q{UPDATE platpat.pins SET shard = 'b' WHERE ring = 'r'}, 'b', 'a moved pin' ],
	[ q{SELECT platpat.pin_key('k', 'c', 'r'); SELECT platpat.unpin_key('k', 'r')}, 'b', 'no pin' ],
	[ q{UPDATE platpat.rings SET ring = 'q' WHERE ring = 'r'}, 'ERROR 42704', 'a renamed ring' ],
	[ q{UPDATE platpat.rings SET ring = 'r' WHERE ring = 'q'}, 'b', 'the ring again' ],
	[ q{TRUNCATE platpat.shards CASCADE}, 'ERROR 55000', 'TRUNCATE of the shards' ],
	[ q{TRUNCATE platpat.rings CASCADE}, 'ERROR 42704', 'TRUNCATE of the rings' ],
	[ q{SELECT platpat.create_ring('r', 'jump', shards => '{a}')}, 'a', 'a new ring' ],
	[ q{SELECT platpat.drop_ring('r')}, 'ERROR 42704', 'a dropped ring' ],
	[ q{COPY platpat.rings (ring) FROM stdin;
r
\.
COPY platpat.shards (ring, shard, weight) FROM stdin;
r	b	1
r	a	0
r	c	0
\.
SELECT}, 'b', 'rows that were copied in' ])
{
	my ($change, $expected, $name) = @$edit;
	my $said = $writer->ask($change);
	unlike($said, qr/ERROR/, "$name: the change");
	is($reader->ask($owner), $expected, "$name: seen by another session");
	is($writer->ask($owner), $expected, "$name: and by the one that made it");
}
$sql->(q{SELECT platpat.create_ring('default') WHERE NOT EXISTS (SELECT FROM platpat.rings WHERE ring = 'default')});

# ------------------------------------------------------------- own changes

is($writer->ask("BEGIN; SELECT give_all_to('a') \\g /dev/null\n$owner"), 'a', 'own changes count at once');
is($reader->ask($owner), 'b', 'for others not before the commit');
is($writer->ask("SAVEPOINT s; SELECT give_all_to('c') \\g /dev/null\n$owner"), 'c', 'in a subtransaction');
is($writer->ask("ROLLBACK TO s; $owner"), 'a', 'ROLLBACK TO undoes it');
is($writer->ask("SELECT give_all_to('c') \\g /dev/null\n$owner; RELEASE s; $owner"), "c\nc", 'RELEASE does not');
is( $writer->ask(qq{DO \$\$ BEGIN PERFORM give_all_to('b');
		IF platpat.shard_for('k', 'r') <> 'b' THEN RAISE 'not b'; END IF; PERFORM 1 / 0;
		EXCEPTION WHEN division_by_zero THEN END \$\$; $owner}), 'c', 'an exception undoes it');
is($writer->ask("ROLLBACK; $owner"), 'b', 'ROLLBACK undoes all');
is($writer->ask("BEGIN; SELECT give_all_to('a') \\g /dev/null\n$owner; SELECT 1 / 0"), 'ERROR 22012',
	'a transaction fails');
is($writer->ask("ROLLBACK; $owner"), 'b', 'and leaves nothing');
is($writer->ask("BEGIN; SELECT give_all_to('a') \\g /dev/null\nPREPARE TRANSACTION 'p'; $owner"), 'b',
	'a prepared transaction is not yet one');
is($reader->ask($owner), 'b', 'for others, too');
$writer->ask("COMMIT PREPARED 'p'");
is($writer->ask($owner) . $reader->ask($owner), 'aa', 'until it commits');

# A function that changes the ring in the middle of a query: the rows of the
# query stay those of its beginning.
$sql->(q{CREATE FUNCTION meddle(n int) RETURNS text VOLATILE LANGUAGE plpgsql AS $$ BEGIN
	PERFORM give_all_to(CASE n % 2 WHEN 0 THEN 'b' ELSE 'c' END);
	RETURN platpat.shard_for('k', 'r'); END $$});
is( $writer->ask(q{BEGIN; SELECT meddle(n), platpat.shard_for('k' || n, 'r') FROM generate_series(1, 3) n; ROLLBACK}),
	"c|a\nb|a\nc|a", 'a function in a query has the new ring, the query its own');

# ------------------------------------------------- one statement, one version

# pause() waits at the gate, which makes the backend learn what others have
# done in the meantime, in a parallel worker as well.
$sql->(q{CREATE FUNCTION pause(n int) RETURNS int VOLATILE PARALLEL SAFE LANGUAGE plpgsql AS $$ BEGIN
	IF n % 500 = 250 THEN PERFORM FROM gate; END IF;
	RETURN n; END $$});
my $in_parallel = q{
	SET max_parallel_workers_per_gather = 2;
	SET parallel_setup_cost = 0;
	SET parallel_tuple_cost = 0;
	SET min_parallel_table_scan_size = 0;};
my $long = q{SELECT string_agg(DISTINCT platpat.shard_for(pause(n)::text, 'r'), ',') FROM number};
my $parallel = q{SELECT string_agg(o, ',') FROM (SELECT DISTINCT platpat.shard_for(pause(n)::text, 'r') o FROM number) x};
my $gate = session();
my $parallel_reader = session();
$parallel_reader->ask($in_parallel);
like($parallel_reader->ask("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) $parallel"),
	qr/Workers Launched: 2/, 'a query in parallel workers');
for my $how ([ $reader, $long, 1, 'one process' ], [ $parallel_reader, $parallel, 2, 'parallel workers' ])
{
	my ($who, $query, $processes, $name) = @$how;

	$writer->ask("SELECT give_all_to('a')");
	is($who->ask($owner), 'a', "$name: before");
	$gate->ask('BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE');
	$who->tell($query);
	wait_for_waiters($processes);
	$writer->ask("SELECT give_all_to('b')");
	$gate->ask('COMMIT');
	is($who->answer, 'a', "$name: a query keeps the ring of its beginning");
	is($who->ask($query), 'b', "$name: the next one has the new ring");
	is($who->ask($owner), 'b', "$name: and the next statement");
}
is($parallel_reader->ask("BEGIN; SELECT give_all_to('c') \\g /dev/null\n$parallel; ROLLBACK"), 'c',
	'parallel workers see the changes of their transaction');
is($parallel_reader->ask($parallel), 'b', 'and not those that it took back');

# A cursor that was opened before the change, beside statements after it.
my $fetch = q{FETCH 2 FROM c};
is( $reader->ask(qq{BEGIN; DECLARE c CURSOR FOR SELECT platpat.shard_for(n::text, 'r') FROM number; $fetch}),
	"b\nb", 'a cursor is opened');
$writer->ask("SELECT give_all_to('a')");
is($reader->ask("SELECT count(*) FROM other; $owner"), "0\na", 'another statement of the transaction sees the change');
is($reader->ask($fetch), "b\nb", 'the cursor does not');
is($reader->ask("$owner; $fetch; $owner"), "a\nb\nb\na", 'in turns');
$writer->ask("SELECT give_all_to('c')");
is($reader->ask("$fetch; $owner; $fetch; $owner"), "b\nb\nc\nb\nb\nc", 'and again');
is($reader->ask("SELECT give_all_to('a') \\g /dev/null\n$fetch; $owner"), "b\nb\na", 'own changes do not reach it either');
is($reader->ask("ROLLBACK; $owner"), 'c', 'afterwards all is right');

# REPEATABLE READ keeps its version, however the ring was changed.
$writer->ask(q{SELECT platpat.create_ring('from', shards => '{a}'), platpat.create_ring('to', shards => '{b}')});
my @repeatable = (
	[ "SELECT give_all_to('b')", 'r', 'a', 'b', 'weights' ],
	[ q{SELECT platpat.drop_ring('r'); SELECT platpat.create_ring('r', shards => '{x}')}, 'r', 'b', 'x', 'a ring made again' ],
	[ q{SELECT platpat.pin_key('k', 'x', 'r')}, 'r', 'x', 'x', 'a pin that changes nothing' ],
	[ q{SELECT platpat.add_shard('y', 'r'); SELECT platpat.pin_key('k', 'y', 'r')}, 'r', 'x', 'y', 'a pin' ],
	[ q{UPDATE platpat.shards SET ring = 'to', position = 7 WHERE ring = 'from'}, 'from', 'a', 'ERROR 55000', 'a shard moved to another ring' ],
	[ q{UPDATE platpat.rings SET algorithm = 'jump' WHERE ring = 'to'}, 'to', undef, undef, 'an algorithm' ],
	[ q{SELECT platpat.add_shard('c', 'to')}, 'to', undef, undef, 'a shard more' ],
	[ q{SELECT platpat.drop_ring('to')}, 'to', undef, 'ERROR 42704', 'a dropped ring' ]);
$writer->ask("SELECT give_all_to('a')");
for my $case (@repeatable)
{
	my ($change, $ring, $before, $after, $name) = @$case;
	my $query = "SELECT string_agg(platpat.shard_for(n::text, '$ring'), '') FROM generate_series(1, 30) n";
	$query = "SELECT platpat.shard_for('k', '$ring')" if defined $before;
	my $old = $reader->ask("BEGIN ISOLATION LEVEL REPEATABLE READ; $query");
	is($old, $before, "REPEATABLE READ, $name: before") if defined $before;
	unlike($writer->ask($change), qr/ERROR/, "REPEATABLE READ, $name: the change");
	is($reader->ask($query), $old, "REPEATABLE READ, $name: the old ring");
	is($reader->ask("SELECT count(*) FROM other; $query"), "0\n$old", "REPEATABLE READ, $name: however often");
	$after //= $writer->ask($query);
	isnt($after, $old, "REPEATABLE READ, $name: there is a difference") unless $before && $before eq $after;
	is($reader->ask("COMMIT; $query"), $after, "REPEATABLE READ, $name: afterwards the new one");
}
$writer->ask(q{SELECT platpat.drop_ring('r'); SELECT platpat.create_ring('r', shards => '{a,b,c}'); SELECT give_all_to('a')});

# ---------------------------------------------------------------- two writers

$writer->ask(q{BEGIN; SELECT platpat.add_shard('w1', 'r')});
$reader->tell(q{SELECT platpat.add_shard('w2', 'r') \g /dev/null}
	  . "\nSELECT string_agg(shard, ',' ORDER BY position) FROM platpat.shards WHERE ring = 'r'");
wait_for_waiters(1);
is(session()->ask(q{SELECT platpat.create_ring('s', shards => '{a}') \g /dev/null
	SELECT platpat.shard_for('k', 's') || platpat.shard_for('k', 'r')}), 'aa',
	'while one changes a ring, others change other rings and read this one');
$writer->ask('COMMIT');
is($reader->answer, 'a,b,c,w1,w2', 'who changes the same ring waits, and comes behind');
is($sql->(q{SELECT string_agg(position::text, ',' ORDER BY position) FROM platpat.shards WHERE ring = 'r'}),
	'0,1,2,3,4', 'with positions of their own');
$writer->ask(q{BEGIN; SELECT platpat.remove_shard('w1', 'r')});
$reader->tell(q{SELECT platpat.remove_shard('w1', 'r')});
wait_for_waiters(1);
$writer->ask('COMMIT');
is($reader->answer, 'ERROR 42704', 'a shard is removed only once');
$sql->(q{SELECT platpat.remove_shard('w2', 'r')});

# ------------------------------------------------------- errors, in one place

$sql->(q{SELECT platpat.create_ring('empty'), platpat.create_ring('idle', shards => '{a,b}');
	UPDATE platpat.shards SET weight = 0 WHERE ring = 'idle'});
for my $case (
	[ q{'k', 'empty'}, '55000', 'an empty ring' ], [ q{'k', 'idle'}, '55000', 'a ring of weights 0' ],
	[ q{'k', 'nowhere'}, '42704', 'an unknown ring' ], [ q{'k', repeat('x', 256)}, '42704', 'a name too long' ],
	[ q{NULL::text, 'r'}, '22004', 'a NULL key' ], [ q{NULL::uuid, 'r'}, '22004', 'a NULL uuid' ],
	[ q{NULL::bigint, 'r'}, '22004', 'a NULL bigint' ], [ q{'k', NULL}, '22004', 'a NULL ring' ])
{
	my ($arguments, $state, $name) = @$case;
	refused_as($node, 'postgres', "SELECT platpat.shard_for($arguments)", $state, "$name: $state");
}
refused_as($node, 'postgres', q{SELECT platpat.server_for('k', 'r')}, '55000', 'a shard without a server: 55000');
for my $algorithm (qw(md5 ketama rendezvous maglev))
{
	$sql->(qq{UPDATE platpat.rings SET algorithm = '$algorithm' WHERE ring = 'idle'});
	refused_as($node, 'postgres', q{SELECT platpat.shard_for('k', 'idle')}, '55000', "$algorithm with weights 0: 55000");
}

# Names that no ring could have are refused where shards come as arguments.
my $long_name = q{ARRAY[repeat('x', 256)]};
for my $call (
	"platpat.consistent_hash('k', $long_name)", "platpat.rendezvous_hash('k', $long_name)",
	"platpat.maglev_hash('k', $long_name)", "count(*) FROM platpat.plan_ring($long_name, ring => 'r')",
	q{platpat.consistent_hash('k', ARRAY[E'a\nb'])})
{
	refused_as($node, 'postgres', "SELECT $call", '22023', "$call: 22023");
}

# A shard whose weight gives it no point owns nothing; nothing can be planned.
$sql->(q{SELECT platpat.create_ring('slight'); SELECT platpat.add_shard('a', 'slight', 0.001)});
refused_as($node, 'postgres', q{SELECT platpat.shard_for('k', 'slight')}, '55000', 'a ring without points: 55000');
refused_as($node, 'postgres', q{SELECT count(*) FROM platpat.plan_ring('{b}', ring => 'slight')}, '55000',
	'to plan for it: 55000');

# Jump and modulo lose their last shard only, in whatever way it goes.
$sql->(q{SELECT platpat.create_ring('row', 'jump', shards => '{a,b,c,d}'), platpat.create_ring('else')});
for my $change (
	q{SELECT platpat.remove_shard('b', 'row')}, q{DELETE FROM platpat.shards WHERE ring = 'row' AND shard = 'b'},
	q{UPDATE platpat.shards SET position = 9 WHERE ring = 'row' AND shard = 'b'},
	q{SELECT count(*) FROM platpat.plan_ring(remove => '{b}', ring => 'row')})
{
	refused_as($node, 'postgres', $change, '55000', "$change: 55000");
}
for my $last ('{c,d}', '{d,c}')
{
	my (undef, $moves) = run_as($node, 'postgres', qq{SELECT string_agg(from_shard || to_shard, ',' ORDER BY from_shard, to_shard)
		FROM platpat.plan_ring(remove => '$last', ring => 'row')});
	is($moves, 'ca,cb,da,db', "the last two can go, named as $last");
}
refused_as($node, 'postgres', q{UPDATE platpat.shards SET ring = 'else' WHERE ring = 'row' AND shard = 'b'}, '55000',
	'nor does it lose one to another ring: 55000');

# ------------------------------------------------------------------ extension

$sql->('CREATE DATABASE twice');
my $twice = PlatSession->of($node, 'postgres', 'twice');
my $setup = 'SET client_min_messages = warning; CREATE EXTENSION platpat; SELECT platpat.add_shard(%s)';
$twice->ask(sprintf $setup, "'first'");
is($twice->ask(q{SELECT platpat.shard_for('k')}), 'first', 'a ring of the extension');
$node->safe_psql('twice', 'DROP EXTENSION platpat');
like($twice->ask(q{SELECT platpat.shard_for('k')}), qr/ERROR (?:3F000|42883)/, 'DROP EXTENSION takes it away');
$node->safe_psql('twice', sprintf $setup, "'second'");
is($twice->ask(q{SELECT platpat.shard_for('k')}), 'second', 'CREATE EXTENSION brings a new one');
$node->safe_psql('twice', 'BEGIN; DROP EXTENSION platpat; ' . sprintf($setup, "'third'") . '; COMMIT');
is($twice->ask(q{SELECT platpat.shard_for('k')}), 'third', 'in one transaction, too');
$node->safe_psql('twice', 'BEGIN; DROP EXTENSION platpat; ' . sprintf($setup, "'fourth'") . '; ROLLBACK');
is($twice->ask(q{SELECT platpat.shard_for('k')}), 'third', 'unless it is undone');
$twice->quit;

# -------------------------------------------------------------------- standby

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('ring_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
my $there = PlatSession->of($standby, 'postgres');
my $caught_up = sub { $node->wait_for_catchup($standby, 'replay', $node->lsn('insert')) };
$sql->("SELECT give_all_to('b')");
$caught_up->();
is($there->ask($owner), 'b', 'a standby looks keys up');
$sql->("SELECT give_all_to('c')");
$caught_up->();
is($there->ask($owner), 'c', 'and sees a change when it is replayed');
is($there->ask("BEGIN; $owner"), 'c', 'in a transaction');
$sql->("SELECT give_all_to('a')");
$caught_up->();
is($there->ask($owner), 'a', 'from the next statement on');
is($there->ask("COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; $owner"), 'a', 'in a REPEATABLE READ transaction');
$sql->("SELECT give_all_to('b')");
$caught_up->();
is($there->ask($owner), 'a', 'not before it ends');
is($there->ask("COMMIT; $owner"), 'b', 'but then');
is($there->ask(qq{$in_parallel $parallel}), 'b', 'in parallel workers as well');
for my $change (
	q{platpat.create_ring('x')}, q{platpat.drop_ring('r')}, q{platpat.add_shard('x', 'r')},
	q{platpat.remove_shard('a', 'r')}, q{platpat.alter_shard('a', 'r', 2)},
	q{platpat.pin_key('k', 'a', 'r')}, q{platpat.unpin_key('k', 'r')})
{
	is($there->ask("SELECT $change"), 'ERROR 25006', "a standby is no place for $change");
}
is($there->ask(q{SELECT count(*) FROM platpat.plan_ring(add => '{x}', ring => 'r')}), '1', 'but plans a change');
$there->quit;
$standby->stop;

# ----------------------------------------------------------------- under load

# Divides by zero unless the lookup agrees with what its statement sees of the
# tables.
my $check = q{SELECT 1 / (platpat.shard_for(:k::text, 'load') = platpat.consistent_hash(:k::text,
	(SELECT array_agg(shard) FROM platpat.shards WHERE ring = 'load')))::int;};
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my %scripts = (
	look => "\\set k random(1, 1000000)\n$check\n",
	transaction => "\\set k random(1, 1000000)\nBEGIN;\n" . "$check\n" x 4 . "COMMIT;\n",
	repeatable => "\\set k random(1, 1000000)\nBEGIN ISOLATION LEVEL REPEATABLE READ;\n" . "$check\n" x 3 . "COMMIT;\n",
	procedure => q{DO $$ BEGIN FOR k IN 1..20 LOOP PERFORM 1 / (platpat.shard_for(k::text, 'load') =
		platpat.consistent_hash(k::text, (SELECT array_agg(shard) FROM platpat.shards WHERE ring = 'load')))::int;
		END LOOP; END $$;} . "\n",
	change => q{SELECT platpat.add_shard('x', 'load');
		SELECT platpat.remove_shard('x', 'load');
		BEGIN;
		SELECT platpat.add_shard('y', 'load');
		SAVEPOINT s;
		SELECT platpat.remove_shard('a', 'load');
		ROLLBACK TO s;
		SELECT platpat.remove_shard('b', 'load');
		COMMIT;
		SELECT platpat.add_shard('b', 'load');
		SELECT platpat.remove_shard('y', 'load');},
	broken => "\\set k random(1, 1000000)\n" . ($check =~ s/WHERE/WHERE shard <> 'a' AND/r) . "\n");
append_to_file("$dir/$_", $scripts{$_}) for keys %scripts;
$sql->(q{SELECT platpat.create_ring('load', shards => '{a,b,c,d}')});

# pgbench with some of the scripts, started.
sub pgbench
{
	my ($clients, $transactions, $out, @options) = @_;
	return IPC::Run::start(
		[
			'pgbench', '--no-vacuum', '--client', $clients, '--transactions', $transactions,
			@options, $node->connstr('postgres') . ' user=postgres'
		],
		'<', \undef, '>', $out, '2>&1');
}

for my $load ([ simple => 500 ], [ prepared => 200 ])
{
	my ($protocol, $transactions) = @$load;
	my $all = 8 * $transactions;
	my ($looking, $changing) = ('', '');
	my $changes = pgbench(1, $transactions / 2, \$changing, "--file=$dir/change");
	my $lookups = pgbench(8, $transactions, \$looking, '--protocol', $protocol,
		map { "--file=$dir/$_" } 'look@4', 'transaction@3', 'repeatable@2', 'procedure@1');
	ok($lookups->finish, "every answer agrees with the tables, protocol $protocol") or diag($looking);
	ok($changes->finish, 'while the ring changes') or diag($changing);
	like($looking, qr{actually processed: $all/$all\b}, 'of all clients');
}
my $out = '';
ok(!pgbench(1, 100, \$out, "--file=$dir/broken")->finish, 'the check can fail');
like($out, qr/division by zero/, 'by its division by zero');

# --------------------------------------------------------------- large rings

# Bytes of all compiled rings of a session.
my $ring_memory = q{SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name = 'platpat ring'};
for my $size ([ 1000, 6 ], [ 10000, 56 ])
{
	my ($shards, $bound) = @$size;
	my $large = session();
	$large->ask(q{SET statement_timeout = '10s'});
	is( $large->ask(qq{SELECT platpat.create_ring('large') \\g /dev/null
		INSERT INTO platpat.shards (ring, shard) SELECT 'large', 'shard-' || i FROM generate_series(1, $shards) i;
		SELECT count(DISTINCT platpat.shard_for(n, 'large')) > $shards * 0.99 FROM generate_series(1::bigint, $shards * 10) n}),
		't', "$shards shards of 150 points work");
	my $bytes = $large->ask($ring_memory);
	cmp_ok($bytes, '<', $bound * 1024 * 1024, "in less than $bound MB");
	cmp_ok($bytes, '>', $shards * 150 * 24, 'which holds their points');
	is( $large->ask(q{SELECT count(*), sum(share) BETWEEN 1 - 1e-9 AND 1 + 1e-9, min(share) > 0 FROM platpat.ring_share('large')}),
		"$shards|t|t", 'with shares that add up');
	is($large->ask(q{SELECT platpat.drop_ring('large')}), '', 'is dropped in seconds');
	is($large->ask(q{SELECT platpat.shard_for('k', 'large')}), 'ERROR 42704', 'and is gone');
	is($large->ask($ring_memory), '', 'with all its memory');
	$large->quit;
}

# kB of memory that a process shares with nobody.
sub own_memory
{
	my ($pid) = @_;
	return slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m ? $1 : die;
}
SKIP:
{
	skip 'there is no /proc', 2 if !-r "/proc/$$/status";
	$sql->(q{SELECT platpat.create_ring('steady', shards => (SELECT array_agg('shard-' || i) FROM generate_series(1, 50) i))});
	my $session = session();
	my $pid = $session->ask('SELECT pg_backend_pid()');
	for my $case (
		[ '200 compilations', 40, 200, q{
			DO $$ BEGIN FOR i IN 1..%d LOOP
				UPDATE platpat.rings SET table_size = table_size WHERE ring = 'steady';
				PERFORM platpat.shard_for('k', 'steady');
				COMMIT;
			END LOOP; END $$} ],
		[ '20,000 names of no ring', 2000, 20000, q{
			DO $$ BEGIN FOR i IN 1..%d LOOP
				BEGIN PERFORM platpat.shard_for('k', 'no ring ' || i);
				EXCEPTION WHEN undefined_object THEN END;
				IF i %% 100 = 0 THEN COMMIT; END IF;
			END LOOP; END $$} ])
	{
		my ($name, $warm, $times, $script) = @$case;
		my $said = $session->ask(sprintf $script, $warm);
		my $before = own_memory($pid);
		$said .= $session->ask(sprintf $script, $times);
		my $growth = own_memory($pid) - $before;
		ok($said !~ /ERROR/ && $growth < 2048, "$name: memory stays") or diag("$growth kB more: $said");
	}
}

# ------------------------------------------------------------ dump and restore

my @connection = ('--host', $node->host, '--port', $node->port);

sub dump_of
{
	my ($database) = @_;
	my ($text, $err) = run_command([ 'pg_dump', @connection, $database ]);
	die $err if $err =~ /error/;
	# Since the releases of August 2025 dumps have random keys in them.
	return $text =~ s/^\\(?:un)?restrict .*$//gmr;
}

# What is in the tables, and what lookups make of it.
my $rows = q{
	SELECT * FROM platpat.rings ORDER BY 1;
	SELECT * FROM platpat.shards ORDER BY ring, position;
	SELECT * FROM platpat.pins ORDER BY ring, key;
	SELECT * FROM platpat.removed_defaults;
	SELECT ring, n, platpat.shard_for(n, ring) FROM (SELECT DISTINCT ring FROM platpat.shards) r, generate_series(1::bigint, 50) n ORDER BY 1, 2;};
my %databases = (
	edited => q{
		UPDATE platpat.rings SET algorithm = 'ketama', virtual_nodes = 77 WHERE ring = 'default';
		SELECT platpat.add_shard('d' || i) FROM generate_series(1, 3) i;},
	deleted => q{SELECT platpat.drop_ring('default')},
	again => q{SELECT platpat.drop_ring('default'); SELECT platpat.create_ring('default', 'jump', shards => '{one,two}')},
	renamed => q{UPDATE platpat.rings SET ring = 'mine' WHERE ring = 'default'; SELECT platpat.add_shard('m', 'mine')},
	shipped => '');
for my $database (sort keys %databases)
{
	$sql->("CREATE DATABASE $database");
	$sql->("CREATE DATABASE ${database}_restored");
	$node->safe_psql($database, qq{
		CREATE EXTENSION platpat; CREATE EXTENSION postgres_fdw;
		CREATE SERVER near FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'near');
		$databases{$database};
		SELECT platpat.create_ring('more', 'maglev', hash => 'partition', table_size => 65539);
		SELECT platpat.add_shard('x y', 'more', 0.25, 'near'), platpat.add_shard('b', 'more', 3), platpat.add_shard('a', 'more', 0);
		SELECT platpat.remove_shard('b', 'more'), platpat.add_shard('c', 'more');
		SELECT platpat.pin_key('k', 'a', 'more'), platpat.pin_key(' ', 'c', 'more');});
	my $text = dump_of($database);
	my ($said, $err) = ('', '');
	my $ok = IPC::Run::run([ 'psql', @connection, '-XqAtv', 'ON_ERROR_STOP=1', '--output', '/dev/null', "${database}_restored" ],
		'<', \$text, '>', \$said, '2>', \$err);
	ok($ok, "dump and restore, default ring $database") or diag($err);
	is($node->safe_psql("${database}_restored", $rows), $node->safe_psql($database, $rows), "$database: the same rings");
	my $again = dump_of("${database}_restored");
	ok($again eq $text, "$database: the second dump is identical")
	  or diag(join "\n", grep { index($text, "$_\n") < 0 } split /\n/, $again);
}
is($node->safe_psql('deleted_restored', q{SELECT string_agg(ring, ',') FROM platpat.rings}), 'more',
	'a deleted default ring stays deleted');

$_->quit for $reader, $writer, $gate, $parallel_reader;
$node->stop;

# ----------------------------------------------------------------- without MD5

# OpenSSL as in FIPS mode: what has no certificate cannot be had.  Only random
# numbers, without which no server starts, are let through.
my $strict = new_node('strict');
$strict->safe_psql('postgres', q{
	SELECT platpat.create_ring(a, a, shards => '{a,b,c}') FROM unnest('{md5,ketama,rendezvous,maglev,jump,modulo}'::text[]) a});
$strict->stop;
append_to_file("$dir/openssl.cnf", <<'END');
openssl_conf = setup
[setup]
alg_section = algorithms
providers = providers
random = generator
[algorithms]
default_properties = fips=yes
[providers]
default = provider
base = provider
[provider]
activate = 1
[generator]
random = CTR-DRBG
cipher = AES-256-CTR
properties = -fips
END
{
	local $ENV{OPENSSL_CONF} = "$dir/openssl.cnf";
	$strict->start;
}
isnt(value_as($strict, 'postgres', q{SELECT platpat.rendezvous_hash('k', '{a,b}')}), '', 'a server without MD5');
refused_as($strict, 'postgres', q{SELECT md5('k')}, 'XX000', 'core has no MD5 there')
  if $strict->pg_version >= 14;
for my $algorithm (qw(md5 ketama))
{
	refused_as($strict, 'postgres', "SELECT platpat.shard_for('k', '$algorithm')", '0A000', "$algorithm: 0A000");
	my (undef, undef, $err) = run_as($strict, 'postgres', "SELECT platpat.shard_for('k', '$algorithm')");
	like($err, qr/HINT:.*rendezvous.*jump/, "$algorithm: a hint names what to use instead");
}
refused_as($strict, 'postgres', q{SELECT platpat.consistent_hash('k', '{a,b}')}, '0A000', 'consistent_hash: 0A000');
for my $algorithm (qw(rendezvous maglev jump modulo))
{
	like(value_as($strict, 'postgres', "SELECT platpat.shard_for('k', '$algorithm')"), qr/^[abc]$/, "$algorithm works");
}
$strict->stop;

done_testing();
