"""Kills the daemon or the gateway during one stream, again and again, and compares what is left with a run that nobody
disturbed: the same bytes of weights, mixture and watermarks, every record applied once.

usage: crash.py --build DIR {daemon,gateway,points,normal} [--kills N] [--records N] [--model GGUF] [--seed N]"""
import argparse
import random
import signal
import subprocess
import sys
import time

import pool as pools
from pool import Failed, Pool, check, counters

POINTS = ("train.before", "train.after", "barrier.training", "commit.before", "commit.after", "ack.before", "ack.after")


class EndedEarly(Failed):
    """The stream was over before all kills were done: the machine is faster than it was a moment ago."""


def undisturbed(base, options):
    """One run without faults: the stream, what it left with the merges on the way, and its seconds."""
    stream = pools.write_stream(base.root / "stream.jsonl", options.records, options.words)
    base.start()
    begin = time.monotonic()
    base.send(stream)
    seconds = time.monotonic() - begin
    counters(base, options.records)
    merges = base.status()["stages"]["routing"]["merges"]
    base.stop()
    return stream, base.verify() | {"merges": merges}, seconds


def finish(pool, options, expected, gateway):
    """Waits for the stream's end and compares."""
    code = gateway.wait(pools.STREAM_DEADLINE)
    check(code == 0, f"the gateway ended with {code}: {(pool.root / 'gateway.err').read_text()[-500:]}")
    counters(pool, options.records)
    pool.stop()
    found = pool.verify()
    check(not found["problems"], f"the store has problems: {found['problems']}")
    different = [key for key, value in expected["values"].items() if found["values"].get(key) != value]
    check(found["state_sha256"] == expected["state_sha256"],
          f"state {found['state_sha256']} after the faults, {expected['state_sha256']} without; different: {different}")


def start_through_crashes(pool):
    while not pool.start():
        check(pool.daemon.returncode == -signal.SIGKILL, f"the daemon ended with {pool.daemon.returncode}")


def kill_daemon(pool, stream, expected, seconds, options, random_source):
    """kill -9 after random times, from before it is ready to deep in the stream."""
    start_through_crashes(pool)
    gateway = pool.gateway(stream)
    kills = 0
    while kills < options.kills:
        # The stream takes `seconds`; each life does on average less than its share of it.
        try:
            gateway.wait(random_source.uniform(0, 1.4 * seconds / options.kills))
            break
        except subprocess.TimeoutExpired:
            pool.kill()
            kills += 1
            if random_source.random() < 0.2 and kills < options.kills:  # during its start
                pool.start(wait=False)
                time.sleep(random_source.uniform(0, 0.3))
                pool.kill()
                kills += 1
            pool.start()
    if kills < options.kills:
        raise EndedEarly(f"the stream ended after {kills} of {options.kills} kills: use more records")
    finish(pool, options, expected, gateway)
    return kills


def kill_gateway(pool, stream, expected, seconds, options, random_source):
    pool.start()
    gateway = pool.gateway(stream)
    kills = 0
    while kills < options.kills:
        try:
            gateway.wait(random_source.uniform(0, 1.4 * seconds / options.kills))
            break
        except subprocess.TimeoutExpired:
            gateway.kill()
            gateway.wait()
            kills += 1
            gateway = pool.gateway(stream)
    if kills < options.kills:
        raise EndedEarly(f"the stream ended after {kills} of {options.kills} kills: use more records")
    finish(pool, options, expected, gateway)
    return kills


def kill_at_points(pool, stream, expected, seconds, options, random_source):
    """Every named place, at its first and at a later time, in one stream: each start arms the next."""
    armed = [f"{point}:{count}" for point in POINTS for count in (1, random_source.randint(2, 5))]
    random_source.shuffle(armed)
    gateway, hits = None, 0
    for place in armed:
        pool.start(kill_point=place)
        gateway = gateway or pool.gateway(stream)
        code = pools.wait_until(f"the kill at {place}", lambda: pool.daemon.poll() or gateway.poll())
        check(code == -signal.SIGKILL, f"at {place} the daemon or the gateway ended with {code}")
        hits += 1
    pool.start()
    finish(pool, options, expected, gateway)
    return hits


def kill_in_normal_mode(options, settings, random_source):
    """Two gateways at once, groups that a clock ends: no bytes to compare, but every record once."""
    settings = settings | {"engine.deterministic": False, "commit.max_wait_ms": 100}
    with Pool(options.build, model=options.model, settings=settings) as pool:
        stream = pools.write_stream(pool.root / "stream.jsonl", options.records, options.words)
        pool.start()
        gateways = [pool.gateway(stream, name=name) for name in pools.GATEWAYS]
        kills = 0
        while kills < options.kills:
            before = pool.status()["stages"]["ingestion"]["records_durable"]
            pools.wait_until("progress", lambda: any(gateway.poll() is not None for gateway in gateways) or
                             pool.status()["stages"]["ingestion"]["records_durable"] > before)
            if all(gateway.poll() is not None for gateway in gateways):
                break
            time.sleep(random_source.uniform(0, 0.3))
            pool.kill()
            pool.start()
            kills += 1
        check(kills > 0, "the streams ended before the first kill: use more records")
        for gateway in gateways:
            check(gateway.wait(pools.STREAM_DEADLINE) == 0, f"a gateway ended with {gateway.returncode}")
        counters(pool, options.records * len(gateways))
        pool.stop()
        check(not pool.verify()["problems"], "the store has problems")
    print(f"normal: {kills} kills while 2 gateways sent {options.records} records each, seed {options.seed}: "
          f"0 acknowledged records missing, 0 applied twice")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["daemon", "gateway", "points", "normal"])
    parser.add_argument("--build", required=True)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--records", type=int, default=600)
    parser.add_argument("--words", type=int, default=12)
    parser.add_argument("--commit-bytes", type=int, default=2048)
    parser.add_argument("--model")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    settings = {"commit.bytes": options.commit_bytes}
    if options.model:
        settings |= {"encoder.kind": "base:13", "lora.rank": 8, "train.tokens_per_step": 256}
    elif options.kind == "points":  # the third domain makes the slots of the others one, as their adapters agree
        settings |= {"routing.slots": 2, "routing.join_distance": 2.44, "routing.merge_agreement": 1e-6}
    if options.kind == "normal":
        return kill_in_normal_mode(options, settings, random.Random(options.seed))
    run = {"daemon": kill_daemon, "gateway": kill_gateway, "points": kill_at_points}[options.kind]
    with Pool(options.build, model=options.model, settings=settings) as base:
        stream, expected, seconds = undisturbed(base, options)
        for attempt in range(4):
            try:
                with Pool(options.build, model=base.model, settings=settings, keys_of=base) as pool:
                    hits = run(pool, stream, expected, seconds / 2**attempt, options, random.Random(options.seed))
                break
            except EndedEarly:
                if attempt == 3:
                    raise
    print(f"{options.kind}: {hits} kills in a stream of {options.records} records in {expected['group']} groups "
          f"with {expected['merges']} of slots merged "
          f"({seconds:.1f} s undisturbed), seed {options.seed}: state SHA-256 {expected['state_sha256']} in both runs; "
          f"0 acknowledged records missing, 0 applied twice")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
