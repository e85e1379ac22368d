"""An application with redis-py: main.py MODE BINDING RUN QUICK

Writes numbers, one after the other, under keys RUN:1, RUN:2, ... until its standard input ends, and says `wrote N` of each
that is safe. The first QUICK without a pause. Ends with an error if it cannot write the first.
"""

import sys
import threading
import time
from pathlib import Path

import redis
from redis.cluster import RedisCluster
from redis.sentinel import Sentinel

PAUSE = 0.01


def confirmed(client):
    """By a replica besides: such a write outlives every election."""

    def put(key, value):
        pipe = client.pipeline(transaction=False)
        pipe.set(key, value)
        pipe.execute_command("WAIT", 1, 1000)
        _, replicas = pipe.execute()
        if replicas < 1:
            raise redis.RedisError("no replica has confirmed it")

    return put


def connect(mode, binding):
    def secret(key):
        return (binding / key).read_text()

    login = {
        "username": secret("username"),
        "password": secret("password"),
        "ssl": True,
        "ssl_ca_certs": str(binding / "ca.crt"),
        "ssl_check_hostname": True,
        "socket_connect_timeout": 1,
        "socket_timeout": 3,
    }
    if mode == "sentinel":
        services = [(secret("sentinel-host"), int(secret("sentinel-port")))]
        sentinel = Sentinel(services, sentinel_kwargs=login, **login)
        name = secret("sentinel-master")
        primary, replica = sentinel.master_for(name), sentinel.slave_for(name)
        for client, role in [(primary, b"master"), (replica, b"slave")]:
            assert client.execute_command("ROLE")[0] == role, f"this is no {role}"
        return confirmed(primary)
    if mode == "cluster":
        return RedisCluster(host=secret("host"), port=int(secret("port")), **login).set
    return confirmed(redis.Redis(host=secret("host"), port=int(secret("port")), **login))


def main(mode, binding, run, quick):
    ended = threading.Event()

    def listen():
        sys.stdin.read()
        ended.set()

    put = connect(mode, Path(binding))
    threading.Thread(target=listen, daemon=True).start()
    number = 1
    while number == 1 or not ended.is_set():
        try:
            put(f"{run}:{number}", number)
        except (redis.RedisError, OSError) as error:
            if number == 1:
                raise
            print(f"{number}: {error!r}", file=sys.stderr, flush=True)
            time.sleep(PAUSE)
            continue
        print(f"wrote {number}", flush=True)
        if number >= quick:
            time.sleep(PAUSE)
        number += 1


main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
