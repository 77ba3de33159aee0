# Consumers outside of the database, in Node.js: one follows a publication of
# the log with pgoutput, the other fetches and acknowledges.  Both keep documents
# in a file, and whatever is killed meanwhile, these are made of the events that
# were committed: each once, and in the order of their aggregate.
#
# Programs and setup are those of docs/consumers.md.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use JSON::PP;
use PlatSession;
use PlatTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $work = PostgreSQL::Test::Utils::tempdir_short();
IPC::Run::run([ 'cp', '-R', tree('test/recipes/node') . '/.', $work ]) or die 'cannot copy test/recipes/node';
need_node_modules($work);

# ------------------------------------------------------------------- the page

# Blocks of docs/consumers.md that say that this test runs them, by language.
my $note = 'not run: by test/t/084_event_consumer.pl';
my %block;
my $page = slurp_file(tree('docs/consumers.md'));
push @{ $block{$1} }, $2 while $page =~ /^```(\w+) \Q$note\E\n(.*?)^```$/msg;
is_deeply($block{js}, [ map { slurp_file("$work/$_") } 'consume.js', 'replicate.js' ],
	'the page has the programs');
is(scalar @{ $block{sql} }, 1, 'and the setup');

# ------------------------------------------------------------ server and clock

# Partitions are of months, so the server's clock is moved.  It stands in a file.
my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1';
my $clock = "$work/clock";
my %fake = (
	LD_PRELOAD                   => $library,
	FAKETIME_TIMESTAMP_FILE      => $clock,
	FAKETIME_NO_CACHE            => 1,
	DONT_FAKE_MONOTONIC          => 1,
	FAKETIME_DONT_FAKE_MONOTONIC => 1);
%fake = () if !$library;

sub set_clock
{
	open my $out, '>', "$clock.new" or die $!;
	print {$out} "\@$_[0]\n";
	close $out;
	rename "$clock.new", $clock or die $!;
	return;
}
set_clock('2026-03-10 12:00:00');
my $node;
{
	local @ENV{ keys %fake } = values %fake;
	$node = new_node('shop', init => [ allows_streaming => 'logical' ]);
}
my $sql = sub { $node->safe_psql('postgres', @_) };

$sql->(q{
	CREATE ROLE shop_app LOGIN;
	CREATE ROLE mailer LOGIN BYPASSRLS;
	GRANT EXECUTE ON FUNCTION platpat.append_event(text, text, text, jsonb, bigint, jsonb) TO shop_app;
	GRANT EXECUTE ON FUNCTION platpat.fetch_events(text, int), platpat.ack_events(text, bigint) TO mailer;
	GRANT SELECT ON platpat.events TO mailer;});

# ----------------------------------------------------------------- the events

# What consumers must have: documents by their key, and the number of events.
my (%documents, $count);

# Put an event that is committed into its document.
sub expect
{
	my ($tenant, $id, $status, %payload) = @_;
	my $document = $documents{ join '/', $tenant // '', 'order', $id } //= { versions => [] };

	%$document = (
		%$document, %payload,
		tenant => $tenant, id => $id, type => "order.$status", status => $status);
	push @{ $document->{versions} }, 1 + @{ $document->{versions} };
	$count++;
	return;
}

# A call of append_event().
sub append
{
	my ($id, $status, %payload) = @_;
	my $payload = JSON::PP->new->ascii->encode({ %payload, status => $status });

	return "SELECT platpat.append_event('order', '$id', 'order.$status', \$\$$payload\$\$)";
}

# transaction($tenant, [id, status, more payload], ...): append events in one
# transaction, of the application for a tenant, of a superuser for none.
sub transaction
{
	my ($tenant, @events) = @_;
	my $context = defined $tenant ? "SELECT platpat.set_tenant('$tenant')" : 'SELECT 1';

	value_as($node, defined $tenant ? 'shop_app' : 'postgres', join ";\n", 'BEGIN', $context, (map { append(@$_) } @events), 'COMMIT');
	expect($tenant, @$_) for @events;
	return;
}

# -------------------------------------------------------------- the consumers

my %program = (
	consume => { user => 'mailer', arguments => ['mailer'] },
	replicate => { user => 'search', arguments => [ 'search_events', 'search' ] });

sub start_consumer
{
	my ($name, @arguments) = @_;
	my $it = $program{$name};

	@arguments = @{ $it->{arguments} } if !@arguments;
	local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ($node->host, $node->port, 'postgres', $it->{user});
	$it->{run} = IPC::Run::start([ 'node', "$work/$name.js", @arguments, "$work/$name.json" ],
		'<', \undef, '>', "$work/$name.out", '2>', "$work/$name.err");
	return;
}

sub kill_consumer
{
	my ($name) = @_;
	my $run = delete $program{$name}{run} or return;

	$run->signal('KILL');
	eval { $run->finish };
	return;
}
END { my $status = $?; kill_consumer($_) for keys %program; $? = $status; }

# What a consumer has saved; each save makes a new file.
my %saved;

sub saved
{
	my ($name) = @_;
	my $file = "$work/$name.json";
	my @stat = Time::HiRes::stat($file) or return { events => [] };
	my $which = "@stat[1, 7, 9]";

	$saved{$name} = [ $which, decode_json(slurp_file($file)) ]
	  if !$saved{$name} || $saved{$name}[0] ne $which;
	return $saved{$name}[1];
}

sub wait_for
{
	my ($condition, $what) = @_;

	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $condition->();
		usleep(50_000);
	}
	diag("waited in vain: $what");
	return 0;
}

# Wait until a consumer has all events; one assertion that it has nothing else.
# With them come the ids of the log, of which partitions may be gone later.
my %id;

sub has_all
{
	my ($name, $when) = @_;
	my $have;

	$id{$_} = 1 for split /\n/, $sql->('SELECT id FROM platpat.events');
	wait_for(sub { @{ ($have = saved($name))->{events} } >= $count }, "$name $when");
	my @ids = sort @{ $have->{events} };
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply([ $have->{documents}, \@ids ], [ \%documents, [ sort keys %id ] ], "$name, $when")
	  || diag(slurp_file("$work/$name.err"));
}

sub both_have_all
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	has_all($_, $_[0]) for sort keys %program;
	return;
}

# ------------------------------------------------------ new partitions, tenants

# The publication is older than all partitions, the slot than some events.
my ($publication, $slot) = $block{sql}[0] =~ /^(.*;\n)(SELECT pg_create_logical.*)$/ms;
$sql->($publication);
is($sql->('SELECT count(*) FROM pg_inherits WHERE inhparent = \'platpat.events\'::regclass'), '0',
	'no partition is there when the publication is made');
transaction(undef, [ 1, 'created', total => 10 ], [ 2, 'created', total => 20 ]);
isnt($sql->('SELECT count(*) FROM pg_inherits WHERE inhparent = \'platpat.events\'::regclass'), '0',
	'the first event makes one');
$sql->($slot);
transaction(undef, [ 3, 'created', total => 30 ]);
start_consumer($_) for sort keys %program;
both_have_all('events from before it was started');

transaction('acme', [ 1, 'created', total => 100 ], [ 1, 'paid' ]);
transaction('globex', [ 1, 'created', total => 200, note => "ä\x{20ac}'\"\\" ]);
value_as($node, 'postgres', join ";\n", 'BEGIN', append(1, 'lost'), append(3, 'lost'), 'ROLLBACK');
value_as($node, 'postgres', join ";\n", 'BEGIN', append(2, 'paid'), 'SAVEPOINT s', append(2, 'lost'), 'ROLLBACK TO s',
	append(2, 'shipped'), 'COMMIT');
expect(undef, 2, $_) for 'paid', 'shipped';
transaction('acme', [ 1, 'shipped' ]);
both_have_all('of tenants, without what was rolled back');

# --------------------------------------------------- commits next to each other

# In the WAL the commit of one is followed by that of the other.
my ($anna, $bert) = map { PlatSession->of($node, 'postgres') } 1 .. 2;
my @order = ([ $anna, 'anna' ], [ $bert, 'bert' ]);
for my $turn (1 .. 2)
{
	my ($first, $second) = @order;

	$_->ask('BEGIN') for $anna, $bert;
	$anna->ask(append('anna', 'created', turn => $turn));
	$bert->ask(append('bert', 'created', turn => $turn));
	my $lsn = $sql->('SELECT pg_current_wal_insert_lsn()');
	$first->[0]->ask('COMMIT');
	expect(undef, $first->[1], 'created', turn => $turn);
	wait_for(sub { @{ saved('replicate')->{events} } == $count }, 'the first commit');
	ok(wait_for(sub { $sql->("SELECT confirmed_flush_lsn > '$lsn' FROM pg_replication_slots") eq 't' }, 'LSN'),
		'a commit is acknowledged');
	kill_consumer('replicate');
	$second->[0]->ask('COMMIT');
	expect(undef, $second->[1], 'created', turn => $turn);
	start_consumer('replicate');
	both_have_all("when the commit of $second->[1] comes next");
	@order = reverse @order;
}

# ------------------------------------------------------- saved, not acknowledged

$anna->ask('BEGIN; SELECT FROM platpat.event_consumers FOR UPDATE');
transaction('acme', [ 2, 'created' ], [ 3, 'created' ]);
ok(wait_for(sub { @{ saved('consume')->{events} } == $count }, 'events that are not acknowledged'),
	'a batch is saved before it is acknowledged');
kill_consumer('consume');
$sql->(q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'mailer'});
$anna->ask('ROLLBACK');
$_->quit for $anna, $bert;
isnt($sql->('SELECT lag FROM platpat.stat_consumers'), '0', 'a consumer dies before it acknowledges');
transaction('acme', [ 2, 'paid' ]);
start_consumer('consume');
both_have_all('after that');
is(saved('consume')->{again}, 2, 'consume has recognised what came again');
ok(wait_for(sub { $sql->('SELECT lag FROM platpat.stat_consumers') eq '0' }, 'acknowledgement'), 'and acknowledges all');

# The slot of a consumer whose acknowledgements are lost.
$sql->(q{SELECT pg_copy_logical_replication_slot('search', 'search_old')});
transaction('globex', [ 2, 'created' ], [ 3, 'created' ]);
both_have_all('before an old slot is read');
kill_consumer('replicate');
my $again = saved('replicate')->{again};
transaction('globex', [ 2, 'paid' ]);
start_consumer('replicate', 'search_events', 'search_old');
both_have_all('from an old slot');
is(saved('replicate')->{again}, $again + 2, 'replicate has recognised what came again');
kill_consumer('replicate');
$sql->(q{SELECT pg_drop_replication_slot('search_old')});
start_consumer('replicate');

# ------------------------------------------------- in the middle of a transaction

my $walsender = q{SELECT pid FROM pg_stat_replication};
my %interrupt = (
	'the walsender is terminated' => sub { $sql->("SELECT pg_terminate_backend(pid) FROM ($walsender) w") },
	'the consumer is killed' => sub { kill_consumer('replicate'); start_consumer('replicate') });
for my $how (sort keys %interrupt)
{
	wait_for(sub { $sql->($walsender) ne '' }, 'a walsender');
	$program{replicate}{run}->signal('STOP');
	transaction('acme', map { [ "many $_", 'created', text => 'x' x 2000 ] } 1 .. 500);
	ok(wait_for(sub { $sql->("SELECT wait_event FROM pg_stat_activity JOIN ($walsender) w USING (pid)") eq 'WalSenderWriteData' },
			'the walsender to wait'),
		'a transaction is half sent');
	$interrupt{$how}->();
	$program{replicate}{run}->signal('CONT');
	both_have_all("when $how in the middle");
}

# --------------------------------------------------------------- a server's crash

{
	local @ENV{ keys %fake } = values %fake;
	$node->stop('immediate');
	$node->start;
}
transaction('globex', [ 3, 'paid' ]);
both_have_all('after a crash of the server');

# The WAL of others does not stay because nobody appends.
$sql->('CREATE TABLE others AS SELECT generate_series(1, 1000)');
my $lsn = $sql->('SELECT pg_current_wal_flush_lsn()');
ok(wait_for(sub { $sql->("SELECT confirmed_flush_lsn >= '$lsn' FROM pg_replication_slots") eq 't' }, 'the slot'),
	'the slot follows what others write');

# ------------------------------------------------------------------- retention

SKIP:
{
	skip 'libfaketime is not there', 1 if !$library;
	my $march = 'events_p20260301';
	my $maintain = sub {
		return $sql->(qq{SET platpat.event_retention = '30d';
			SELECT action FROM platpat.maintain_events() WHERE object = '$march'});
	};

	kill_consumer($_) for keys %program;
	transaction('acme', [ 3, 'paid' ]);
	set_clock('2026-07-10 12:00:00');
	transaction('acme', [ 3, 'shipped' ]);
	is($sql->(q{SELECT tableoid::regclass FROM platpat.events ORDER BY position DESC LIMIT 1}),
		'platpat.events_p20260701', 'months later there is another partition');
	is($maintain->(), 'keep for readers', 'the old one stays for a consumer that has not acknowledged');
	start_consumer('consume');
	has_all('consume', 'from both partitions');
	ok(wait_for(sub { $maintain->() eq 'drop partition' }, 'the drop'), 'then it is dropped');
	start_consumer('replicate');
	transaction('globex', [ 4, 'created' ]);
	both_have_all('although a partition is gone, with the events that were in it');

	set_clock('2026-08-10 12:00:00');
	transaction('acme', [ 3, 'returned' ]);
	both_have_all('with events of a partition that was made later');
}

is($sql->('SELECT wal_status FROM pg_replication_slots'), 'reserved', 'the slot is as it should be');
kill_consumer($_) for keys %program;
$node->stop;

done_testing();
