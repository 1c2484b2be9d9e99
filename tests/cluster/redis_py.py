"""What an application does with redis-py, asserted. Arguments: host and port of a node."""
import sys
import time

import redis

host, port = sys.argv[1], int(sys.argv[2])
for protocol in (2, 3):
    try:
        r = redis.Redis(host=host, port=port, protocol=protocol, decode_responses=True)
    except TypeError:
        # An older redis-py that knows RESP2 only.
        if protocol == 3:
            print(f"RESP3 is not tested: redis-py {redis.__version__} knows RESP2 only")
            continue
        r = redis.Redis(host=host, port=port, decode_responses=True)
    assert r.ping()
    r.flushall()
    assert r.set("a", "1") and r.get("a") == "1"
    assert r.set("a", "2", nx=True) is None
    assert r.incr("n", 5) == 5 and r.decr("n") == 4
    assert r.hset("h", mapping={"x": "1", "y": "2"}) == 2
    assert r.hgetall("h") == {"x": "1", "y": "2"}
    assert r.hincrby("h", "x", 9) == 10
    assert sorted(r.hkeys("h")) == ["x", "y"]
    assert r.mset({"k1": "v1", "k2": "v2"}) and r.mget("k1", "k2", "k3") == ["v1", "v2", None]
    assert r.type("h") == "hash" and r.exists("a", "h", "none") == 2
    assert r.set("gone", "soon", ex=1) and r.ttl("gone") in (0, 1)
    while r.get("gone") is not None:
        time.sleep(0.05)
    assert sorted(r.scan_iter(count=2)) == ["a", "h", "k1", "k2", "n"]
    assert r.dbsize() == 5
    try:
        r.incr("h")
        raise SystemExit("INCR of a hash must fail")
    except redis.ResponseError as error:
        assert "WRONGTYPE" in str(error)
    pipe = r.pipeline(transaction=False)
    for i in range(500):
        pipe.set(f"p{i}", i)
        pipe.get(f"p{i}")
    replies = pipe.execute()
    assert replies[1::2] == [str(i) for i in range(500)]
    assert r.delete(*[f"p{i}" for i in range(500)]) == 500
    info = r.info()
    assert "redis_version" in info and "role" in info
    assert r.config_get("maxmemory") is not None
    assert r.client_setname("tester") and r.client_getname() == "tester"
print("all asserted")
