-- recipe: psql-migration
\connect - shop_owner
BEGIN;
CREATE TABLE orders (
    tenant_id text,
    id bigint GENERATED ALWAYS AS IDENTITY,
    item text NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
SELECT platpat.protect('orders');
COMMIT;
-- end
