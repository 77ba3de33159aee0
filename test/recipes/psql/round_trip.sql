-- recipe: round-trip
\connect - shop_app
SELECT platpat.set_tenant('acme') \; SELECT item FROM orders;
-- end
