-- Tiers, tenants and quotas.  Rates are so low that nothing comes in meanwhile,
-- quotas are those of windows that do not end during the test but once a month.
\set VERBOSITY terse
CREATE ROLE regress_limit_app;
CREATE ROLE regress_limit_admin;
SELECT platpat.grant_admin('regress_limit_admin');

SELECT * FROM platpat.tiers ORDER BY rate;
SELECT count(*) FROM platpat.tenants;

-- without a tenant nothing is allowed, whatever the readers do
SET ROLE regress_limit_app;
SELECT platpat.allow_tenant_request();
SET platpat.on_missing_tenant = 'empty';
RESET ROLE;
SET platpat.on_missing_tenant = 'empty';
SELECT platpat.allow_tenant_request();
SELECT platpat.consume_tenant_limit();
SELECT platpat.enforce_tenant_limit();
SELECT platpat.peek_tenant_limit();
RESET platpat.on_missing_tenant;

-- an unknown tenant has the default tier
SET ROLE regress_limit_app;
SELECT platpat.set_tenant('limit-1', false);
SELECT allowed, remaining, retry_after, denied_by, tier, rate, burst, quota_remaining,
	quota_resets_at = (SELECT ends_at FROM platpat.quota_window('day')) AS resets_at_midnight
FROM platpat.consume_tenant_limit();
SELECT tier, quota_remaining FROM platpat.peek_tenant_limit();

-- an application changes no limit, nor sees those of others
SELECT platpat.set_tier('limit-1', 'premium');
UPDATE platpat.tiers SET rate = 1000;
SELECT * FROM platpat.tenants;
SELECT * FROM platpat.stat_tenants;
SELECT platpat.reset_tenant_limit('limit-1');
SELECT platpat.refund_rate_limit('x', 1, 1);
SELECT platpat.reset_rate_limit('x');
SELECT platpat.reset_stats();
SELECT * FROM platpat.metrics();
SET platpat.limit_default_tier = 'premium';
-- nor does a key name the bucket of a tenant
SELECT platpat.allow_request('limit-1', 1, 100, 100, '1 day');
SELECT round(remaining) FROM platpat.peek_tenant_limit();

-- an administrator does
SET ROLE regress_limit_admin;
INSERT INTO platpat.tiers (tier, rate, burst, per, daily_quota, monthly_quota)
VALUES ('slow', 1, 5, '30 days', 8, 12);
SELECT platpat.set_tier('limit-1', 'slow');
SELECT * FROM platpat.tenants;
SELECT platpat.reset_tenant_limit('limit-1');
SET ROLE regress_limit_app;
SELECT platpat.set_tenant('limit-1', false);

SELECT count(*) FILTER (WHERE platpat.allow_tenant_request()) FROM generate_series(1, 10);
SELECT allowed, denied_by, retry_after > '29 days' AS waits_for_the_rate, quota_remaining
FROM platpat.consume_tenant_limit();
SELECT platpat.enforce_tenant_limit();

-- refused by one, charged by none
RESET ROLE;
SELECT unit, used, quota, remaining FROM platpat.quota_usage WHERE tenant = 'limit-1' ORDER BY quota;
SELECT tier, allowed, denied FROM platpat.stat_tenants WHERE tenant = 'limit-1';
-- its own values go over those of the tier
UPDATE platpat.tenants SET rate = 1000, burst = 1000, per = '1 s' WHERE tenant = 'limit-1';
SET ROLE regress_limit_app;
SELECT platpat.set_tenant('limit-1', false);
-- the debt is still that of the slow tier, in time
SELECT platpat.allow_tenant_request();
RESET ROLE;
SELECT platpat.reset_tenant_limit('limit-1');
SELECT count(*) FROM platpat.quota_usage WHERE tenant = 'limit-1';
SET ROLE regress_limit_app;
SELECT count(*) FILTER (WHERE platpat.allow_tenant_request()) FROM generate_series(1, 20);
SELECT allowed, denied_by, quota_remaining, retry_after <= '25 hours' AS waits_for_the_day
FROM platpat.consume_tenant_limit();
DO $$
DECLARE
	detail text;
BEGIN
	PERFORM platpat.enforce_tenant_limit();
EXCEPTION WHEN configuration_limit_exceeded THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE NOTICE '% %', SQLERRM, detail::jsonb - 'retry_after';
END $$;

-- more than a whole quota can never pass
SELECT allowed, denied_by, retry_after FROM platpat.consume_tenant_limit(500);
DO $$
DECLARE
	detail text; hint text;
BEGIN
	PERFORM platpat.enforce_tenant_limit(500);
EXCEPTION WHEN configuration_limit_exceeded THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RAISE NOTICE '% % %', SQLERRM, detail::jsonb, hint;
END $$;
SELECT platpat.allow_tenant_request(1001);
SELECT platpat.allow_tenant_request(-1);
SELECT platpat.allow_tenant_request(NULL);
SELECT platpat.allow_tenant_request('NaN');

-- fractions are counted in thousandths, rounded up
RESET ROLE;
INSERT INTO platpat.tiers (tier, hourly_quota) VALUES ('free rate', 1);
INSERT INTO platpat.tenants (tenant, tier, hourly_quota, monthly_quota) VALUES ('limit-2', 'free rate', NULL, 1);
UPDATE platpat.tiers SET hourly_quota = NULL WHERE tier = 'free rate';
SET ROLE regress_limit_app;
SELECT platpat.set_tenant('limit-2', false);
SELECT count(*) FILTER (WHERE platpat.allow_tenant_request(0.07)) FROM generate_series(1, 20);
SELECT quota_remaining FROM platpat.peek_tenant_limit();
SELECT count(*) FILTER (WHERE platpat.allow_tenant_request(0.000001)) FROM generate_series(1, 30);
SELECT allowed, remaining, rate, burst, quota_remaining, denied_by FROM platpat.consume_tenant_limit(0);
SELECT allowed, remaining, denied_by FROM platpat.consume_tenant_limit(0.001);

-- neither a rate nor a quota: everything passes, and counts
RESET ROLE;
UPDATE platpat.tenants SET monthly_quota = NULL WHERE tenant = 'limit-2';
SET ROLE regress_limit_app;
SELECT * FROM platpat.consume_tenant_limit(1e100);
RESET ROLE;
SELECT allowed, denied FROM platpat.stat_tenants WHERE tenant = 'limit-2';

-- a change counts at the next call, and one that is rolled back does not
UPDATE platpat.tiers SET rate = 1, burst = 2, per = '30 days' WHERE tier = 'free rate';
BEGIN;
SELECT platpat.set_tier('limit-2', 'premium');
SET LOCAL platpat.allow_bypass_role = on;
SELECT tier FROM platpat.peek_tenant_limit();
SAVEPOINT s;
SELECT platpat.set_tier('limit-2', 'standard');
SELECT tier FROM platpat.peek_tenant_limit();
ROLLBACK TO s;
SELECT tier FROM platpat.peek_tenant_limit();
ROLLBACK;
SELECT tier, burst FROM platpat.peek_tenant_limit();
DELETE FROM platpat.tenants WHERE tenant = 'limit-2';
SELECT tier, burst FROM platpat.peek_tenant_limit();
SET platpat.limit_default_tier = 'standard';
SELECT tier, burst FROM platpat.peek_tenant_limit();
SET platpat.limit_default_tier = 'no such tier';
SELECT platpat.allow_tenant_request();
SELECT platpat.enforce_tenant_limit();
RESET platpat.limit_default_tier;
UPDATE platpat.tiers SET tier = 'gratis' WHERE tier = 'free';
SELECT platpat.allow_tenant_request();
SET platpat.limit_default_tier = 'gratis';
SELECT tier, burst FROM platpat.peek_tenant_limit();
RESET platpat.limit_default_tier;
SELECT * FROM platpat.removed_defaults WHERE table_name = 'tiers';
UPDATE platpat.tiers SET tier = 'free' WHERE tier = 'gratis';
SELECT * FROM platpat.removed_defaults WHERE table_name = 'tiers';

-- a tenant whose tier nobody has made, as it may be in the middle of a restore
INSERT INTO platpat.tenants (tenant, tier) VALUES ('limit-2', 'no such tier');
SELECT platpat.allow_tenant_request();
DELETE FROM platpat.tenants WHERE tenant = 'limit-2';
-- a tier that is renamed keeps its tenants
SELECT platpat.set_tier('limit-2', 'free rate');
UPDATE platpat.tiers SET tier = 'free rate 2' WHERE tier = 'free rate';
SELECT tier FROM platpat.tenants WHERE tenant = 'limit-2';
DELETE FROM platpat.tiers WHERE tier = 'free rate 2';
UPDATE platpat.tiers SET tier = 'free rate' WHERE tier = 'free rate 2';
DELETE FROM platpat.tenants WHERE tenant = 'limit-2';
-- bad rows
INSERT INTO platpat.tiers (tier, rate, burst) VALUES ('bad', 0, 1);
INSERT INTO platpat.tiers (tier, rate, burst) VALUES ('bad', 'NaN', 1);
INSERT INTO platpat.tiers (tier, rate, burst) VALUES ('bad', 1, 'Infinity');
INSERT INTO platpat.tiers (tier, rate) VALUES ('bad', 1);
INSERT INTO platpat.tiers (tier, rate, burst, per) VALUES ('bad', 1, 1, '0');
INSERT INTO platpat.tiers (tier, rate, burst, per) VALUES ('bad', 1, 1, '1000 years');
INSERT INTO platpat.tiers (tier, rate, burst, per) VALUES ('bad', 1, 1, NULL);
INSERT INTO platpat.tiers (tier, daily_quota) VALUES ('bad', -1);
INSERT INTO platpat.tiers (tier, monthly_quota) VALUES ('bad', 9000000000000001);
INSERT INTO platpat.tiers (tier, max_concurrency) VALUES ('bad', 0);
INSERT INTO platpat.tiers (tier, time_zone) VALUES ('bad', 'Europe/Atlantis');
INSERT INTO platpat.tiers (tier, time_zone) VALUES ('bad', NULL);
INSERT INTO platpat.tiers (tier) VALUES ('');
INSERT INTO platpat.tiers (tier) VALUES (NULL);
INSERT INTO platpat.tiers (tier) VALUES (repeat('x', 256));
INSERT INTO platpat.tiers (tier) VALUES ('slow');
INSERT INTO platpat.tenants (tenant, per) VALUES ('limit-3', '1 day');
INSERT INTO platpat.tenants (tenant) VALUES ('a/b');
INSERT INTO platpat.tenants (tenant) VALUES ('');
INSERT INTO platpat.tenants (tenant, burst) VALUES ('limit-3', 1);
INSERT INTO platpat.tenants (tenant, rate, burst) VALUES ('limit-3', 1, 'NaN');
INSERT INTO platpat.tenants (tenant, hourly_quota) VALUES ('limit-3', -1);
DELETE FROM platpat.tiers WHERE tier = 'slow';
SELECT platpat.set_tier('limit-3', 'no such tier');
SELECT platpat.set_tier('limit-3', NULL);
SELECT platpat.set_tier('limit-3', '');
SELECT platpat.set_tier(NULL::text, 'free');
SELECT platpat.set_tier('', 'free');
SELECT platpat.set_tier('a/b', 'free');
SET platpat.tenant_type = 'uuid';
SELECT platpat.set_tier('3F2504E0-4F89-41D3-9A0C-000000000001', 'free');
SELECT platpat.set_tier('3f2504e0-4f89-41d3-9a0c-000000000001'::uuid, 'standard');
SELECT platpat.set_tier(17, 'free');
INSERT INTO platpat.tenants (tenant) VALUES ('3F2504E0-4F89-41D3-9A0C-000000000002');
RESET platpat.tenant_type;
SELECT platpat.set_tier(17, 'free');
SELECT tenant, tier FROM platpat.tenants WHERE tenant ~ '^(17|3f)' ORDER BY tenant;
SELECT platpat.reset_tenant_limit(NULL::text);
SELECT platpat.reset_tenant_limit('never seen');

-- a shipped tier that is inserted is updated, as in a restore
INSERT INTO platpat.tiers (tier, rate, burst) VALUES ('premium', 2000, 4000);
SELECT * FROM platpat.tiers WHERE tier = 'premium';

-- windows of a calendar
SELECT unit, ends_at - starts_at AS length, starts_at AT TIME ZONE 'Europe/Prague' AS starts_at
FROM unnest('{hour,day,week,month}'::text[]) AS unit, platpat.quota_window(unit, 'Europe/Prague', '2026-03-29 12:34:56+00');
SELECT unit, ends_at - starts_at AS length, starts_at AT TIME ZONE 'Europe/Prague' AS starts_at
FROM unnest('{hour,day,week,month}'::text[]) AS unit, platpat.quota_window(unit, 'Europe/Prague', '2026-10-25 01:30:00+00');
SELECT (platpat.quota_window('month', 'UTC', '2028-02-29 23:59:59.999999+00')).*;
SELECT (platpat.quota_window('week', 'UTC', '2027-01-01 00:00+00')).*;
SELECT (platpat.quota_window('day', 'UTC', '0044-03-15 00:00+00 BC')).*;
SELECT (platpat.quota_window('day', 'America/Havana', moment)).* FROM unnest('{2025-11-02 03:59Z, 2025-11-02 04:00Z, 2025-11-02 05:00Z}'::timestamptz[]) AS moment;
SELECT platpat.quota_window('year');
SELECT platpat.quota_window('day', 'nowhere');
SELECT platpat.quota_window('day', 'UTC', 'infinity');
SELECT platpat.quota_window('month', 'UTC', '294276-12-31 23:59:59+00');
SELECT platpat.quota_window(NULL);
SELECT platpat.quota_window('day', NULL);
SELECT platpat.quota_window('day', 'UTC', NULL);

DELETE FROM platpat.tenants;
DELETE FROM platpat.tiers WHERE tier IN ('slow', 'free rate');
UPDATE platpat.tiers SET rate = 1000, burst = 2000 WHERE tier = 'premium';
SELECT platpat.revoke_admin('regress_limit_admin');
SELECT platpat.revoke_admin('platpat_admin');
RESET ROLE;
DROP ROLE regress_limit_app, regress_limit_admin;
