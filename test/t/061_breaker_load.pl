# Circuit breakers under load: never more probes than allowed, never stuck,
# whatever becomes of those who call; what is logged and sent to channels.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('breakers', conf => q(
max_connections = 80
));

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# A probe is between its grant and its outcome while its session holds an
# advisory lock of class 7, so there are never more of these than probes.
query(q(
CREATE ROLE app LOGIN;
CREATE UNLOGGED TABLE crowds (breaker text, probes int);
CREATE TABLE entered (breaker text);
GRANT ALL ON crowds, entered TO app;
CREATE FUNCTION enter(breaker int, most int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE n int;
BEGIN
	PERFORM pg_advisory_lock_shared(7, breaker);
	SELECT count(*) INTO n FROM pg_locks WHERE locktype = 'advisory' AND classid = 7 AND objid = breaker;
	IF n > most THEN
		INSERT INTO crowds VALUES (breaker, n);
	END IF;
END $$;
CREATE FUNCTION leave(breaker int) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_unlock_shared(7, breaker)';
SELECT platpat.create_breaker('1', 1, '1 ms', half_open_calls => 3, success_threshold => 1000000000);
SELECT platpat.create_breaker('2', 1, '1 ms', success_threshold => 1000000000);
SELECT platpat.create_breaker('3', 1, '1 ms', success_threshold => 3);
SELECT platpat.record_failure(b) FROM unnest('{1,2,3}'::text[]) b;
));

# load($name, $script, %opt): the script from 50 clients; what pgbench said.
sub load
{
	my ($name, $script, %opt) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$name.sql";
	my ($out, $err) = ('', '');

	append_to_file($file, $script);
	my $harness = IPC::Run::start([ 'pgbench', '-n', '-c', 50, '-j', 2, '-U', 'app',
			'-t', $opt{transactions} // 200, '-f', $file, $node->connstr('postgres') ],
		'>', \$out, '2>', \$err);
	$opt{meanwhile}->($harness) if $opt{meanwhile};
	IPC::Run::finish($harness);
	return "$out$err";
}

# Every call in autocommit, outcomes that never close it: the bound is exact.
like(load('autocommit', q(
SELECT platpat.allow_call('1') AS ok \gset
\if :ok
SELECT enter(1, 3);
SELECT leave(1);
SELECT platpat.record_success('1');
\endif
)), qr/number of failed transactions: 0|processed: 10000/, '50 callers in autocommit');
is(query(q(SELECT state, probes, passed > 100, rejected > 100, passed = allowed FROM platpat.stat_breakers WHERE breaker = '1')),
	'half_open|0|t|t|t', 'all probes have come back');

# In transactions that commit with an outcome, or roll back, or fail.
like(load('transactions', q(
\set way random(1, 4)
BEGIN;
SELECT platpat.allow_call('2') AS ok \gset
\if :ok
SELECT enter(2, 1);
SELECT leave(2);
\if :way = 1
SELECT platpat.record_failure('2');
\elif :way = 2
SELECT platpat.record_success('2');
\elif :way = 3
SAVEPOINT s;
SELECT platpat.record_success('2');
ROLLBACK TO s;
\endif
\endif
\if :way = 4
ROLLBACK;
\else
COMMIT;
\endif
)), qr/processed: 10000/, '50 callers in transactions');
is(query(q(SELECT probes, openings > 20, passed > 20 FROM platpat.stat_breakers WHERE breaker = '2')),
	'0|t|t', 'all probes have come back, or were given up');

# Sessions that are cancelled and terminated at any moment.
load('killed', q(
\set way random(1, 3)
BEGIN;
SELECT platpat.allow_call('3') AS ok \gset
INSERT INTO entered SELECT '3' WHERE :'ok'::boolean AND :way > 2;
\if :way = 1
SELECT platpat.record_failure('3');
\else
SELECT platpat.record_success('3');
\endif
END;
), transactions => 2000, meanwhile => sub {
	my ($harness) = @_;
	for (1 .. 200)
	{
		last if !$harness->pumpable;
		$node->safe_psql('postgres', q(SELECT CASE WHEN random() < 0.3 THEN pg_terminate_backend(pid) ELSE pg_cancel_backend(pid) END
			FROM pg_stat_activity WHERE usename = 'app' ORDER BY random() LIMIT 3));
	}
});
is(query(q(SELECT count(*) FROM platpat.stat_breakers WHERE probes > 0)), '0', 'no probe is left of those who were killed');
is(query('SELECT count(*) FROM crowds'), '0', 'there were never more probes than allowed');
for my $breaker (1 .. 3)
{
	$node->poll_query_until('postgres', "SELECT platpat.allow_call('$breaker')");
	query("SELECT platpat.record_success('$breaker')");
	like(query("SELECT platpat.breaker_state('$breaker')"), qr/^(?:half_open|closed)$/, "breaker $breaker is not stuck");
}

# Two sessions: leases belong to the transaction, outcomes to anybody.
query(q(SELECT platpat.create_breaker('two', 1, '1 ms', probe_timeout => '1 day')));
my $one = PlatSession->of($node, 'app');
my $two = PlatSession->of($node, 'app');
my $state = q(SELECT state || ' ' || probes FROM platpat.stat_breakers WHERE breaker = 'two');

# open_it(): has failed, and is half-open by now
sub open_it
{
	query(q(SELECT platpat.force_breaker('two', 'auto'), platpat.record_failure('two')));
	$node->poll_query_until('postgres', q(SELECT platpat.breaker_state('two') = 'half_open'));
}
open_it();
$one->ask('BEGIN; SELECT platpat.allow_call(\'two\')');
$two->ask(q(SELECT platpat.record_success('two')));
is(query($state), 'half_open 1', 'a probe of a running transaction is nobody else\'s');
is($two->ask(q(SELECT platpat.allow_call('two'))), 'f', 'and nobody else gets one');
$one->ask('COMMIT');
is(query($state), 'half_open 1', 'COMMIT is no success');
$two->ask(q(SELECT platpat.record_success('two')));
is(query($state), 'closed 0', 'after it the outcome may come from any session');

# A call that was let through before all that says nothing of it.
is($two->ask(q(SELECT platpat.allow_call('two'))), 't', 'a call is let through');
open_it();
$one->ask(q(BEGIN; SELECT platpat.allow_call('two'); COMMIT));
$two->ask(q(SELECT platpat.record_failure('two', 'late')));
is(query($state), 'half_open 1', 'its late outcome is not taken for that of the probe');
$two->ask(q(SELECT platpat.record_success('two')));
is(query($state), 'closed 0', 'an outcome that belongs to no such call is');

# What was told of a breaker that was dropped says nothing of its successor.
open_it();
$one->ask(q(SELECT platpat.allow_call('two')));
query(q(SELECT platpat.drop_breaker('two'), platpat.create_breaker('two', 1, '1 ms', probe_timeout => '1 day')));
open_it();
is($two->ask(q(BEGIN; SELECT platpat.allow_call('two'); COMMIT)), 't', 'a breaker of the same name has a probe');
$one->ask(q(SELECT platpat.record_success('two')));
is(query($state), 'half_open 1', 'which the outcome of a probe of the one before does not end');
$two->ask(q(SELECT platpat.record_success('two')));

# Behind a pool the outcome comes by another session: what this one was told is
# forgotten with DISCARD ALL, and after probe_timeout.
for my $forget ('DISCARD ALL', 'SELECT pg_sleep(3.1)')
{
	query(q(SELECT platpat.alter_breaker('two', probe_timeout => '3 s')));
	$two->ask(q(SELECT platpat.allow_call('two')));
	$two->ask($forget);
	open_it();
	$one->ask(q(SELECT platpat.allow_call('two')));
	$two->ask(q(SELECT platpat.record_success('two')));
	is(query($state), 'closed 0', "after $forget an outcome is taken for that of the probe");
}
query(q(SELECT platpat.alter_breaker('two', probe_timeout => '1 day', half_open_calls => 2)));

# A probe that is still on the list of its transaction does not swallow the
# outcome of a later call.
open_it();
$one->ask(q(BEGIN; SELECT platpat.allow_call('two')));
$two->ask(q(SELECT platpat.allow_call('two'), platpat.record_success('two')));
is(query($state), 'closed 0', 'another probe closes the breaker meanwhile');
$one->ask(q(SELECT platpat.allow_call('two')));
$one->ask(q(SELECT platpat.record_failure('two')));
like(query($state), qr/^(?:open|half_open)/, 'a failure that comes then is one of the closed breaker');
$one->ask('COMMIT');
query(q(SELECT platpat.alter_breaker('two', half_open_calls => 1)));

# Many probes of one transaction, each too late: it remembers the last.
query(q(SELECT platpat.create_breaker('late', 1, '1 us', probe_timeout => '1 us'), platpat.record_failure('late')));
$one->ask('BEGIN');
my $memory = q(SELECT sum(total_bytes) FROM pg_backend_memory_contexts);
my $session = PlatSession->of($node, 'postgres');
$session->ask(q(BEGIN; SELECT count(platpat.allow_call('late')) FROM generate_series(1, 1000)));
my $before_bytes = $session->ask($memory);
$session->ask(q(SELECT count(platpat.allow_call('late')) FROM generate_series(1, 50000)));
cmp_ok($session->ask($memory) - $before_bytes, '<', 1_000_000, 'probes that are over take no memory');
$session->quit;
$one->ask('COMMIT');

# Disconnect and termination before the commit fail a probe.
for my $end (qw(quit terminate))
{
	open_it();
	my $before = query(q(SELECT openings FROM platpat.stat_breakers WHERE breaker = 'two'));
	my $gone = PlatSession->of($node, 'app');
	$gone->ask(q(BEGIN; SELECT platpat.allow_call('two')));
	my $pid = $gone->ask('SELECT pg_backend_pid()');
	$end eq 'quit' ? $gone->quit : query("SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
	is(query(q(SELECT openings, probes FROM platpat.stat_breakers WHERE breaker = 'two')), $before + 1 . '|0', "$end: the probe has failed");
}

# breaker_call(): a user who gives up says nothing of what is called, a
# statement that is too slow does.
query(q(SELECT platpat.create_breaker('call', 1, '1 ms', probe_timeout => '1 day')));
query(q(SELECT platpat.record_failure('call')));
$node->poll_query_until('postgres', q(SELECT platpat.breaker_state('call') = 'half_open'));
my $caller = PlatSession->of($node, 'app');
my $pid = $caller->ask('SELECT pg_backend_pid()');
$caller->tell(q(SELECT platpat.breaker_call('call', 'SELECT pg_sleep(600)')));
$node->poll_query_until('postgres', "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid");
is(query(q(SELECT platpat.allow_call('call'))), 'f', 'while a probe runs there is no other');
query("SELECT pg_cancel_backend($pid)");
like($caller->answer, qr/57014/, 'the user cancels it');
is(query(q(SELECT state, probes, failed FROM platpat.stat_breakers WHERE breaker = 'call')), 'half_open|0|1', 'which counts as nothing');

# A name that the encoding of a client does not have, and a client that wants to
# see the log: at the commit of a probe that is too late.
query(q(SELECT platpat.create_breaker('доставка', 1, '1 ms', probe_timeout => '1 ms'); SELECT platpat.record_failure('доставка')));
$node->poll_query_until('postgres', q(SELECT platpat.breaker_state('доставка') = 'half_open'));
my $latin = PlatSession->of($node, 'app');
$latin->ask(q(BEGIN; SELECT platpat.allow_call(U&'\0434\043E\0441\0442\0430\0432\043A\0430')));
$latin->ask(q(INSERT INTO entered VALUES ('latin'); SELECT pg_sleep(0.01)));
is($latin->ask(q(SET client_encoding = 'LATIN1'; SET client_min_messages = 'log'; COMMIT; SELECT breaker FROM entered WHERE breaker = 'latin')),
	'latin', 'changes are not for the client to read');
is($latin->ask(q(SELECT platpat.record_failure(U&'\0434\043E\0441\0442\0430\0432\043A\0430'))), '', 'nor are those of a call');

# A statement that is cancelled by its timeout before it has begun, because it
# waits for a lock, has failed, too.
query(q(SELECT platpat.create_breaker('blocked', 1, '1 day'); CREATE TABLE locked (id int); GRANT ALL ON locked TO app));
$one->ask('BEGIN; LOCK TABLE locked');
is($caller->ask(q(SET statement_timeout = '50 ms'; SELECT platpat.breaker_call('blocked', 'SELECT * FROM locked'))), 'ERROR 57014', 'a statement waits for a lock for too long');
is(query(q(SELECT platpat.breaker_state('blocked'))), 'open', 'which is a failure');
$one->ask('ROLLBACK');

# What becomes of it is in the log, and on a channel if there is one.
my $log = slurp_file($node->logfile);
like($log, qr/LOG:  breaker "two" went from closed to open\n.*DETAIL:  There were too many failures\./, 'the log tells why it opened');
like($log, qr/breaker "two" went from half_open to open\n.*DETAIL:  The transaction of a probe was aborted\./, 'of a lost probe, too');
like($log, qr/breaker "two" went from half_open to closed\n.*DETAIL:  Enough probes passed\./, 'and that it closed');
unlike($log, qr/TRAP|PANIC|terminated by signal/, 'no process has crashed');
query(q(ALTER SYSTEM SET platpat.breaker_notify_channel = 'breakers'; SELECT pg_reload_conf()));
query(q(SELECT platpat.create_breaker('told', 1, '1 day')));
my $listener = PlatSession->of($node, 'app');
$listener->ask('LISTEN breakers');
$node->poll_query_until('postgres', q(SELECT current_setting('platpat.breaker_notify_channel') = 'breakers'));
value_as($node, 'app', q(SELECT platpat.record_failure('told')));
like($listener->ask('SELECT 1'), qr/Asynchronous notification "breakers" with payload "\{"breaker": "told", "state": "open", "since": "[^"]+"\}"/,
	'a change is sent to the channel');
# breaker_call() raises what has opened the breaker, and so sends nothing itself
query(q(SELECT platpat.create_breaker('call told', 1, '1 day', failure_states => '{22}')));
$one->ask(q(SELECT platpat.breaker_call('call told', 'SELECT 1 / 0')));
unlike($listener->ask('SELECT 1'), qr/call told/, 'an aborted transaction sends nothing');
value_as($node, 'app', q(BEGIN; SELECT platpat.allow_call('call told'); ROLLBACK));
unlike($listener->ask('SELECT 1'), qr/call told/, 'nor does one that only looks and aborts');
$one->ask(q(SELECT platpat.allow_call('call told')));
like($listener->ask('SELECT 1'), qr/"breaker": "call told", "state": "open"/, 'the next that commits does');
$one->ask(q(SELECT platpat.allow_call('call told')));
unlike($listener->ask('SELECT 1'), qr/call told/, 'once');
query(q(SELECT platpat.force_breaker('call told', 'auto')));
$one->ask(q(BEGIN; SELECT platpat.allow_call('call told'); COMMIT));
like($listener->ask('SELECT 1'), qr/"breaker": "call told", "state": "closed"/, 'closing it is news, too');
# once, whatever else the transaction rolls back
query(q(SELECT platpat.create_breaker('once', 1, '1 day')));
$one->ask(q(BEGIN; SELECT platpat.record_failure('once'); SAVEPOINT a; ROLLBACK TO a; COMMIT));
like($listener->ask('SELECT 1'), qr/"breaker": "once", "state": "open"/, 'a rollback to a savepoint after it does not undo the notification');
$one->ask(q(SELECT platpat.allow_call('once')));
unlike($listener->ask('SELECT 1'), qr/"once"/, 'nor is it sent again');
query(q(SELECT platpat.force_breaker('once', 'auto')));
$listener->ask('SELECT 1');
$one->ask(q(BEGIN; SAVEPOINT a; SELECT platpat.record_failure('once'); ROLLBACK TO a; COMMIT));
unlike($listener->ask('SELECT 1'), qr/"once"/, 'one of a savepoint that is rolled back is undone');
$one->ask(q(SELECT platpat.allow_call('once')));
like($listener->ask('SELECT 1'), qr/"breaker": "once", "state": "open"/, 'and sent by the next');
# who aborts cannot send anything, so the next one does
query(q(SELECT platpat.force_breaker('told', 'auto'), platpat.alter_breaker('told', timeout => '1 us')));
query(q(SELECT platpat.record_failure('told'), platpat.breaker_state('told')));
$one->ask(q(BEGIN; SELECT platpat.allow_call('told'); ROLLBACK));
$listener->ask('SELECT 1');
$one->ask(q(SELECT platpat.allow_call('told')));
like($listener->ask('SELECT 1'), qr/"breaker": "told", "state": "half_open"/, 'what an aborted transaction moved is sent by the next');

done_testing();
