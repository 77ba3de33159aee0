# When something is done about a difference, and how long failures are left
# alone: test/core/retry.c and test/core/controller.c, compiled together with
# src/retry_core.c and src/controller_core.c and nothing else, say how it went.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use Test::More;

test_core('retry', ['cases']);

# Cases, then days of fixed seeds.
test_core('controller', [ 'cases' ], [ 'seed 1', 1 ], [ 'seed 2', 2 ], [ 'seed 20261124', 20261124 ]);

done_testing();
