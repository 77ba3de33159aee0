# How far readers of the event log may read: test/core/event.c, compiled
# together with src/event_core.c and nothing else, says how it went.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PlatTest;
use Test::More;

# Cases, then long random histories of fixed seeds.
test_core('event', [ 'cases' ], [ 'seed 1', 1 ], [ 'seed 2', 2 ], [ 'seed 20261124', 20261124 ]);

done_testing();
