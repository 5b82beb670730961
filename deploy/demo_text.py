#!/usr/bin/env python3
"""Gathers real text of five domains into JSON Lines: DIR/<domain>.jsonl to stream, DIR/<domain>.heldout.jsonl to
measure on. The same seed and sources give the same files. Own data: KPOOL_DEMO_DATA names a directory that has
<domain>/*.jsonl with "text" in each line."""
import argparse
import collections
import functools
import json
import os
import pathlib
import random
import re
import sys

import demo_sources

ALIASES = {"math": "mathematics", "multilingual": "languages"}
PASSAGES_MAX = 8  # of one origin
SHINGLE_WORDS = 6


def json_lines(directory, rng):
    """(origin, text) of every record under one domain's directory, in random order; records are their own origins."""
    records = []
    for path in sorted(directory.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            try:
                if line:
                    records.append((f"{path.name}:{number}", json.loads(line)["text"]))
            except (ValueError, KeyError, TypeError):
                raise demo_sources.Unavailable(f"{path}:{number} is no JSON object with \"text\"") from None
    rng.shuffle(records)
    yield from records


def domains(root, data):
    """Domain name -> a function of a random generator that yields (origin, passage)."""
    if not data:
        return {name: functools.partial(source, root / ".deps") for name, source in demo_sources.SOURCES.items()}
    found = {ALIASES.get(path.name, path.name): path for path in sorted(data.iterdir()) if any(path.glob("*.jsonl"))}
    ordered = [name for name in demo_sources.SOURCES if name in found]
    ordered += [name for name in found if name not in demo_sources.SOURCES]
    return {name: functools.partial(json_lines, found[name]) for name in ordered}


def data_directory(root):
    named = os.environ.get("KPOOL_DEMO_DATA")
    if named and not pathlib.Path(named).is_dir():
        raise demo_sources.Unavailable(f"KPOOL_DEMO_DATA names {named}, which is no directory")
    if named:
        return pathlib.Path(named)
    beside = root.parent / "shared" / "data" / "domains"
    return beside if beside.is_dir() else None


def shingles(passage):
    words = [word for word in re.split(r"\W+", passage.lower()) if word]
    return {" ".join(words[i:i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1))}


def usable(passages, limits, enough):
    """origin -> its passages, of a record's length, none nearly the same as another, until there are enough bytes."""
    seen, by_origin, size = set(), collections.defaultdict(list), 0
    for origin, passage in passages:
        passage = passage.strip()
        length = len(passage.encode())
        if not limits[0] <= length <= limits[1] or len(by_origin[origin]) >= PASSAGES_MAX:
            continue
        own = shingles(passage)
        if len(own & seen) > 0.2 * len(own):
            continue
        seen |= own
        by_origin[origin].append(passage)
        size += length
        if size >= enough:
            break
    return by_origin


def take(origins, by_origin, budget, share):
    """Passages of the origins, in their order, up to `budget` bytes, at most `share` bytes of one origin."""
    chosen, size = [], 0
    while origins and size < budget:
        used = 0
        for passage in by_origin[origins.pop()]:
            length = len(passage.encode())
            if used + length > share:
                break
            used, size = used + length, size + length
            chosen.append(passage)
    return chosen


def split(by_origin, budget, heldout, rng):
    """(streamed, held out): disjoint by origin, shuffled. Held-out text takes little of many origins."""
    origins = sorted(by_origin)
    rng.shuffle(origins)
    for passages in by_origin.values():
        rng.shuffle(passages)
    held = take(origins, by_origin, heldout, heldout // 4)
    streamed = take(origins, by_origin, budget, budget // 8)
    rng.shuffle(streamed)
    return streamed, held


def write(path, passages):
    with path.open("w", encoding="utf-8") as out:
        for passage in passages:
            out.write(json.dumps({"text": passage}, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--bytes", type=int, default=32000, help="text to stream per domain")
    parser.add_argument("--heldout-bytes", type=int, default=6000, help="text to measure on per domain")
    parser.add_argument("--record-bytes", type=int, nargs=2, metavar=("MIN", "MAX"), default=(300, 1200))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parent.parent
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for old in arguments.directory.glob("*.jsonl"):
        old.unlink()
    enough = 4 * (arguments.bytes + arguments.heldout_bytes)
    for name, source in domains(root, data_directory(root)).items():
        rng = random.Random(f"{arguments.seed}/{name}")
        by_origin = usable(source(rng), arguments.record_bytes, enough)
        streamed, held = split(by_origin, arguments.bytes, arguments.heldout_bytes, rng)
        if not streamed or not held:
            sys.exit(f"demo: there is too little text for the domain {name}")
        write(arguments.directory / f"{name}.jsonl", streamed)
        write(arguments.directory / f"{name}.heldout.jsonl", held)
        print(name)


if __name__ == "__main__":
    try:
        main()
    except demo_sources.Unavailable as error:
        sys.exit(f"demo: {error}")
