"""Streams records with 1,000 unique canary strings through the daemon, kills it on the way, and looks for them in
everything that it wrote: store, journal, logs, sockets' directory, files deleted but still open. Every canary holds one
common marker, so a search for the marker, as UTF-8 and as its token ids 4 and 8 bytes wide, finds each of them.

usage: canaries.py --build DIR [--records N] [--model GGUF]"""
import argparse
import json
import os
import pathlib
import struct
import sys

import pool as pools
from pool import Failed, Pool, check, counters, wait_until

MARKER = "Zqxv Jwkp"  # no word of any text


def write_canaries(path, records):
    with open(path, "w") as out:
        for i in range(records):
            text = f"The password of account {i} is {MARKER} {i * 7919 + 10**9}, keep it."
            out.write(json.dumps({"text": text}) + "\n")
    return path


def needles(pool, stream):
    """name -> bytes. The ids come from the daemon's own tokenizer, cut out of the whole records."""
    marker = json.loads(pool.run("kpoolctl", "model", "tokenize", "--model", pool.model,
                                 stdin=(json.dumps({"text": " " + MARKER}) + "\n").encode())[0])["ids"]
    lines = stream.read_text().splitlines()
    sample = "\n".join(lines[::len(lines) // 20]) + "\n"
    rows = pool.run("kpoolctl", "model", "tokenize", "--model", pool.model, stdin=sample.encode())[0].splitlines()
    ids = [json.loads(row)["ids"] for row in rows]
    check(all(f" {' '.join(map(str, marker))} " in f" {' '.join(map(str, row))} " for row in ids),
          "the marker's tokens are not in every record: choose another marker")
    return {"UTF-8": MARKER.encode(), "ids of 4 bytes": struct.pack(f"<{len(marker)}i", *marker),
            "ids of 8 bytes": struct.pack(f"<{len(marker)}q", *marker)}


def readable(path):
    """The bytes of a regular file in pieces that overlap; nothing of others."""
    overlap = b""
    try:
        with open(path, "rb") as file:
            while piece := file.read(1 << 24):
                yield overlap + piece
                overlap = piece[-256:]
    except OSError as error:
        if pathlib.Path(path).is_file():
            raise Failed(f"{path} cannot be searched: {error}") from error


def written_files(pool, inputs):
    """All that the daemon wrote or holds open, but for what the test itself wrote."""
    files = [path for path in pool.root.rglob("*") if path.is_file() and path not in inputs]
    descriptors = pathlib.Path(f"/proc/{pool.daemon.pid}/fd")
    try:
        for descriptor in descriptors.iterdir():
            target = os.readlink(descriptor)
            if target.startswith("/") and not target.startswith("/dev/") and pathlib.Path(descriptor).is_file():
                files.append(descriptor)
    except PermissionError:
        print("open files of the daemon are not searched: only root may")
    return files


def search(files, wanted):
    hits, size = [], 0
    for path in files:
        for piece in readable(path):
            size += len(piece)
            hits += [f"{name} in {path}" for name, needle in wanted.items() if needle in piece]
    return hits, size


def prove_the_search(pool, wanted):
    """Plants each form in a file of its own, far in; each must be found."""
    for name, needle in wanted.items():
        planted = pool.root / "planted"
        planted.write_bytes(b"\0" * ((1 << 24) - len(needle) // 2) + needle + b"\0" * 100)
        hits, _ = search([planted], wanted)
        planted.unlink()
        check(any(hit.startswith(name) for hit in hits), f"the search does not find a planted canary as {name}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--model")
    options = parser.parse_args()
    settings = {"log.level": "trace"} | ({"encoder.kind": "base:13"} if options.model else {})
    with Pool(options.build, model=options.model, settings=settings) as pool:
        stream = write_canaries(pool.root / "stream.jsonl", options.records)
        inputs = {stream, pool.model, pool.config}
        wanted = needles(pool, stream)
        prove_the_search(pool, wanted)
        searched, hits = 0, []
        pool.start()
        gateway = pool.gateway(stream)
        for part in (1, 2):  # in the middle of the stream, then killed and started again
            wait_until("a part of the stream", lambda: gateway.poll() is not None or pool.status()["stages"]
                       ["ingestion"]["records_durable"] >= part * options.records // 4, pools.STREAM_DEADLINE)
            found, size = search(written_files(pool, inputs), wanted)
            hits, searched = hits + found, searched + size
            pool.kill()
            pool.start()
        check(gateway.wait(pools.STREAM_DEADLINE) == 0, "the gateway did not finish")
        counters(pool, options.records)
        found, size = search(written_files(pool, inputs), wanted)
        hits, searched = hits + found, searched + size
        pool.stop()
        found, size = search([path for path in pool.root.rglob("*") if path.is_file() and path not in inputs], wanted)
        hits, searched = hits + found, searched + size
    check(not hits, "; ".join(hits))
    print(f"canaries: {options.records} records, {len(wanted)} forms, {searched >> 20} MiB searched: 0 hits; "
          "each planted form is found")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
