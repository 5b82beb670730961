#!/usr/bin/env python3
"""Domains one after the other: replays one source of each, drawn at random, in a random order, and counts the streams
that pass: as many births as domains, and at least 90 % of each domain's records in one slot.

    build/kpoolctl model embed --model MODEL.gguf --in RECORDS.jsonl --out EMBEDDINGS.jsonl
    bench/route_streams.py EMBEDDINGS.jsonl [--orders 20] [key=value ...]

Each record has a `label`, DOMAIN/SOURCE; key=value go to bench_route. Prints for 200, 100 and 60 records of each
source, without barriers, with one every 20 records and every 8, how many streams pass and the worst share of a domain.
"""
import random

import routes


def stream(options, rows, records, barrier, seed):
    """Births, and the least share of a source's records that lie in one slot."""
    draw = random.Random(seed)
    choice = [draw.choice(sources) for sources in routes.by_domain(rows).values()]
    draw.shuffle(choice)
    labels, embeddings = zip(*((source, row) for source in choice for row in rows[source][:records]))
    found = routes.replay(options.program, embeddings, labels, [f"barrier={barrier}", *options.settings])
    return len(found.births), min(max(counts.values()) / sum(counts.values()) for counts in found.learned.values())


def main():
    parser = routes.parser(__doc__)
    parser.add_argument("--orders", type=int, default=20)
    options = parser.parse_args()
    rows = routes.read(options.embeddings, 200)
    domains = len(routes.by_domain(rows))
    for records in (200, 100, 60):
        for barrier in (0, 20, 8):
            found = [stream(options, rows, records, barrier, seed) for seed in range(options.orders)]
            passed = sum(births == domains and least >= 0.9 for births, least in found)
            print(f"{records} records, {f'a barrier every {barrier}' if barrier else 'no barrier'}: {passed} of "
                  f"{len(found)} pass, the worst share of a domain is {min(least for _, least in found):.2f}")


if __name__ == "__main__":
    main()
