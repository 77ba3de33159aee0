# The state machine of circuit breakers with clocks of its own: test/core/breaker.c,
# compiled together with src/breaker_core.c and nothing else, says how it went.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IPC::Run;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

my ($include) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--includedir-server' ]);
my ($cppflags) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--cppflags' ]);
my $program = PostgreSQL::Test::Utils::tempdir() . '/breaker';

# compile($program, @more): whether it can be, with what the compiler said.
sub compile
{
	my (@more) = @_;
	my $said = '';
	my $ok = IPC::Run::run(
		[
			'cc', '-O2', '-Wall', '-Werror', split(' ', $cppflags), "-I$include", '-I' . tree('src'), @more,
			tree('test/core/breaker.c'), tree('src/breaker_core.c'), '-o', $program, '-lm'
		],
		'<', \undef, '>', \$said, '2>&1');
	return ($ok, $said);
}

# Undefined behaviour ends the program where the compiler can see to it.
my ($ok, $said) = compile('-fsanitize=undefined,float-cast-overflow', '-fno-sanitize-recover=all');
($ok, $said) = compile() if !$ok;
ok($ok, 'breaker_core.c needs nothing but itself') or BAIL_OUT($said);

# All short sequences first, then long ones. What was found with one seed stays
# found: seeds are fixed.
for my $seed ('', 1, 20260310)
{
	my $run = $seed ? "seed $seed" : 'all';
	my ($out, $err) = ('', '');
	my $passed = IPC::Run::run([ $program, $seed || () ], '<', \undef, '>', \$out, '2>', \$err);
	my ($plan) = $out =~ /^1\.\.(\d+)$/m;
	my $done = 0;

	while ($out =~ /^(not )?ok \d+ - (.*)\n((?:# .*\n)*)/mg)
	{
		my ($failed, $name, $details) = ($1, $2, $3);
		ok(!$failed, "$run: $name") or diag($details);
		$done++;
	}
	is($done, $plan // 'none', "$run: all was tried");
	ok($passed && $err eq '', "$run: to the end") or diag($err);
}

done_testing();
