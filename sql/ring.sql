-- ring: which shard owns a key

CREATE FUNCTION platpat.check_ring() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_check_ring';
COMMENT ON FUNCTION platpat.check_ring() IS 'Trigger: checks the settings of a ring.';
CREATE FUNCTION platpat.check_shard() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_check_shard';
COMMENT ON FUNCTION platpat.check_shard() IS 'Trigger: checks a shard and notes the change of its ring.';
CREATE FUNCTION platpat.check_pin() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_check_pin';
COMMENT ON FUNCTION platpat.check_pin() IS 'Trigger: checks a pinned key and notes the change of its ring.';
CREATE FUNCTION platpat.ring_changed() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_changed';
COMMENT ON FUNCTION platpat.ring_changed() IS 'Trigger: tells every session that a ring has changed.';
CREATE FUNCTION platpat.ring_cascade() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_cascade';
COMMENT ON FUNCTION platpat.ring_cascade() IS 'Trigger: shards follow their ring, and pins their shard.';
REVOKE ALL ON FUNCTION platpat.check_ring(), platpat.check_shard(), platpat.check_pin(),
    platpat.ring_changed(), platpat.ring_cascade() FROM PUBLIC;

-- There are no foreign keys: pg_restore -j fills all tables at once.
CREATE TABLE platpat.rings (
    ring text PRIMARY KEY,
    algorithm text NOT NULL DEFAULT 'md5',
    virtual_nodes int NOT NULL DEFAULT 150,
    hash text NOT NULL DEFAULT 'xxh64',
    table_size int NOT NULL DEFAULT 65537
);
COMMENT ON TABLE platpat.rings IS 'Rings of shards. Editing this table is as good as calling the functions.';
COMMENT ON COLUMN platpat.rings.ring IS 'The name of the ring.';
COMMENT ON COLUMN platpat.rings.algorithm IS 'md5, ketama, rendezvous, maglev, jump or modulo.';
COMMENT ON COLUMN platpat.rings.virtual_nodes IS 'Points of a shard of weight 1 on an md5 ring, 1 to 10000.';
COMMENT ON COLUMN platpat.rings.hash IS 'How rendezvous, maglev, jump and modulo hash a key: xxh64 or partition.';
COMMENT ON COLUMN platpat.rings.table_size IS 'Entries of a maglev table, a prime from 65537 on.';

CREATE TABLE platpat.shards (
    ring text NOT NULL,
    shard text NOT NULL,
    weight float8 NOT NULL DEFAULT 1,
    position int NOT NULL,
    server name,
    PRIMARY KEY (ring, shard),
    UNIQUE (ring, position)
);
COMMENT ON TABLE platpat.shards IS 'The shards of each ring. Editing this table is as good as calling the functions.';
COMMENT ON COLUMN platpat.shards.ring IS 'The ring.';
COMMENT ON COLUMN platpat.shards.shard IS 'The name of the shard.';
COMMENT ON COLUMN platpat.shards.weight IS 'Its share relative to others, 0 to 1000000; 0 owns nothing.';
COMMENT ON COLUMN platpat.shards.position IS 'Its number for jump and modulo; given when left out.';
COMMENT ON COLUMN platpat.shards.server IS 'Its foreign server, for server_for().';

CREATE TABLE platpat.pins (
    ring text NOT NULL,
    key text NOT NULL,
    shard text NOT NULL,
    PRIMARY KEY (ring, key)
);
COMMENT ON TABLE platpat.pins IS 'Keys that belong to a shard whatever the algorithm says.';
COMMENT ON COLUMN platpat.pins.ring IS 'The ring.';
COMMENT ON COLUMN platpat.pins.key IS 'The key, as text.';
COMMENT ON COLUMN platpat.pins.shard IS 'The shard that owns it.';

CREATE TRIGGER check_row BEFORE INSERT OR UPDATE ON platpat.rings
    FOR EACH ROW EXECUTE FUNCTION platpat.check_ring();
COMMENT ON TRIGGER check_row ON platpat.rings IS 'Makes a bad ring impossible.';
CREATE TRIGGER merge_row BEFORE INSERT ON platpat.rings
    FOR EACH ROW EXECUTE FUNCTION platpat.merge_row('ring', 'default');
COMMENT ON TRIGGER merge_row ON platpat.rings IS 'A restore updates the shipped ring.';
CREATE TRIGGER remember_removal AFTER INSERT OR UPDATE OF ring OR DELETE ON platpat.rings
    FOR EACH ROW EXECUTE FUNCTION platpat.remember_removal('ring', 'default');
COMMENT ON TRIGGER remember_removal ON platpat.rings IS 'So that a dump knows that the shipped ring is gone.';
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.rings
    EXECUTE FUNCTION platpat.ring_changed();
COMMENT ON TRIGGER changed ON platpat.rings IS 'Every session compiles its rings anew.';
CREATE TRIGGER check_row BEFORE INSERT OR UPDATE OR DELETE ON platpat.shards
    FOR EACH ROW EXECUTE FUNCTION platpat.check_shard();
COMMENT ON TRIGGER check_row ON platpat.shards IS 'Makes a bad ring impossible.';
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.shards
    EXECUTE FUNCTION platpat.ring_changed();
COMMENT ON TRIGGER changed ON platpat.shards IS 'Every session compiles its rings anew.';
CREATE TRIGGER check_row BEFORE INSERT OR UPDATE OR DELETE ON platpat.pins
    FOR EACH ROW EXECUTE FUNCTION platpat.check_pin();
COMMENT ON TRIGGER check_row ON platpat.pins IS 'Makes a bad pin impossible.';
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON platpat.pins
    EXECUTE FUNCTION platpat.ring_changed();
COMMENT ON TRIGGER changed ON platpat.pins IS 'Every session compiles its rings anew.';
CREATE TRIGGER cascade AFTER UPDATE OF ring OR DELETE ON platpat.rings
    FOR EACH ROW EXECUTE FUNCTION platpat.ring_cascade();
COMMENT ON TRIGGER cascade ON platpat.rings IS 'Shards follow their ring.';
CREATE TRIGGER cascade AFTER UPDATE OF ring, shard OR DELETE ON platpat.shards
    FOR EACH ROW EXECUTE FUNCTION platpat.ring_cascade();
COMMENT ON TRIGGER cascade ON platpat.shards IS 'Pins follow their shard.';
INSERT INTO platpat.rings (ring) VALUES ('default');
SELECT pg_catalog.pg_extension_config_dump('platpat.rings', '');
SELECT pg_catalog.pg_extension_config_dump('platpat.shards', '');
SELECT pg_catalog.pg_extension_config_dump('platpat.pins', '');
-- not pins: keys are the names of tenants
GRANT SELECT ON platpat.rings, platpat.shards TO PUBLIC;

CREATE FUNCTION platpat.create_ring(
    ring text,
    algorithm text DEFAULT 'md5',
    virtual_nodes int DEFAULT 150,
    hash text DEFAULT 'xxh64',
    shards text[] DEFAULT '{}',
    table_size int DEFAULT 65537)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_create';
COMMENT ON FUNCTION platpat.create_ring(text, text, int, text, text[], int) IS
    'Makes a ring, with shards of weight 1. Errors: 22004, 22023, 42710.';

CREATE FUNCTION platpat.drop_ring(ring text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_drop';
COMMENT ON FUNCTION platpat.drop_ring(text) IS
    'Drops a ring with its shards and pins. Errors: 22004, 42704.';

CREATE FUNCTION platpat.add_shard(
    shard text,
    ring text DEFAULT 'default',
    weight float8 DEFAULT 1,
    server name DEFAULT NULL)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_add_shard';
COMMENT ON FUNCTION platpat.add_shard(text, text, float8, name) IS
    'Adds a shard to a ring. Errors: 22004, 22023, 42704, 42710.';

CREATE FUNCTION platpat.remove_shard(shard text, ring text DEFAULT 'default') RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_remove_shard';
COMMENT ON FUNCTION platpat.remove_shard(text, text) IS
    'Removes a shard from a ring; from jump and modulo only the last. Errors: 22004, 42704, 55000.';

CREATE FUNCTION platpat.alter_shard(
    shard text,
    ring text DEFAULT 'default',
    weight float8 DEFAULT NULL,
    server name DEFAULT NULL)
    RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_alter_shard';
COMMENT ON FUNCTION platpat.alter_shard(text, text, float8, name) IS
    'Changes weight and server of a shard; null leaves, an empty server removes. Errors: 22004, 22023, 42704.';

CREATE FUNCTION platpat.pin_key(key text, shard text, ring text DEFAULT 'default') RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_pin_key';
COMMENT ON FUNCTION platpat.pin_key(text, text, text) IS
    'Gives a key to a shard whatever the algorithm says. Errors: 22004, 42704.';

CREATE FUNCTION platpat.unpin_key(key text, ring text DEFAULT 'default') RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'plat_ring_unpin_key';
COMMENT ON FUNCTION platpat.unpin_key(text, text) IS
    'Gives a key back to the algorithm. Errors: 22004, 42704.';

REVOKE ALL ON FUNCTION
    platpat.create_ring(text, text, int, text, text[], int),
    platpat.drop_ring(text),
    platpat.add_shard(text, text, float8, name),
    platpat.remove_shard(text, text),
    platpat.alter_shard(text, text, float8, name),
    platpat.pin_key(text, text, text),
    platpat.unpin_key(text, text)
    FROM PUBLIC;

CREATE FUNCTION platpat.shard_for(key text, ring text DEFAULT 'default') RETURNS text
    LANGUAGE C STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_shard_for_text';
COMMENT ON FUNCTION platpat.shard_for(text, text) IS
    'The shard that owns a key. Errors: 22004, 42704, 55000.';
CREATE FUNCTION platpat.shard_for(key uuid, ring text DEFAULT 'default') RETURNS text
    LANGUAGE C STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_shard_for_uuid';
COMMENT ON FUNCTION platpat.shard_for(uuid, text) IS
    'The shard that owns a key, by its text form. Errors: 22004, 42704, 55000.';
CREATE FUNCTION platpat.shard_for(key bigint, ring text DEFAULT 'default') RETURNS text
    LANGUAGE C STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_shard_for_bigint';
COMMENT ON FUNCTION platpat.shard_for(bigint, text) IS
    'The shard that owns a key, by its text form. Errors: 22004, 42704, 55000.';

CREATE FUNCTION platpat.shards_for(key text, n int, ring text DEFAULT 'default') RETURNS text[]
    LANGUAGE C STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_shards_for';
COMMENT ON FUNCTION platpat.shards_for(text, int, text) IS
    'The owner of a key and the next n - 1 shards in order of preference. Errors: 22004, 22023, 42704, 55000.';

CREATE FUNCTION platpat.server_for(key text, ring text DEFAULT 'default') RETURNS name
    LANGUAGE C STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_server_for';
COMMENT ON FUNCTION platpat.server_for(text, text) IS
    'The foreign server of the shard that owns a key. Errors: 22004, 42704, 55000.';

CREATE FUNCTION platpat.ring_share(ring text DEFAULT 'default', OUT shard text, OUT share float8)
    RETURNS SETOF record
    LANGUAGE C STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_share';
COMMENT ON FUNCTION platpat.ring_share(text) IS
    'The share of all keys that each shard owns, computed and not sampled. Errors: 22004, 42704.';

CREATE FUNCTION platpat.plan_ring(
    add text[] DEFAULT '{}',
    remove text[] DEFAULT '{}',
    ring text DEFAULT 'default',
    OUT from_shard text, OUT to_shard text, OUT share float8)
    RETURNS SETOF record
    LANGUAGE C STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_plan';
COMMENT ON FUNCTION platpat.plan_ring(text[], text[], text) IS
    'What adding and removing shards would move, as shares of all keys; changes nothing. Errors: 22004, 42704, 42710, 54000, 55000.';

CREATE FUNCTION platpat.consistent_hash(key text, shards text[], virtual_nodes int DEFAULT 150) RETURNS text
    LANGUAGE C IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_consistent_hash';
COMMENT ON FUNCTION platpat.consistent_hash(text, text[], int) IS
    'The owner of a key on an md5 ring of these shards. Errors: 22004, 22023, 42710.';
CREATE FUNCTION platpat.rendezvous_hash(key text, shards text[]) RETURNS text
    LANGUAGE C IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_rendezvous_hash';
COMMENT ON FUNCTION platpat.rendezvous_hash(text, text[]) IS
    'The owner of a key among these shards by the highest hash. Errors: 22004, 22023, 42710.';
CREATE FUNCTION platpat.maglev_hash(key text, shards text[], table_size int DEFAULT 65537) RETURNS text
    LANGUAGE C IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_maglev_hash';
COMMENT ON FUNCTION platpat.maglev_hash(text, text[], int) IS
    'The owner of a key in a maglev table of these shards. Errors: 22004, 22023, 42710.';
CREATE FUNCTION platpat.jump_hash(key bigint, buckets int) RETURNS int
    LANGUAGE C IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_jump_hash';
COMMENT ON FUNCTION platpat.jump_hash(bigint, int) IS
    'Jump consistent hash: a bucket from 0 to buckets - 1. Errors: 22004, 22023.';
CREATE FUNCTION platpat.modulo_hash(key text, buckets int) RETURNS int
    LANGUAGE C IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'plat_ring_modulo_hash';
COMMENT ON FUNCTION platpat.modulo_hash(text, int) IS
    'XXH64 of a key modulo the number of buckets. Errors: 22004, 22023.';
CREATE FUNCTION platpat.xxh64(key text, seed bigint DEFAULT 0) RETURNS bigint
    LANGUAGE C IMMUTABLE PARALLEL SAFE STRICT
    AS 'MODULE_PATHNAME', 'plat_ring_xxh64';
COMMENT ON FUNCTION platpat.xxh64(text, bigint) IS
    'XXH64 of the bytes of a text, as a signed number of 64 bits.';
CREATE FUNCTION platpat.partition_hash(key text) RETURNS bigint
    LANGUAGE C IMMUTABLE PARALLEL SAFE STRICT
    AS 'MODULE_PATHNAME', 'plat_ring_partition_text';
COMMENT ON FUNCTION platpat.partition_hash(text) IS
    'What HASH partitioning computes for a text key; unsigned modulo the modulus it is the remainder.';
CREATE FUNCTION platpat.partition_hash(key uuid) RETURNS bigint
    LANGUAGE C IMMUTABLE PARALLEL SAFE STRICT
    AS 'MODULE_PATHNAME', 'plat_ring_partition_uuid';
COMMENT ON FUNCTION platpat.partition_hash(uuid) IS
    'What HASH partitioning computes for a uuid key; unsigned modulo the modulus it is the remainder.';
CREATE FUNCTION platpat.partition_hash(key bigint) RETURNS bigint
    LANGUAGE C IMMUTABLE PARALLEL SAFE STRICT
    AS 'MODULE_PATHNAME', 'plat_ring_partition_bigint';
COMMENT ON FUNCTION platpat.partition_hash(bigint) IS
    'What HASH partitioning computes for a bigint key; unsigned modulo the modulus it is the remainder.';
CREATE FUNCTION platpat.partition_hash(key int) RETURNS bigint
    LANGUAGE C IMMUTABLE PARALLEL SAFE STRICT
    AS 'MODULE_PATHNAME', 'plat_ring_partition_int';
COMMENT ON FUNCTION platpat.partition_hash(int) IS
    'What HASH partitioning computes for an integer key; unsigned modulo the modulus it is the remainder.';

GRANT EXECUTE ON FUNCTION
    platpat.shard_for(text, text),
    platpat.shard_for(uuid, text),
    platpat.shard_for(bigint, text),
    platpat.shards_for(text, int, text),
    platpat.server_for(text, text),
    platpat.ring_share(text),
    platpat.plan_ring(text[], text[], text),
    platpat.consistent_hash(text, text[], int),
    platpat.rendezvous_hash(text, text[]),
    platpat.maglev_hash(text, text[], int),
    platpat.jump_hash(bigint, int),
    platpat.modulo_hash(text, int),
    platpat.xxh64(text, bigint),
    platpat.partition_hash(text),
    platpat.partition_hash(uuid),
    platpat.partition_hash(bigint),
    platpat.partition_hash(int)
    TO PUBLIC;
