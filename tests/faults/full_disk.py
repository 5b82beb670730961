"""Fills the store's disk while a stream runs: commits stop with one clear sentence, the daemon lives, nothing that was
acknowledged is lost, and all goes on by itself when there is room again. Needs root, for a small tmpfs.

usage: full_disk.py --build DIR"""
import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

import pool as pools
from pool import Failed, Pool, check, counters, wait_until

SKIPPED = 77
DISK_MIB = 320


@contextlib.contextmanager
def small_disk():
    directory = tempfile.mkdtemp(prefix="kpool-disk-")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "kpool-test", directory]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield pathlib.Path(directory) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", directory], check=True)
        os.rmdir(directory)


def fill(disk, leave):
    """A file that leaves so many bytes."""
    free = os.statvfs(disk)
    size = free.f_bavail * free.f_frsize - leave
    with open(disk / "filler", "wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, size)


def trouble(pool):
    return pool.status()["stages"]["persistence"]["trouble"]


def run(options, disk):
    settings = {"engine.deterministic": True}
    base = Pool(options.build, settings=settings)
    stream = pools.write_stream(base.root / "stream.jsonl", 600)
    with base:
        base.start()
        base.send(stream)
        base.stop()
        expected = base.verify()
        with Pool(options.build, model=base.model, settings=settings | {"store.path": str(disk / "store")},
                  keys_of=base) as pool:
            pool.store = disk / "store"
            pool.start()
            fill(disk, 8 << 20)
            gateway = pool.gateway(stream)
            sentence = wait_until("a word about the full disk", lambda: trouble(pool))
            check(str(disk) in sentence, f"the sentence does not name the place: {sentence}")
            check(gateway.poll() is None, "the gateway ended although nothing could be durable")
            check(pool.status()["stages"]["ingestion"]["records_durable"] == 0, "something was acknowledged")
            log = pool.log.read_text()
            check(log.count(sentence) == 1, f"the log says it {log.count(sentence)} times: {sentence}")
            (disk / "filler").unlink()
            check(gateway.wait(pools.DEADLINE) == 0, "the gateway did not finish once there was room")
            counters(pool, 600)
            check(trouble(pool) == "", "the trouble is still told")
            pool.stop()
            found = pool.verify()
            check(found["state_sha256"] == expected["state_sha256"], "the state is not that of a run with room")
    print(f"full disk: told once as \"{sentence}\"; after room was made 600 of 600 records were acknowledged and the "
          "state is that of a run with room")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    options = parser.parse_args()
    with small_disk() as disk:
        if disk is None:
            print("skipped: mounting a small tmpfs needs root")
            sys.exit(SKIPPED)
        run(options, disk)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
