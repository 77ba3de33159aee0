# Waiting for a slot of a bulkhead: who may, how it shows and how it ends; what
# ends a slot; bulkheads that change or go while somebody waits; crashes and
# standbys.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use JSON::PP;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('waits', init => [ allows_streaming => 1 ], conf => q(
max_connections = 40
restart_after_crash = on
));

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

sub wait_until
{
	my ($condition, $what, $where) = @_;

	($where // $node)->poll_query_until('postgres', "SELECT $condition") or die "never: $what";
	return;
}

# A session of app that knows its pid.
sub client
{
	my ($where) = @_;
	my $session = PlatSession->of($where // $node, 'app');

	$session->{pid} = $session->ask('SELECT pg_backend_pid()');
	return $session;
}

# "in_use|waiting" of a bulkhead.
sub figures
{
	my ($bulkhead, $where) = @_;

	return ($where // $node)->safe_psql('postgres', "SELECT in_use, waiting FROM platpat.stat_bulkheads WHERE bulkhead = '$bulkhead'");
}

# Tell a session to wait for a slot, and come back when it does.
sub queue_up
{
	my ($session, $bulkhead, $args, $where) = @_;

	$session->tell("SELECT platpat.acquire_slot('$bulkhead'" . ($args // ', NULL') . ')');
	wait_until("EXISTS (SELECT FROM platpat.bulkhead_holders WHERE pid = $session->{pid} AND bulkhead = '$bulkhead' AND waiting)",
		"a session waits for $bulkhead", $where);
	return $session;
}

# holder($bulkhead, $count): sessions in a transaction with a slot each.
sub holders
{
	my ($bulkhead, $count, $where) = @_;
	my @sessions = map { client($where) } 1 .. $count;

	for my $session (@sessions)
	{
		die "no slot of $bulkhead" if $session->ask("BEGIN; SELECT platpat.acquire_slot('$bulkhead', '0')") ne 't';
	}
	return @sessions;
}

# The bulkhead that the server has is the one that is committed: whoever asks
# brings the definition along, and what it says to one who is refused is true.
sub told
{
	my ($sql, $role) = @_;
	my (undef, undef, $err) = run_as($node, $role // 'app', $sql);
	my ($state, $detail) = $err =~ /ERROR:  (\w+):.*^DETAIL:  (.*?)$/ms or return { sqlstate => $err };

	return { sqlstate => $state, %{ decode_json($detail) } };
}

sub make
{
	my ($name, @more) = @_;

	query('SELECT platpat.create_bulkhead(' . join(', ', "'$name'", @more) . ')');
	return;
}

query('CREATE ROLE app LOGIN; CREATE TABLE notes (); GRANT INSERT, SELECT ON notes TO app');

# Waits that end by themselves after 5 s, as long as all else goes on: of who
# has another slot, or has written, and would wait without an end.
make($_, 1, 9) for qw(endless left right);
my ($keeper) = holders('endless', 1);
my ($lefty) = holders('left', 1);
my ($righty) = holders('right', 1);
queue_up($lefty, 'right');
queue_up($righty, 'left');
my $writer = client();
$writer->ask('SET platpat.bulkhead_wait_with_xid = on; BEGIN; INSERT INTO notes DEFAULT VALUES');
queue_up($writer, 'endless');
my $patient = queue_up(client(), 'endless');

# ---------------------------------------------------------------- answers
make('answers', 2, 1);
is(value_as($node, 'app', q(SELECT platpat.acquire_slot('answers'), platpat.acquire_slot('answers', '0'), platpat.try_acquire_slot('answers', 'batch'))),
	't|t|t', 'a slot is had for the asking');
is(value_as($node, 'app', q(SELECT platpat.release_slot('answers'))), 'f', 'nothing is given back where nothing is held');
my @pair = holders('answers', 2);
is(value_as($node, 'app', q(SELECT platpat.try_acquire_slot('answers'))), 'f', 'try_acquire_slot answers no when it is full');
my $refusal = { sqlstate => '55P03', bulkhead => 'answers', class => 'standard', size => 2, in_use => 2, queue => 1, waiting => 0, reserved_for_others => 0 };
is_deeply(told(q(SELECT platpat.acquire_slot('answers', '0'))), { %$refusal, reason => 'no wait' }, 'a timeout of 0 does not wait');
is_deeply(told(q(SELECT platpat.acquire_slot('answers', '1 ms', 'batch'))), { %$refusal, reason => 'timeout', class => 'batch' }, 'a timeout ends a wait');
my $third = queue_up(client(), 'answers');
is_deeply(told(q(SELECT platpat.acquire_slot('answers', '10 s', 'critical'))), { %$refusal, reason => 'queue full', class => 'critical', waiting => 1 },
	'nobody waits beyond the queue limit, however urgent');
is(figures('answers'), '2|1', 'and nothing of them is left over');
$pair[0]->ask('COMMIT');
is($third->answer, 't', 'who waits gets the slot that becomes free');
$_->quit for @pair, $third;
refused_as($node, 'app', @$_) for (
	[ q(SELECT platpat.acquire_slot('nowhere')), '42704', 'a bulkhead must exist' ],
	[ q(SELECT platpat.release_slot('nowhere')), '42704', 'also to give a slot back' ],
	[ q(SELECT platpat.acquire_slot(NULL)), '22004', 'and have a name' ],
	[ q(SELECT platpat.acquire_slot('answers', '1 s', 'urgent')), '22023', 'classes are three' ],
	[ q(SELECT platpat.acquire_slot('answers', '-1 s')), '22023', 'nobody waits for less than no time' ]);

# taken as often as it is given back
make('again', 1, 0, 'NULL', q('session'));
my $session = client();
is($session->ask(q(SELECT platpat.acquire_slot('again'), platpat.try_acquire_slot('again', 'critical'))), 't|t', 'who has the only slot can take it again');
is($session->ask(q(SELECT platpat.release_slot('again'))), 't', 'and gives it back');
is(value_as($node, 'app', q(SELECT platpat.try_acquire_slot('again'))), 'f', 'which frees it for nobody');
is($session->ask(q(SELECT platpat.release_slot('again'))), 't', 'but the second time');
is(value_as($node, 'app', q(SELECT platpat.try_acquire_slot('again'))), 't', 'it does');
is($session->ask(q(SELECT platpat.release_slot('again'))), 'f', 'and a third time is in vain');

# more bulkheads than a session has places for
make("many $_", 1) for 1 .. 9;
is($session->ask(q(BEGIN; SELECT count(*) FROM generate_series(1, 8) AS g WHERE platpat.acquire_slot('many ' || g))), '8', 'a session can have slots of eight bulkheads');
is($session->ask(q(SELECT platpat.acquire_slot('many 9'))), 'ERROR 54000', 'and not of nine');
$session->ask('ROLLBACK');
is(query(q(SELECT sum(in_use) FROM platpat.stat_bulkheads WHERE bulkhead LIKE 'many%')), 0, 'which leaves none');

# ------------------------------------------------------- what ends a slot

# ends($bulkhead, $name, $expected, @steps): after each step of a session, 1 if
# it has the slot and 0 if not.  Somebody waits for it all the time, and gets it
# when the session has it no more.
sub ends
{
	my ($bulkhead, $name, $expected, @steps) = @_;
	my $session = client();
	my $waiter;
	my @has;

	for my $step (@steps)
	{
		$session->ask($step eq 'take' ? "SELECT platpat.acquire_slot('$bulkhead')" : $step eq 'give' ? "SELECT platpat.release_slot('$bulkhead')" : $step);
		push @has, query("SELECT count(*) FROM platpat.bulkhead_holders WHERE pid = $session->{pid} AND NOT waiting");
		$waiter //= queue_up(client(), $bulkhead) if $has[-1];
		next if !$waiter || $has[-1];
		is($waiter->answer, 't', "$name: who waits has it after $step");
		$waiter->quit;
		$waiter = undef;
	}
	is("@has", $expected, $name);
	$session->quit;
	is(figures($bulkhead), '0|0', "$name: nothing is left over");
	return;
}
make('tx', 1, 9);
ends('tx', 'COMMIT ends it', '0 1 0', 'BEGIN', 'take', 'COMMIT');
ends('tx', 'ROLLBACK ends it', '0 1 0', 'BEGIN', 'take', 'ROLLBACK');
ends('tx', 'an error ends it at once', '0 1 0 0', 'BEGIN', 'take', 'SELECT 1 / 0', 'ROLLBACK');
ends('tx', 'the end of a statement that is alone ends it', '0', 'take');
ends('tx', 'ROLLBACK TO ends what was taken since', '0 0 1 0 0', 'BEGIN', 'SAVEPOINT a', 'take', 'ROLLBACK TO a', 'COMMIT');
ends('tx', 'and not what was taken before', '0 1 1 1 1 0', 'BEGIN', 'take', 'SAVEPOINT a', 'take', 'ROLLBACK TO a', 'COMMIT');
ends('tx', 'an error in a savepoint likewise', '0 1 1 1 1 0', 'BEGIN', 'take', 'SAVEPOINT a', 'SELECT 1 / 0', 'ROLLBACK TO a', 'COMMIT');
ends('tx', 'RELEASE keeps it, for the transaction', '0 0 1 1 0', 'BEGIN', 'SAVEPOINT a', 'take', 'RELEASE a', 'COMMIT');
ends('tx', 'whatever becomes of other savepoints', '0 0 1 1 1 1 0', 'BEGIN', 'SAVEPOINT a', 'take', 'RELEASE a', 'SAVEPOINT b', 'ROLLBACK TO b', 'COMMIT');
ends('tx', 'or for the savepoint around', '0 0 0 1 1 0 0', 'BEGIN', 'SAVEPOINT a', 'SAVEPOINT b', 'take', 'RELEASE b', 'ROLLBACK TO a', 'COMMIT');
ends('tx', 'a slot that was taken twice must be given back twice', '0 1 1 1 0 0', 'BEGIN', 'take', 'take', 'give', 'give', 'COMMIT');
ends('tx', 'or ends with the transaction', '0 1 1 0', 'BEGIN', 'take', 'take', 'COMMIT');
ends('tx', 'give and take within one', '0 1 0 1 0', 'BEGIN', 'take', 'give', 'take', 'COMMIT');
ends('tx', 'PREPARE TRANSACTION is refused, and ends it', '0 1 0 0', 'BEGIN', 'take', q(PREPARE TRANSACTION 'slot'), 'ROLLBACK');
make('tx session', 1, 9, 'NULL', q('session'));
ends('tx session', 'a slot of the session survives both ends of a transaction', '0 1 1 0 1 1 0', 'BEGIN', 'take', 'ROLLBACK', 'give', 'take', 'BEGIN; COMMIT', 'give');
ends('tx session', 'and an error, and ROLLBACK TO', '0 0 1 1 1 0', 'BEGIN', 'SAVEPOINT a', 'take', 'SELECT 1 / 0', 'ROLLBACK TO a; COMMIT', 'give');
ends('tx session', 'and PREPARE TRANSACTION', '0 1 1 0', 'BEGIN', 'take', q(PREPARE TRANSACTION 'slot'; ROLLBACK PREPARED 'slot'), 'give');
ends('tx session', 'a slot that was given back stays so after ROLLBACK', '1 1 0 0', 'take', 'BEGIN', 'give', 'ROLLBACK');
ends('tx session', 'DISCARD ALL ends it', '1 1 1 0', 'take', 'take', 'DISCARD TEMP', 'DISCARD ALL');
refused_as($node, 'app', q(BEGIN; SELECT platpat.acquire_slot('tx'); PREPARE TRANSACTION 'slot'), '55000', 'a transaction that has a slot cannot be prepared');

for my $bulkhead ('tx', 'tx session')
{
	my %end = (
		'its client' => sub { $_[0]->quit },
		'the death of its client' => sub { $_[0]->vanish },
		'pg_terminate_backend' => sub { query("SELECT pg_terminate_backend($_[0]{pid})") });
	for my $how (sort keys %end)
	{
		my ($holder) = holders($bulkhead, 1);
		my $next = queue_up(client(), $bulkhead);

		$end{$how}->($holder);
		is($next->answer, 't', "$bulkhead: $how ends it");
		$next->ask("SELECT platpat.release_slot('$bulkhead')");
		$next->quit;
	}
}

# ----------------------------------------------------------- ways to wait

# how it shows
make('show', 1, 9);
my ($holder) = holders('show', 1);
my $shown = client();
$shown->ask(q(SET ROLE app; SELECT platpat.set_tenant('acme', false)));
$shown->ask('BEGIN');
queue_up($shown, 'show', q(, NULL, 'batch'));
is(query("SELECT wait_event FROM pg_stat_activity WHERE pid = $shown->{pid}"), 'PlatpatBulkhead', 'who waits is shown to wait for a bulkhead');
is(query(q(SELECT bulkhead, pid, tenant, waiting, class FROM platpat.bulkhead_holders WHERE bulkhead = 'show' ORDER BY waiting)),
	"show|$holder->{pid}||f|standard\nshow|$shown->{pid}|acme|t|batch", 'and listed, with tenant and class');
my $since = query(q(SELECT since FROM platpat.bulkhead_holders WHERE bulkhead = 'show' AND waiting));
is(query("SELECT '$since' BETWEEN query_start AND clock_timestamp() FROM pg_stat_activity WHERE pid = $shown->{pid}"), 't', 'since when it waits, too');
$holder->ask('COMMIT');
is($shown->answer, 't', 'it gets the slot');
is(query(qq(SELECT pid, tenant, waiting, class, since > '$since' FROM platpat.bulkhead_holders WHERE bulkhead = 'show')), "$shown->{pid}|acme|f|batch|t", 'is listed as having it, since it does');
is(query(q(SELECT wait_p50 = '0', wait_p95 > '0', wait_p95 = wait_p99 FROM platpat.stat_bulkheads WHERE bulkhead = 'show')), 't|t|t', 'and its wait counts, beside that of who had not to');
$_->quit for $shown, $holder;

# who may
make('may', 1, 9);
($holder) = holders('may', 1);
$session = client();
$session->ask('BEGIN; SELECT count(*) FROM notes');
queue_up($session, 'may');
pass('a transaction that has only read waits');
is_deeply(
	told(q(BEGIN; INSERT INTO notes DEFAULT VALUES; SELECT platpat.acquire_slot('may', '10 s'))),
	{ sqlstate => '55P03', bulkhead => 'may', class => 'standard', size => 1, in_use => 1, queue => 9, waiting => 1, reserved_for_others => 0, reason => 'transaction has written' },
	'one that has written does not, and is told why');
is(told(q(BEGIN; SAVEPOINT a; INSERT INTO notes DEFAULT VALUES; RELEASE a; SELECT platpat.acquire_slot('may', '10 s')))->{reason}, 'transaction has written', 'nor one of which a subtransaction has');
is(value_as($node, 'app', q(BEGIN; INSERT INTO notes DEFAULT VALUES; SELECT platpat.acquire_slot('tx', '10 s'))), 't', 'it gets a slot that is free');
my $wrote = client();
$wrote->ask('BEGIN; SET LOCAL platpat.bulkhead_wait_with_xid = on; INSERT INTO notes DEFAULT VALUES');
queue_up($wrote, 'may', q(, '1 hour'));
pass('with platpat.bulkhead_wait_with_xid it waits');
$holder->ask('COMMIT');
is($session->answer, 't', 'the first has its turn');
$session->ask('COMMIT');
is($wrote->answer, 't', 'and so has the one that had written');
$wrote->ask('COMMIT');
$_->quit for $session, $wrote, $holder;

# how the first ones have ended by themselves
my @bounded = map { $_->answer } $lefty, $righty;
ok(scalar(grep { $_ eq 'ERROR 55P03' } @bounded), "two that wait for each other do not do so for ever: @bounded");
none([ grep { !/^(?:t|ERROR 55P03)$/ } @bounded ], 'and end in no other way');
is($writer->answer, 'ERROR 55P03', 'who has written does not wait without an end, though it may wait');
is(query("SELECT waiting FROM platpat.bulkhead_holders WHERE pid = $patient->{pid}"), 't', 'who has nothing does');
$keeper->quit;
is($patient->answer, 't', 'until its turn');
$_->ask('ROLLBACK') for $lefty, $righty, $writer;
$_->quit for $lefty, $righty, $writer, $patient;
is(query(q(SELECT string_agg(concat_ws(' ', bulkhead, in_use, waiting), ', ' ORDER BY bulkhead) FROM platpat.stat_bulkheads WHERE bulkhead IN ('endless', 'left', 'right'))),
	'endless 0 0, left 0 0, right 0 0', 'nothing is left over of them');

# how it ends, wherever in the queue
my %way = (
	pg_cancel_backend => [ 'ERROR 57014', '' ],
	pg_terminate_backend => [ undef, '' ],
	statement_timeout => [ 'ERROR 57014', q(SET statement_timeout = '400ms') ],
	lock_timeout => [ 'ERROR 55P03', q(SET lock_timeout = '400ms') ],
	'a client that is gone' => [ undef, q(SET client_connection_check_interval = '50ms') ]);
make('ends', 1, 9);
for my $way (sort keys %way)
{
	my ($state, $setting) = @{ $way{$way} };

	for my $place (0 .. 2)
	{
		my $where = "$way, of number " . ($place + 1);
		my ($inside) = holders('ends', 1);
		my @line;

		for my $i (0 .. 2)
		{
			push @line, client();
			if ($i != $place)
			{
				queue_up($line[$i], 'ends');
				next;
			}
			$line[$i]->ask($setting);
			$line[$i]->tell(q(SELECT platpat.acquire_slot('ends', NULL)));
			# a wait that ends by itself may be over before anybody looks
			wait_until("EXISTS (SELECT FROM platpat.bulkhead_holders WHERE pid = $line[$i]{pid})
				OR EXISTS (SELECT FROM pg_stat_activity WHERE pid = $line[$i]{pid} AND state = 'idle' AND query LIKE '%acquire_slot%')", 'a wait');
		}
		my $victim = splice @line, $place, 1;
		query("SELECT $way($victim->{pid})") if $way =~ /^pg_/;
		if ($state)
		{
			is($victim->answer, $state, "$where: the wait is over");
		}
		elsif ($way !~ /^pg_/)
		{
			$victim->vanish;
		}
		wait_until(q((SELECT waiting = 2 FROM platpat.stat_bulkheads WHERE bulkhead = 'ends')), "$where leaves");
		is(query(q(SELECT pid FROM platpat.bulkhead_holders WHERE bulkhead = 'ends' AND waiting ORDER BY since)),
			"$line[0]{pid}\n$line[1]{pid}", "$where: the others stay");
		is($victim->ask('SELECT 1'), 1, "$where: the session goes on") if $state;
		for my $next (@line)
		{
			$inside->quit;
			is($next->answer, 't', "$where: the others have their turns");
			$inside = $next;
		}
		wait_until(q((SELECT in_use = 0 FROM platpat.stat_bulkheads WHERE bulkhead = 'ends')), 'all is free');
		$inside->quit;
	}
}

# The end of a wait may come after the slot has, and before who waits has seen
# either: the slot is for the next then.  Who is stopped sees nothing.
make('moment', 1, 9);
for my $way ('pg_cancel_backend', 'pg_terminate_backend')
{
	my ($inside) = holders('moment', 1);
	my @line = map { queue_up(client(), 'moment') } 1 .. 2;

	kill 'STOP', map { $_->{pid} } @line;
	$inside->ask('COMMIT');
	is(figures('moment'), '1|1', "$way: a slot is handed over, whoever sees it");
	query("SELECT $way($line[0]{pid})");
	kill 'CONT', $line[0]{pid};
	wait_until("NOT EXISTS (SELECT FROM platpat.bulkhead_holders WHERE pid = $line[0]{pid})", 'who had it is gone');
	is(query(q(SELECT pid, waiting FROM platpat.bulkhead_holders WHERE bulkhead = 'moment')), "$line[1]{pid}|f", "$way: and on to the next, when its wait is over");
	is($line[0]->answer, 'ERROR 57014', "$way: who had it without knowing has it no more") if $way eq 'pg_cancel_backend';
	kill 'CONT', $line[1]{pid};
	is($line[1]->answer, 't', "$way: the next knows that it has a slot");
	is(figures('moment'), '0|0', "$way: and nothing is left over");
	$_->vanish for $inside, @line;
}

# ------------------------------------------------------ bulkheads that change
my $admin = PlatSession->of($node, 'postgres');

# Someone in a transaction who waits.
sub transaction
{
	my ($bulkhead, $args) = @_;
	my $session = client();

	$session->ask('BEGIN');
	return queue_up($session, $bulkhead, $args);
}

# larger
make('size', 1, 9);
my ($inside) = holders('size', 1);
my @line = map { transaction('size') } 1 .. 4;
$admin->ask(q(BEGIN; SELECT platpat.alter_bulkhead('size', size => 3)));
is($admin->ask(q(SELECT platpat.try_acquire_slot('size'))), 'f', 'a change is not there before its commit, not even for who makes it');
is(told(q(SELECT platpat.acquire_slot('size', '0')))->{size}, 1, 'nor for others');
is(figures('size'), '1|4', 'nobody is let in');
$admin->ask('ROLLBACK');
is(told(q(SELECT platpat.acquire_slot('size', '0')))->{size}, 1, 'after its ROLLBACK all is as it was');
is(figures('size'), '1|4', 'nobody is let in, either');
$admin->ask(q(BEGIN; SAVEPOINT a; SELECT platpat.alter_bulkhead('size', size => 4); ROLLBACK TO a; SELECT platpat.alter_bulkhead('size', size => 3); COMMIT));
is($line[$_]->answer, 't', 'a larger one lets in who waits, at its commit') for 0, 1;
is(figures('size'), '3|2', 'as many as there is room for, in their order');
$admin->ask(q(BEGIN; SELECT platpat.alter_bulkhead('size', size => 4); PREPARE TRANSACTION 'larger'));
is(figures('size'), '3|2', 'a change that is prepared is not there yet');
$admin->ask(q(COMMIT PREPARED 'larger'));
is($line[2]->answer, 't', 'a change that was prepared lets in who waits, too');
$admin->ask(q(UPDATE platpat.bulkheads SET size = 5 WHERE bulkhead = 'size'));
is($line[3]->answer, 't', 'and so does an UPDATE of the table');
is(figures('size'), '5|0', 'all are in');

# smaller
my @next = map { transaction('size') } 1 .. 2;
is($admin->ask(q(SELECT platpat.alter_bulkhead('size', size => 2))), '', 'who makes it smaller waits for nobody');
my %drained = %{ told(q(SELECT platpat.acquire_slot('size', '0'))) };
is(join(' ', @drained{qw(size in_use waiting)}), '2 5 2', 'it has more in use than slots');
for my $left ('4|2', '3|2', '2|2')
{
	(shift @line)->quit;
	wait_until(qq((SELECT (in_use, waiting)::text = '(@{[$left =~ s/\|/,/r]})' FROM platpat.stat_bulkheads WHERE bulkhead = 'size')), 'one leaves');
	is(query(q(SELECT size FROM platpat.stat_bulkheads WHERE bulkhead = 'size')), 2, "and lets nobody in as it drains: $left");
}
$inside->quit;
is($next[0]->answer, 't', 'before there is room again');
is(figures('size'), '2|1', 'for one at a time');
$line[0]->quit;
is($next[1]->answer, 't', 'and one more');
$_->quit for @next;

# the rest of a definition
make('rules', 2, 2, q('{"critical": 1}'));
($inside) = holders('rules', 1);
@line = (transaction('rules'), transaction('rules', q(, NULL, 'batch')));
$admin->ask(q(SELECT platpat.alter_bulkhead('rules', queue => 1)));
is(told(q(SELECT platpat.acquire_slot('rules')))->{reason}, 'queue full', 'with a shorter queue nobody may wait any more');
is(figures('rules'), '1|2', 'but those who wait go on');
$admin->ask(q(SELECT platpat.alter_bulkhead('rules', reserved => '{}')));
is($line[0]->answer, 't', 'a reserve that is given up is for who waits');
$inside->quit;
is($line[1]->answer, 't', 'and then all are in');
$_->quit for @line;
make('scope', 1);
$session = client();
$session->ask(q(BEGIN; SELECT platpat.acquire_slot('scope')));
$admin->ask(q(SELECT platpat.alter_bulkhead('scope', scope => 'session')));
$session->ask(q(SELECT platpat.acquire_slot('scope'); COMMIT));
is(figures('scope'), '1|0', 'what is taken after a change of the scope is of the new one');
is($session->ask(q(SELECT platpat.release_slot('scope'), platpat.release_slot('scope'))), 't|f', 'and what was taken before of the old');
$session->quit;

# ----------------------------------------------------------- bulkheads that go
make('gone', 2, 9);
($inside, my $former) = holders('gone', 2);
@line = map { transaction('gone') } 1 .. 2;
$admin->ask(q(BEGIN; SELECT platpat.drop_bulkhead('gone')));
is(figures('gone'), '2|2', 'a DROP is not there before its commit');
$admin->ask('ROLLBACK');
is(figures('gone'), '2|2', 'or after its ROLLBACK');
$admin->ask(q(SELECT platpat.drop_bulkhead('gone')));
is($_->answer, 'ERROR 42704', 'who waits for a bulkhead that is dropped is told') for @line;
is($inside->ask('SELECT 1'), 1, 'who has a slot of it goes on');
is(query('SELECT count(*) FROM platpat.bulkhead_holders'), 0, 'but is not listed');
make('gone', 1, 9);
is(figures('gone'), '0|0', 'another of the same name begins anew');
is($inside->ask(q(SELECT platpat.try_acquire_slot('gone'))), 't', 'also for who has a slot of the one before');
is(figures('gone'), '1|0', 'which counts once');
is($inside->ask(q(SELECT platpat.release_slot('gone'), platpat.release_slot('gone'), platpat.release_slot('gone'))), 't|t|f', 'both are given back under the name that they were taken under');
is(figures('gone'), '0|0', 'and nothing is left over');
my ($other) = holders('gone', 1);
my $waits = transaction('gone');
$former->ask('COMMIT');
is(figures('gone'), '1|1', 'the end of who has a slot of the one before lets nobody in');
$admin->ask(q(BEGIN; SELECT platpat.drop_bulkhead('gone'), platpat.create_bulkhead('gone', 1); COMMIT));
is($waits->answer, 'ERROR 42704', 'one that is dropped and made anew at once is another, too');
is(figures('gone'), '0|0', 'which begins anew');
$_->quit for @line, $inside, $former, $other, $waits;
make('gone session', 1, 9, 'NULL', q('session'));
($inside) = holders('gone session', 1);
$waits = transaction('gone session');
$admin->ask(q(DELETE FROM platpat.bulkheads WHERE bulkhead = 'gone session'));
is($waits->answer, 'ERROR 42704', 'a DELETE from the table drops it, too');
is($inside->ask('COMMIT; DISCARD ALL; SELECT 1'), 1, 'slots of the session end without it');
$_->quit for $inside, $waits;

# ----------------------------------------------------------------- figures
make('counted', 2, 1);
$admin->ask('SELECT platpat.reset_stats()');
my $row = q(SELECT size, in_use, waiting, high_water, acquired, rejected, timed_out, queue, wait_p50 IS NULL FROM platpat.stat_bulkheads WHERE bulkhead = 'counted');
is(query($row), '2|0|0|0|0|0|0|1|t', 'a bulkhead that nobody has used');
my @in = holders('counted', 2);
$in[0]->ask(q(SELECT platpat.acquire_slot('counted')));
refused_as($node, 'app', q(SELECT platpat.acquire_slot('counted', '0')), '55P03', 'refused');
refused_as($node, 'app', q(SELECT platpat.acquire_slot('counted', '1 ms')), '55P03', 'timed out');
$waits = transaction('counted');
value_as($node, 'app', q(SELECT platpat.try_acquire_slot('counted')));
is(query($row), '2|2|1|2|2|2|1|1|f', 'what is asked is counted, once for each answer');
is(query(q(SELECT string_agg(concat_ws(' ', replace(name, 'platpat_bulkhead_', ''), labels ->> 'class', labels ->> 'result', value), ', ' ORDER BY name, labels ->> 'class', labels ->> 'result')
	FROM platpat.metrics() WHERE labels ->> 'bulkhead' = 'counted')),
	'in_use batch 0, in_use critical 0, in_use standard 2, requests_total acquired 2, requests_total rejected 2, requests_total timed_out 1, size 2, '
	  . 'waiting batch 0, waiting critical 0, waiting standard 1', 'metrics say the same, by class');
$in[0]->quit;
is($waits->answer, 't', 'who waited is in');
is(query($row), '2|2|0|2|3|2|1|1|f', 'and counted');
$in[1]->ask('COMMIT');
$admin->ask('SELECT platpat.reset_stats()');
is(query($row), '2|1|0|1|0|0|0|1|t', 'reset_stats forgets what was, and not what is');
is(query(q(SELECT count(*) FROM platpat.bulkhead_holders WHERE bulkhead = 'counted')), 1, 'nor who');
$_->quit for $in[1], $waits;

# ------------------------------------------------------------- other pools
make('analytics', 2, 3);
make('payment', 1, 3);
my @analysts = holders('analytics', 2);
my @more = map { transaction('analytics') } 1 .. 3;
is(told(q(SELECT platpat.acquire_slot('analytics')))->{reason}, 'queue full', 'analytics is full, and so is its queue');
my ($payer) = holders('payment', 1);
my $second = transaction('payment');
$payer->ask('COMMIT');
is($second->answer, 't', 'payment is served all the same');
$second->ask('COMMIT');
is(value_as($node, 'app', q(SELECT count(*) FILTER (WHERE platpat.acquire_slot('payment') AND platpat.release_slot('payment')) FROM generate_series(1, 1000))), 1000, 'a thousand times');
is(figures('analytics'), '2|3', 'and analytics is still full');

# ----------------------------------------------------------------- a standby
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is(figures('analytics', $standby), '0|0', 'a standby has counts of its own');
($inside) = holders('payment', 1, $standby);
@line = map { queue_up(client($standby), 'payment', undef, $standby) } 1 .. 2;
is(figures('payment', $standby), '1|2', 'slots are taken and waited for there');
is(figures('payment'), '0|0', 'which the primary does not know of');
$admin->ask(q(SELECT platpat.alter_bulkhead('payment', size => 2)));
is($line[$_]->answer, 't', 'a larger one lets in who waits there, too') for 0, 1;
my ($beside) = holders('payment', 1, $standby);
queue_up($line[0], 'payment', undef, $standby);
$admin->ask(q(SELECT platpat.drop_bulkhead('payment')));
is($line[0]->answer, 'ERROR 42704', 'and one that is dropped is gone there, too');
is($inside->ask('SELECT 1'), 1, 'for who waits, not for who has a slot');
$_->quit for $inside, $beside, @line;
$standby->stop;

# ------------------------------------------------------------------ a crash
make('crash', 1, 9, 'NULL', q('session'));
($inside) = holders('crash', 1);
$waits = queue_up(client(), 'crash');
is(query('SELECT sum(in_use), sum(waiting) FROM platpat.stat_bulkheads'), '3|4', 'slots are held and waited for');
my $offset = -s $node->logfile;
kill 'KILL', $inside->{pid};
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
wait_until('true', 'the server is back');
is(query('SELECT sum(in_use), sum(waiting) FROM platpat.stat_bulkheads'), '0|0', 'after kill -9 of one of them everything is free');
is(query('SELECT count(*) FROM platpat.bulkhead_holders'), 0, 'and nobody is listed');
is(value_as($node, 'app', q(SELECT platpat.try_acquire_slot('crash'), platpat.try_acquire_slot('analytics'))), 't|t', 'to be taken again');
$_->vanish for $inside, $waits, $admin, @analysts, @more, $payer, $second;

$node->stop;
done_testing();
