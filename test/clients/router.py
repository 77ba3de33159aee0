"""An application that keeps each tenant's rows in the database of its shard.

It asks one database, the directory, which shard owns a tenant and how to get
there, and connects to that shard itself.  As a program: argument 1 is how to
reach the directory, standard input has a tenant and a name a line.
"""
import sys

import psycopg2

LOOK_UP = """
    SELECT s.srvname, s.srvoptions
      FROM pg_foreign_server s
     WHERE s.srvname = platpat.server_for(%s, %s)"""


class ShardRouter:
    def __init__(self, directory, ring="default", **login):
        self.directory = psycopg2.connect(directory)
        self.directory.autocommit = True
        self.ring, self.login, self.shards = ring, login, {}

    def shard(self, tenant):
        """The connection to the shard that owns a tenant."""
        with self.directory.cursor() as cursor:
            cursor.execute(LOOK_UP, (tenant, self.ring))
            server, options = cursor.fetchone()
        if server not in self.shards:
            where = dict(option.split("=", 1) for option in options)
            self.shards[server] = psycopg2.connect(**where, **self.login)
        return self.shards[server]

    def create_user(self, tenant, name):
        """Store a user on the shard of its tenant."""
        with self.shard(tenant) as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO users (tenant_id, name) VALUES (%s, %s)",
                           (tenant, name))


if __name__ == "__main__":
    router = ShardRouter(sys.argv[1], user="app")
    for line in sys.stdin:
        router.create_user(*line.rstrip("\n").split("\t"))
