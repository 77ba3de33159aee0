// node replicate.js PUBLICATION SLOT FILE
const { setTimeout: sleep } = require('timers/promises');
const { Client } = require('pg');
const { LogicalReplicationService, PgoutputPlugin } = require('pg-logical-replication');
const { Documents } = require('./documents');

const [publication, slot, file] = process.argv.slice(2);
const documents = new Documents(file);

// Events from before the slot was made.  Some may come again.
async function load() {
  const client = new Client();
  await client.connect();
  const { rows } = await client.query('SELECT * FROM platpat.events ORDER BY position');
  await client.end();
  rows.forEach((event) => documents.apply(event));
  documents.save();
}

// The library confirms the byte after the one it is told, where the commit of
// another transaction may begin.
function before(lsn) {
  const [high, low] = lsn.split('/').map((part) => parseInt(part, 16));
  return low > 0 ? `${high.toString(16)}/${(low - 1).toString(16)}`
    : `${(high - 1).toString(16)}/ffffffff`;
}

// Follow the slot from where it stands until the connection ends.
function follow() {
  // Left to itself the library confirms what it has received.
  const service = new LogicalReplicationService({}, { acknowledge: { auto: false, timeoutSeconds: 0 } });
  let transaction = null;
  let done = null;

  service.on('data', (lsn, message) => {
    if (message.tag === 'begin') {
      transaction = [];
    } else if (message.tag === 'insert') {
      transaction.push(message.new);
    } else if (message.tag === 'commit') {
      transaction.forEach((event) => documents.apply(event));
      documents.save();
      transaction = null;
      done = before(message.commitEndLsn);
      service.acknowledge(done);
    }
  });
  // Between transactions all before it is done, what others wrote included.
  service.on('heartbeat', (lsn) => {
    if (!transaction) done = before(lsn);
    if (done) service.acknowledge(done);
  });
  return new Promise((resolve, reject) => {
    service.on('error', reject);
    service.subscribe(new PgoutputPlugin({ protoVersion: 1, publicationNames: [publication] }), slot, '0/0')
      .then(resolve, reject);
  }).finally(() => service.stop());
}

(async () => {
  for (;;) {
    try {
      if (documents.isNew) await load();
      documents.isNew = false;
      await follow();
    } catch (error) {
      console.error(error.message);
    }
    await sleep(1000);
  }
})();
