# What lies below SQL: memory of a long session, races with DROP, nasty
# arguments, ways to load the library, the extended protocol, standbys, parallel
# workers, JIT and logical replication.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatSession;
use PlatTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $traces = qr/TRAP:|PANIC|terminated by signal|undefined symbol| XX\d{3} /;
my $seen = q{SELECT coalesce(string_agg(DISTINCT tenant_id, ',' ORDER BY tenant_id), 'nothing') FROM item};

my $node = new_node('low', init => [ allows_streaming => 'logical' ], conf => q{
	log_line_prefix = '%m [%p] %e '
	autovacuum = off
	max_logical_replication_workers = 4
	max_worker_processes = 16
	});
my $sql = sub { $node->safe_psql('postgres', @_) };

$sql->(q{
	CREATE ROLE app LOGIN;
	CREATE ROLE batch LOGIN;
	ALTER ROLE batch SET platpat.tenant_switching = free;
	CREATE ROLE operator LOGIN;
	CREATE ROLE landlord LOGIN;
	SELECT platpat.grant_admin('operator');
	GRANT CREATE ON SCHEMA public TO app, landlord;
	CREATE TABLE item (tenant_id text, n int PRIMARY KEY);
	INSERT INTO item SELECT CASE n % 2 WHEN 0 THEN 'acme' ELSE 'zeta' END, n FROM generate_series(1, 20000) n;
	SELECT platpat.protect('item');
	ALTER TABLE item OWNER TO landlord;
	GRANT SELECT, INSERT, UPDATE, DELETE ON item TO PUBLIC;
	ANALYZE item;});

# The process that serves a session.
sub pid_of
{
	my ($session) = @_;
	return $session->ask('SELECT pg_backend_pid()');
}

# ------------------------------------------------------------------- memory

# kB of memory that a process shares with nobody: VmRSS without the pages of
# shared buffers that it happened to touch.
sub own_memory
{
	my ($pid) = @_;
	return slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m ? $1 : die;
}

# One assertion: a backend of the role is not 3 MB larger after the script has
# run with its %d at $times than after it has run with $warm.  Each has a session
# of its own, because memory that one has freed would hide what another keeps.
sub steady_ok
{
	my ($role, $name, $script, $warm, $times) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
  SKIP:
	{
		skip 'there is no /proc', 1 if !-r "/proc/$$/status";
		my $session = PlatSession->of($node, $role);
		my $pid = pid_of($session);
		my $answer = $session->ask(sprintf($script, $warm));
		my $before = own_memory($pid);
		$answer .= $session->ask(sprintf($script, $times));
		my $growth = own_memory($pid) - $before;
		ok($answer !~ /ERROR/ && $growth < 3072, "$name: memory stays")
		  || diag("$growth kB more\n$answer\n", $session->said);
		$session->quit;
	}
	return;
}

my $many = 300_000;
$sql->(q{
	CREATE PROCEDURE in_turns(times int, tenants int) LANGUAGE plpgsql AS $$ BEGIN
		FOR i IN 1 .. times LOOP
			PERFORM platpat.set_tenant('tenant ' || i % tenants);
			COMMIT;
		END LOOP; END $$;
	CREATE PROCEDURE undone(times int, tenants int) LANGUAGE plpgsql AS $$ BEGIN
		FOR i IN 1 .. times LOOP
			BEGIN
				PERFORM platpat.set_tenant('tenant ' || i % tenants);
				RAISE SQLSTATE 'U0001';
			EXCEPTION WHEN SQLSTATE 'U0001' THEN
			END;
		END LOOP; END $$;
	CREATE PROCEDURE back_and_forth(times int, tenants int) LANGUAGE plpgsql AS $$ BEGIN
		FOR i IN 1 .. times LOOP
			PERFORM platpat.set_tenant('tenant ' || i % tenants);
		END LOOP; END $$;
	CREATE PROCEDURE asked(times int) LANGUAGE plpgsql AS $$ BEGIN
		PERFORM platpat.set_tenant('acme');
		FOR i IN 1 .. times LOOP
			PERFORM platpat.current_tenant();
		END LOOP; END $$;});
steady_ok('app', 'set_tenant with one tenant', 'CALL back_and_forth(%d, 1)', 1_000, $many);
steady_ok('app', 'one tenant, a transaction each', 'CALL in_turns(%d, 1)', 1_000, $many);
steady_ok('app', 'two tenants in turns, a transaction each', 'CALL in_turns(%d, 2)', 1_000, $many);
steady_ok('app', 'a tenant, undone by ROLLBACK TO', 'CALL undone(%d, 1)', 1_000, $many);
steady_ok('app', '1000 tenants in one CALL', 'CALL in_turns(%d, 1000)', 10, 1_000);
steady_ok('app', '1000 tenants in one CALL, again', 'CALL in_turns(1000, %d)', 1_000, 1_000);
steady_ok('app', 'the tenant read one by one', 'CALL asked(%d)', 1_000, 1_000_000);
steady_ok('app', 'all the readers', q{
	SELECT platpat.set_tenant('acme', false);
	SELECT count(platpat.current_tenant()), count(platpat.current_tenant_or_null()),
		count(platpat.tenant_prefix()), count(platpat.tenant_path('a/' || n)),
		count(*) FILTER (WHERE platpat.owns_path('tenants/acme/' || n))
	FROM generate_series(1, %d) n}, $many, $many);
steady_ok('app', 'the tenant read by a policy', q{
	SELECT platpat.set_tenant('acme', false);
	SELECT count(*) FROM generate_series(1, %d) g, LATERAL (SELECT FROM item WHERE n = g %% 7) i},
	10_000, 100_000);

steady_ok('batch', 'three tenants in turns in one transaction', 'CALL back_and_forth(%d, 3)', 1_000, $many);
steady_ok('batch', 'two tenants, undone by ROLLBACK TO', 'CALL undone(%d, 2)', 1_000, $many);
steady_ok('landlord', 'protect() of a protected table', q{DO $$ BEGIN
	FOR i IN 1 .. %d LOOP PERFORM platpat.protect('item'); END LOOP; END $$}, 200, 2_000);

steady_ok('app', 'rate limits of many keys', q{
	SELECT count(*) FILTER (WHERE platpat.allow_request('key ' || n, 1, 1)), count(platpat.consume_rate_limit(n, 1, 1)),
		count(*) FILTER (WHERE platpat.allow_statement('key ' || n % 100, 1, 1)), count(platpat.peek_rate_limit('key ' || n, 1, 1)),
		count(*) FILTER (WHERE platpat.allow_requests(ARRAY['key ' || n, 'k'], '{1,1}', '{1,1}'))
	FROM generate_series(1, %d) n}, 10_000, $many);
steady_ok('app', 'statements that are charged once', q{DO $$ BEGIN
	FOR i IN 1 .. %d LOOP
		PERFORM platpat.allow_statement('statement', 1, 1), platpat.allow_statement(i, 1, 1);
	END LOOP; END $$}, 1_000, 100_000);
steady_ok('app', 'limits of the tenant', q{
	SELECT platpat.set_tenant('acme', false);
	SELECT count(*) FILTER (WHERE platpat.allow_tenant_request()), count(platpat.consume_tenant_limit(0.1)), count(platpat.peek_tenant_limit())
	FROM generate_series(1, %d)}, 10_000, $many);
steady_ok('app', 'refusals', q{DO $$ BEGIN
	FOR i IN 1 .. %d LOOP
		BEGIN
			PERFORM platpat.enforce_rate_limit('refused', 1, 1);
			PERFORM platpat.allow_statement('refused', 1, 1), 1 / 0;
		EXCEPTION WHEN OTHERS THEN
		END;
	END LOOP; END $$}, 1_000, 50_000);

# ------------------------------------------------------- races with a DROP

my ($landlord, $other) = map { PlatSession->of($node, 'landlord') } 1, 2;

# The answer of the session to a script that waits for a lock until the other
# session has run its last script; the other one holds the lock already.
sub after_wait
{
	my ($script, $last) = @_;
	my $pid = pid_of($landlord);
	my $offset = -s $node->logfile;

	$landlord->tell($script);
	$node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_locks WHERE pid = $pid AND NOT granted")
	  or die "$script does not wait";
	my $ended = $other->ask($last);
	die "$last: $ended" if $ended =~ /ERROR/;
	my $answer = eval { $landlord->answer } // 'the session is gone';
	my $log = slurp_file($node->logfile, $offset);
	$answer .= ", and in the log: $1" if $log =~ /($traces)/;
	return $answer;
}

my $listed = q{SELECT string_agg(table_name::text, ',' ORDER BY table_name::text) FROM platpat.protected_tables};
my $make = q{
	CREATE TABLE base (tenant_id text, n int);
	CREATE TABLE child () INHERITS (base);
	CREATE TABLE part (tenant_id text, n int) PARTITION BY LIST (n);
	CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
	CREATE SCHEMA wing;
	CREATE TABLE wing.room (tenant_id text);
	CREATE TABLE bare (tenant_id text);
	SELECT FROM platpat.protect('base');
	SELECT FROM platpat.protect('part');
	SELECT FROM platpat.protect_schema('wing')};
$sql->('GRANT CREATE ON DATABASE postgres TO landlord');

# The lock that the other session takes first, the script that waits for it,
# what the other does then, and the answer.
my @races = (
	[ 'DROP TABLE base CASCADE', $listed, '', 'item,part,part_1,wing.room' ],
	[ 'DROP TABLE part_1', $listed, '', 'base,child,item,part,wing.room' ],
	[ 'DROP SCHEMA wing CASCADE', $listed, '', 'base,child,item,part,part_1' ],
	[ 'ALTER TABLE part DETACH PARTITION part_1; DROP TABLE part_1', $listed, '',
		'base,child,item,part,wing.room' ],
	[ 'ALTER TABLE bare RENAME TO bald; DROP TABLE base CASCADE', $listed, '', 'item,part,part_1,wing.room' ],
	[ 'DROP TABLE base CASCADE', q{SELECT platpat.protect('base')}, '', 'ERROR 42P01' ],
	[ 'DROP TABLE base CASCADE', q{SELECT platpat.unprotect('base')}, '', 'ERROR 42P01' ],
	[ 'DROP TABLE bare', q{SELECT platpat.protect('bare')}, '', 'ERROR 42P01' ],
	[ 'DROP TABLE part', q{SELECT platpat.protect('part')}, '', 'ERROR 42P01' ],
	[ 'DROP TABLE part', q{SELECT platpat.protect('part', access => false)}, '', 'ERROR 42P01' ],
	[ 'DROP SCHEMA wing CASCADE', q{SELECT platpat.protect('wing.room')}, '', 'ERROR 42P01' ],
	# our lock waits behind one that reading does not mind
	[ 'LOCK TABLE bare IN ROW EXCLUSIVE MODE', q{SELECT platpat.protect('bare')},
		'DROP TABLE bare', 'ERROR 42P01' ],
	[ 'LOCK TABLE base IN ROW EXCLUSIVE MODE', q{SELECT platpat.unprotect('base')},
		'DROP TABLE base CASCADE', 'ERROR 42P01' ],
	[ 'LOCK TABLE base IN ROW EXCLUSIVE MODE', q{SELECT platpat.protect('base', access => false)},
		'DROP TABLE base CASCADE', 'ERROR 42P01' ],
	[ 'LOCK TABLE child IN ACCESS EXCLUSIVE MODE', q{SELECT platpat.protect('base')},
		'DROP TABLE child', 'ERROR 42P01' ],
	[ 'LOCK TABLE child IN ACCESS EXCLUSIVE MODE', $listed,
		'ALTER TABLE child NO INHERIT base; ALTER TABLE child DROP COLUMN tenant_id CASCADE',
		'base,child,item,part,part_1,wing.room' ],
	# only the child stays, on which all the waiting was
	[ 'LOCK TABLE child IN ACCESS EXCLUSIVE MODE', q{SELECT platpat.protect('base')},
		'ALTER TABLE child NO INHERIT base; DROP TABLE base', 'ERROR 42P01' ]);

for my $race (@races)
{
	my ($first, $script, $last, $expected) = @$race;
	my $name = $script eq $listed ? 'protected_tables' : $script;

	die $other->said if $other->ask($make) =~ /ERROR/;
	die $other->said if $other->ask("BEGIN; $first") =~ /ERROR/;
	my $answer = after_wait($script, "$last; COMMIT");
	is($answer, $expected, join ' / ', $first, $name, $last || ());
	die 'the server has crashed' if $answer =~ /gone/;
	$other->ask('DROP TABLE IF EXISTS base, child, part, part_1, bare, bald CASCADE; DROP SCHEMA IF EXISTS wing CASCADE');
}
$_->quit for $landlord, $other;

# --------------------------------------------------------- nasty arguments

# What the functions may answer, and nothing else.
my %allowed = map { $_ => 1 } qw(00000 0A000 22004 22008 22023 23502 39P01 3F000 42501 42703 42704
	42710 42809 42P01 53400 54000 55000
	42601 42P02);

my @nasty_text = (
	'NULL', q{''}, q{' '}, q{repeat(repeat('x', 1024), 10240)}, q{repeat(repeat('/', 1024), 10240)},
	q{repeat(repeat(chr(1071), 1024), 5120)}, q{'-1'}, q{'9223372036854775807'}, q{'{}'}, q('{'), q{'..'}, q{'a/../b'},
	q{'a"b''c'}, q{E'a\nb'}, q{'a' || chr(8238) || 'b'}, q{chr(160)}, q{chr(65533)}, q{repeat('n', 200)},
	q{repeat(chr(128512), 70)}, q{'%s %n %1$s'}, q{'tenants/acme/x'}, q{'tenants/acme/'}, q{'tenants/'});
my %nasty = (
	text => \@nasty_text,
	name => [ 'tenant_id', 'n', 'ctid', 'tableoid', @nasty_text ],
	uuid => [ 'NULL', q{'00000000-0000-0000-0000-000000000000'}, q{'{ffffffff-ffff-ffff-ffff-ffffffffffff}'} ],
	'text[]' => [ 'NULL', q('{}'), q('{NULL}'), q('{""}'), q('{a,a}'), q('{a,NULL}'), q('{{a,b},{c,d}}'), q('[5:6]={a,b}'),
		q{ARRAY[repeat(repeat('x', 1024), 10240)]}, q{array_fill('a'::text, ARRAY[100000])}, q{ARRAY['a', chr(8238)]} ],
	integer => [ qw(NULL 0 1 -1 65537 2147483647 (-2147483648)) ],
	bigint => [ qw(NULL 0 -1 9223372036854775807 (-9223372036854775808)) ],
	boolean => [ qw(NULL true false) ],
	'double precision' => [ qw(NULL 0 1 -1 0.1 1e-308 5e-324 1e9 1e15 1e308 -1e308), q{'-0'}, q{'NaN'}, q{'Infinity'}, q{'-Infinity'} ],
	'double precision[]' => [ 'NULL', q('{}'), q('{NULL}'), q('{1,1}'), q('{1,NULL}'), q('{NaN,1}'), q('{Infinity,-1}'), q('{{1,1},{1,1}}'),
		q{array_fill(1::float8, ARRAY[100000])} ],
	interval => [ 'NULL', map { "'$_'" } '0', '-1 s', '1 us', '1 month', '-1 month 30 days', '100 years', '178000000 years', '-178000000 years' ],
	'timestamp with time zone' => [ 'NULL', map { "'$_'" } qw(infinity -infinity), '4713-01-01 BC', '294276-12-31 23:59:59Z', '2026-03-29 01:00Z' ],
	jsonb => [ 'NULL', map { "'$_'" } 'null', '{}', '[]', '1e1000', '"\\u202e"', '{"a": {"b": [null, {}]}}' ],
	regclass => [ 'NULL', '0::oid', '4294967295::oid', '1::oid',
		map { "'$_'" } qw(item mine mine_n_key mine_seen mine_seq mine_type pg_class pg_toast.pg_toast_1255 mine_part
		mine_part_1 mine_temp mine_stored mine_foreign platpat.protections platpat.protected_tables pg_policies), q{"mine ""''%s"} ],
	regnamespace => [ 'NULL', '0::oid', '4294967295::oid', map { "'$_'" } qw(public pg_catalog pg_toast platpat information_schema own) ]);
$nasty{name}[$_] = "'$nasty{name}[$_]'" for 0 .. 3;

$sql->(q{
	CREATE SCHEMA own AUTHORIZATION app;
	CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
		EXECUTE command;
		RAISE SQLSTATE 'U0000';
	EXCEPTION WHEN SQLSTATE 'U0000' THEN RETURN '00000';
		WHEN OTHERS THEN RETURN SQLSTATE;
	END $$;
	CREATE EXTENSION file_fdw;
	CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
	CREATE FOREIGN TABLE mine_foreign (tenant_id text) SERVER files OPTIONS (filename '/dev/null');
	ALTER FOREIGN TABLE mine_foreign OWNER TO app;});
my $objects = q{
	CREATE TABLE mine (tenant_id text, n int, UNIQUE (n));
	INSERT INTO mine VALUES (NULL, 1);
	CREATE TABLE own.room (tenant_id text, n int);
	CREATE TABLE "mine ""'%s" (tenant_id text, "quote"" '
	" text);
	CREATE VIEW mine_seen AS TABLE mine;
	CREATE MATERIALIZED VIEW mine_stored AS TABLE mine;
	CREATE SEQUENCE mine_seq;
	CREATE TYPE mine_type AS (tenant_id text);
	CREATE TABLE mine_part (tenant_id text, n int) PARTITION BY LIST (n);
	CREATE TABLE mine_part_1 PARTITION OF mine_part FOR VALUES IN (1);
	SELECT FROM platpat.protect('mine_part')};
my $temp = 'CREATE TEMP TABLE mine_temp (tenant_id text)';

# Lists of arguments of these types: every combination, or where those are too
# many every value once, beside harmless ones.
sub argument_lists
{
	my @types = @_;
	my %harmless = (text => q{'a'}, jsonb => q{'{}'}, uuid => q{'00000000-0000-0000-0000-000000000000'}, 'text[]' => q('{a,b}'), integer => '1', bigint => '1', name => q{'n'}, regclass => q{'mine'}, regnamespace => q{'own'}, boolean => 'true',
		'double precision' => '1', 'double precision[]' => q('{1,1}'), interval => q{'1 us'}, 'timestamp with time zone' => q{'2026-01-01Z'});
	my @lists = ([]);
	my $combinations = 1;

	$combinations *= @{ $nasty{$_} || die "no values of type $_" } for @types;
	if ($combinations <= 100)
	{
		for my $type (@types)
		{
			@lists = map { my $list = $_; map { [ @$list, "($_)::$type" ] } @{ $nasty{$type} } } @lists;
		}
		return @lists;
	}
	my @plain = map { "($harmless{$_})::$_" } @types;
	die "no harmless value of type $_" for grep { !defined $harmless{$_} } @types;
	return map {
		my $i = $_;
		map { my @list = @plain; $list[$i] = "($_)::$types[$i]"; [@list] } @{ $nasty{ $types[$i] } };
	} 0 .. $#types;
}

# Every call of the functions that PUBLIC may execute, as lists (function,
# arguments, volatility).
sub nasty_calls
{
	my @calls;

	for (split /\n/, $sql->(q{
		SELECT proname, provolatile, provariadic <> 0, array_to_string(ARRAY(SELECT format_type(t, NULL)
				FROM unnest(proargtypes) WITH ORDINALITY a (t, i) ORDER BY i), ',')
		FROM pg_proc p WHERE pronamespace = 'platpat'::regnamespace AND prokind = 'f'
		AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0) ORDER BY oid}))
	{
		my ($function, $volatility, $is_variadic, $types) = split /\|/;
		# the last argument is the longest wait, and other calls leave debts of years
		my @lists = grep { $function ne 'wait_for_rate_limit' || $_->[-1] =~ /'(?:0|1 us|-.*)'/ } argument_lists(split /,/, $types // '');
		for my $list (@lists)
		{
			# what is run is a statement as a rule
			$list->[1] =~ s/\('a'\)/('SELECT 1, \$1')/ if $function =~ /_call$/;
			$list->[-1] = "VARIADIC $list->[-1]" if $is_variadic eq 't';
			push @calls, [ $function, join(', ', @$list), $volatility ];
		}
	}
	return @calls;
}

my @calls = nasty_calls();
cmp_ok(scalar @calls, '>', 400, 'there are many calls');
none([ grep { my $f = $_; !grep { $_->[0] eq $f } @calls } qw(set_tenant tenant_path owns_path protect unprotect_schema refuse_truncate) ],
	'of all functions');

my %ways = (
	'no tenant'             => [ 'app', 'SELECT 1' ],
	'a tenant'              => [ 'app', q{SELECT platpat.set_tenant('acme', false)} ],
	'a bigint tenant'       => [ 'app', q{SELECT platpat.set_tenant(1, false)} ],
	'a superuser'           => [ 'postgres', q{SET platpat.allow_bypass_role = on;
		SET platpat.on_missing_tenant = empty; SET platpat.tenant_type = uuid} ]);
$node->safe_psql('postgres', q(SELECT platpat.create_breaker('a'), platpat.create_bulkhead('a', 5);
	CREATE FUNCTION handle(payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT payload';
	SELECT platpat.create_command('a', 'handle(jsonb)')));
$node->safe_psql('postgres', "SET SESSION AUTHORIZATION app; $objects");
for my $way (sort keys %ways)
{
	my ($role, $script) = @{ $ways{$way} };
	# what is immutable answers the same to all
	my @calls = grep { $_->[2] ne 'i' || $way eq 'no tenant' } @calls;
	my $session = PlatSession->of($node, $role);
	my $offset = -s $node->logfile;
	my $pid = pid_of($session);

	$session->ask($temp);
	$session->ask($script);
	# refused calls warn, too
	$session->ask('SET client_min_messages = error');
	my $attempts = 'SELECT call, attempt(call) FROM (VALUES '
	  . join(",\n", map { "(\$call\$SELECT platpat.$_->[0]($_->[1])\$call\$)" } @calls) . ') v(call)';
	my @answers = split /\n/, $session->ask($attempts);
	is(scalar @answers, scalar @calls, "with $way every call is answered") or diag(@answers, $session->said);
	none([ grep { /\|(\w+)$/ && !$allowed{$1} } @answers ], "with $way all with an expected SQLSTATE");
	is(eval { pid_of($session) }, $pid, 'the session survives');
	unlike(slurp_file($node->logfile, $offset), $traces, 'the server has nothing to complain about');
	$session->quit;
}
# the same without a subtransaction around the call
for my $way ('no tenant', 'a tenant')
{
	my ($role, $script) = @{ $ways{$way} };
	my @some = grep { $_->[2] ne 'i' && $_->[1] !~ /repeat/ } @calls;
	my $offset = -s $node->logfile;
	my ($state, $out, $err) = run_as($node, $role,
		join "\n", $temp . ';', $script . ';', map { "BEGIN; SELECT platpat.$_->[0]($_->[1]) \\g /dev/null\nROLLBACK;" } @some);
	my %states = map { $_ => 1 } $err =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}):/g;
	none([ grep { !$allowed{$_} } sort keys %states ], "with $way statements of their own get the same");
	cmp_ok(scalar keys %states, '>', 3, 'and they were run');
	unlike(slurp_file($node->logfile, $offset), $traces, 'without a trace');
}

# ------------------------------------------------- other ways to load it

my $preload = $ENV{PLAT_PRELOAD} // q(shared_preload_libraries = '$libdir/platpat');
my ($library) = $preload =~ /'(.*)'/;
my $lazy = new_node('lazy', preload => 0, conf =>
	  "session_preload_libraries = '$library'\nlog_line_prefix = '%m [%p] %e '\nmax_logical_replication_workers = 4\n");
$lazy->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE acme_bi LOGIN;
	ALTER ROLE acme_bi SET platpat.tenant = 'acme';
	CREATE ROLE pooled LOGIN;
	ALTER ROLE pooled SET platpat.session_tenant = off;
	CREATE ROLE late LOGIN;
	ALTER ROLE late SET platpat.tenant = 'zeta';
	ALTER ROLE late SET session_preload_libraries = plpgsql;
	CREATE ROLE late_root LOGIN SUPERUSER;
	ALTER ROLE late_root SET platpat.tenant = 'zeta';
	ALTER ROLE late_root SET session_preload_libraries = plpgsql;
	CREATE TABLE item (tenant_id text, n int PRIMARY KEY);
	SELECT platpat.protect('item');
	INSERT INTO item VALUES ('acme', -1), ('zeta', -2);
	GRANT SELECT, INSERT, UPDATE, DELETE ON item TO PUBLIC;});

# A session with these options; or the SQLSTATE with which it was refused.
sub at_login
{
	my ($role, $options, @scripts) = @_;
	my $offset = -s $lazy->logfile;
	my $answer = eval {
		local $ENV{PGOPTIONS} = $options;
		my $session = PlatSession->of($lazy, $role);
		join ' / ', map { $session->ask($_) } @scripts;
	};

	return $answer if defined $answer;
	my ($state) = slurp_file($lazy->logfile, $offset) =~ / (\w{5}) FATAL:/;
	return "FATAL $state";
}

my $known = q{SELECT count(*) FROM pg_settings WHERE name LIKE 'platpat.%'};
my $all = $sql->($known);
my $leave = q{SELECT platpat.set_tenant('zeta')};
cmp_ok($all, '>', 6, 'there are settings');
is(at_login('app', '', $known), $all, 'session_preload_libraries: the settings are there at once');
is(at_login('late', '', $known), '0', 'a role can be exempt');
for my $role (qw(app acme_bi pooled))
{
	is(at_login($role, "-c $_", $known), 'FATAL 42501', "$role cannot change that: $_")
	  for 'session_preload_libraries=', 'session_preload_libraries=auto_explain';
}
like(at_login('app', "-c local_preload_libraries=$library", $known), qr/^FATAL (42501|58P01)$/,
	'nor load it from another place');
is(at_login('app', '-c platpat.tenant=zeta', 'SHOW platpat.tenant', $seen), ' / ERROR 42501',
	'a tenant in the options of the connection is none');
is(at_login('acme_bi', '-c platpat.tenant=zeta', 'SHOW platpat.tenant', $seen, $leave), 'acme / acme / ERROR 42501',
	'nor does it unbind a role');
is(at_login('acme_bi', '-c platpat.tenant=', 'SHOW platpat.tenant', $leave), 'acme / ERROR 42501', 'nor does an empty one');
is(at_login('pooled', '-c platpat.session_tenant=on', 'SHOW platpat.session_tenant', q{SELECT platpat.set_tenant('zeta', false)}),
	'off / ERROR 42501', 'nor do options give back the tenant of the session');
is(at_login('app', '-c platpat.on_missing_tenant=empty -c platpat.tenant_switching=free',
		'SHOW platpat.on_missing_tenant', 'SHOW platpat.tenant_switching', $seen),
	'error / locked / ERROR 42501', 'nor change what is locked');
is(at_login('app', '', 'SET platpat.tenant = zeta'), 'ERROR 42501', 'nor does SET');
is(at_login('app', '', "BEGIN; $leave \\g /dev/null\n$seen; COMMIT", $seen), 'zeta / ERROR 42501', 'it works');
is(at_login('postgres', '', q{SELECT value FROM platpat.status() WHERE item = 'preloaded'}), 'no', 'status() says so');

is(at_login('late', '', "LOAD '$library'"), 'ERROR 42501', 'LOAD is for superusers');
is(at_login('late', '', $seen, 'SHOW platpat.tenant', q{SELECT platpat.set_tenant('acme')}),
	'zeta / zeta / ERROR 42501', 'without any preload the first use binds the role');
is(at_login('late', '-c platpat.tenant=acme', $seen), 'zeta', 'whatever the options say');
is(at_login('late_root', '', "LOAD '$library'", $known, 'SHOW platpat.tenant'), " / $all / zeta",
	'LOAD by a superuser binds, too');
is(at_login('late_root', '', "BEGIN; LOAD '$library'; SELECT 1 / 0", 'ROLLBACK', $known, 'SHOW platpat.tenant'),
	"ERROR 22012 /  / $all / zeta", 'in a transaction that fails, too');
is(at_login('late_root', '-c platpat.on_missing_tenant=nonsense -c platpat.no_such=1', "LOAD '$library'",
		'SHOW platpat.on_missing_tenant', 'SHOW platpat.no_such'),
	' / error / ERROR 42704', 'and placeholders of nonsense go');

# A role that is bound to what another setting does not let be a tenant.
for my $of ($node, $lazy)
{
	$of->safe_psql('postgres', q{
		CREATE ROLE odd LOGIN;
		ALTER ROLE odd SET platpat.tenant_type = bigint;
		ALTER ROLE odd SET platpat.tenant = 'acme';});
	my ($state) = run_as($of, 'odd', q{SELECT platpat.set_tenant('7')});
	isnt($state, '', $of->name . ': a role whose tenant is refused at login is not free to choose one');
}
unlike(slurp_file($lazy->logfile), $traces, 'all that without a trace in the log');

# ---------------------------------------------------- the extended protocol

# Both fail on a row of another tenant: a division by zero.
my $only = sub {
	my ($tenant) = @_;
	return "SELECT 1 / (count(*) > 0 AND count(*) = count(*) FILTER (WHERE tenant_id = $tenant))::int FROM item;";
};
my $none = 'SELECT 1 / (platpat.current_tenant_or_null() IS NULL)::int;';

# One assertion: pgbench runs the script without an error.
sub pgbench_ok
{
	my ($name, $options, $script) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $file = $node->basedir . '/' . ($name =~ s/\W+/_/gr) . '.sql';
	append_to_file($file, $script);
	my ($out, $err) = run_command([
		'pgbench', '--no-vacuum', '--username', 'app', '--port', $node->port, '--host', $node->host,
		split(' ', $options), '--file', $file, 'postgres' ]);
	my ($done, $asked) = $out =~ m{actually processed: (\d+)/(\d+)};
	return ok($done && $done == $asked && $err !~ /ERROR|abort/, $name) || diag("$out\n$err");
}

for my $mode (qw(extended prepared))
{
	pgbench_ok("pipelined transactions, $mode", "-M $mode -t 20 -c 2", join "\n",
		(map { (
			'\startpipeline',
			'BEGIN;',
			"SELECT platpat.set_tenant('$_');",
			$only->("'$_'"),
			'UPDATE item SET n = n WHERE n = 1;',
			$only->("'$_'"),
			'COMMIT;',
			$none,
			'\endpipeline',
			$none) } qw(acme zeta)), '');
	# without BEGIN a pipeline is one transaction, up to its end
	pgbench_ok("a pipeline without BEGIN, $mode", "-M $mode -t 20", join "\n",
		'\startpipeline', q{SELECT platpat.set_tenant('acme');}, $only->(q{'acme'}), '\endpipeline', $none, '');
	pgbench_ok("a session tenant set in a pipeline, $mode", "-M $mode -t 20", join "\n",
		'\startpipeline', q{SELECT platpat.set_tenant('acme', false);}, '\endpipeline',
		'\startpipeline', $only->(q{'acme'}), 'SELECT platpat.reset_tenant();', '\endpipeline', $none, '');
}
# the plans of one tenant are used for the other
for my $plan (qw(auto force_generic_plan))
{
	local $ENV{PGOPTIONS} = "-c plan_cache_mode=$plan";
	pgbench_ok("prepared statements, tenants in turns, $plan", '-M prepared -t 200 -c 2 -D i=0', join "\n",
		'\set i 1 - :i',
		'BEGIN;',
		q{SELECT platpat.set_tenant((ARRAY['acme', 'zeta'])[1 + :i::int]);},
		$only->(q{(ARRAY['acme', 'zeta'])[1 + :i::int]}),
		'SELECT 1 / (count(*) = 1 - :i::int)::int FROM item WHERE n = 2;',
		'COMMIT;',
		$none, '');
}

# -------------------------------------------- parallel workers and JIT code

my $force = $sql->(q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')});
my $parallel = qq{
	SET LOCAL $force = on; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0;
	SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL max_parallel_workers_per_gather = 2;
	SET LOCAL parallel_leader_participation = off; SET LOCAL enable_indexscan = off;
	SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexonlyscan = off};
my $explain = 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off)';
my $counted = q{SELECT count(*), min(tenant_id), max(tenant_id), min(platpat.current_tenant()) FROM item};

my $app = PlatSession->of($node, 'app');
for my $tenant (qw(acme zeta))
{
	my $begin = "BEGIN; SELECT platpat.set_tenant('$tenant') \\g /dev/null\n$parallel";
	is($app->ask("$begin; $counted; COMMIT"), "10000|$tenant|$tenant|$tenant", "workers know the tenant of the transaction: $tenant");
	like($app->ask("$begin; $explain $counted; COMMIT"), qr/Workers Launched: [12]\b/, 'there were workers');
}
is($app->ask("BEGIN; $parallel; $counted"), 'ERROR 42501', 'and that there is none');
$app->ask('ROLLBACK');
is($app->ask("SELECT platpat.set_tenant('acme', false) \\g /dev/null\nBEGIN; $parallel; $counted; COMMIT"),
	'10000|acme|acme|acme', 'and the tenant of the session');
is( $app->ask("SELECT platpat.reset_tenant() \\g /dev/null\nBEGIN; SAVEPOINT s; SELECT platpat.set_tenant('acme') \\g /dev/null\nROLLBACK TO s; $parallel; $counted"),
	'ERROR 42501', 'and not one that was undone');
$app->ask('ROLLBACK');

SKIP:
{
	skip 'PostgreSQL was built or installed without JIT', 5
	  if $sql->('SET jit = on; SELECT pg_jit_available()') ne 't';
	my $jit = 'SET jit = on; SET jit_above_cost = 0; SET jit_inline_above_cost = 0; SET jit_optimize_above_cost = 0';
	$app->ask($jit);
	for my $tenant (qw(acme zeta))
	{
		my $begin = "BEGIN; SELECT platpat.set_tenant('$tenant') \\g /dev/null\nSELECT 1";
		is($app->ask("$begin; $counted; COMMIT"), "1\n10000|$tenant|$tenant|$tenant", "compiled expressions: $tenant");
		like($app->ask("BEGIN; SELECT platpat.set_tenant('$tenant') \\g /dev/null\n$parallel; EXPLAIN (ANALYZE) $counted; COMMIT"),
			qr/Workers Launched: [12]\b.*JIT:.*Functions: \d/s, 'they were compiled, in workers too');
	}
	is($app->ask($counted), 'ERROR 42501', 'and without a tenant');
}
$app->quit;

# ------------------------------------------------------------- hot standby

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$sql->(q{INSERT INTO item VALUES ('acme', 30000)});
$node->wait_for_catchup($standby);

my $reader = PlatSession->of($standby, 'app');
is($reader->ask('SELECT pg_is_in_recovery()'), 't', 'a standby');
is($reader->ask($seen), 'ERROR 42501', 'shows nothing without a tenant');
for my $tenant (qw(acme zeta))
{
	is($reader->ask("BEGIN; SELECT platpat.set_tenant('$tenant') \\g /dev/null\n$seen; COMMIT"), $tenant, "and $tenant its rows");
}
is($reader->ask("BEGIN; SELECT platpat.set_tenant('acme'); SELECT platpat.set_tenant('zeta'); COMMIT"),
	'ERROR 42501', 'a transaction keeps its tenant');
$reader->ask('ROLLBACK');
is($reader->ask("SELECT platpat.set_tenant('acme', false) \\g /dev/null\n$seen"), 'acme', 'so does a session');
is($reader->ask(q{SELECT count(*) FROM item WHERE n = 30000}), '1', 'what was streamed is there');
is($reader->ask(q{INSERT INTO item VALUES ('acme', 30001)}), 'ERROR 25006', 'nothing can be written');
is($reader->ask("$listed"), $sql->($listed), 'protected_tables is as on the primary');

my $operator = PlatSession->of($standby, 'operator');
my $admin = q{SELECT platpat.as_admin('on a standby') \g /dev/null};
is($operator->ask("BEGIN; $admin"), 'ERROR 25006', 'as_admin has nowhere to write its trace');
$operator->ask('ROLLBACK');
is($operator->ask('SELECT current_user'), 'operator', 'and changes nobody');
is($operator->ask($seen), 'ERROR 42501', 'nor opens anything');
my $keeper = PlatSession->of($standby, 'landlord');
like($keeper->ask(q{SELECT platpat.unprotect('item')}), qr/^ERROR (25006|55000)$/, 'nothing is unprotected there');
unlike(slurp_file($standby->logfile), $traces, 'the standby has nothing to complain about');

$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die;
is($reader->ask(q{INSERT INTO item (n) VALUES (30001) RETURNING tenant_id}), 'acme', 'promoted: a session goes on');
is($reader->ask(q{INSERT INTO item VALUES ('zeta', 30002)}), 'ERROR 42501', 'within its tenant');
is($operator->ask("BEGIN; $admin\n$seen; COMMIT"), 'acme,zeta', 'as_admin works');
is($operator->ask('SELECT reason FROM platpat.admin_log'), 'on a standby', 'and leaves its trace');
is($keeper->ask(q{CREATE TABLE later (tenant_id text); SELECT count(*) > 0 FROM platpat.protect('later')}), 't',
	'tables can be protected');
is($keeper->ask('TRUNCATE later'), 'ERROR 42501', 'and are');
$_->quit for $reader, $operator, $keeper;
$standby->stop;

# ----------------------------------------------------- logical replication

my $source = $node->connstr('postgres');
my $per_tenant = sub { $_[0]->safe_psql('postgres', 'SELECT tenant_id, count(*), min(n) FROM item GROUP BY 1 ORDER BY 1') };
$lazy->safe_psql('postgres', 'TRUNCATE item');
$sql->('CREATE PUBLICATION items FOR TABLE item');
$lazy->safe_psql('postgres', "CREATE SUBSCRIPTION items CONNECTION \$c\$$source\$c\$ PUBLICATION items");
$lazy->poll_query_until('postgres',
	q{SELECT count(*) = 1 AND bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel}) or die;
is($per_tenant->($lazy), $per_tenant->($node), 'the rows of all tenants are copied');

my $writer = PlatSession->of($node, 'app');
for my $tenant (qw(acme zeta))
{
	my $n = $tenant eq 'acme' ? 2 : 1;
	die $writer->said if $writer->ask("BEGIN; SELECT platpat.set_tenant('$tenant');
		INSERT INTO item (n) SELECT -n * 2 - $n FROM generate_series(50, 150) n;
		UPDATE item SET n = n - 100000 WHERE n = $n; DELETE FROM item WHERE n > 10000; COMMIT") =~ /ERROR/;
}
$writer->quit;
$node->wait_for_catchup('items');
is($per_tenant->($node), "acme|5101|-99998\nzeta|5101|-99999", 'two tenants write');
is($per_tenant->($lazy), $per_tenant->($node), 'and what they wrote is applied');
is($lazy->safe_psql('postgres', q{SELECT apply_error_count + sync_error_count FROM pg_stat_subscription_stats}),
	'0', 'without an error');
is(at_login('app', '', $seen), 'ERROR 42501', 'the policies of the subscriber hold');
is(at_login('acme_bi', '', $seen), 'acme', 'for its roles');
$lazy->safe_psql('postgres', 'DROP SUBSCRIPTION items');
unlike(slurp_file($_->logfile), $traces, $_->name . ' has nothing to complain about') for $lazy;

done_testing();
