# What becomes of slots and of those who wait for them when definitions, the
# table of them or the whole extension go.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('definitions');
my $holder = PlatSession->of($node, 'postgres');
my $waiter = PlatSession->of($node, 'postgres');

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

sub wait_until_waiting
{
	$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM platpat.bulkhead_holders WHERE waiting))
	  or die 'nobody waits';
	return;
}

# A slot goes by the name that it was taken under.
query(q(SELECT platpat.create_bulkhead('p' || i, 1, scope => 'session') FROM generate_series(1, 8) i));
is($holder->ask(q(SELECT count(platpat.acquire_slot('p' || i)) FROM generate_series(1, 8) i)), '8', 'slots of eight bulkheads');
query(q(SELECT platpat.drop_bulkhead('p' || i) FROM generate_series(1, 8) i));
is($holder->ask(q(SELECT bool_and(platpat.release_slot('p' || i)) FROM generate_series(1, 8) i)), 't', 'can be given back after these are dropped');
is($holder->ask(q(SELECT platpat.release_slot('p1'))), 'ERROR 42704', 'once');
query(q(SELECT platpat.create_bulkhead('q' || i, 1, scope => 'session') FROM generate_series(1, 8) i));
is($holder->ask(q(SELECT count(platpat.acquire_slot('q' || i)) FROM generate_series(1, 8) i)), '8', 'and there is room for others');
$holder->ask('DISCARD ALL');
is(query('SELECT sum(in_use) FROM platpat.stat_bulkheads'), '0', 'DISCARD ALL gives back what is left');

# A renamed bulkhead is the same, and one made in its place is not.
query(q(SELECT platpat.create_bulkhead('one', 1, 10, scope => 'session')));
is($holder->ask(q(SELECT platpat.acquire_slot('one'))), 't', 'a slot is taken');
query(q(UPDATE platpat.bulkheads SET bulkhead = 'renamed' WHERE bulkhead = 'one'));
is($waiter->ask(q(SELECT platpat.try_acquire_slot('renamed'))), 'f', 'and it is taken under another name as well');
query(q(SELECT platpat.create_bulkhead('one', 1, 10, scope => 'session')));
is($waiter->ask(q(SELECT platpat.try_acquire_slot('one'))), 't', 'not so of one that is made in its place');
$waiter->ask(q(SELECT platpat.release_slot('one')));
is($holder->ask(q(SELECT platpat.acquire_slot('one'))), 't', 'the holder can have both');
is($holder->ask(q(SELECT platpat.release_slot('one'))), 't', 'and gives back the one that it took last');
is(query(q(SELECT in_use FROM platpat.stat_bulkheads WHERE bulkhead = 'one')), '0', 'which is the new one');
is($holder->ask(q(SELECT platpat.release_slot('one'))), 't', 'and then the old one by its old name');
is(query(q(SELECT sum(in_use) FROM platpat.stat_bulkheads)), '0', 'then all is free');

# Who waits does not wait for those who have locked the table.
$holder->ask(q(SELECT platpat.acquire_slot('one')));
$waiter->tell(q(SELECT platpat.acquire_slot('one', '10 min')));
wait_until_waiting();
my $locker = PlatSession->of($node, 'postgres');
$locker->ask('BEGIN; LOCK TABLE platpat.bulkheads IN ACCESS EXCLUSIVE MODE');
$locker->ask('SELECT pg_sleep(1.5)');	# it looks at the table once a second
$holder->ask(q(SELECT platpat.release_slot('one')));
is($waiter->answer, 't', 'a slot is noticed while the table is locked');
$locker->ask('ROLLBACK');
$waiter->ask(q(SELECT platpat.release_slot('one')));

# The same for its index.
$holder->ask(q(SELECT platpat.acquire_slot('one')));
$waiter->tell(q(SELECT platpat.acquire_slot('one', '10 min')));
wait_until_waiting();
$locker->ask('BEGIN; REINDEX INDEX platpat.bulkheads_pkey');
$locker->ask('SELECT pg_sleep(1.5)');
$holder->ask(q(SELECT platpat.release_slot('one')));
is($waiter->answer, 't', 'and while its index is');
$locker->ask('ROLLBACK');
$waiter->ask(q(SELECT platpat.release_slot('one')));

# A smaller bulkhead drains from the very commit on, whoever leaves next.
query(q(SELECT platpat.create_bulkhead('drain', 3, 10)));
my @holders = map { PlatSession->of($node, 'postgres') } 1 .. 2;
my $admin = PlatSession->of($node, 'postgres');
my $numbers = q(SELECT in_use, waiting FROM platpat.stat_bulkheads WHERE bulkhead = 'drain');
$_->ask(q(BEGIN; SELECT platpat.acquire_slot('drain'))) for @holders;
$admin->ask(q(BEGIN; SELECT platpat.acquire_slot('drain')));
$waiter->ask('BEGIN');
$waiter->tell(q(SELECT platpat.acquire_slot('drain', '10 min')));
wait_until_waiting();
$admin->ask(q(SAVEPOINT s; SELECT platpat.alter_bulkhead('drain', 9); ROLLBACK TO s; SAVEPOINT t; SELECT platpat.alter_bulkhead('drain', 1); RELEASE t));
is(query($numbers), '3|1', 'nothing has changed before the commit');
$admin->ask('COMMIT');
is(query($numbers), '2|1', 'the slot of who has made it smaller goes to nobody');
$holders[0]->ask('COMMIT');
is(query($numbers), '1|1', 'nor does that of who leaves then');
$holders[1]->ask('COMMIT');
is($waiter->answer, 't', 'when it has drained the next is let in');
$waiter->ask('COMMIT');

# Definitions are checked on whatever way they come.
my ($state) = run_as($node, 'postgres', q(SET session_replication_role = replica; INSERT INTO platpat.bulkheads VALUES ('bad', -1)));
is($state, '22023', 'a row that replication brings is checked');
($state) = run_as($node, 'postgres', q(SET session_replication_role = replica; INSERT INTO platpat.breakers (breaker, timeout) VALUES ('bad', '-1 s')));
is($state, '22023', 'that of a breaker, too');

# Many definitions: what a backend has read is made anew now and then, also
# while it waits.
query(q(INSERT INTO platpat.bulkheads (bulkhead, size) SELECT 'many ' || i, 1 FROM generate_series(1, 9990) i));
$holder->ask(q(SELECT platpat.acquire_slot('one')));
is($waiter->ask(q(SELECT count(*) FROM generate_series(1, 9990) i WHERE platpat.release_slot('many ' || i))), '0', 'a session that knows many bulkheads');
$waiter->tell(q(SELECT platpat.acquire_slot('one', '10 min')));
wait_until_waiting();
query(q(SELECT platpat.alter_bulkhead('renamed', 2)));
query('SELECT pg_sleep(1.5)');
is(query(q(SELECT waiting FROM platpat.stat_bulkheads WHERE bulkhead = 'one')), '1', 'goes on waiting');
$holder->ask(q(SELECT platpat.release_slot('one')));
is($waiter->answer, 't', 'and gets its slot');
$waiter->ask(q(SELECT platpat.release_slot('one')));

# Without the extension there is nothing to wait for.
$holder->ask(q(SELECT platpat.acquire_slot('one')));
$waiter->tell(q(SELECT platpat.acquire_slot('one', '10 min')));
wait_until_waiting();
query('DROP EXTENSION platpat');
is($waiter->answer, 'ERROR 42704', 'who waits when the extension goes is told that the bulkhead is gone');
$_->quit for $holder, $waiter, $locker, $admin, @holders;
query('CREATE EXTENSION platpat');
is(query(q(SELECT count(*) FROM platpat.bulkhead_holders)), '0', 'a new one has nobody in it');
unlike(slurp_file($node->logfile), qr/TRAP|PANIC|terminated by signal/, 'the server has nothing to complain about');

done_testing();
