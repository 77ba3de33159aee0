# What the TAP tests share: nodes that find platpat wherever it was installed.
#
# test/run sets PLAT_DESTDIR (where the build under test is), PLAT_CONF (lines
# of postgresql.conf that make a server find it) and PLAT_PRELOAD (the line that
# preloads it).  Without them, as in `make installcheck`, it is in the system.
package PlatTest;

use strict;
use warnings;
use Exporter 'import';
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(new_node tree library run_as value_as refused_as none die_and_start test_core need_node_modules);

# new_node($name, preload => 1, extension => 1, init => [], conf => '')
# A running node; preload and extension may be switched off, init goes to
# init() and conf to postgresql.conf.
sub new_node
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(@{ $opt{init} // [] });
	$node->append_conf('postgresql.conf', extension_conf($opt{preload} // 1));
	$node->append_conf('postgresql.conf',
		"max_prepared_transactions = 10\n" . ($opt{conf} // ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION platpat')
	  if $opt{extension} // 1;
	return $node;
}

sub extension_conf
{
	my ($preload) = @_;
	my $conf = ($ENV{PLAT_CONF} // '') . "\n";

	$conf .= ($ENV{PLAT_PRELOAD} // q(shared_preload_libraries = '$libdir/platpat'))
	  . "\n"
	  if $preload;
	return $conf;
}

# A path in the source tree.
sub tree
{
	return join '/', "$FindBin::Bin/../..", @_;
}

# The shared library under test.
sub library
{
	my ($dir) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--pkglibdir' ]);
	return ($ENV{PLAT_DESTDIR} // '') . "$dir/platpat.so";
}

# run_as($node, $role, $sql, %opt): (SQLSTATE of the last error or '', stdout,
# stderr) of a script run in one session of the role.  It goes on after an error.
sub run_as
{
	my ($node, $role, $sql, %opt) = @_;
	my ($out, $err) = ('', '');

	$node->psql(
		$opt{dbname} // 'postgres', $sql,
		stdout        => \$out,
		stderr        => \$err,
		on_error_die  => 0,
		on_error_stop => 0,
		extra_params  => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]);
	my @states = $err =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}):/g;
	return ($states[-1] // '', $out, $err);
}

# The output of a script that must run without an error.
sub value_as
{
	my ($node, $role, $sql, %opt) = @_;
	my ($state, $out, $err) = run_as($node, $role, $sql, %opt);

	die "as $role: $sql\n$err" if $state ne '';
	return $out;
}

# One assertion: the script ends in this SQLSTATE.
sub refused_as
{
	my ($node, $role, $sql, $expected, $name, %opt) = @_;
	my ($state, $out, $err) = run_as($node, $role, $sql, %opt);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($state, $expected, $name) || diag("$out\n$err");
}

# One assertion: the list of offenders is empty; shows all of them otherwise.
sub none
{
	my ($offenders, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(!@$offenders, $name) || diag(map { "  $_\n" } @$offenders);
}

# Kill the postmaster, wait until its children have noticed, and start again.
sub die_and_start
{
	my ($node) = @_;
	my $data = $node->data_dir;

	$node->kill9;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if !grep { (readlink($_) // '') eq $data } glob '/proc/[0-9]*/cwd';
		select undef, undef, undef, 0.1;
	}
	# Where nobody reaps orphans the number of the dead postmaster stays taken.
	unlink "$data/postmaster.pid", glob $node->host . '/.s.PGSQL.*.lock';
	$node->start;
	return;
}

# Have what test/recipes/node requires, for a copy of that folder: test/run may
# have brought it.
sub need_node_modules
{
	my ($dir) = @_;

	return
	  if IPC::Run::run([ 'node', '-e', 'require("pg"); require("pg-logical-replication")' ], '2>', '/dev/null');
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(
		[ qw(npm ci --silent --no-audit --no-fund --ignore-scripts --prefix), $dir ],
		'<', \undef, '>', \$out, '2>', \$err);
	ok($ok, 'npm installs what the clients need') or diag("$out\n$err");
	return;
}

# test_core($name, @runs): the assertions of test/core/$name.c, compiled together
# with src/${name}_core.c and nothing else.  Each run is [what it is, its
# arguments].  Undefined behaviour ends the program where the compiler can see to
# it.
sub test_core
{
	my ($name, @runs) = @_;
	my ($include) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--includedir-server' ]);
	my ($cppflags) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--cppflags' ]);
	my $program = PostgreSQL::Test::Utils::tempdir() . "/$name";
	my ($ok, $said);

	for my $checks ([ '-fsanitize=undefined,float-cast-overflow', '-fno-sanitize-recover=all' ], [])
	{
		last if $ok;
		$said = '';
		$ok = IPC::Run::run(
			[
				'cc', '-O2', '-Wall', '-Werror', split(' ', $cppflags), "-I$include", '-I' . tree('src'), @$checks,
				tree("test/core/$name.c"), tree("src/${name}_core.c"), '-o', $program, '-lm'
			],
			'<', \undef, '>', \$said, '2>&1');
	}
	ok($ok, "${name}_core.c needs nothing but itself") or BAIL_OUT($said);
	for my $run (@runs)
	{
		my ($what, @arguments) = @$run;
		my ($out, $err) = ('', '');
		my $passed = IPC::Run::run([ $program, @arguments ], '<', \undef, '>', \$out, '2>', \$err);
		my ($plan) = $out =~ /^1\.\.(\d+)$/m;
		my $done = 0;

		while ($out =~ /^(not )?ok \d+ - (.*)\n((?:# .*\n)*)/mg)
		{
			my ($failed, $assertion, $details) = ($1, $2, $3);
			ok(!$failed, "$what: $assertion") or diag($details);
			$done++;
		}
		is($done, $plan // 'none', "$what: all was tried");
		ok($passed && $err eq '', "$what: to the end") or diag($err);
	}
	return;
}

1;
