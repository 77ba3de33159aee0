"""Prints the golden vectors of docs/ring.md: a Markdown table of 50 keys and
their owners by each algorithm, on the shards shard-0 to shard-15."""
import sys

sys.dont_write_bytecode = True
sys.stdout.reconfigure(encoding="utf-8")
from ring import owner_of  # noqa: E402

ALGORITHMS = ("md5", "ketama", "rendezvous", "maglev", "jump", "modulo")
SHARDS = [(f"shard-{i}", 1) for i in range(16)]
KEYS = ([f"tenant-{i}" for i in range(20)]
        + [str(i) for i in (0, 1, 2, 42, 1000000, -1, 9223372036854775807)]
        + [f"00000000-0000-4000-8000-{i:012d}" for i in range(5)]
        + ["f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "acme", "Acme", "ACME", "globex",
           "user:17", "eu/berlin", "a", "ab", "abc", "x" * 32, "y" * 64,
           "müller", "MÜLLER", "ёлка", "東京", "🐘", "a b"])

owners = [owner_of(algorithm, SHARDS) for algorithm in ALGORITHMS]
print("| key |", " | ".join(ALGORITHMS), "|")
print("|---" * (1 + len(ALGORITHMS)) + "|")
for key in KEYS:
    print("|", " | ".join([key] + [owner(key) for owner in owners]), "|")
