#!/usr/bin/env python3
"""Records of every source, DIR/DOMAIN/SOURCE.jsonl with `text`, as lines with `text` and `label` for `kpoolctl model
embed`.

    bench/sample_records.py DIR [--records 200] [--seed 0] [--strip] > RECORDS.jsonl

seed 0 takes the first records of each file, another one draws them. --strip takes a source's fixed wording away: three
words in a row or more, or fewer that end in a colon, which at least half of its records have.
"""
import argparse
import collections
import json
import pathlib
import random
import re

LONGEST = 8  # words of a fixed wording


def runs(words):
    """Every run of words that may be a fixed wording, with where it begins."""
    for length in range(1, LONGEST + 1):
        for i in range(len(words) - length + 1):
            if length > 2 or words[i + length - 1].endswith(":"):
                yield i, tuple(words[i:i + length])


def stripped(texts):
    pieces = [re.findall(r"\S+\s*", text) for text in texts]  # words with what separates them from the next
    words = [[piece.split()[0] for piece in each] for each in pieces]
    seen = collections.Counter(run for each in words for run in {run for _, run in runs(each)})
    for each, whole in zip(words, pieces):
        keep = [True] * len(each)
        for i, run in runs(each):
            if 2 * seen[run] >= len(texts):
                keep[i:i + len(run)] = [False] * len(run)
        yield "".join(piece for piece, kept in zip(whole, keep) if kept)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--records", type=int, default=200, help="of each source")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strip", action="store_true")
    options = parser.parse_args()
    for path in sorted(options.directory.glob("*/*.jsonl")):
        with open(path) as file:
            texts = [json.loads(line)["text"] for line in file]
        if options.seed:
            random.Random(options.seed).shuffle(texts)
        texts = texts[:options.records]
        for text in stripped(texts) if options.strip else texts:
            if text.strip():
                print(json.dumps({"label": f"{path.parent.name}/{path.stem}", "text": text}))


if __name__ == "__main__":
    main()
