-- Circuit breakers and bulkheads are in order for their controllers, with shared
-- memory or without.
\set VERBOSITY terse
BEGIN;
SELECT platpat.create_breaker('sync'), platpat.create_bulkhead('sync', 2, reserved => '{"critical": 1}');
SELECT count(*) FROM platpat.desired_breakers d JOIN platpat.actual_breakers a USING (key, spec) WHERE key = 'sync';
SELECT key, spec - 'id' AS spec FROM platpat.actual_bulkheads WHERE key = 'sync';
SELECT count(*) FROM platpat.drift('breakers') WHERE key = 'sync';
SELECT count(*) FROM platpat.drift('bulkheads') WHERE key = 'sync';
SELECT key FROM platpat.reconcile('breakers') WHERE key = 'sync';
SELECT key FROM platpat.reconcile('bulkheads') WHERE key = 'sync';
SELECT status FROM platpat.controller_status WHERE controller IN ('breakers', 'bulkheads');
SELECT platpat.apply_breaker(gen_random_uuid()::text, NULL, NULL), platpat.apply_bulkhead(gen_random_uuid()::text, NULL, NULL);
ROLLBACK;
