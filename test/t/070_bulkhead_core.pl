# Who gets a slot, and in which order: test/core/bulkhead.c,
# compiled together with src/bulkhead_core.c and nothing else, says how it went.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use Test::More;

# All short sequences of events, then long ones of fixed seeds.
test_core('bulkhead', [ 'all' ], [ 'seed 1', 1 ], [ 'seed 20260311', 20260311 ]);

done_testing();
