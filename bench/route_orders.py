#!/usr/bin/env python3
"""Sources in any order: replays embeddings through the router and compares its slots with the sources' domains.

    build/kpoolctl model embed --model MODEL.gguf --in RECORDS.jsonl --out EMBEDDINGS.jsonl
    bench/route_orders.py EMBEDDINGS.jsonl [--orders 40] [--records 200] [key=value ...]

Each record has a `label`, DOMAIN/SOURCE. An order is a shuffle of the sources, each with its first records in a row;
key=value go to bench_route. Prints per order the NMI of slot and domain, births and the order, then the mean.
"""
import argparse
import array
import collections
import json
import math
import pathlib
import random
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def entropy(counts):
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values() if n)


def mutual_information(pairs):
    """Normalised by the mean of both entropies. pairs: (domain, slot) -> records."""
    domains, slots = collections.Counter(), collections.Counter()
    for (domain, slot), count in pairs.items():
        domains[domain] += count
        slots[slot] += count
    both = entropy(domains) + entropy(slots)
    return 2 * (both - entropy(pairs)) / both if both else 0.0


def replay(options, rows, order, directory):
    with open(f"{directory}/rows.f32", "wb") as out:
        for source in order:
            for row in rows[source]:
                row.tofile(out)
    labels = "".join(f"{source}\n" * len(rows[source]) for source in order)
    pathlib.Path(f"{directory}/labels.txt").write_text(labels)
    width = str(len(rows[order[0]][0]))
    said = subprocess.run([options.program, f"{directory}/rows.f32", width, f"{directory}/labels.txt", "barrier=20",
                           *options.settings], capture_output=True, text=True, check=True).stdout
    pairs, births = collections.Counter(), 0
    for line in said.splitlines():
        label, *counts = line.split()
        if label == "births":
            births = int(counts[0])
            continue
        for slot, count in (each.split(":") for each in counts):
            pairs[label.split("/")[0], slot] += int(count)
    return mutual_information(pairs), births


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--orders", type=int, default=40)
    parser.add_argument("--records", type=int, default=200, help="of each source")
    parser.add_argument("--program", default=str(ROOT / "build/bench/bench_route"))
    options = parser.parse_args()
    rows = collections.defaultdict(list)
    for line in open(options.embeddings):
        record = json.loads(line)
        if len(rows[record["label"]]) < options.records:
            rows[record["label"]].append(array.array("f", record["embedding"]))
    found = []
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(options.orders):
            order = sorted(rows)
            random.Random(seed).shuffle(order)
            found.append(replay(options, rows, order, directory))
            print(f"{found[-1][0]:.3f} {found[-1][1]} births: {' '.join(order)}")
    good = sum(nmi >= 0.95 for nmi, _ in found)
    print(f"NMI {sum(nmi for nmi, _ in found) / len(found):.3f} on average, {good} of {len(found)} at 0.95 or more")


if __name__ == "__main__":
    main()
