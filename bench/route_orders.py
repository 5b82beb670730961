#!/usr/bin/env python3
"""Sources in any order: replays embeddings through the router and compares its slots with the sources' domains.

    build/kpoolctl model embed --model MODEL.gguf --in RECORDS.jsonl --out EMBEDDINGS.jsonl
    bench/route_orders.py EMBEDDINGS.jsonl [--orders 40] [--records 200] [key=value ...]

Each record has a `label`, DOMAIN/SOURCE. An order is a shuffle of the sources, each with its first records in a row;
key=value go to bench_route. Prints per order the NMI of slot and domain, births and the order, then the mean.
"""
import collections
import math
import random

import routes


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


def replay(options, rows, order):
    """NMI, births"""
    found = routes.replay(options.program, [row for source in order for row in rows[source]],
                          [source for source in order for _ in rows[source]], ["barrier=20", *options.settings])
    pairs = collections.Counter()
    for source, counts in found.learned.items():
        for slot, count in counts.items():
            pairs[routes.domain_of(source), slot] += count
    return mutual_information(pairs), len(found.births)


def main():
    parser = routes.parser(__doc__)
    parser.add_argument("--orders", type=int, default=40)
    parser.add_argument("--records", type=int, default=200, help="of each source")
    options = parser.parse_args()
    rows = routes.read(options.embeddings, options.records)
    found = []
    for seed in range(options.orders):
        order = sorted(rows)
        random.Random(seed).shuffle(order)
        found.append(replay(options, rows, order))
        print(f"{found[-1][0]:.3f} {found[-1][1]} births: {' '.join(order)}")
    good = sum(nmi >= 0.95 for nmi, _ in found)
    print(f"NMI {sum(nmi for nmi, _ in found) / len(found):.3f} on average, {good} of {len(found)} at 0.95 or more")


if __name__ == "__main__":
    main()
