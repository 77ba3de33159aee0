# Projections that the worker has trouble with do not trouble the others, and
# go on by themselves when the trouble is over; nor does the upkeep of the log.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('trouble', conf => "platpat.worker_linger = 0\nplatpat.worker_statement_timeout = 1s\n");
my $sql = sub { $node->safe_psql('postgres', $_[0]) };

$sql->(q{
	CREATE TABLE trouble (of text PRIMARY KEY);
	CREATE TABLE seen (by text, position bigint, PRIMARY KEY (by, position));
	CREATE FUNCTION note(who text, first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		IF EXISTS (SELECT FROM trouble WHERE of = who) THEN
			RAISE EXCEPTION '% has trouble', who USING ERRCODE = '55P03';
		END IF;
		INSERT INTO seen SELECT who, position FROM platpat.events WHERE position BETWEEN first AND last AND type = 'seen';
	END $$;
	CREATE FUNCTION a(first bigint, last bigint) RETURNS void LANGUAGE sql AS $$ SELECT note('a', first, last) $$;
	CREATE FUNCTION b(first bigint, last bigint) RETURNS void LANGUAGE sql AS $$ SELECT note('b', first, last) $$;
	SELECT platpat.create_projection('a', 'a(bigint, bigint)', '{seen}'), platpat.create_projection('b', 'b(bigint, bigint)', '{seen}');});

sub append { return $sql->(q{SELECT platpat.append_event('thing', '1', 'seen', '{}')}) }
sub reached
{
	my ($projection, $position) = @_;
	return $sql->("SELECT platpat.wait_for_projection('$projection', $position, '1 min')");
}
sub count_workers { return $sql->(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'platpat worker'}) }

my $first = append();
is(reached($_, $first), 't', "projection $_ works") for 'a', 'b';

# Nobody appends any more: what has failed for the moment is tried again all the
# same.
$sql->(q{INSERT INTO trouble VALUES ('a')});
my $second = append();
is(reached('b', $second), 't', 'one that fails does not hold the next up');
ok($node->poll_query_until('postgres', q{SELECT failures > 0 AND error = 'a has trouble' AND status = 'failing'
	FROM platpat.stat_projections WHERE projection = 'a'}), 'what fails is shown');
$sql->('DELETE FROM trouble');
is(reached('a', $second), 't', 'and tried again although nothing is appended');
is($sql->(q{SELECT status, failures FROM platpat.stat_projections WHERE projection = 'a'}), 'running|0', 'then it runs');

# A type that is rare in a long log: the search for the next batch is cut into
# pieces that fit into the time there is.
$sql->(q{SELECT platpat.create_projection('rare', 'a(bigint, bigint)', '{rare}')});
my $last = $sql->(q{SELECT max(platpat.append_event('thing', (i / 100)::text, 'common', '{}')) FROM generate_series(1, 210000) i});
is(reached($_, $last), 't', "$_ comes through a long log") for 'a', 'b', 'rare';
is($sql->('SELECT count(*) FROM platpat.stat_projections WHERE failures > 0'), '0', 'without a failure');

# Upkeep that fails is told, and nothing else comes of it.
is($sql->(q{SELECT platpat.wait_ready('event_partitions', '1 min')}), 't', 'the partitions are as they shall be');
$sql->(q{
	ALTER DATABASE postgres SET platpat.event_retention = '1d';
	DO $$ BEGIN
		CREATE TABLE platpat.events_old (LIKE platpat.events, PRIMARY KEY (position));
		CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.events_old EXECUTE FUNCTION platpat.guard_events();
		ALTER TABLE platpat.events ATTACH PARTITION platpat.events_old FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
	END $$;
	CREATE VIEW needs AS SELECT position FROM platpat.events_old;});
like($sql->(q{SELECT action FROM platpat.maintain_events() WHERE object = 'events_old'}),
	qr/^cannot be dropped: cannot drop table platpat.events_old because other objects depend on it/, 'a partition that something needs stays');
$sql->(q{SELECT platpat.wake_controller('event_partitions')});
ok($node->poll_query_until('postgres', q{SELECT status = 'Failed' AND error = 'events_old: cannot drop table platpat.events_old because other objects depend on it'
	FROM platpat.controller_status WHERE controller = 'event_partitions'}), 'the controller says so');
my $offset = -s $node->logfile;
my $third = append();
is(reached($_, $third), 't', "$_ goes on") for 'a', 'b';
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'platpat worker'}), 'the worker is done');
unlike(slurp_file($node->logfile, $offset), qr/exited with exit code [1-9]/, 'and has not failed');
$sql->('DROP VIEW needs');
is($sql->(q{SELECT platpat.wait_ready('event_partitions', '1 min')}), 't', 'when nothing needs it');
is($sql->(q{SELECT to_regclass('platpat.events_old') IS NULL}), 't', 'it goes');

# Partitions that nobody has told of, as those of a restore, are found by the
# next worker.
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'platpat worker'}), 'the worker is done again');
$sql->(q{UPDATE platpat.controller_states SET next_reconcile = NULL, last_reconciled = NULL WHERE controller = 'event_partitions'});
append();
ok($node->poll_query_until('postgres', q{SELECT last_reconciled IS NOT NULL AND next_reconcile IS NOT NULL
	FROM platpat.controller_states WHERE controller = 'event_partitions'}), 'and the controller wakes');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'platpat worker'}), 'and rests');

# Nothing to do, nobody there.
is(count_workers(), '0', 'an idle database has no worker');
my $at = time;
$sql->('SELECT 1') while time - $at < 3;
is(count_workers(), '0', 'nor does one come');

$node->stop;
done_testing();
