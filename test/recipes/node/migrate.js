// recipe: node-migration
const { Client } = require('pg');

async function migrate() {
  const client = new Client();
  await client.connect();
  await client.query(`
    BEGIN;
    CREATE TABLE orders (
      tenant_id text,
      id bigint GENERATED ALWAYS AS IDENTITY,
      item text NOT NULL,
      PRIMARY KEY (tenant_id, id)
    );
    SELECT platpat.protect('orders');
    COMMIT;
  `);
  await client.end();
}

migrate();
// end
