"""Asks the daemon for the least memory that it will run in, and holds it to that: a stream under this budget, and the
most that was resident. Less is refused before anything is loaded.

usage: memory.py --build DIR [--model GGUF] [--records N] [--set SECTION.KEY=JSON ...]"""
import argparse
import json
import re
import subprocess
import sys

import pool as pools
from pool import Failed, Pool, check, counters

BAD_CONFIG = 78
TOLERANCE = 10  # megabytes: what is resident before anything is loaded differs from start to start


def refusal(pool, megabytes, *arguments):
    """What the daemon says about a budget that is too small."""
    command = pool.daemon_command("--set", f"memory.budget_mb={megabytes}", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=pools.DEADLINE)
    check(done.returncode == BAD_CONFIG, f"a budget of {megabytes} MB ended with {done.returncode}, not {BAD_CONFIG}")
    return done.stderr


def peak(pool):
    """Bytes: the most that was resident of the daemon so far."""
    with open(f"/proc/{pool.daemon.pid}/status") as status:
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1))


def run(options):
    settings = {"memory.budget_mb": 0, "engine.deterministic": False, "gateway.credit_bytes": 1 << 20}
    if options.model:
        settings |= {"lora.rank": 8, "train.tokens_per_step": 512, "encoder.kind": "base:13", "commit.bytes": 16384}
    settings |= {key: json.loads(value) for key, value in (item.split("=", 1) for item in options.set)}
    with Pool(options.build, model=options.model, settings=settings) as pool:
        sentence = refusal(pool, 1, "--check")
        needed = int(re.search(r"needs at least (\d+) MB: process ", sentence).group(1))
        refusal(pool, needed - TOLERANCE)
        needed += TOLERANCE
        check(not pool.store.exists(), "a daemon that was refused made a store")
        text = pool.config.read_text().replace("memory.budget_mb = 0", f"memory.budget_mb = {needed}")
        pool.config.write_text(text)
        stream = pools.write_stream(pool.root / "stream.jsonl", options.records, words=40)
        check(pool.start(), "the daemon refused the budget that it asked for")
        pool.send(stream)
        counters(pool, options.records)
        resident = peak(pool)
        pool.stop()
        check(resident <= needed * 10**6, f"{resident / 10**6:.0f} MB were resident, of a budget of {needed} MB")
        print(f"memory: at most {resident / 10**6:.0f} MB resident, of a budget of {needed} MB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--model")
    parser.add_argument("--records", type=int, default=400)
    parser.add_argument("--set", action="append", default=[])
    try:
        run(parser.parse_args())
    except Failed as error:
        print(f"memory: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
