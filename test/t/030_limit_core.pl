# The arithmetic of limits with clocks of its own: test/core/limit.c,
# compiled together with src/limit_core.c and nothing else, says how it went.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use Test::More;

# What was found with one seed stays found: seeds are fixed.
test_core('limit', [ 'seed 1', 1 ], [ 'seed 20260310', 20260310 ]);

done_testing();
