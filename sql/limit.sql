-- limit: rate limits, tiers and quotas

CREATE FUNCTION platpat.check_limits() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_limit_check_row';
COMMENT ON FUNCTION platpat.check_limits() IS 'Trigger: checks the limits of a tier or a tenant.';
CREATE FUNCTION platpat.check_tier_users() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_limit_check_users';
COMMENT ON FUNCTION platpat.check_tier_users() IS 'Trigger: tenants follow a tier that is renamed, and keep theirs from being deleted.';
REVOKE ALL ON FUNCTION platpat.check_limits(), platpat.check_tier_users() FROM PUBLIC;

-- The keys have collation C, because they are read as catalogs are. There is no
-- foreign key: pg_restore -j fills both tables at once.
CREATE TABLE platpat.tiers (
    tier text COLLATE "C" PRIMARY KEY,
    rate float8,
    burst float8,
    daily_quota bigint,
    max_concurrency int,
    per interval NOT NULL DEFAULT '1 s',
    hourly_quota bigint,
    weekly_quota bigint,
    monthly_quota bigint,
    time_zone text NOT NULL DEFAULT 'UTC',
    CHECK ((rate IS NULL) = (burst IS NULL)),
    CHECK (max_concurrency > 0)
);
COMMENT ON TABLE platpat.tiers IS 'What tenants of each tier may do. Edit it as you like.';
COMMENT ON COLUMN platpat.tiers.tier IS 'The name of the tier.';
COMMENT ON COLUMN platpat.tiers.rate IS 'Tokens that come in per time; null for no limit.';
COMMENT ON COLUMN platpat.tiers.burst IS 'Tokens that a bucket holds; null for no limit.';
COMMENT ON COLUMN platpat.tiers.daily_quota IS 'Tokens per day of the time zone; null for no limit.';
COMMENT ON COLUMN platpat.tiers.max_concurrency IS 'Requests at a time; not used yet, null for no limit.';
COMMENT ON COLUMN platpat.tiers.per IS 'The time that rate is for.';
COMMENT ON COLUMN platpat.tiers.hourly_quota IS 'Tokens per hour; null for no limit.';
COMMENT ON COLUMN platpat.tiers.weekly_quota IS 'Tokens per week, from Monday on; null for no limit.';
COMMENT ON COLUMN platpat.tiers.monthly_quota IS 'Tokens per month; null for no limit.';
COMMENT ON COLUMN platpat.tiers.time_zone IS 'The time zone whose calendar the quotas follow.';

CREATE TABLE platpat.tenants (
    tenant text COLLATE "C" PRIMARY KEY,
    tier text COLLATE "C",
    rate float8,
    burst float8,
    daily_quota bigint,
    max_concurrency int,
    per interval,
    hourly_quota bigint,
    weekly_quota bigint,
    monthly_quota bigint,
    time_zone text,
    CHECK ((rate IS NULL) = (burst IS NULL)),
    CHECK (per IS NULL OR rate IS NOT NULL),
    CHECK (max_concurrency > 0)
);
CREATE INDEX ON platpat.tenants (tier);
COMMENT ON TABLE platpat.tenants IS 'The tier of each tenant, and its own values over those of the tier; null is what the tier says.';
COMMENT ON COLUMN platpat.tenants.tenant IS 'The id of the tenant, as set_tenant() returns it.';
COMMENT ON COLUMN platpat.tenants.tier IS 'Its tier; null for platpat.limit_default_tier.';
COMMENT ON COLUMN platpat.tenants.rate IS 'Its own rate, which goes together with burst and per.';
COMMENT ON COLUMN platpat.tenants.burst IS 'Its own burst.';
COMMENT ON COLUMN platpat.tenants.daily_quota IS 'Its own quota per day.';
COMMENT ON COLUMN platpat.tenants.max_concurrency IS 'Its own number of requests at a time.';
COMMENT ON COLUMN platpat.tenants.per IS 'The time that its own rate is for; null for a second.';
COMMENT ON COLUMN platpat.tenants.hourly_quota IS 'Its own quota per hour.';
COMMENT ON COLUMN platpat.tenants.weekly_quota IS 'Its own quota per week.';
COMMENT ON COLUMN platpat.tenants.monthly_quota IS 'Its own quota per month.';
COMMENT ON COLUMN platpat.tenants.time_zone IS 'Its own time zone.';

CREATE TRIGGER check_row BEFORE INSERT OR UPDATE ON platpat.tiers
    FOR EACH ROW EXECUTE FUNCTION platpat.check_limits();
COMMENT ON TRIGGER check_row ON platpat.tiers IS 'Makes a bad tier impossible.';
CREATE TRIGGER merge_row BEFORE INSERT ON platpat.tiers
    FOR EACH ROW EXECUTE FUNCTION platpat.merge_row('tier', 'free', 'standard', 'premium');
COMMENT ON TRIGGER merge_row ON platpat.tiers IS 'A restore updates the shipped tiers.';
CREATE TRIGGER remember_removal AFTER INSERT OR UPDATE OF tier OR DELETE ON platpat.tiers
    FOR EACH ROW EXECUTE FUNCTION platpat.remember_removal('tier', 'free', 'standard', 'premium');
COMMENT ON TRIGGER remember_removal ON platpat.tiers IS 'So that a dump knows which shipped tiers are gone.';
CREATE TRIGGER check_users AFTER UPDATE OF tier OR DELETE ON platpat.tiers
    FOR EACH ROW EXECUTE FUNCTION platpat.check_tier_users();
COMMENT ON TRIGGER check_users ON platpat.tiers IS 'No tenant is left without its tier.';
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.tiers
    EXECUTE FUNCTION platpat.table_changed();
COMMENT ON TRIGGER changed ON platpat.tiers IS 'Every session reads its limits anew.';
ALTER TABLE platpat.tiers ENABLE ALWAYS TRIGGER changed;
CREATE TRIGGER changed_row AFTER INSERT OR UPDATE OR DELETE ON platpat.tiers
    FOR EACH ROW EXECUTE FUNCTION platpat.table_changed();
COMMENT ON TRIGGER changed_row ON platpat.tiers IS 'The same for rows that come by logical replication, which fires no statement triggers.';
ALTER TABLE platpat.tiers ENABLE REPLICA TRIGGER changed_row;
CREATE TRIGGER check_row BEFORE INSERT OR UPDATE ON platpat.tenants
    FOR EACH ROW EXECUTE FUNCTION platpat.check_limits();
COMMENT ON TRIGGER check_row ON platpat.tenants IS 'Makes bad limits impossible.';
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.tenants
    EXECUTE FUNCTION platpat.table_changed();
COMMENT ON TRIGGER changed ON platpat.tenants IS 'Every session reads its limits anew.';
ALTER TABLE platpat.tenants ENABLE ALWAYS TRIGGER changed;
CREATE TRIGGER changed_row AFTER INSERT OR UPDATE OR DELETE ON platpat.tenants
    FOR EACH ROW EXECUTE FUNCTION platpat.table_changed();
COMMENT ON TRIGGER changed_row ON platpat.tenants IS 'The same for rows that come by logical replication, which fires no statement triggers.';
ALTER TABLE platpat.tenants ENABLE REPLICA TRIGGER changed_row;

INSERT INTO platpat.tiers (tier, rate, burst, daily_quota) VALUES
    ('free', 10, 20, 10000),
    ('standard', 100, 200, 1000000),
    ('premium', 1000, 2000, NULL);
SELECT pg_catalog.pg_extension_config_dump('platpat.tiers', '');
SELECT pg_catalog.pg_extension_config_dump('platpat.tenants', '');
GRANT SELECT ON platpat.tiers TO PUBLIC;

CREATE FUNCTION platpat.allow_request(
    key text,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_allow';
COMMENT ON FUNCTION platpat.allow_request(text, float8, float8, float8, interval) IS
    'Whether tokens were taken from the bucket of a key. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.allow_request(
    key uuid,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_allow';
COMMENT ON FUNCTION platpat.allow_request(uuid, float8, float8, float8, interval) IS
    'Whether tokens were taken from the bucket of a key. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.allow_request(
    key bigint,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_allow';
COMMENT ON FUNCTION platpat.allow_request(bigint, float8, float8, float8, interval) IS
    'Whether tokens were taken from the bucket of a key. Errors: 22004, 22023, 55000.';

CREATE FUNCTION platpat.consume_rate_limit(
    key text,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s',
    OUT allowed boolean,
    OUT remaining float8,
    OUT retry_after interval,
    OUT reset_after interval)
    RETURNS record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_consume';
COMMENT ON FUNCTION platpat.consume_rate_limit(text, float8, float8, float8, interval) IS
    'Takes tokens from the bucket of a key, and says what is left and how long to wait. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.consume_rate_limit(
    key uuid,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s',
    OUT allowed boolean,
    OUT remaining float8,
    OUT retry_after interval,
    OUT reset_after interval)
    RETURNS record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_consume';
COMMENT ON FUNCTION platpat.consume_rate_limit(uuid, float8, float8, float8, interval) IS
    'Takes tokens from the bucket of a key, and says what is left and how long to wait. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.consume_rate_limit(
    key bigint,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s',
    OUT allowed boolean,
    OUT remaining float8,
    OUT retry_after interval,
    OUT reset_after interval)
    RETURNS record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_consume';
COMMENT ON FUNCTION platpat.consume_rate_limit(bigint, float8, float8, float8, interval) IS
    'Takes tokens from the bucket of a key, and says what is left and how long to wait. Errors: 22004, 22023, 55000.';

CREATE FUNCTION platpat.enforce_rate_limit(
    key text,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_enforce';
COMMENT ON FUNCTION platpat.enforce_rate_limit(text, float8, float8, float8, interval) IS
    'Takes tokens from the bucket of a key, or raises. Errors: 22004, 22023, 53400, 54000, 55000.';
CREATE FUNCTION platpat.enforce_rate_limit(
    key uuid,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_enforce';
COMMENT ON FUNCTION platpat.enforce_rate_limit(uuid, float8, float8, float8, interval) IS
    'Takes tokens from the bucket of a key, or raises. Errors: 22004, 22023, 53400, 54000, 55000.';
CREATE FUNCTION platpat.enforce_rate_limit(
    key bigint,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_enforce';
COMMENT ON FUNCTION platpat.enforce_rate_limit(bigint, float8, float8, float8, interval) IS
    'Takes tokens from the bucket of a key, or raises. Errors: 22004, 22023, 53400, 54000, 55000.';

CREATE FUNCTION platpat.peek_rate_limit(
    key text,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s',
    OUT allowed boolean,
    OUT remaining float8,
    OUT retry_after interval,
    OUT reset_after interval)
    RETURNS record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_peek';
COMMENT ON FUNCTION platpat.peek_rate_limit(text, float8, float8, float8, interval) IS
    'What consume_rate_limit() would begin with; takes nothing. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.peek_rate_limit(
    key uuid,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s',
    OUT allowed boolean,
    OUT remaining float8,
    OUT retry_after interval,
    OUT reset_after interval)
    RETURNS record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_peek';
COMMENT ON FUNCTION platpat.peek_rate_limit(uuid, float8, float8, float8, interval) IS
    'What consume_rate_limit() would begin with; takes nothing. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.peek_rate_limit(
    key bigint,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s',
    OUT allowed boolean,
    OUT remaining float8,
    OUT retry_after interval,
    OUT reset_after interval)
    RETURNS record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_peek';
COMMENT ON FUNCTION platpat.peek_rate_limit(bigint, float8, float8, float8, interval) IS
    'What consume_rate_limit() would begin with; takes nothing. Errors: 22004, 22023, 55000.';

CREATE FUNCTION platpat.wait_for_rate_limit(
    key text,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s',
    max_wait interval DEFAULT NULL)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_wait';
COMMENT ON FUNCTION platpat.wait_for_rate_limit(text, float8, float8, float8, interval, interval) IS
    'Sleeps until tokens are there, and takes them; false if that would take longer than max_wait. Errors: 22004, 22023, 55000, 57014.';
CREATE FUNCTION platpat.wait_for_rate_limit(
    key uuid,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s',
    max_wait interval DEFAULT NULL)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_wait';
COMMENT ON FUNCTION platpat.wait_for_rate_limit(uuid, float8, float8, float8, interval, interval) IS
    'Sleeps until tokens are there, and takes them; false if that would take longer than max_wait. Errors: 22004, 22023, 55000, 57014.';
CREATE FUNCTION platpat.wait_for_rate_limit(
    key bigint,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s',
    max_wait interval DEFAULT NULL)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_wait';
COMMENT ON FUNCTION platpat.wait_for_rate_limit(bigint, float8, float8, float8, interval, interval) IS
    'Sleeps until tokens are there, and takes them; false if that would take longer than max_wait. Errors: 22004, 22023, 55000, 57014.';

CREATE FUNCTION platpat.allow_statement(
    key text,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_allow_statement';
COMMENT ON FUNCTION platpat.allow_statement(text, float8, float8, float8, interval) IS
    'As allow_request(), but charges once for each statement that runs. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.allow_statement(
    key uuid,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_allow_statement';
COMMENT ON FUNCTION platpat.allow_statement(uuid, float8, float8, float8, interval) IS
    'As allow_request(), but charges once for each statement that runs. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.allow_statement(
    key bigint,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_allow_statement';
COMMENT ON FUNCTION platpat.allow_statement(bigint, float8, float8, float8, interval) IS
    'As allow_request(), but charges once for each statement that runs. Errors: 22004, 22023, 55000.';

CREATE FUNCTION platpat.allow_requests(
    keys text[],
    rates float8[],
    bursts float8[],
    cost float8 DEFAULT 1)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_allow_all';
COMMENT ON FUNCTION platpat.allow_requests(text[], float8[], float8[], float8) IS
    'Whether tokens were taken from the buckets of all keys; otherwise from none. Errors: 22004, 22023, 55000.';

CREATE FUNCTION platpat.refund_rate_limit(
    key text,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS float8
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_refund';
COMMENT ON FUNCTION platpat.refund_rate_limit(text, float8, float8, float8, interval) IS
    'Gives tokens back to the bucket of a key; the tokens that are there then. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.refund_rate_limit(
    key uuid,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS float8
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_refund';
COMMENT ON FUNCTION platpat.refund_rate_limit(uuid, float8, float8, float8, interval) IS
    'Gives tokens back to the bucket of a key; the tokens that are there then. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.refund_rate_limit(
    key bigint,
    rate float8,
    burst float8,
    cost float8 DEFAULT 1,
    per interval DEFAULT '1 s')
    RETURNS float8
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_refund';
COMMENT ON FUNCTION platpat.refund_rate_limit(bigint, float8, float8, float8, interval) IS
    'Gives tokens back to the bucket of a key; the tokens that are there then. Errors: 22004, 22023, 55000.';

CREATE FUNCTION platpat.reset_rate_limit(
    key text)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_reset';
COMMENT ON FUNCTION platpat.reset_rate_limit(text) IS
    'Fills the bucket of a key; false if there was none. Errors: 22004, 55000.';
CREATE FUNCTION platpat.reset_rate_limit(
    key uuid)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_reset';
COMMENT ON FUNCTION platpat.reset_rate_limit(uuid) IS
    'Fills the bucket of a key; false if there was none. Errors: 22004, 55000.';
CREATE FUNCTION platpat.reset_rate_limit(
    key bigint)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_reset';
COMMENT ON FUNCTION platpat.reset_rate_limit(bigint) IS
    'Fills the bucket of a key; false if there was none. Errors: 22004, 55000.';

CREATE FUNCTION platpat.reset_rate_limits() RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_reset_all';
COMMENT ON FUNCTION platpat.reset_rate_limits() IS
    'Fills the buckets of all keys of this database; returns how many there were. Errors: 55000.';

CREATE FUNCTION platpat.rate_limit_headers(
    allowed boolean,
    remaining float8,
    retry_after interval,
    reset_after interval,
    rate float8,
    burst float8,
    per interval DEFAULT '1 s',
    policy text DEFAULT 'default')
    RETURNS jsonb
    LANGUAGE C IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_limit_headers';
COMMENT ON FUNCTION platpat.rate_limit_headers(boolean, float8, interval, interval, float8, float8, interval, text) IS
    'HTTP headers for what consume_rate_limit() said; takes nothing. Errors: 22004, 22023.';

CREATE FUNCTION platpat.allow_tenant_request(
    cost float8 DEFAULT 1)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_allow_tenant';
COMMENT ON FUNCTION platpat.allow_tenant_request(float8) IS
    'Whether tokens were taken from the bucket and all quotas of the current tenant; otherwise from none. Errors: 22004, 22023, 42501, 42704, 55000.';

CREATE FUNCTION platpat.consume_tenant_limit(
    cost float8 DEFAULT 1,
    OUT allowed boolean,
    OUT remaining float8,
    OUT retry_after interval,
    OUT reset_after interval,
    OUT denied_by text,
    OUT tier text,
    OUT rate float8,
    OUT burst float8,
    OUT quota_remaining float8,
    OUT quota_resets_at timestamptz)
    RETURNS record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_consume_tenant';
COMMENT ON FUNCTION platpat.consume_tenant_limit(float8) IS
    'Charges the current tenant, and says what is left and how long to wait. Errors: 22004, 22023, 42501, 42704, 55000.';

CREATE FUNCTION platpat.enforce_tenant_limit(
    cost float8 DEFAULT 1)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_enforce_tenant';
COMMENT ON FUNCTION platpat.enforce_tenant_limit(float8) IS
    'Charges the current tenant, or raises. Errors: 22004, 22023, 42501, 42704, 53400, 54000, 55000.';

CREATE FUNCTION platpat.peek_tenant_limit(
    cost float8 DEFAULT 1,
    OUT allowed boolean,
    OUT remaining float8,
    OUT retry_after interval,
    OUT reset_after interval,
    OUT denied_by text,
    OUT tier text,
    OUT rate float8,
    OUT burst float8,
    OUT quota_remaining float8,
    OUT quota_resets_at timestamptz)
    RETURNS record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_peek_tenant';
COMMENT ON FUNCTION platpat.peek_tenant_limit(float8) IS
    'What consume_tenant_limit() would begin with; charges nothing. Errors: 22004, 22023, 42501, 42704, 55000.';

CREATE FUNCTION platpat.set_tier(
    tenant text,
    tier text)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_limit_set_tier';
COMMENT ON FUNCTION platpat.set_tier(text, text) IS
    'Puts a tenant into a tier, and registers it if it is not. Errors: 22004, 22023, 42704.';
CREATE FUNCTION platpat.set_tier(
    tenant uuid,
    tier text)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_limit_set_tier';
COMMENT ON FUNCTION platpat.set_tier(uuid, text) IS
    'Puts a tenant into a tier, and registers it if it is not. Errors: 22004, 22023, 42704.';
CREATE FUNCTION platpat.set_tier(
    tenant bigint,
    tier text)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_limit_set_tier';
COMMENT ON FUNCTION platpat.set_tier(bigint, text) IS
    'Puts a tenant into a tier, and registers it if it is not. Errors: 22004, 22023, 42704.';

CREATE FUNCTION platpat.reset_tenant_limit(
    tenant text)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_reset_tenant';
COMMENT ON FUNCTION platpat.reset_tenant_limit(text) IS
    'Fills the bucket of a tenant and begins its quotas anew; false if there was nothing to do. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.reset_tenant_limit(
    tenant uuid)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_reset_tenant';
COMMENT ON FUNCTION platpat.reset_tenant_limit(uuid) IS
    'Fills the bucket of a tenant and begins its quotas anew; false if there was nothing to do. Errors: 22004, 22023, 55000.';
CREATE FUNCTION platpat.reset_tenant_limit(
    tenant bigint)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_reset_tenant';
COMMENT ON FUNCTION platpat.reset_tenant_limit(bigint) IS
    'Fills the bucket of a tenant and begins its quotas anew; false if there was nothing to do. Errors: 22004, 22023, 55000.';

CREATE FUNCTION platpat.quota_window(
    unit text,
    time_zone text DEFAULT 'UTC',
    moment timestamptz DEFAULT pg_catalog.now(),
    OUT starts_at timestamptz,
    OUT ends_at timestamptz)
    RETURNS record
    LANGUAGE C STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_limit_quota_window';
COMMENT ON FUNCTION platpat.quota_window(text, text, timestamptz) IS
    'The hour, day, week or month of a time zone that a moment is in. Errors: 22004, 22008, 22023.';

CREATE FUNCTION platpat.limit_state(
    OUT space text, OUT key text, OUT allowed bigint, OUT denied bigint,
    OUT last_denied timestamptz, OUT debt interval, OUT used float8, OUT resets_at timestamptz)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_limit_state';
COMMENT ON FUNCTION platpat.limit_state() IS
    'The entries of the shared table that belong to this database, for the views. Errors: 55000.';
CREATE FUNCTION platpat.metrics(
    OUT name text, OUT labels jsonb, OUT type text, OUT value float8, OUT help text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_metrics';
COMMENT ON FUNCTION platpat.metrics() IS 'Figures of the whole server for monitoring systems. Errors: 55000.';
CREATE FUNCTION platpat.reset_stats() RETURNS void
    LANGUAGE C VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'plat_reset_stats';
COMMENT ON FUNCTION platpat.reset_stats() IS
    'Sets what is counted for this database to 0; limits go on as they are. Errors: 55000.';

REVOKE ALL ON FUNCTION
    platpat.refund_rate_limit(text, float8, float8, float8, interval),
    platpat.refund_rate_limit(uuid, float8, float8, float8, interval),
    platpat.refund_rate_limit(bigint, float8, float8, float8, interval),
    platpat.reset_rate_limit(text),
    platpat.reset_rate_limit(uuid),
    platpat.reset_rate_limit(bigint),
    platpat.reset_rate_limits(),
    platpat.set_tier(text, text),
    platpat.set_tier(uuid, text),
    platpat.set_tier(bigint, text),
    platpat.reset_tenant_limit(text),
    platpat.reset_tenant_limit(uuid),
    platpat.reset_tenant_limit(bigint),
    platpat.limit_state(),
    platpat.metrics(),
    platpat.reset_stats()
    FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    platpat.allow_request(text, float8, float8, float8, interval),
    platpat.allow_request(uuid, float8, float8, float8, interval),
    platpat.allow_request(bigint, float8, float8, float8, interval),
    platpat.consume_rate_limit(text, float8, float8, float8, interval),
    platpat.consume_rate_limit(uuid, float8, float8, float8, interval),
    platpat.consume_rate_limit(bigint, float8, float8, float8, interval),
    platpat.enforce_rate_limit(text, float8, float8, float8, interval),
    platpat.enforce_rate_limit(uuid, float8, float8, float8, interval),
    platpat.enforce_rate_limit(bigint, float8, float8, float8, interval),
    platpat.peek_rate_limit(text, float8, float8, float8, interval),
    platpat.peek_rate_limit(uuid, float8, float8, float8, interval),
    platpat.peek_rate_limit(bigint, float8, float8, float8, interval),
    platpat.wait_for_rate_limit(text, float8, float8, float8, interval, interval),
    platpat.wait_for_rate_limit(uuid, float8, float8, float8, interval, interval),
    platpat.wait_for_rate_limit(bigint, float8, float8, float8, interval, interval),
    platpat.allow_statement(text, float8, float8, float8, interval),
    platpat.allow_statement(uuid, float8, float8, float8, interval),
    platpat.allow_statement(bigint, float8, float8, float8, interval),
    platpat.allow_requests(text[], float8[], float8[], float8),
    platpat.rate_limit_headers(boolean, float8, interval, interval, float8, float8, interval, text),
    platpat.allow_tenant_request(float8),
    platpat.consume_tenant_limit(float8),
    platpat.enforce_tenant_limit(float8),
    platpat.peek_tenant_limit(float8),
    platpat.quota_window(text, text, timestamptz)
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION platpat.limit_state(), platpat.metrics() TO pg_monitor;

CREATE VIEW platpat.stat_rate_limits AS
    SELECT key, allowed, denied, last_denied, debt
    FROM platpat.limit_state()
    WHERE space = 'key';
COMMENT ON VIEW platpat.stat_rate_limits IS 'The buckets of keys in this database. Errors: 55000.';
COMMENT ON COLUMN platpat.stat_rate_limits.key IS 'The first 128 bytes of the key.';
COMMENT ON COLUMN platpat.stat_rate_limits.allowed IS 'Calls that passed, since the bucket came into the table or the last reset_stats().';
COMMENT ON COLUMN platpat.stat_rate_limits.denied IS 'Calls that did not.';
COMMENT ON COLUMN platpat.stat_rate_limits.last_denied IS 'When the statement of the last of them began.';
COMMENT ON COLUMN platpat.stat_rate_limits.debt IS 'The time until the bucket is full.';

CREATE VIEW platpat.stat_tenants AS
    SELECT s.key AS tenant,
        coalesce(t.tier, pg_catalog.current_setting('platpat.limit_default_tier', true)) AS tier,
        s.allowed, s.denied, s.last_denied, s.debt
    FROM (SELECT key,
            sum(allowed)::bigint AS allowed,
            sum(denied)::bigint AS denied,
            max(last_denied) AS last_denied,
            max(debt) AS debt
        FROM platpat.limit_state()
        WHERE space <> 'key'
        GROUP BY key) AS s
    LEFT JOIN platpat.tenants AS t ON t.tenant = s.key;
COMMENT ON VIEW platpat.stat_tenants IS 'The requests of tenants in this database. Errors: 55000.';
COMMENT ON COLUMN platpat.stat_tenants.tenant IS 'The tenant.';
COMMENT ON COLUMN platpat.stat_tenants.tier IS 'Its tier.';
COMMENT ON COLUMN platpat.stat_tenants.allowed IS 'Requests that passed, since the tenant came into the table or the last reset_stats().';
COMMENT ON COLUMN platpat.stat_tenants.denied IS 'Requests that did not, by the rate or by a quota.';
COMMENT ON COLUMN platpat.stat_tenants.last_denied IS 'When the statement of the last of them began.';
COMMENT ON COLUMN platpat.stat_tenants.debt IS 'The time until its bucket is full.';

CREATE VIEW platpat.quota_usage AS
    SELECT s.key AS tenant, s.space AS unit, s.used, q.quota,
        greatest(q.quota - s.used, 0) AS remaining, s.resets_at
    FROM platpat.limit_state() AS s
    LEFT JOIN platpat.tenants AS t ON t.tenant = s.key
    LEFT JOIN platpat.tiers AS d ON d.tier =
        coalesce(t.tier, pg_catalog.current_setting('platpat.limit_default_tier', true))
    CROSS JOIN LATERAL (SELECT CASE s.space
        WHEN 'hour' THEN coalesce(t.hourly_quota, d.hourly_quota)
        WHEN 'day' THEN coalesce(t.daily_quota, d.daily_quota)
        WHEN 'week' THEN coalesce(t.weekly_quota, d.weekly_quota)
        WHEN 'month' THEN coalesce(t.monthly_quota, d.monthly_quota)
        END AS quota) AS q
    WHERE s.used IS NOT NULL;
COMMENT ON VIEW platpat.quota_usage IS 'The quotas that tenants have begun to use in this database. Errors: 55000.';
COMMENT ON COLUMN platpat.quota_usage.tenant IS 'The tenant.';
COMMENT ON COLUMN platpat.quota_usage.unit IS 'hour, day, week or month.';
COMMENT ON COLUMN platpat.quota_usage.used IS 'Tokens used in the present window.';
COMMENT ON COLUMN platpat.quota_usage.quota IS 'Tokens per window; null if it has none any more.';
COMMENT ON COLUMN platpat.quota_usage.remaining IS 'Tokens left.';
COMMENT ON COLUMN platpat.quota_usage.resets_at IS 'When the window is over.';
GRANT SELECT ON platpat.stat_rate_limits, platpat.stat_tenants, platpat.quota_usage TO pg_monitor;
