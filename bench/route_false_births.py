#!/usr/bin/env python3
"""Slots that open though nothing is new: replays embeddings through the router, then many batches of known domains.

    build/kpoolctl model embed --model MODEL.gguf --in RECORDS.jsonl --out EMBEDDINGS.jsonl
    bench/route_false_births.py EMBEDDINGS.jsonl [--streams 6] [--batches 10000] [key=value ...]

Each record has a `label`, DOMAIN/SOURCE. A stream learns the first records of one source per domain, drawn at random
and in a random order, then batches of 8 records of any of these sources: drawn again with replacement, or of Student's
t with a source's own mean and covariance. key=value go to bench_route. Prints per stream the births while learning and
those after it, then how many are beyond one a domain. Needs numpy. A stream of 10,000 batches of 576 floats takes 0.5
GB of memory, bench_route 0.2 GB, and 0.2 GB of temporary files.
"""
import random

import numpy

import routes

BATCH, FREEDOM = 8, 8


def again(records, count, generator):
    return records[generator.integers(len(records), size=count)]


def student(records, count, generator):
    """A normal mix of the centred records has exactly their covariance, also where it is singular. That of a t is its
    scale times f / (f - 2)."""
    middle = records.mean(axis=0)
    mix = generator.standard_normal((count, len(records)), numpy.float32) / numpy.sqrt(len(records) - 1)
    heavy = numpy.sqrt((FREEDOM - 2) / generator.chisquare(FREEDOM, (count, 1)))
    return middle + mix @ (records - middle) * heavy


def known(learned, draw, count, generator):
    """count records of the learned sources, shuffled: rows and labels."""
    sources = list(learned)
    of = generator.integers(len(sources), size=count)
    rows = numpy.empty((count, len(learned[sources[0]][0])), numpy.float32)
    for i, source in enumerate(sources):
        rows[of == i] = draw(learned[source], numpy.count_nonzero(of == i), generator)
    return rows, [sources[i] for i in of]


def births(options, learned, draw, seed):
    """While learning, afterwards."""
    rows, labels = known(learned, draw, options.batches * BATCH, numpy.random.default_rng(seed))
    labels = [source for source, records in learned.items() for _ in records] + labels
    begin = len(labels) - len(rows)
    found = routes.replay(options.program, [*(row for records in learned.values() for row in records), *rows], labels,
                          options.settings).births
    return sum(row < begin for row, _ in found), sum(row >= begin for row, _ in found)


def main():
    parser = routes.parser(__doc__)
    parser.add_argument("--streams", type=int, default=6)
    parser.add_argument("--records", type=int, default=200, help="learned of each source")
    parser.add_argument("--batches", type=int, default=10_000, help=f"of {BATCH} records, after learning")
    options = parser.parse_args()
    rows = {source: numpy.array(records, numpy.float32)
            for source, records in routes.read(options.embeddings, options.records).items()}
    domains = routes.by_domain(rows)
    totals = {"drawn again": 0, "Student's t": 0}
    for seed in range(options.streams):
        chance = random.Random(seed)
        order = [chance.choice(sources) for sources in chance.sample(list(domains.values()), len(domains))]
        said = []
        for name, draw in zip(totals, (again, student)):
            first, later = births(options, {source: rows[source] for source in order}, draw, seed)
            totals[name] += max(0, first - len(domains)) + later
            said.append(f"{name} {first} + {later} births")
        print(f"{', '.join(said)}: {' '.join(order)}", flush=True)
    print(f"beyond one a domain: {', '.join(f'{name} {count}' for name, count in totals.items())} in {options.streams} "
          f"times {options.batches} batches")


if __name__ == "__main__":
    main()
