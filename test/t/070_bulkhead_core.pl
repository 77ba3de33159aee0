# Who gets a slot, and in which order: test/core/bulkhead.c, compiled together
# with src/bulkhead_core.c and nothing else, says how it went.
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
my $program = PostgreSQL::Test::Utils::tempdir() . '/bulkhead';

# compile(@more): whether it can be, with what the compiler said.
sub compile
{
	my (@more) = @_;
	my $said = '';
	my $ok = IPC::Run::run(
		[
			'cc', '-O2', '-Wall', '-Werror', split(' ', $cppflags), "-I$include", '-I' . tree('src'), @more,
			tree('test/core/bulkhead.c'), tree('src/bulkhead_core.c'), '-o', $program
		],
		'<', \undef, '>', \$said, '2>&1');
	return ($ok, $said);
}

# Undefined behaviour ends the program where the compiler can see to it.
my ($ok, $said) = compile('-fsanitize=undefined,address', '-fno-sanitize-recover=undefined');
($ok, $said) = compile() if !$ok;
ok($ok, 'bulkhead_core.c needs nothing but itself') or BAIL_OUT($said);

# All short sequences, and then long ones; seeds are fixed.
for my $seed ('', 1, 20260311)
{
	my ($out, $err) = ('', '');
	my $what = $seed eq '' ? 'short' : "seed $seed";
	my $passed = IPC::Run::run([ $program, grep { $_ ne '' } $seed ], '<', \undef, '>', \$out, '2>', \$err);
	my ($plan) = $out =~ /^1\.\.(\d+)$/m;
	my $done = 0;

	while ($out =~ /^(not )?ok \d+ - (.*)\n((?:# .*\n)*)/mg)
	{
		my ($failed, $name, $details) = ($1, $2, $3);
		ok(!$failed, "$what: $name") or diag($details);
		$done++;
	}
	is($done, $plan // 'none', "$what: all was tried");
	ok($passed && $err eq '', "$what: to the end") or diag($err);
}

done_testing();
