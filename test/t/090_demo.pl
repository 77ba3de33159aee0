# A small `make demo` from beginning to end: it shows what it promises, stays
# inside its folder and leaves nothing behind when it is stopped.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use PostgreSQL::Test::Utils;
use Test::More;

# The socket is in that folder too, so its path has to be short.
my $folder = PostgreSQL::Test::Utils::tempdir_short() . '/demo';

local %ENV = (
	%ENV,
	PLAT_DEMO_DIR => $folder,
	DEMO_TENANTS  => 20,
	DEMO_ORDERS   => 20000);
# The demo is started as a user would, not as the inner half of a script.
delete $ENV{PLAT_SCRATCH};

sub demo
{
	my ($out, $err);
	IPC::Run::run([ tree('test/demo/run'), @_ ], '<', \undef, '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

my ($status, $out, $err) = demo();
is($status, 0, 'the demo succeeds') or diag("$out\n$err");
is($err, '', 'it has nothing to complain about');
unlike($out, qr/NOT AS PROMISED/, 'every result is as promised');
cmp_ok(scalar(() = $out =~ /^    ok: /mg), '>=', 36, 'it checks what it shows');
like($out, qr/^ +100 %$/m, 'progress goes to the end');
my @refusals = $out =~ /SQLSTATE 42501/g;
cmp_ok(scalar @refusals, '>=', 7, 'refusals are shown with their SQLSTATE');

like($out, qr/^    NOTICE:  then status 429\n.*"Retry-After": "\d+"/m, 'a tenant over its limit gets a response of HTTP');
like($out, qr/^ +acme +\| +day +\| +\d+ +\| +1000000 +\|/m, 'and goes on in another tier');

my ($psql) = $out =~ m{^    psql "(host=.*user=shop_app)"}m;
my ($count) = run_command([ 'psql', '-XAtq', '-d', $psql, '-c',
		q{BEGIN; SELECT platpat.set_tenant('acme'); SELECT count(*) FROM orders} ]);
is($count, "acme\n6002", 'the command it ends with works');

my ($pid) = split /\n/, slurp_file("$folder/data/postmaster.pid");
ok(kill(0, $pid), 'the server goes on running');
is((stat $folder)[2] & 0777, 0700, 'nobody else reaches its socket');

($status, $out, $err) = demo('stop');
is($status, 0, 'the demo can be stopped') or diag("$out\n$err");
ok(!kill(0, $pid), 'its server is gone');
ok(!-e $folder, 'its folder is gone');

done_testing();
