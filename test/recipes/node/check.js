// What the recipe promises, tried; test/t/050_recipes.pl compares the answers.
const { Pool } = require('pg');
const { withTenant } = require('./tenant');
const { placeOrder } = require('./shop');

const show = (name, value) => console.log(`${name}: ${value}`);
const items = ({ rows }) => rows.map((row) => row.item).join(',');
const backends = new Set();

function readFor(pool, tenant) {
  return withTenant(pool, tenant, async (client) => {
    const { rows } = await client.query('SELECT pg_backend_pid() AS pid');
    backends.add(rows[0].pid);
    return items(await client.query('SELECT item FROM orders'));
  });
}

// pool.query() would throw away the connection on which a query fails.
async function readForNobody(pool) {
  const client = await pool.connect();
  try {
    return items(await client.query('SELECT item FROM orders'));
  } finally {
    client.release();
  }
}

// The SQLSTATE with which the server refuses a promise, or what it gave.
const refusal = (promise) => promise.then(String, (error) => error.code);

async function checkRecipe(pool) {
  await placeOrder(pool, 'acme', 'anvil');
  show('acme sees', await readFor(pool, 'acme'));
  await placeOrder(pool, 'globex', 'rocket');
  show('globex sees', await readFor(pool, 'globex'));
  show('without a tenant', await refusal(readForNobody(pool)));
  show('row of another tenant', await refusal(withTenant(pool, 'acme', (client) =>
    client.query("INSERT INTO orders (tenant_id, item) VALUES ('globex', 'forged')"))));
  show('acme still sees', await readFor(pool, 'acme'));
  show('one connection', backends.size === 1);
}

// Many requests at once, on fewer connections.
async function checkInterleaved() {
  const pool = new Pool({ max: 2 });
  const requests = Array.from({ length: 60 }, (_, i) => i % 2 ? 'globex' : 'acme');
  const seen = await Promise.all(requests.map((tenant) => readFor(pool, tenant)));
  const good = seen.every((item, i) => item === (i % 2 ? 'rocket' : 'anvil'));
  show('interleaved', good);
  await pool.end();
}

async function checkPitfalls(pool) {
  await pool.query("SELECT platpat.set_tenant('acme')");
  show('outside a transaction', await refusal(pool.query('SELECT item FROM orders')));
  show('for the session', await refusal(pool.query("SELECT platpat.set_tenant('acme', false)")));

  let kept;
  await withTenant(pool, 'acme', async (client) => { kept = client; });
  show('client kept for later', items(await withTenant(pool, 'globex', () =>
    kept.query('SELECT item FROM orders'))));

  const answers = await pool.query("SELECT platpat.set_tenant('acme'); SELECT item FROM orders");
  show('one round trip', items(answers[1]));

  // A connection that died is not given to the next one.
  await refusal(withTenant(pool, 'acme', (client) =>
    client.query('SELECT pg_terminate_backend(pg_backend_pid())')));
  show('after termination', await readFor(pool, 'acme'));
}

async function main() {
  const pool = new Pool({ max: 1 });
  await checkRecipe(pool);
  await checkInterleaved();
  await checkPitfalls(pool);
  await pool.end();
}

main().catch((error) => { console.error(error); process.exit(1); });
