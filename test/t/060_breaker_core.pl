# The state machine of circuit breakers with clocks of its own: test/core/breaker.c,
# compiled together with src/breaker_core.c and nothing else, says how it went.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use Test::More;

# All short sequences of events, then long ones of fixed seeds.
test_core('breaker', [ 'all' ], [ 'seed 1', 1 ], [ 'seed 20260310', 20260310 ]);

done_testing();
