-- The shop of one software company that sells to many: every row belongs to a
-- tenant, and every key leads with it.
CREATE TABLE customers (
	tenant_id text NOT NULL,
	id bigint NOT NULL,
	name text NOT NULL,
	PRIMARY KEY (tenant_id, id)
);
CREATE TABLE orders (
	tenant_id text NOT NULL,
	id bigint NOT NULL,
	customer_id bigint NOT NULL,
	ordered_at timestamptz NOT NULL,
	amount bigint NOT NULL,
	PRIMARY KEY (tenant_id, id)
);
CREATE TABLE events (
	tenant_id text NOT NULL,
	id bigint NOT NULL,
	event text NOT NULL,
	PRIMARY KEY (tenant_id, id)
) PARTITION BY HASH (tenant_id);
SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES WITH (MODULUS 16, REMAINDER %s)', i, i)
FROM generate_series(0, 15) i \gexec

-- acme owns 30 % of everything; the square gives the others a long tail.
CREATE FUNCTION owner_of(i bigint, tenants integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN i % 10 < 3 OR tenants = 1 THEN 'acme'
	WHEN i % 10 = 3 THEN 'globex'
	ELSE 'shop-' || lpad((3 + floor((tenants - 2) * power((i * 7919 % 1000003) / 1000003.0::float8, 2)))::text, 4, '0')
END;
