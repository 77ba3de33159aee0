// Who owns a key, as platpat.shard_for() says it, without a database.
//
// Needs nothing but Node.js.  The rules are in docs/ring.md.  As a program it
// answers for the rings that standard input describes, a JSON object a line:
//
//     {"algorithm": "md5", "shards": [["a", 1], ["b", 2]], "keys": ["x", "y"]}
//
// prints ["b","a"]: the owners of the keys.
'use strict';

// client: md5
const { createHash } = require('node:crypto');
const place = (text) => createHash('md5').update(text).digest('hex');
const round = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

class Ring {
  constructor(virtualNodes = 150) { Object.assign(this, { virtualNodes, points: [] }); }

  add(shard, weight = 1) {
    for (let i = 0; i < round(weight * this.virtualNodes); i++)
      this.points.push([place(`${shard}:${i}`), shard]);
    this.points.sort(([a], [b]) => (a < b ? -1 : 1));
  }

  lookup(key) {
    let [low, high, at] = [0, this.points.length, place(key)];
    while (low < high) {
      const middle = (low + high) >> 1;
      [low, high] = this.points[middle][0] < at ? [middle + 1, high] : [low, middle];
    }
    return this.points[low % this.points.length][1];
  }
}
// end

const u64 = (x) => BigInt.asUintN(64, x);
const [P1, P2, P3, P4, P5] = [0x9e3779b185ebca87n, 0xc2b2ae3d27d4eb4fn,
  0x165667b19e3779f9n, 0x85ebca77c2b2ae63n, 0x27d4eb2f165667c5n];
const rotate = (x, bits) => u64((x << bits) | (x >> (64n - bits)));
const turn = (lane, word) => u64(rotate(u64(lane + word * P2), 31n) * P1);

function xxh64(text, seed = 0n) {
  const data = Buffer.from(text);
  let at = 0;
  let h = seed + P5;
  if (data.length >= 32) {
    let lanes = [seed + P1 + P2, seed + P2, seed, seed - P1].map(u64);
    for (; data.length - at >= 32; at += 32)
      lanes = lanes.map((lane, i) => turn(lane, data.readBigUInt64LE(at + 8 * i)));
    h = lanes.map((lane, i) => rotate(lane, [1n, 7n, 12n, 18n][i])).reduce((a, b) => a + b);
    for (const lane of lanes) h = u64((u64(h) ^ turn(0n, lane)) * P1 + P4);
  }
  h = u64(h + BigInt(data.length));
  for (; data.length - at >= 8; at += 8)
    h = u64(rotate(h ^ turn(0n, data.readBigUInt64LE(at)), 27n) * P1 + P4);
  for (; data.length - at >= 4; at += 4)
    h = u64(rotate(h ^ u64(BigInt(data.readUInt32LE(at)) * P1), 23n) * P2 + P3);
  for (; at < data.length; at++) h = u64(rotate(h ^ u64(BigInt(data[at]) * P5), 11n) * P1);
  h = u64((h ^ (h >> 33n)) * P2);
  h = u64((h ^ (h >> 29n)) * P3);
  return h ^ (h >> 32n);
}

// The other algorithms.  shards are pairs [name, weight]; for jump and modulo
// in the order of their positions, for all others in any.  Names are compared
// as bytes of UTF-8, not as JavaScript compares strings.
const byName = ([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b));

function ketama(shards) {
  const places = (text) => {
    const digest = createHash('md5').update(text).digest();
    return [0, 4, 8, 12].map((at) => digest.readUInt32LE(at));
  };
  const servers = shards.filter(([, weight]) => weight > 0).sort(byName);
  const total = Math.fround(servers.reduce((sum, [, weight]) => sum + weight, 0));
  const points = [];
  for (const [name, weight] of servers) {
    const share = Math.fround(Math.fround(weight) / total);
    const groups = Math.floor(Math.fround(share * 40.0 * servers.length));
    for (let i = 0; i < groups; i++)
      for (const point of places(`${name}-${i}`)) points.push([point, name]);
  }
  points.sort(([a], [b]) => a - b); // stable: by name at the same place
  return (key) => {
    let [low, high, at] = [0, points.length, places(key)[0]];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < at) low = middle + 1;
      else high = middle;
    }
    return points[low % points.length][1];
  };
}

function rendezvous(shards) {
  const sorted = [...shards].sort(byName).map(([name, weight]) => [name, weight, xxh64(name)]);
  const weighted = sorted.some(([, weight]) => weight !== sorted[0][1]);
  const score = ([, weight, hash], h) => {
    let x = h ^ hash;
    x ^= x >> 12n;
    x ^= u64(x << 25n);
    x = u64((x ^ (x >> 27n)) * 2685821657736338717n);
    return weighted ? -weight / Math.log((Number(x >> 11n) + 0.5) / 2 ** 53) : x;
  };
  return (key) => {
    const h = xxh64(key);
    return sorted.map((shard) => [score(shard, h), shard[0]])
      .reduce((best, other) => (other[0] > best[0] ? other : best))[1];
  };
}

function maglev(shards, size = 65537) {
  const turns = [...shards].sort(byName).map(([name, weight]) => ({
    name, weight, target: 0,
    at: Number(xxh64(name) % BigInt(size)),
    skip: Number(xxh64(name, 1n) % BigInt(size - 1)) + 1,
  }));
  const greatest = Math.max(...turns.map(({ weight }) => weight));
  const table = new Array(size).fill(null);
  let free = size;
  for (let rounds = 1; free > 0; rounds++) {
    for (const turn of turns) {
      if (turn.weight <= 0 || rounds * turn.weight < turn.target || free === 0) continue;
      while (table[turn.at] !== null) turn.at = (turn.at + turn.skip) % size;
      table[turn.at] = turn.name;
      turn.target += greatest;
      free--;
    }
  }
  return (key) => table[Number(xxh64(key) % BigInt(size))];
}

function jump(h, buckets) {
  let bucket = 0;
  for (let after = 0; after < buckets;) {
    bucket = after;
    h = u64(h * 2862933555777941757n + 1n);
    after = Math.floor((bucket + 1) * (2 ** 31 / (Number(h >> 33n) + 1)));
  }
  return bucket;
}

// The function that gives the owner of a key on a ring.
function ownerOf({ algorithm, shards, virtual_nodes: virtualNodes, table_size: tableSize }) {
  if (algorithm === 'md5') {
    const ring = new Ring(virtualNodes);
    for (const [name, weight] of shards) ring.add(name, weight);
    return (key) => ring.lookup(key);
  }
  if (algorithm === 'jump') return (key) => shards[jump(xxh64(key), shards.length)][0];
  if (algorithm === 'modulo')
    return (key) => shards[Number(xxh64(key) % BigInt(shards.length))][0];
  if (algorithm === 'maglev') return maglev(shards, tableSize);
  return { ketama, rendezvous }[algorithm](shards);
}

if (require.main === module) {
  for (const line of require('node:fs').readFileSync(0, 'utf8').trim().split('\n')) {
    const { keys, ...ring } = JSON.parse(line);
    console.log(JSON.stringify(keys.map(ownerOf(ring))));
  }
}

module.exports = { Ring, xxh64, ketama, rendezvous, maglev, jump, ownerOf };
