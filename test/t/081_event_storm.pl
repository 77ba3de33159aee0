# The event log in a storm of appends, rollbacks, prepared transactions and
# killed processes: whoever reads it by position, a projection or a consumer,
# sees every event once and in order, whatever else is open in the cluster.
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

# init() turns it off
my $node = new_node('storm', conf => q(
max_connections = 60
restart_after_crash = on
platpat.event_partition = day
log_statement = none
));
my $dir = PostgreSQL::Test::Utils::tempdir();

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# What every transaction appends it also writes to table ledger: the truth that
# the log and all that is made of it are compared with.
query(q(
CREATE ROLE app LOGIN;
GRANT EXECUTE ON FUNCTION platpat.append_event(text, text, text, jsonb, bigint, jsonb) TO app;
CREATE TABLE ledger (position bigint PRIMARY KEY);
CREATE TABLE unread (position bigint);
GRANT ALL ON ledger, unread TO app;
CREATE TABLE switch (is_repaired boolean);
INSERT INTO switch VALUES (false);

CREATE FUNCTION expect(id text, expected bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN platpat.append_event('account', id, 'expected', '{}', expected);
EXCEPTION WHEN serialization_failure THEN
	RETURN NULL;
END $$;
GRANT SELECT ON platpat.event_streams TO app;

CREATE FUNCTION make_projection(name text, mode text DEFAULT 'async', types text[] DEFAULT NULL,
	per_tenant boolean DEFAULT false, batch_size int DEFAULT 1000, on_error text DEFAULT 'park', extra text DEFAULT '')
	RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
	EXECUTE format($$
		CREATE TABLE %1$I (position bigint PRIMARY KEY);
		CREATE TABLE %2$I (tenant text, aggregateid text, n bigint NOT NULL, PRIMARY KEY (tenant, aggregateid));
		CREATE FUNCTION %3$I(first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $a$
		BEGIN
			%5$s
			INSERT INTO %1$I SELECT position FROM platpat.events
				WHERE position BETWEEN first AND last %4$s;
			INSERT INTO %2$I AS t SELECT tenant, aggregateid, count(*) FROM platpat.events
				WHERE position BETWEEN first AND last %4$s GROUP BY 1, 2 ORDER BY 1, 2
				ON CONFLICT (tenant, aggregateid) DO UPDATE SET n = t.n + excluded.n;
		END $a$ $$, name || '_audit', name || '_totals', name || '_apply',
		CASE WHEN types IS NULL THEN '' ELSE format(' AND type = ANY (%L)', types) END ||
		CASE WHEN per_tenant THEN ' AND tenant = platpat.current_tenant()' ELSE '' END, extra);
	PERFORM platpat.create_projection(name, (name || '_apply(bigint, bigint)')::regprocedure, types, mode,
		per_tenant, batch_size, on_error, ARRAY[name || '_audit', name || '_totals']::regclass[]);
END $f$;

SELECT make_projection('worker');
SELECT make_projection('called');
SELECT make_projection('tenants', per_tenant => true);
SELECT make_projection('rebuilt');
SELECT make_projection('flipped');
SELECT make_projection('parking', types => '{risky}', extra => $$
	IF NOT (SELECT is_repaired FROM switch) AND EXISTS
		(SELECT FROM platpat.events WHERE position BETWEEN first AND last AND payload ? 'poison') THEN
		RAISE EXCEPTION 'poison';
	END IF;$$);
SELECT make_projection('stopping', types => '{risky}', on_error => 'stop', batch_size => 7, extra => $$
	IF NOT (SELECT is_repaired FROM switch) AND EXISTS
		(SELECT FROM platpat.events WHERE position BETWEEN first AND last AND payload ? 'poison') THEN
		RAISE EXCEPTION 'poison';
	END IF;$$);
));

# The scripts of the storm.  Things are appended to in one order, so that
# transactions wait for each other but do not deadlock.
my $begin = q(
\set tenant random(1, 3)
\set a random(1, 10)
\set b :a + random(1, 3)
\set way random(1, 8)
BEGIN;
SELECT platpat.set_tenant('tenant ' || :tenant);
);
my %scripts = (
	'transactions' => $begin . q(
INSERT INTO ledger SELECT platpat.append_event('order', '"ö''\' || :a, 'made', '{}');
\sleep 300 us
SAVEPOINT s;
INSERT INTO ledger SELECT platpat.append_event('order', '"ö''\' || :b, 'made', '{}');
\if :way = 1
ROLLBACK TO s;
\elif :way = 2
ROLLBACK TO s;
INSERT INTO ledger SELECT platpat.append_event('order', '"ö''\' || :b, 'made', '{"again": 1}');
\endif
\sleep 200 us
\if :way = 3
ROLLBACK;
\else
COMMIT;
\endif
),
	'autocommit' => q(
\set a random(1, 100)
\set poison random(1, 10)
BEGIN;
SELECT platpat.set_tenant('tenant 1');
INSERT INTO ledger SELECT platpat.append_event('parcel', 'p' || :a, 'risky',
	CASE :poison WHEN 1 THEN '{"poison": true}' ELSE '{}' END::jsonb);
END;
),
	'prepared' => $begin . q(
INSERT INTO ledger SELECT platpat.append_event('invoice', 'i' || :a, 'made', '{}');
PREPARE TRANSACTION 'p:client_id';
\sleep 2 ms
\if :way < 3
ROLLBACK PREPARED 'p:client_id';
\else
COMMIT PREPARED 'p:client_id';
\endif
),
	'repeatable' => $begin =~ s/BEGIN/BEGIN ISOLATION LEVEL REPEATABLE READ/r . q(
INSERT INTO ledger SELECT platpat.append_event('order', '"ö''\' || :a, 'made', '{}');
END;
),
	'serializable' => $begin =~ s/BEGIN/BEGIN ISOLATION LEVEL SERIALIZABLE/r . q(
INSERT INTO ledger SELECT platpat.append_event('order', '"ö''\' || :a, 'made', '{}');
END;
),
	'expected' => $begin . q(
INSERT INTO ledger SELECT * FROM expect('c' || :a, coalesce((SELECT version FROM platpat.event_streams
	WHERE aggregatetype = 'account' AND aggregateid = 'c' || :a), 0)) p WHERE p IS NOT NULL;
\sleep 200 us
\if :way = 1
ROLLBACK;
\else
END;
\endif
DISCARD ALL;
),
	'reading' => q(
\set a random(1, 100)
BEGIN;
SELECT platpat.set_tenant('tenant 2');
INSERT INTO ledger SELECT platpat.append_event('receipt', 'r' || :a, 'made', '{}') RETURNING position \gset
COMMIT;
SELECT platpat.wait_for_projection('worker', :position, '60 s') AS has_come \gset
INSERT INTO unread SELECT :position WHERE NOT ':has_come'::boolean
	OR NOT EXISTS (SELECT FROM worker_audit WHERE position = :position);
\sleep 5 ms
));
append_to_file("$dir/$_.sql", $scripts{$_}) for keys %scripts;
query('GRANT SELECT ON worker_audit TO app');

# storm($seconds, $clients, @scripts): pgbench, running; scripts with weights
sub storm
{
	my ($seconds, $clients, @scripts) = @_;
	my %storm = (out => '');

	$storm{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', $clients, '-T', $seconds, '-U', 'app', '--max-tries', 1000,
			(map { ('-f', "$dir/$_") } @scripts), $node->connstr('postgres') ],
		'<', \undef, '>', \$storm{out}, '2>&1');
	return \%storm;
}

my @all = ('transactions.sql@8', 'autocommit.sql@4', 'prepared.sql@2', 'repeatable.sql@1', 'serializable.sql@1', 'expected.sql@2');

# Whether a storm is still on.
sub rages
{
	my ($storm) = @_;

	$storm->{run}->pump_nb if $storm->{run}->pumpable;
	return $storm->{run}->pumpable;
}

# The end of a storm; one assertion: no client has met with an error.
sub calm
{
	my ($storm, $name) = @_;

	IPC::Run::finish($storm->{run});
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($storm->{out} =~ /number of failed transactions: 0 / && $storm->{out} !~ /error|abort/i, $name)
	  || diag($storm->{out});
}

# Wait until the worker has brought all that it works at up to date.
sub wait_for_worker
{
	my ($which) = @_;

	return $node->poll_query_until('postgres', "SELECT coalesce(bool_and(position = platpat.last_position()), false)
		FROM platpat.projection_positions WHERE projection IN ($which)")
	  || diag(query('TABLE platpat.stat_projections'));
}

# The differences between two lists of positions, as queries.
sub differences
{
	my ($one, $other) = @_;

	return query("SELECT count(*) || ' missing' FROM ($one EXCEPT ALL $other) d HAVING count(*) > 0
		UNION ALL SELECT count(*) || ' too many' FROM ($other EXCEPT ALL $one) d HAVING count(*) > 0");
}

# One assertion: a projection has applied exactly what was committed, with all
# effects or none.
sub applied_once
{
	my ($projection, $name, $where) = @_;
	$where = defined $where ? "WHERE $where" : '';

	my $said = differences("SELECT e.position FROM platpat.events e $where", "SELECT position FROM ${projection}_audit")
	  . differences("SELECT tenant, aggregateid, count(*) FROM platpat.events e $where GROUP BY 1, 2",
		"SELECT tenant, aggregateid, n FROM ${projection}_totals");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($said, '', $name);
}

# One assertion: the log is what was committed, and each thing's versions are
# in the order of their positions and without gaps.
sub log_is_right
{
	my ($name) = @_;

	my $said = differences('SELECT position FROM ledger', 'SELECT position FROM platpat.events')
	  . query(q(SELECT aggregatetype || aggregateid FROM (SELECT *, row_number() OVER
		(PARTITION BY tenant, aggregatetype, aggregateid ORDER BY position) AS n FROM platpat.events) e WHERE n <> version LIMIT 5));
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($said, '', $name);
}

# A consumer behind a pool: now this connection is its, now that, and what one
# has fetched the other acknowledges.
{
	package Consumer;

	sub new
	{
		my ($class, $name) = @_;

		return bless {
			name => $name, seen => [], wrong => [], versions => {}, turn => 0,
			connections => [ map { PlatSession->of($node, 'postgres') } 1 .. 2 ] }, $class;
	}

	sub connection
	{
		my ($self) = @_;

		return $self->{connections}[ $self->{turn}++ % 3 > 0 ];
	}

	# Fetch, look and acknowledge; the number of events.
	sub poll
	{
		my ($self) = @_;
		my @rows = split /\n/, $self->connection->ask(
			"SELECT position, version, concat_ws(':', tenant, aggregatetype, aggregateid) FROM platpat.fetch_events('$self->{name}', 300)");

		return 0 if !@rows;
		for (@rows)
		{
			my ($position, $version, $thing) = split /\|/, $_, 3;
			push @{ $self->{wrong} }, "$position after $self->{seen}[-1]"
			  if @{ $self->{seen} } && $position <= $self->{seen}[-1];
			push @{ $self->{wrong} }, "$thing: version $version"
			  if $version != ++$self->{versions}{$thing};
			push @{ $self->{seen} }, $position;
		}
		my $answer = $self->connection->ask("SELECT platpat.ack_events('$self->{name}', $self->{seen}[-1])");
		push @{ $self->{wrong} }, "acknowledging $self->{seen}[-1]: $answer" if $answer ne $self->{seen}[-1];
		return scalar @rows;
	}
}

# ------------------------------------------------------------ the great storm

# Who has written in another database, or only reads in this one, is in nobody's
# way.
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $foreign = PlatSession->of($node, 'postgres', 'other');
$foreign->ask('BEGIN; CREATE TABLE t (); SELECT pg_current_xact_id()');
my $idle = PlatSession->of($node, 'postgres');
$idle->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM platpat.events');

my $consumer = Consumer->new('consumer');
my ($runner, $rebuilder, $reader, $naive, $flipper) = map { PlatSession->of($node, 'postgres') } 1 .. 5;
my $storm = storm(7, 8, @all);
my $reading = storm(7, 4, 'reading.sql');
my ($last, @naive, @inline, @fewer, @refused) = (0);
my ($count, $rounds, $rebuilds, $flips) = (0, 0, 0, 0);

# Once there are events an inline projection begins amid appends.
sleep 1;
$runner->ask(q(SELECT make_projection('inline', mode => 'inline')));
my $rebuilding = 0;
while (rages($storm))
{
	$runner->tell(q(SELECT count(*) FROM platpat.run_projections('called')));
	if (!$rebuilding && $rounds % 10 == 0)
	{
		my $which = $rounds % 20 ? 'rebuilt' : 'inline';
		$rebuilder->tell("SELECT 'rebuilt', platpat.rebuild_projection('$which')");
		$rebuilding = 1;
	}
	$naive->tell("SELECT position FROM platpat.events WHERE position > $last ORDER BY position");
	$consumer->poll;
	if ($rounds % 7 == 0)
	{
		my $mode = $rounds % 14 ? 'async' : 'inline';
		my $answer = $flipper->ask("SELECT platpat.alter_projection('flipped', mode => '$mode')");
		# another session may be at it
		$answer eq '' ? $flips++ : push @refused, grep { $_ ne 'ERROR 55000' } $answer;
	}
	my $answer = $reader->ask(q(BEGIN ISOLATION LEVEL REPEATABLE READ;
		SELECT (SELECT count(*) FROM platpat.events) - (SELECT count(*) FROM inline_audit),
			(SELECT count(*) FROM platpat.events) - (SELECT sum(n) FROM inline_totals),
			(SELECT sum(n) FROM rebuilt_totals);
		COMMIT));
	my ($audit, $totals, $rebuilt) = split /\|/, $answer;
	push @inline, $answer if $audit ne '0' || $totals ne '0';
	push @fewer, "$rebuilt after $count" if ($rebuilt || 0) < $count;
	$count = $rebuilt || 0;
	my @found = split /\n/, $naive->answer;
	$last = $found[-1] if @found;
	push @naive, @found;
	$runner->answer;
	if ($rebuilding && $rebuilder->{out} =~ /^end/m)
	{
		$answer = $rebuilder->answer;
		$answer =~ /^rebuilt/ ? $rebuilds++ : push @refused, $answer;
		$rebuilding = 0;
	}
	$rebuilder->{run}->pump_nb;
	$rounds++;
}
push @refused, grep { !/^rebuilt/ } $rebuilder->answer if $rebuilding;
calm($storm, '8 clients append in all ways there are');
calm($reading, '4 clients append and wait for their own event');
$flipper->ask(q(SELECT platpat.alter_projection('flipped', mode => 'async')));
note("$rounds rounds, $rebuilds rebuilds, $flips changes of mode, ", query('SELECT count(*) FROM platpat.events'), ' events');

ok(wait_for_worker(q('worker', 'tenants', 'rebuilt', 'parking', 'flipped')), 'the worker comes to the end');
query(q(SELECT platpat.run_projections('called')));
1 while $consumer->poll;
log_is_right('the log is what was committed');
applied_once('worker', 'the worker applies every event once');
applied_once('called', 'so does run_projections(), called by another session');
applied_once('tenants', 'and the worker tenant by tenant');
applied_once('flipped', 'and both modes together, when a projection goes from one to the other and back');
is(query('SELECT count(*) FROM unread'), '0', 'who has waited for his own event has found it');
is(differences('SELECT position FROM ledger', 'SELECT unnest(ARRAY[' . join(',', @{ $consumer->{seen} }) . ']::bigint[])'),
	'', 'a consumer gets every event once');
none($consumer->{wrong}, 'in order, whichever connection it has at the moment');
none(\@inline, 'a read model that is kept inline is the log at any moment');
applied_once('inline', 'and at the end');
ok($rebuilds > 2, 'projections were rebuilt meanwhile');
none(\@fewer, 'of which readers do not see that anything is missing');
applied_once('rebuilt', 'nor is it in the end');
none(\@refused, 'nothing was refused');
is($foreign->ask('SELECT 1') . $idle->ask('SELECT count(*) FROM ledger'), '10', 'all with transactions open elsewhere');
$_->quit for $foreign, $idle;

# The control: whoever reads what is after the last that he has seen loses
# events under this load.
sub lost_by_naive
{
	return query("SELECT count(*) FROM (SELECT position FROM ledger WHERE position <= $last EXCEPT SELECT unnest(ARRAY["
		. join(',', @naive) . ']::bigint[])) d');
}

my $lost = lost_by_naive();
for (1 .. 3)
{
	last if $lost;
	$storm = storm(2, 8, 'transactions.sql');
	while (rages($storm))
	{
		my @found = split /\n/, $naive->ask("SELECT position FROM platpat.events WHERE position > $last ORDER BY position");
		$last = $found[-1] if @found;
		push @naive, @found;
	}
	$lost = lost_by_naive();
}
diag('reading by the last position has lost nothing, so this storm proves little') if !$lost;
note("reading by the last position has lost $lost events");

# ---------------------------------------------------------------- poison

applied_once('parking', 'events that do not fail are applied', q(e.type = 'risky' AND NOT e.payload ? 'poison'));
is(differences(q(SELECT position FROM platpat.events WHERE payload ? 'poison'), q(SELECT position FROM platpat.dead_events WHERE projection = 'parking')),
	'', 'those that do are put aside');
my $first = query(q(SELECT min(position) FROM platpat.events WHERE payload ? 'poison'));
is(query(q(SELECT status, position FROM platpat.stat_projections WHERE projection = 'stopping')), 'stopped|' . ($first - 1),
	'a projection that is to stop does so before the first');
applied_once('stopping', 'with all before it applied', "e.type = 'risky' AND e.position < $first");
query(q(UPDATE switch SET is_repaired = true));
is(query(q(SELECT bool_and(platpat.replay_dead_event(projection, position)) FROM platpat.dead_events)), 't', 'once repaired they are replayed')
  || diag(query('TABLE platpat.dead_events'));
query(q(SELECT platpat.alter_projection('stopping', paused => false)));
ok(wait_for_worker(q('stopping')), 'and the one that has stopped goes on');
applied_once($_, "$_: every event is applied once", q(e.type = 'risky')) for qw(parking stopping);

# --------------------------------------------------- writers in this database

my $writer = PlatSession->of($node, 'app');
my $append = q(INSERT INTO ledger SELECT platpat.append_event('late', 'l', 'made', '{}'));
my $states = q(SELECT bool_and(position < platpat.last_position()), string_agg(DISTINCT coalesce(blocking_gid, blocking_pid::text), ' ')
	FROM platpat.stat_projections WHERE projection = 'worker');
for my $end ('COMMIT', 'ROLLBACK', q(COMMIT PREPARED 'it''s'), q(ROLLBACK PREPARED 'it''s'))
{
	my $pid = $writer->ask('SELECT pg_backend_pid()');
	$writer->ask("BEGIN; SELECT platpat.set_tenant('tenant 3'); $append");
	$writer->ask(q(PREPARE TRANSACTION 'it''s')) if $end =~ /PREPARED/;
	query("SET platpat.allow_bypass_role = on; SELECT platpat.set_tenant('tenant 2', false); ${append}; " =~ s/'l'/'k'/r) for 1 .. 2;
	is(query($states), 't|' . ($end =~ /PREPARED/ ? q(it's) : $pid), "before $end later events wait for that transaction");
	is($consumer->poll, 0, 'for consumers, too');
	$end =~ /PREPARED/ ? query($end) : $writer->ask($end);
	ok(wait_for_worker(q('worker')), 'after it they come');
	is($consumer->poll, $end =~ /^COMMIT/ ? 3 : 2, 'all of them');
	applied_once('worker', 'each once');
}
none($consumer->{wrong}, 'in order');
# Of two connections one has not looked for long when a writer begins.
my ($one, $other) = @{ $consumer->{connections} };
my $other_append = q(SET platpat.allow_bypass_role = on; SELECT platpat.set_tenant('tenant 2', false); ) . $append =~ s/'l'/'k'/r;
query($other_append);
$one->ask('SELECT platpat.event_watermark()');
$writer->ask("BEGIN; SELECT platpat.set_tenant('tenant 3'); $append");
my $fetched = $one->ask(q(SELECT max(position) FROM platpat.fetch_events('consumer')));
is($other->ask("SELECT platpat.ack_events('consumer', $fetched)"), $fetched, 'what one connection has fetched another acknowledges');
$writer->ask('COMMIT');

# Nobody appends after this, so nobody else wakes the worker.
query(q(BEGIN; SET LOCAL platpat.allow_bypass_role = on; SELECT platpat.set_tenant('tenant 2'); ) . $append . q(; PREPARE TRANSACTION 'alone'));
query(q(COMMIT PREPARED 'alone'));
ok(wait_for_worker(q('worker')), 'the event of a prepared transaction comes by itself');
$runner->ask(q(BEGIN; SELECT platpat.run_projections('worker')));
query(q(SET platpat.allow_bypass_role = on; SELECT platpat.set_tenant('tenant 2', false); ) . $append);
ok(wait_for_worker(q('tenants')), 'while a session has a projection the worker does the others');
$runner->ask('ROLLBACK');
ok(wait_for_worker(q('worker')), 'and comes back to that one');

# A transaction's snapshot may be older than a projection.
$writer->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM ledger');
query(q(SELECT make_projection('young', mode => 'inline')));
$writer->ask("SELECT platpat.set_tenant('tenant 3'); $append; COMMIT");
$writer->ask("BEGIN; SELECT platpat.set_tenant('tenant 3'); $append; COMMIT");
applied_once('young', 'an append with an older snapshot is applied inline, as are later ones');
$_->quit for $writer, $runner, $rebuilder, $reader, $naive, $flipper, @{ $consumer->{connections} };

# ------------------------------------------------------------------- disasters

query(q(SELECT make_projection('slow', batch_size => 50, extra => 'PERFORM pg_sleep(0.05);')));
sub worker_pid
{
	my $pid = '';

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$pid = query(q(SELECT a.pid FROM pg_stat_activity a WHERE backend_type = 'platpat worker' AND wait_event = 'PgSleep'));
		last if $pid ne '';
		select undef, undef, undef, 0.02;
	}
	return $pid;
}

# Being canceled is not the fault of an event.
query(q(SELECT platpat.alter_projection('slow', batch_size => 1)));
ok($node->poll_query_until('postgres', q(SELECT failures > 0 OR (SELECT bool_and(NOT pg_cancel_backend(pid))
		FROM pg_stat_activity WHERE backend_type = 'platpat worker' AND wait_event = 'PgSleep')
	FROM platpat.stat_projections WHERE projection = 'slow')),
	'a projection whose worker is canceled has failed');
is(query(q(SELECT count(*) FROM platpat.dead_events)), '0', 'but no event is put aside for that');
query(q(SELECT platpat.alter_projection('slow', batch_size => 100)));

for my $disaster (qw(terminate worker backend))
{
	my $offset = -s $node->logfile;

	$storm = storm(60, 8, @all);
	my $pid = worker_pid();
	query("SELECT pg_terminate_backend($pid)") if $disaster eq 'terminate';
	$pid = query(q(SELECT pid FROM pg_stat_activity WHERE usename = 'app' ORDER BY random() LIMIT 1)) if $disaster eq 'backend';
	kill 'KILL', $pid if $disaster ne 'terminate';
	if ($disaster eq 'terminate')
	{
		$storm->{run}->signal('TERM');
	}
	else
	{
		$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	}
	eval { IPC::Run::finish($storm->{run}) };
	$node->poll_query_until('postgres', 'SELECT true');
	# What was prepared is on the ledger, too, when it commits.
	query(join ';', map { "COMMIT PREPARED '$_'" } split /\n/, query('SELECT gid FROM pg_prepared_xacts'));
	ok(wait_for_worker(q('slow', 'worker', 'tenants')), "$disaster: there is a worker again");
	log_is_right("$disaster: the log is what was committed");
	applied_once($_, "$disaster, $_: every event is applied once") for qw(slow worker tenants inline);
}

# The extension goes while somebody appends, and another takes its place.
my $dropper = PlatSession->of($node, 'postgres');
my $appender = PlatSession->of($node, 'postgres');
my $naked = q(SELECT platpat.append_event('a', 'b', 'c', '{}'));
isnt($appender->ask($naked), '', 'a session appends');
$dropper->ask('BEGIN; SET LOCAL platpat.allow_drop = on; SET LOCAL client_min_messages = error; DROP EXTENSION platpat CASCADE');
$appender->tell($naked);
$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%append_event%' AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()));
$dropper->ask('COMMIT');
is($appender->answer, 'ERROR 42P01', 'one that waits for DROP EXTENSION finds nothing to append to');
query('CREATE EXTENSION platpat');
is($appender->ask($naked), '1', 'and begins anew when it has come back');
$_->quit for $dropper, $appender;

unlike(slurp_file($node->logfile), qr/TRAP|PANIC|signal 11|signal 6/, 'nothing has crashed by itself');
$node->stop;

done_testing();
