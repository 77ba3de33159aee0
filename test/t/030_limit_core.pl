# The arithmetic of limits, under clocks of our own: millions of calls, years of
# time, no server.  The test proper is test/core/limit.c.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $program = PostgreSQL::Test::Utils::tempdir() . '/limit';
my ($include) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--includedir-server' ]);
my $compiler = $ENV{CC} // 'cc';
my @command = ($compiler, '-O2', '-Wall', '-fsanitize=undefined', '-fno-sanitize-recover=undefined',
	"-I$include", '-I' . tree('src'), '-o', $program, tree('test/core/limit.c'), tree('src/limit_core.c'), '-lm');

plan skip_all => "there is no $compiler" if system("command -v $compiler >/dev/null") != 0;
my ($out, $err) = ('', '');
IPC::Run::run(\@command, '>', \$out, '2>', \$err) or die "$err";
IPC::Run::run([$program], '>', \$out, '2>', \$err) or die "$out\n$err";

my ($count) = $out =~ /^1\.\.(\d+)$/m;
for my $line (split /\n/, $out)
{
	ok($1 eq '', $2) if $line =~ /^(not |)ok \d+ - (.*)/;
}
is(Test::More->builder->current_test, $count, 'the program came to its end');
done_testing();
