"""Who owns a key, as platpat.shard_for() says it, without a database.

Needs nothing but Python 3.  The rules are in docs/ring.md.  As a program it
answers for the rings that standard input describes, a JSON object a line:

    {"algorithm": "md5", "shards": [["a", 1], ["b", 2]], "keys": ["x", "y"]}

prints ["b", "a"]: the owners of the keys.
"""
# client: md5
import bisect
from hashlib import md5


class Ring:
    def __init__(self, virtual_nodes=150):
        self.virtual_nodes, self.points = virtual_nodes, []

    def add(self, shard, weight=1):
        for i in range(round(weight * self.virtual_nodes)):
            bisect.insort(self.points, (self.place(f"{shard}:{i}"), shard))

    def lookup(self, key):
        at = bisect.bisect_left(self.points, (self.place(key), ""))
        return self.points[at % len(self.points)][1]

    def place(self, text):
        return int.from_bytes(md5(text.encode()).digest(), "big")
# end


import json
import math
import struct
import sys

MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9,
                      0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)


def xxh64(text, seed=0):
    def rotate(x, bits):
        return (x << bits | x >> 64 - bits) & MASK

    def turn(lane, word):
        return rotate(lane + word * P2 & MASK, 31) * P1 & MASK

    data, at = text.encode(), 0
    h = seed + P5 & MASK
    if len(data) >= 32:
        lanes = [seed + P1 + P2 & MASK, seed + P2 & MASK, seed, seed - P1 & MASK]
        for at in range(0, len(data) - 31, 32):
            lanes = [turn(*pair) for pair in zip(lanes, struct.unpack_from("<4Q", data, at))]
        at += 32
        h = sum(rotate(*pair) for pair in zip(lanes, (1, 7, 12, 18))) & MASK
        for lane in lanes:
            h = (h ^ turn(0, lane)) * P1 + P4 & MASK
    h = h + len(data) & MASK
    for at in range(at, len(data) - 7, 8):
        h = rotate(h ^ turn(0, int.from_bytes(data[at:at + 8], "little")), 27) * P1 + P4 & MASK
    at = len(data) & ~7
    if len(data) & 4:
        h = rotate(h ^ int.from_bytes(data[at:at + 4], "little") * P1 & MASK, 23) * P2 + P3 & MASK
    for byte in data[len(data) & ~3:]:
        h = rotate(h ^ byte * P5 & MASK, 11) * P1 & MASK
    h = (h ^ h >> 33) * P2 & MASK
    h = (h ^ h >> 29) * P3 & MASK
    return h ^ h >> 32


# The other algorithms.  shards are pairs (name, weight); for jump and modulo
# in the order of their positions, for all others in any.


def ketama(shards):
    def single(x):
        return struct.unpack("f", struct.pack("f", x))[0]

    def places(text):
        return struct.unpack("<4I", md5(text.encode()).digest())

    shards = [shard for shard in shards if shard[1] > 0]
    total = single(sum(weight for _, weight in shards))
    points = []
    for name, weight in shards:
        share = single(single(weight) / total)
        for i in range(int(single(share * 40.0 * len(shards)))):
            points += [(place, name) for place in places(f"{name}-{i}")]
    points.sort()
    return lambda key: points[bisect.bisect_left(points, (places(key)[0], "")) % len(points)][1]


def rendezvous(shards):
    shards = [(name, weight, xxh64(name)) for name, weight in sorted(shards)]
    weighted = len({weight for _, weight, _ in shards}) > 1

    def score(shard, h):
        x = h ^ shard[2]
        x ^= x >> 12
        x ^= x << 25 & MASK
        x = (x ^ x >> 27) * 2685821657736338717 & MASK
        return -shard[1] / math.log(((x >> 11) + 0.5) / 2**53) if weighted else x

    def owner(key):
        h = xxh64(key)
        return max(shards, key=lambda shard: score(shard, h))[0]
    return owner


def maglev(shards, size=65537):
    turns = [[name, weight, xxh64(name) % size, xxh64(name, 1) % (size - 1) + 1, 0]
             for name, weight in sorted(shards)]
    greatest = max(weight for _, weight, *_ in turns)
    table, free, rounds = [None] * size, size, 0
    while free:
        rounds += 1
        for turn in turns:
            name, weight, at, skip, target = turn
            if weight <= 0 or rounds * weight < target or not free:
                continue
            while table[at] is not None:
                at = (at + skip) % size
            table[at], free = name, free - 1
            turn[2], turn[4] = at, target + greatest
    return lambda key: table[xxh64(key) % size]


def jump(h, buckets):
    bucket = after = 0
    while after < buckets:
        bucket = after
        h = h * 2862933555777941757 + 1 & MASK
        after = int((bucket + 1) * ((1 << 31) / ((h >> 33) + 1)))
    return bucket


def owner_of(algorithm, shards, virtual_nodes=150, table_size=65537):
    """The function that gives the owner of a key on a ring."""
    if algorithm == "md5":
        ring = Ring(virtual_nodes)
        for name, weight in shards:
            ring.add(name, weight)
        return ring.lookup
    if algorithm == "jump":
        return lambda key: shards[jump(xxh64(key), len(shards))][0]
    if algorithm == "modulo":
        return lambda key: shards[xxh64(key) % len(shards)][0]
    if algorithm == "maglev":
        return maglev(shards, table_size)
    return {"ketama": ketama, "rendezvous": rendezvous}[algorithm](shards)


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        ring = json.loads(line)
        keys = ring.pop("keys")
        print(json.dumps(list(map(owner_of(**ring), keys))))
