"""Writes made-up domains for experiments without data: synthetic.py DIRECTORY [DOMAINS [RECORDS [SEED]]]

Each domain has a lexicon of its own over a few letters that it prefers, and an order of words (every word has three
likely followers). A fifth of the words are common to all domains: what one domain teaches helps the next a little.
The same arguments give the same files.
"""
import json
import pathlib
import random
import sys

LETTERS = "abcdefghijklmnopqrstuvwxyz"
COMMON_SHARE, FOLLOWERS, WORDS_PER_RECORD = 0.2, 3, (15, 40)


def lexicon(generator, letters, words):
    made = set()
    while len(made) < words:
        made.add("".join(generator.choice(letters) for _ in range(generator.randint(2, 6))))
    return sorted(made)


def records(generator, common, count):
    favourites = generator.sample(LETTERS, 8)
    words = lexicon(generator, favourites, 40)
    followers = {word: generator.sample(words, FOLLOWERS) for word in words}
    for _ in range(count):
        word, text = generator.choice(words), []
        for _ in range(generator.randint(*WORDS_PER_RECORD)):
            text.append(word)
            if generator.random() < COMMON_SHARE:
                text.append(generator.choice(common))
            word = generator.choice(followers[word])
        yield " ".join(text) + "."


def main(directory, domains=5, count=400, seed=1):
    generator = random.Random(seed)
    common = lexicon(generator, LETTERS, 12)
    for index in range(domains):
        folder = pathlib.Path(directory) / f"domain{index + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "text.jsonl", "w") as out:
            for text in records(generator, common, count):
                out.write(json.dumps({"text": text}) + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
