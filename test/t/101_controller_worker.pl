# Controllers in the background worker: what differs is repaired when somebody
# says so, what fails or hangs or kills the process is its own harm only, and
# nobody is called twice at a time or for nothing.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PlatSession;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

# A long time, so that nothing comes about by itself.
my $never = '1 hour';
my $node = new_node('controllers', conf => q(
log_line_prefix = '%m [%p] %b '
restart_after_crash = on
platpat.worker_statement_timeout = 1s
platpat.worker_linger = 200ms
log_statement = none
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
	die "never true: $sql";
}

sub log_since
{
	my ($offset) = @_;

	return slurp_file($node->logfile, $offset);
}

sub status_of
{
	my ($controller) = @_;

	return query("SELECT concat_ws(' ', status, sqlstate, error) FROM platpat.controller_status WHERE controller = '$controller'");
}

sub is_ready
{
	my ($controller, $timeout) = @_;

	$timeout //= '1 min';
	return query("SELECT platpat.wait_ready('$controller', '$timeout')");
}

sub workers
{
	my ($dbname) = @_;

	return query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'platpat worker' AND datname = '$dbname'");
}

# make($name, body => ..., period => ..., trigger => 1): tables wanted_$name and
# real_$name with a controller that copies rows from the one to the other and
# notes its calls.  body comes before that.
query(q(
CREATE TABLE calls (controller text, key text, at timestamptz DEFAULT clock_timestamp(), pid int DEFAULT pg_backend_pid(), note text);
CREATE ROLE maker LOGIN;
GRANT CREATE ON SCHEMA public TO maker;
GRANT ALL ON calls TO maker;
CREATE FUNCTION make(name text, body text, period interval, wakes boolean, owner text) RETURNS void LANGUAGE plpgsql AS $make$
BEGIN
	EXECUTE format($f$
		CREATE TABLE %1$I (key text PRIMARY KEY, spec jsonb);
		CREATE TABLE %2$I (key text PRIMARY KEY, spec jsonb);
		CREATE FUNCTION %3$I(k text, desired jsonb, actual jsonb) RETURNS void LANGUAGE plpgsql AS $a$
		BEGIN
			%4$s
			INSERT INTO public.calls (controller, key) VALUES (%5$L, k);
			IF desired IS NULL THEN
				DELETE FROM %2$I WHERE key = k;
			ELSE
				INSERT INTO %2$I VALUES (k, desired) ON CONFLICT (key) DO UPDATE SET spec = excluded.spec;
			END IF;
		END $a$;
		GRANT ALL ON %1$I, %2$I TO maker;
		ALTER FUNCTION %3$I OWNER TO %6$I $f$, 'wanted_' || name, 'real_' || name, 'apply_' || name, body, name, owner);
	IF wakes THEN
		EXECUTE format('CREATE TRIGGER wake AFTER INSERT OR UPDATE OR DELETE ON %I
			FOR EACH STATEMENT EXECUTE FUNCTION platpat.wake_controller(%L)', 'wanted_' || name, name);
	END IF;
	PERFORM platpat.create_controller(name, ('wanted_' || name)::regclass, ('real_' || name)::regclass,
		format('apply_%s(text, jsonb, jsonb)', name)::regprocedure, period => make.period, prune => true);
END $make$));

sub make
{
	my ($name, %opt) = @_;
	my $wakes = $opt{wakes} // 1;
	my $period = $opt{period} // $never;

	$node->safe_psql('postgres',
		"SELECT make('$name', \$body\$" . ($opt{body} // '') . "\$body\$, '$period', ${wakes}::boolean, '" . ($opt{owner} // 'postgres') . "')");
	return;
}

sub calls
{
	my ($controller) = @_;

	return query("SELECT coalesce(string_agg(key, ' ' ORDER BY at), '') FROM calls WHERE controller = '$controller'");
}

# --------------------------------------------------------------- being woken

make('plain', wakes => 0);
is(is_ready('plain'), 't', 'a new controller is looked at at once');
query(q(INSERT INTO wanted_plain VALUES ('a', '1')));
my $seen = query(q(SELECT last_reconciled FROM platpat.controller_status WHERE controller = 'plain'));
query(q(SELECT platpat.wake_controller('plain')));
until_true(q(SELECT spec = '1' FROM real_plain WHERE key = 'a'));
pass('wake_controller() has the worker bring it about, however long the period is');
query(q(BEGIN; INSERT INTO wanted_plain VALUES ('b', '1'); SELECT platpat.wake_controller('plain'); ROLLBACK));
query(q(INSERT INTO wanted_plain VALUES ('c', null)));
is(is_ready('plain'), 't', 'wait_ready() wakes it, too');
is(calls('plain'), 'a c', 'and it does what is to be done, once');
query(q(UPDATE wanted_plain SET spec = '2' WHERE key = 'a'; DELETE FROM wanted_plain WHERE key = 'c'));
is(is_ready('plain'), 't', 'after a change and a deletion as well');
is(query('TABLE real_plain'), 'a|2', 'which it follows');

make('woken');
query(q(INSERT INTO wanted_woken SELECT i::text, '{}' FROM generate_series(1, 50) i));
until_true('SELECT count(*) = 50 FROM real_woken');
query('TRUNCATE wanted_woken; DELETE FROM wanted_woken');
until_true('SELECT count(*) = 0 FROM real_woken');
pass('a trigger on the desired table makes it happen');
is(query(q(SELECT found || ' ' || repaired FROM platpat.controller_status WHERE controller = 'woken')), '100 100', 'and every difference is counted');

# A controller whose doing is another's desired state wakes that, too.
make('second');
query(q(CREATE VIEW wanted_first AS SELECT key, spec FROM wanted_plain WHERE key = 'chain';
CREATE FUNCTION apply_first(k text, desired jsonb, actual jsonb) RETURNS void LANGUAGE sql
	AS $$ INSERT INTO wanted_second VALUES (k, desired) $$;
SELECT platpat.create_controller('first', 'wanted_first', 'wanted_second', 'apply_first(text, jsonb, jsonb)', period => '1 hour')));
is(is_ready('first') . is_ready('second'), 'tt', 'two controllers in a chain');
query(q(INSERT INTO wanted_plain VALUES ('chain', '1'); SELECT platpat.wake_controller('first'), platpat.wake_controller('plain')));
until_true(q(SELECT count(*) = 1 FROM real_second));
pass('what one does wakes the next');

# While another session is at it the worker does not wait, and does not forget.
make('busy');
is(is_ready('busy'), 't', 'a controller');
my $session = PlatSession->of($node, 'postgres');
$session->ask(q(BEGIN; SELECT * FROM platpat.reconcile('busy')));
query(q(INSERT INTO wanted_busy VALUES ('a', '1')));
is(is_ready('busy', '1500 ms'), 'f', 'that another session is reconciling is not ready');
is(is_ready('plain'), 't', 'which keeps no other from being so');
is(query('SELECT count(*) FROM pg_locks WHERE NOT granted'), 0, 'nor does anybody wait for a lock');
my $commits = query(q(SELECT pg_stat_force_next_flush(); SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres')) =~ s/\s//gr;
my $from = time;
select undef, undef, undef, 3;
my $later = query(q(SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'));
cmp_ok($later - $commits, '<', 300, 'and the worker does not spin meanwhile');
$session->ask('COMMIT');
$session->quit;
until_true('SELECT count(*) = 1 FROM real_busy');
pass('what it was woken for meanwhile comes afterwards');

# ------------------------------------------------------------ what fails

make('failing', body => q(IF desired ? 'poison' THEN RAISE EXCEPTION 'no %', k; END IF;));
my $offset = -s $node->logfile;
query(q(INSERT INTO wanted_failing VALUES ('a', '{}'), ('b', '{"poison": 1}'), ('c', '{}')));
until_true(q(SELECT count(*) = 2 FROM real_failing));
until_true(q(SELECT status = 'Failed' FROM platpat.controller_status WHERE controller = 'failing'));
is(status_of('failing'), 'Failed P0001 b: no b', 'a key that fails is told, the others are done');
is(query(q(SELECT attempts, error, next_attempt > clock_timestamp() FROM platpat.controller_keys WHERE controller = 'failing' AND key = 'b')),
	'1|no b|t', 'and will be tried again');
is(is_ready('failing', '200 ms'), 'f', 'wait_ready() is false when the time is over');
until_true(q(SELECT attempts = 2 FROM platpat.controller_keys WHERE controller = 'failing' AND key = 'b'));
ok(query(q(SELECT next_attempt > clock_timestamp() + interval '6 s' FROM platpat.controller_keys WHERE controller = 'failing' AND key = 'b')) eq 't',
	'after a while that grows');
like(log_since($offset), qr/controller "failing" could not create "b": no b/, 'the log has heard of it');
query(q(UPDATE wanted_failing SET spec = '{"ok": 1}' WHERE key = 'b'));
$from = time;
is(is_ready('failing'), 't', 'repairing the specification makes it due');
cmp_ok(time - $from, '<', 5, 'at once');
is(status_of('failing'), 'Ready', 'and all is well');
is(query(q(SELECT string_agg(type || ' ' || status || ' ' || reason, ', ' ORDER BY type) FROM platpat.conditions WHERE controller = 'failing')),
	'Contested False Uncontested, Failed False Ready, Paused False Ready, Ready True InSync, Reconciling False Ready', 'as the conditions say');

# An error of the moment.
query('CREATE TABLE patience (n int); INSERT INTO patience VALUES (0)');
make('momentary', body => q(IF desired ? 'busy' THEN RAISE EXCEPTION 'busy' USING ERRCODE = '55P03'; END IF;));
query(q(INSERT INTO wanted_momentary VALUES ('a', '{"busy": 1}')));
until_true(q(SELECT error = 'busy' FROM platpat.controller_keys WHERE controller = 'momentary'));
my $first = query(q(SELECT next_attempt FROM platpat.controller_keys WHERE controller = 'momentary'));
until_true(qq(SELECT next_attempt > '$first'::timestamptz + interval '1 s' FROM platpat.controller_keys WHERE controller = 'momentary'));
is(query(q(SELECT attempts, next_attempt < clock_timestamp() + interval '6 s' FROM platpat.controller_keys WHERE controller = 'momentary')),
	'1|t', 'what fails for the moment is tried again soon, however often');
query(q(UPDATE wanted_momentary SET spec = '{}'));

# What hangs.
make('hanging', body => q(IF desired ? 'hang' THEN PERFORM pg_sleep(600); END IF;));
query(q(INSERT INTO wanted_hanging SELECT i::text, '{"hang": 1}' FROM generate_series(0, 8) i; INSERT INTO wanted_hanging VALUES ('z', '{}');
	INSERT INTO wanted_woken VALUES ('while it hangs', '{}')));
until_true(q(SELECT error LIKE '%timeout%' FROM platpat.controller_keys WHERE controller = 'hanging' AND key = '0'));
is(query(q(SELECT sqlstate FROM platpat.controller_keys WHERE controller = 'hanging' AND key = '0')), '57014', 'what hangs is ended, and told');
until_true(q(SELECT count(*) = 1 FROM real_woken));
is(query(q(SELECT count(*) < 9 FROM platpat.controller_keys WHERE controller = 'hanging' AND error LIKE '%timeout%')), 't',
	'another controller has its turn before all keys have hung');
until_true(q(SELECT count(*) = 1 FROM real_hanging));
pass('and so has the last key');
query(q(DELETE FROM wanted_hanging WHERE spec ? 'hang'));
is(is_ready('hanging'), 't', 'without them it is ready');

# One that catches its cancellation goes with the worker, and waits like a
# failure; the others have their turn.
my $stubborn = -s $node->logfile;
make('stubborn', body => q(
	WHILE desired ? 'stay' LOOP
		BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END;
	END LOOP;));
query(q(INSERT INTO wanted_stubborn VALUES ('a', '{"stay": 1}'), ('b', '{}')));
$node->wait_for_log(qr/platpat worker FATAL:  terminating background worker/, $stubborn);
until_true(q(SELECT count(*) = 1 FROM real_stubborn));
is(query(q(SELECT attempts IN (1, 2) FROM platpat.controller_keys WHERE controller = 'stubborn' AND key = 'a')), 't',
	'who does not let himself be canceled is ended');
query(q(DELETE FROM wanted_stubborn WHERE key = 'a'));
is(is_ready('stubborn'), 't', 'and keeps nobody from anything');

# A controller that is asked for all the time does not keep the worker busy.
make('popular', wakes => 0);
query(q(INSERT INTO wanted_popular SELECT i::text, '{}' FROM generate_series(1, 2000) i));
is(is_ready('popular'), 't', 'a controller with many keys');
my $woken = '';
my $popular_dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$popular_dir/wake.sql", "SELECT platpat.wake_controller('popular');\n\\sleep 1 ms\n");
IPC::Run::run([ 'pgbench', '-n', '-c', 2, '-T', 3, '-f', "$popular_dir/wake.sql", $node->connstr('postgres') ], '<', \undef, '>', \$woken, '2>&1')
  or diag($woken);
make('patient');
query(q(INSERT INTO wanted_patient VALUES ('a', '{}')));
is(is_ready('patient'), 't', 'leaves others their turn');

# -------------------------------------------------- what meddles with itself

query(q(CREATE ROLE operator SUPERUSER));
make('gone', body => q(IF k = 'b' THEN PERFORM platpat.drop_controller('gone'); END IF;));
make('restless', body => q(IF k = 'b' THEN PERFORM platpat.alter_controller('restless', paused => true); END IF;));
make('breeding', body => q(IF length(k) < 5 THEN INSERT INTO wanted_breeding VALUES (k || 'x', desired); END IF;));
make('nested', body => q(PERFORM * FROM platpat.reconcile('plain');));
make('self', body => q(PERFORM * FROM platpat.reconcile('self');));
query(qq(INSERT INTO wanted_$_ VALUES ('a', '{}'), ('b', '{}'), ('c', '{}'))) for qw(gone restless breeding nested self);
until_true(q(SELECT count(*) = 0 FROM platpat.controller_status WHERE controller = 'gone'));
is(calls('gone'), 'a b', 'a controller that drops itself is gone');
is(query(q(SELECT (SELECT count(*) FROM platpat.controller_keys WHERE controller = 'gone') +
	(SELECT count(*) FROM platpat.controller_states WHERE controller = 'gone') +
	(SELECT count(*) FROM platpat.conditions WHERE controller = 'gone'))), 0, 'without a trace');
until_true(q(SELECT count(*) = 2 FROM real_restless));
is(status_of('restless'), 'Paused', 'one that pauses itself rests');
is(is_ready('breeding'), 't', 'one that changes what is desired');
is(query(q(SELECT count(*) FROM real_breeding)), 15, 'does that, too');
until_true(qq(SELECT count(*) = 3 FROM platpat.controller_keys WHERE controller = '$_' AND error IS NOT NULL)) for qw(nested self);
is(query(qq(SELECT string_agg(DISTINCT sqlstate || ' ' || error, ', ') FROM platpat.controller_keys WHERE controller = '$_')),
	'55000 cannot reconcile while reconciling', "one that reconciles ($_) is refused") for qw(nested self);
is(calls('restless'), 'a b', 'the one that rests rests');
query(q(SELECT platpat.alter_controller('restless', paused => false)));
is(is_ready('restless') . calls('restless'), 'ta b c', 'and goes on when it is told to');
query(q(SELECT platpat.drop_controller(c) FROM unnest('{nested,self,breeding}'::text[]) c));

# What a function leaves behind.
make('leaking', owner => 'maker', body => q(
	INSERT INTO calls (controller, key, note) VALUES ('leaks', k, concat_ws(' ', platpat.current_tenant_or_null(),
		nullif(current_setting('work_mem'), '4MB'), nullif(current_setting('row_security'), 'on'), nullif(current_setting('lock_timeout'), '1s'),
		nullif(current_setting('statement_timeout'), '0'),
		nullif(current_setting('search_path'), 'public, pg_temp'), nullif(current_setting('leak.age', true), ''),
		(SELECT 'lock' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() LIMIT 1)));
	PERFORM platpat.set_tenant('tenant ' || k);
	SET work_mem = '5MB'; SET row_security = off; PERFORM set_config('leak.age', '7', false);
	SET search_path = nowhere, public; SET lock_timeout = 1; SET statement_timeout = 77777;
	PERFORM pg_advisory_lock(hashtext(k));
	IF k = 'c' THEN RAISE EXCEPTION 'c'; END IF;
	));
query(q(INSERT INTO wanted_leaking SELECT chr(ascii('a') + i), '{}' FROM generate_series(0, 4) i));
until_true(q(SELECT drift = 1 FROM platpat.controller_status WHERE controller = 'leaking'));
is(query(q(SELECT string_agg(DISTINCT note, ', ') FROM calls WHERE controller = 'leaks')), '', 'settings, tenants and locks of one call are not the next one\'s');
is(query(q(SELECT count(*) FROM calls WHERE controller = 'leaks')), 4, 'of those that were not undone');
query(q(SELECT platpat.drop_controller('leaking')));

# -------------------------------------------------------- what is not there

make('homeless');
query(q(INSERT INTO wanted_homeless VALUES ('a', '{}')));
is(is_ready('homeless'), 't', 'a controller');
my @losses = (
	[ 'a function that is dropped', 'ALTER FUNCTION apply_homeless RENAME TO away', 'ALTER FUNCTION away RENAME TO apply_homeless', qr/^Failed 42883 function public\.apply_homeless\(/ ],
	[ 'a desired relation that is renamed', 'ALTER TABLE wanted_homeless RENAME TO away', 'ALTER TABLE away RENAME TO wanted_homeless', qr/^Failed 42P01 relation public\.wanted_homeless does not exist/ ],
	[ 'an actual relation that is renamed', 'ALTER TABLE real_homeless RENAME TO away', 'ALTER TABLE away RENAME TO real_homeless', qr/^Failed 42P01 relation public\.real_homeless does not exist/ ],
	[ 'a column that has another name', 'ALTER TABLE wanted_homeless RENAME spec TO away', 'ALTER TABLE wanted_homeless RENAME away TO spec', qr/^Failed 22023 relation "wanted_homeless" has no column "spec" of type jsonb/ ],
	[ 'a column of another type', 'ALTER TABLE real_homeless ALTER spec TYPE text', 'ALTER TABLE real_homeless ALTER spec TYPE jsonb USING spec::jsonb', qr/^Failed 22023 / ],
	[ 'a schema that is renamed', 'ALTER SCHEMA public RENAME TO away', 'ALTER SCHEMA away RENAME TO public', qr/^Failed 42883 / ]);
for my $loss (@losses)
{
	my ($name, $break, $mend, $expected) = @$loss;

	query("$break; SELECT platpat.wake_controller('homeless')");
	until_true(q(SELECT status = 'Failed' FROM platpat.controller_status WHERE controller = 'homeless'));
	like(status_of('homeless'), $expected, "$name is told");
	query($mend);
	query(q(SELECT platpat.wake_controller(controller) FROM platpat.controllers));
	is(is_ready('homeless') . is_ready('plain'), 'tt', 'and when it is there again all is well');
}
query('DROP FUNCTION apply_homeless');
query(q(SELECT platpat.wake_controller('homeless')));
until_true(q(SELECT status = 'Failed' FROM platpat.controller_status WHERE controller = 'homeless'));
query(q(CREATE FUNCTION apply_homeless(text, jsonb, jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO real_homeless VALUES ($1, $2) $$));
until_true(q(SELECT status = 'Ready' FROM platpat.controller_status WHERE controller = 'homeless'));
pass('nobody has to tell it so');

# ------------------------------------------------------------- the definition

query(q(SELECT platpat.alter_controller('plain', paused => true); UPDATE wanted_plain SET spec = '3' WHERE key = 'a'; SELECT platpat.wake_controller('plain')));
is(is_ready('woken'), 't', 'another one works');
is(query(q(SELECT spec FROM real_plain WHERE key = 'a')), '2', 'while one that is paused rests');
is((run_as($node, 'postgres', q(SELECT platpat.wait_ready('plain'))))[0], '55000', 'nobody waits for it');
query(q(SELECT platpat.alter_controller('plain', paused => false)));
is(is_ready('plain'), 't', 'until it goes on');
is(query(q(SELECT generation, observed_generation FROM platpat.controller_status WHERE controller = 'plain')), '1|1', 'pausing is no new generation');
query(q(SELECT platpat.alter_controller('plain', period => '2 hours', prune => false)));
is(is_ready('plain'), 't', 'changing it is');
is(query(q(SELECT generation, observed_generation FROM platpat.controller_status WHERE controller = 'plain')), '2|2', 'and the next pass observes it');
$session = PlatSession->of($node, 'postgres');
$session->ask(q(BEGIN; SELECT * FROM platpat.reconcile('plain')));
my $altering = PlatSession->of($node, 'postgres');
$altering->tell(q(SELECT platpat.alter_controller('plain', period => '3 hours')));
$session->ask('COMMIT');
$altering->answer;
is(is_ready('plain') . query(q(SELECT observed_generation FROM platpat.controller_status WHERE controller = 'plain')), 't3', 'amid a pass as well');

# Who was waiting for a change of the controller heeds it.
query(q(UPDATE wanted_plain SET spec = '4' WHERE key = 'a'));
$altering->ask(q(BEGIN; SELECT platpat.alter_controller('plain', mode => 'observe')));
$session->tell(q(SELECT count(*) FROM platpat.reconcile('plain')));
until_true(q(SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%count% FROM platpat.reconcile%'));
$altering->ask('COMMIT');
is($session->answer . query(q(SELECT spec FROM real_plain WHERE key = 'a')), '03', 'who has waited for a controller that only observes by now does nothing');
$_->quit for $session, $altering;
query(q(SELECT platpat.alter_controller('plain', mode => 'enforce')));

$offset = -s $node->logfile;
query(q(SELECT platpat.alter_controller('woken', mode => 'observe')));
is(is_ready('woken'), 't', 'a controller that observes');
my $done = calls('woken');
query(q(INSERT INTO wanted_woken VALUES ('observed', '{}')));
until_true(q(SELECT drift = 1 FROM platpat.controller_status WHERE controller = 'woken'));
is(is_ready('woken', '300 ms'), 'f', 'is not ready while there is a difference');
query(q(SELECT platpat.wake_controller('woken')));
is(is_ready('plain') . calls('woken'), "t$done", 'about which it does nothing');
is(scalar(() = log_since($offset) =~ /controller "woken" has found a difference at "observed"/g), 1, 'and says one line in the log');
is(query(q(SELECT string_agg(name || ' ' || value, ', ' ORDER BY name) FROM platpat.metrics() WHERE labels->>'controller' = 'woken'
	AND name IN ('platpat_controller_drift', 'platpat_controller_ready'))), 'platpat_controller_drift 1, platpat_controller_ready 0', 'metrics() says so');
query(q(SELECT platpat.alter_controller('woken', mode => 'enforce')));
is(is_ready('woken'), 't', 'until it enforces');

# -------------------------------------------------------------------- crashes

# Wait for what crashes or ends the process that runs it.
sub killer
{
	my ($name, $how) = @_;

	make($name, body => qq(
		IF desired ? 'kill' THEN
			PERFORM pg_sleep(0.1);
			$how
			PERFORM pg_sleep(10);
		END IF;));
	return;
}
query(q(CREATE EXTENSION IF NOT EXISTS plpgsql; CREATE TABLE victim (pid int)));
killer('ending', 'PERFORM pg_terminate_backend(pg_backend_pid());');
killer('crashing', q(COPY (SELECT pg_backend_pid()) TO PROGRAM 'read pid; kill -9 $pid';));
# Wait until the process has ended, and the server can be asked again.
sub until_ended
{
	my ($name, $since) = @_;

	$node->wait_for_log($name eq 'ending' ? qr/background worker "platpat worker" \(PID \d+\) exited with exit code 1/
		: qr/all server processes terminated; reinitializing/, $since);
	until_true('SELECT true');
	return;
}

for my $name (qw(ending crashing))
{
	$offset = -s $node->logfile;
	query(qq(INSERT INTO wanted_$name SELECT chr(ascii('a') + i), CASE WHEN i = 3 THEN '{"kill": 1}' ELSE '{}' END::jsonb FROM generate_series(0, 8) i));
	until_ended($name, $offset);
	is(query(qq(SELECT attempts, next_attempt > clock_timestamp() FROM platpat.controller_keys WHERE controller = '$name' AND key = 'd')),
		'1|t', "$name: what has ended the process was noted before");
	until_true(qq(SELECT count(*) = 8 FROM real_$name));
	cmp_ok(query(qq(SELECT attempts FROM platpat.controller_keys WHERE controller = '$name' AND key = 'd')), '<=', 2, 'the rest follows, before that is tried again');
	is(query(qq(SELECT string_agg(key, ' ' ORDER BY key) FROM calls WHERE controller = '$name' AND pid = (SELECT pid FROM calls WHERE controller = '$name' AND key = 'a'))),
		'a b c', 'what was done before stays done');
	is(query(qq(SELECT count(*), count(DISTINCT key) FROM calls WHERE controller = '$name')), '8|8', 'and nothing is done twice');
	my $second = -s $node->logfile;
	until_true(qq(SELECT attempts = 2 FROM platpat.controller_keys WHERE controller = '$name' AND key = 'd'));
	until_ended($name, $second);
	cmp_ok(scalar(() = log_since($offset) =~ /background worker "platpat worker" \(PID \d+\) (?:exited with exit code 1|was terminated by signal 9)/g),
		'<=', 3, 'it is tried again, and not in a loop');
	query(qq(DELETE FROM wanted_$name WHERE key = 'd'));
	is(is_ready($name), 't', 'without it all is well');
}

# A worker that is killed from outside, whose wakings are not lost.
make('killed', body => 'PERFORM pg_sleep(0.05);');
is(is_ready('killed'), 't', 'a controller');
query(q(INSERT INTO wanted_killed SELECT i::text, '{}' FROM generate_series(1, 30) i));
until_true('SELECT count(*) > 3 FROM real_killed');
$offset = -s $node->logfile;
query(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'platpat worker'));
until_true('SELECT count(*) = 30 FROM real_killed');
is(query(q(SELECT count(*) FROM calls WHERE controller = 'killed' GROUP BY key HAVING count(*) > 1)), '', 'a worker that is ended amid a pass is followed by one that does the rest, once');
query(q(DELETE FROM wanted_killed));
until_true('SELECT count(*) < 27 FROM real_killed');
$offset = -s $node->logfile;
my $worker = query(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'platpat worker' AND datname = 'postgres'));
kill 'KILL', $worker;
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
until_true('SELECT count(*) = 0 FROM real_killed');
pass('so is one that is killed');

# ------------------------------------------------------------- all at once

query(q(CREATE TABLE turns (key text PRIMARY KEY); INSERT INTO turns SELECT generate_series(1, 20)));
make('crowd', period => '1 s', body => q(
	PERFORM FROM turns WHERE key = k FOR UPDATE NOWAIT;
	IF desired = actual THEN RAISE EXCEPTION 'for nothing'; END IF;
	PERFORM pg_sleep(random() * 0.002);));
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/reconcile.sql", "SELECT * FROM platpat.reconcile('crowd');\n");
append_to_file("$dir/change.sql", "\\set k random(1, 20)\n\\set v random(1, 1000000)\n"
	. "INSERT INTO wanted_crowd VALUES (:k::text, :v::text::jsonb) ON CONFLICT (key) DO UPDATE SET spec = excluded.spec;\n\\sleep 5 ms\n");
append_to_file("$dir/drop.sql", "\\set k random(1, 20)\nDELETE FROM wanted_crowd WHERE key = :k::text;\n\\sleep 20 ms\n");
my $out = '';
ok(IPC::Run::run([ 'pgbench', '-n', '-c', 10, '-T', 4, '-f', "$dir/reconcile.sql\@5", '-f', "$dir/change.sql\@10", '-f', "$dir/drop.sql\@2",
	$node->connstr('postgres') ], '<', \undef, '>', \$out, '2>&1'), 'many sessions reconcile') or diag($out);
like($out, qr/number of failed transactions: 0 /, 'and meet no error');
is(is_ready('crowd'), 't', 'in the end it is ready');
is(query('SELECT count(*) FROM (TABLE wanted_crowd EXCEPT TABLE real_crowd) a') . query('SELECT count(*) FROM (TABLE real_crowd EXCEPT TABLE wanted_crowd) a'), '00', 'and what is is what shall be');
unlike(log_since($offset), qr/controller "crowd" could not/, 'no key was worked at twice at a time, and none for nothing');
cmp_ok(query(q(SELECT count(DISTINCT pid) FROM calls WHERE controller = 'crowd')), '>', 2, 'by several sessions');

# Somebody undoes what is repaired.
make('contested');
is(is_ready('contested'), 't', 'a controller');
query(q(INSERT INTO wanted_contested VALUES ('a', '{}'), ('quiet', '{}')));
$offset = -s $node->logfile;
for my $round (1 .. 8)
{
	$node->poll_query_until('postgres', q(SELECT EXISTS (SELECT FROM real_contested WHERE key = 'a')
		OR EXISTS (SELECT FROM platpat.conditions WHERE controller = 'contested' AND type = 'Contested' AND status = 'True')));
	query(q(DELETE FROM real_contested WHERE key = 'a'; SELECT platpat.wake_controller('contested')));
}
until_true(q(SELECT status = 'True' AND reason = 'DriftReturns' FROM platpat.conditions WHERE controller = 'contested' AND type = 'Contested'));
pass('what is undone again and again is contested');
is(query(q(SELECT contested FROM platpat.controller_status WHERE controller = 'contested')), 1, 'one key of two');
query(q(DELETE FROM real_contested WHERE key = 'a'; SELECT platpat.wake_controller('contested')));
my $before = calls('contested');
$from = Time::HiRes::time;
for (1 .. 20)
{
	query(q(DELETE FROM real_contested WHERE key = 'a'; SELECT platpat.wake_controller('contested')));
	select undef, undef, undef, 0.1;
}
cmp_ok(length(calls('contested')) - length($before), '<=', 4, 'and repaired more slowly');
until_true(q(SELECT count(*) = 1 FROM real_contested WHERE key = 'a'));
pass('but it is');
is(scalar(() = log_since($offset) =~ /controller "contested" repairs the same again and again/g), 1, 'the log hears of that once');

# ------------------------------------------------------------------ restoring

query('CREATE DATABASE restored');
$node->command_ok([ 'pg_dump', '-f', "$dir/dump.sql", $node->connstr('postgres') ], 'a dump');
query(q(SELECT platpat.alter_controller('protections', mode => 'observe', period => '7 s')));
$node->command_ok([ 'pg_dump', '-f', "$dir/dump.sql", $node->connstr('postgres') ], 'a dump with a changed controller of our own');
query(q(SELECT platpat.alter_controller('protections', mode => 'enforce', period => '30 s')));
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", $node->connstr('restored') ], 'is restored');
is(query(q(SELECT mode, period, builtin FROM platpat.controllers WHERE controller = 'protections'), 'restored'), 'observe|00:00:07|t', 'with that change');
is(query(q(SELECT status FROM platpat.controller_status WHERE controller = 'protections'), 'restored') =~ /Ready|Reconciling/ ? 'works' : 'rests', 'works', 'and works');
query(q(UPDATE wanted_plain SET spec = '"restored"'; SELECT platpat.wake_controller('plain')), 'restored');
my $reconciled = query(q(SELECT platpat.wait_ready('protections', '1 min')), 'restored');
is($reconciled . query(q(SELECT string_agg(DISTINCT status, ' ') FROM platpat.controller_status s JOIN platpat.controllers c USING (controller) WHERE NOT builtin), 'restored'),
	'tPaused', 'controllers of users rest');
is(query(q(SELECT count(*) FROM real_plain WHERE spec = '"restored"'), 'restored'), 0, 'and do nothing');
query(q(SELECT platpat.alter_controller('plain', period => '1 h')), 'restored');
is(query(q(SELECT status FROM platpat.controller_status WHERE controller = 'plain'), 'restored'), 'Paused', 'also when they are changed');
query(q(SELECT platpat.alter_controller('plain', paused => false)), 'restored');
is(query(q(SELECT platpat.wait_ready('plain', '1 min')), 'restored'), 't', 'until they are told to work');
query('DROP DATABASE restored');

# ------------------------------------------------------------------ idleness

query('CREATE DATABASE idle');
query('CREATE EXTENSION platpat', 'idle');
query('CREATE DATABASE guarded');
query(q(CREATE EXTENSION platpat; CREATE TABLE t (tenant_id text); SELECT platpat.protect('t'); SELECT platpat.alter_controller('protections', period => '2 s')), 'guarded');
for my $dbname (qw(idle guarded))
{
	until_true(q(SELECT bool_and(last_reconciled IS NOT NULL) FROM platpat.controller_status), $dbname);
	until_true("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'platpat worker' AND datname = '$dbname'");
}
my %passes = map { $_ => query(q(SELECT max(last_reconciled) FROM platpat.controller_status), $_) } qw(idle guarded);
my $found = 0;
$from = Time::HiRes::time;
while (Time::HiRes::time - $from < 5)
{
	$found++ if workers('idle');
	select undef, undef, undef, 0.05;
}
is($found, 0, 'a database with nothing to look after has no worker');
is(query(q(SELECT max(last_reconciled) FROM platpat.controller_status), 'idle'), $passes{idle}, 'and nothing is looked after');
is(query("SELECT max(last_reconciled) > '$passes{guarded}' FROM platpat.controller_status", 'guarded'), 't', 'one with protected tables is looked after');
until_true("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'platpat worker' AND datname = 'guarded'");
pass('by a worker that leaves');
query("DROP DATABASE $_") for qw(idle guarded);

# ----------------------------------------------------------------- privileges

query(q(
CREATE ROLE clerk LOGIN; CREATE ROLE author LOGIN; CREATE ROLE nobody LOGIN;
SELECT platpat.grant_admin('clerk'), platpat.grant_admin('author');
GRANT CREATE ON SCHEMA public TO author, clerk;
SET SESSION AUTHORIZATION author;
CREATE TABLE wanted_owned (key text, spec jsonb); CREATE TABLE real_owned (key text, spec jsonb, by text);
CREATE FUNCTION apply_owned(k text, desired jsonb, actual jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	IF desired->>'do' IS NOT NULL THEN EXECUTE desired->>'do'; END IF;
	INSERT INTO real_owned VALUES (k, desired, current_user); END $$;
));
my $create = q(SELECT platpat.create_controller('owned', 'wanted_owned', 'real_owned', 'apply_owned(text, jsonb, jsonb)', period => '1 hour'));
refused_as($node, 'nobody', $create, '42501', 'who is no administrator makes no controllers');
refused_as($node, 'clerk', $create, '42501', 'nor does one of another\'s function');
is((run_as($node, 'author', $create))[0], '', 'but of his own');
refused_as($node, 'clerk', q(SELECT platpat.alter_controller('owned', desired => 'real_owned')), '42501', 'nor does he change it');
refused_as($node, 'clerk', q(CREATE FUNCTION mine(text, jsonb, jsonb) RETURNS void LANGUAGE sql AS ''; SELECT platpat.alter_controller('owned', apply => 'mine(text, jsonb, jsonb)')),
	'42501', 'nor puts his in its place');
refused_as($node, 'clerk', q(SELECT platpat.alter_controller('owned', prune => true)), '42501', 'nor has it delete');
is((run_as($node, 'clerk', q(SELECT platpat.alter_controller('owned', paused => true), platpat.alter_controller('owned', paused => false))))[0], '', 'he may have it rest');
refused_as($node, 'author', qq(UPDATE platpat.$_ SET controller = 'x'), '42501', "nobody writes platpat.$_") for qw(controllers controller_states controller_keys conditions);
refused_as($node, 'nobody', q(SELECT * FROM platpat.reconcile()), '42501', 'or reconciles who may not');
my @escapes = ('SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION', 'RESET ROLE', 'ALTER ROLE author SUPERUSER', 'CREATE TEMP TABLE calls (n int)',
	'CREATE TABLE platpat.mine ()', q(COPY (SELECT 1) TO PROGRAM 'true'), 'SET session_replication_role = replica', 'TRUNCATE platpat.protections', 'LISTEN x');
for my $escape (@escapes)
{
	(my $quoted = $escape) =~ s/'/''/g;
	query("TRUNCATE wanted_owned; INSERT INTO wanted_owned VALUES ('k', jsonb_build_object('do', '$quoted')); SELECT platpat.wake_controller('owned')");
	until_true(qq(SELECT error IS NOT NULL OR NOT drifts FROM platpat.controller_keys WHERE controller = 'owned' AND key = 'k'));
	my $state = query(q(SELECT sqlstate FROM platpat.controller_keys WHERE controller = 'owned' AND key = 'k'));
	like($state, qr/^(42501|22023)$/, "a function cannot: $escape");
	query(q(TRUNCATE wanted_owned));
	is(is_ready('owned'), 't', 'and goes on');
}
query(q(INSERT INTO wanted_owned VALUES ('who', '{}')));
is(is_ready('owned') . query(q(SELECT by FROM real_owned WHERE key = 'who')), 'tauthor', 'it runs as its owner');

unlike(log_since(0), qr/TRAP|PANIC|XX000|\bplatpat worker ERROR/, 'the log has no error of ours');
$node->stop;
done_testing();
