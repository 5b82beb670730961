#!/usr/bin/env python3
"""A source that was never seen: replays one source of each domain through the router, then queries with the others.

    build/kpoolctl model embed --model MODEL.gguf --in RECORDS.jsonl --out EMBEDDINGS.jsonl
    bench/route_choices.py EMBEDDINGS.jsonl [--learned 100] [--tested 50] [key=value ...]

Each record has a `label`, DOMAIN/SOURCE. For every choice of one source per domain its first records are learned, one
domain after the other in a random order, a barrier every 20; then come the first records of each other source. The slot
of a domain is the one that most of its learned records went to. key=value go to bench_route. Prints for each learned
and tested source of a domain the share of the tested records in the domain's slot, averaged over the choices with both,
for single records and for batches of 8, then the means, the worst pairs, and what no slot took (a batch always has
one).
"""
import collections
import itertools
import random

import routes

BATCH = 8


def mean(values):
    return sum(values) / len(values) if values else float("nan")  # a source too short for a batch


def choices(rows):
    """One source per domain, in a random order of domains that depends on the seed alone."""
    for seed, choice in enumerate(itertools.product(*routes.by_domain(rows).values())):
        yield random.Random(seed).sample(choice, len(choice))


def test(options, rows, choice, together):
    """(learned source, tested source) -> (share in the domain's slot, share in none), of groups of so many records."""
    learned = [(source, row) for source in choice for row in rows[source][:options.learned]]
    tested = [(source, row) for source in sorted(set(rows) - set(choice)) for row in rows[source][:options.tested]]
    labels, embeddings = zip(*learned, *tested)
    found = routes.replay(options.program, embeddings, labels,
                          ["barrier=20", f"learn={len(learned)}", f"together={together}", *options.settings])
    teacher = {routes.domain_of(source): source for source in choice}
    shares = {}
    for source, counts in found.queries.items():
        of_domain = teacher[routes.domain_of(source)]
        slots = found.learned[of_domain]
        asked = sum(counts.values())
        shares[of_domain, source] = (counts.get(max(slots, key=slots.get), 0) / asked, counts.get(0, 0) / asked)
    return shares


def main():
    parser = routes.parser(__doc__)
    parser.add_argument("--learned", type=int, default=100, help="records of each learned source")
    parser.add_argument("--tested", type=int, default=50, help="records of each other source")
    options = parser.parse_args()
    rows = routes.read(options.embeddings, max(options.learned, options.tested))
    singles, batches = collections.defaultdict(list), collections.defaultdict(list)
    for choice in choices(rows):
        for pairs, together in ((singles, 1), (batches, BATCH)):
            for pair, shares in test(options, rows, choice, together).items():
                pairs[pair].append(shares)
    if not singles:
        raise SystemExit("No domain has a second source to test with.")
    for learned, tested in sorted(singles):
        one, eight = (mean([right for right, _ in pairs.get((learned, tested), [])])
                      for pairs in (singles, batches))
        print(f"{one:.3f} {eight:.3f} {learned} -> {tested}")
    for pairs, name in ((singles, "records"), (batches, f"batches of {BATCH}")):
        if not pairs:
            continue
        shares = [each for of_pair in pairs.values() for each in of_pair]
        worst = min(pairs, key=lambda pair: mean([right for right, _ in pairs[pair]]))
        print(f"{name}: {mean([right for right, _ in shares]):.4f} on average over pairs and choices, worst pair "
              f"{mean([right for right, _ in pairs[worst]]):.3f} ({' -> '.join(worst)}), "
              f"{mean([none for _, none in shares]):.4f} in no slot")


if __name__ == "__main__":
    main()
