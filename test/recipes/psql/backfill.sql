-- recipe: psql-backfill
\connect - shop_owner
BEGIN;
ALTER TABLE orders ADD COLUMN amount bigint;
SELECT platpat.as_admin('0002: amounts of old orders');
UPDATE orders SET amount = 0 WHERE amount IS NULL;
COMMIT;
-- end
