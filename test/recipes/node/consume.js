// node consume.js CONSUMER FILE
const { setTimeout: sleep } = require('timers/promises');
const { Client } = require('pg');
const { Documents } = require('./documents');

const [consumer, file] = process.argv.slice(2);
const documents = new Documents(file);

// One batch; returns how many events it had.
async function consume(client) {
  const { rows } = await client.query('SELECT * FROM platpat.fetch_events($1, 100)', [consumer]);
  if (rows.length > 0) {
    rows.forEach((event) => documents.apply(event));
    documents.save();
    // Only now: who dies before this gets the batch again.
    await client.query('SELECT platpat.ack_events($1, $2)', [consumer, rows.at(-1).position]);
  }
  return rows.length;
}

async function run() {
  const client = new Client();
  client.on('error', () => {}); // the query that is next will fail
  try {
    await client.connect();
    for (;;) {
      if (await consume(client) === 0) await sleep(200);
    }
  } finally {
    await client.end();
  }
}

(async () => {
  for (;;) {
    await run().catch((error) => console.error(error.message));
    await sleep(1000);
  }
})();
