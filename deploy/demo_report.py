"""The demo's table, and its search of everything that the daemon wrote for the text that it learned from."""
import json
import random
import struct
import subprocess

PHRASE_BYTES = 24
PHRASES_PER_RECORD = 3
TOKENS_IN_SEQUENCE = 6


def routes(domains, records, slots):
    """Domain against slot, in records."""
    lines = ["", "Records of each domain per slot",
             f"{'domain':<12}" + "".join(f"{f'slot {k}':>8}" for k in range(slots)) + f"{'in one slot':>14}"]
    for domain in domains:
        counts = records[domain]
        share = 100 * max(counts) / max(sum(counts), 1)
        lines.append(f"{domain:<12}" + "".join(f"{count or '.':>8}" for count in counts) + f"{share:>12.0f} %")
    return "\n".join(lines)


def losses(domains, base, after, end):
    """Held-out loss of the base and of the adapted model, and what later domains cost."""
    lines = ["", "Held-out loss, nats per token",
             f"{'domain':<12}{'base':>8}{'adapted':>10}{'gain':>8}{'right after':>14}{'forgetting':>12}"]
    for domain in domains:
        lines.append(f"{domain:<12}{base[domain]:>8.3f}{end[domain]:>10.3f}{base[domain] - end[domain]:>8.3f}"
                     f"{after[domain]:>14.3f}{end[domain] - after[domain]:>+12.3f}")
    better = sum(end[domain] < base[domain] for domain in domains)
    lines.append(f"The adapted model is below the base on {better} of {len(domains)} domains.")
    return "\n".join(lines)


def accounts(status, records, counts):
    """Prints sent = acknowledged + refused; do the files, the gateway and the daemon agree on it?

    records: how many lie in the files. counts: the gateway's (sent, acknowledged, refused) of each domain."""
    sent, acknowledged, refused = map(sum, zip(*counts))
    ingestion = status["stages"]["ingestion"]
    holds = records == sent == acknowledged + refused == ingestion["records_durable"]
    holds = holds and refused == ingestion["records_refused"]
    print(f"\nrecords sent {sent} = {acknowledged} acknowledged + {refused} refused" if holds else
          f"\nrecords ARE MISSING: {records} in the files, the gateway sent {sent}, of which {acknowledged} were "
          f"acknowledged and {refused} refused; the daemon holds {ingestion['records_durable']}")
    return holds


def phrases(text_directory, domains):
    """Pieces of the streamed text: some of each record, as bytes, free of what JSON would escape."""
    rng = random.Random(7)
    found = set()
    for domain in domains:
        for line in (text_directory / f"{domain}.jsonl").read_text(encoding="utf-8").split("\n"):
            text = json.loads(line)["text"].encode() if line else b""
            part = len(text) // PHRASES_PER_RECORD  # one phrase in each, so that none overlap
            for index in range(PHRASES_PER_RECORD if part > PHRASE_BYTES else 0):
                start = index * part + rng.randrange(part - PHRASE_BYTES)
                piece = text[start:start + PHRASE_BYTES]
                if not set(piece) & set(b'"\\\n\r\t') and piece.count(b" ") < PHRASE_BYTES // 2:
                    found.add(piece)
    return sorted(found)


def matches(pieces, paths):
    """How many of the pieces' occurrences grep finds in the files."""
    grep = ["grep", "--text", "--only-matching", "--no-filename", "--fixed-strings", "-f", "-"]
    result = subprocess.run([*grep, *map(str, paths)], input=b"\n".join(pieces) + b"\n", capture_output=True,
                            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    return result.stdout.count(b"\n")


def token_sequences(ids):
    """A short run of token ids of some records of each domain, as a program would lay them out: 4 and 8 bytes wide."""
    rng = random.Random(7)
    for records in ids.values():
        for record in rng.sample(records, min(2, len(records))):
            start = rng.randrange(max(1, len(record) - TOKENS_IN_SEQUENCE))
            run = record[start:start + TOKENS_IN_SEQUENCE]
            yield struct.pack(f"<{len(run)}i", *run)
            yield struct.pack(f"<{len(run)}q", *run)


def text_on_disk(run, text_directory, domains, ids):
    """Prints how many bytes of the streamed text lie in the files of the run; is it none?"""
    pieces = phrases(text_directory, domains)
    streamed = [text_directory / f"{domain}.jsonl" for domain in domains]
    if matches(pieces, streamed) < len(pieces):
        print("bytes of text on disk: NOT MEASURED, the search does not find the phrases where they are")
        return False
    files = list({path.stat().st_ino: path for path in sorted(run.rglob("*")) if path.is_file()}.values())
    found = PHRASE_BYTES * matches(pieces, files)
    sequences, size = list(token_sequences(ids)), 0
    for path in files:
        data = path.read_bytes()
        size += len(data)
        found += sum(data.count(sequence) * len(sequence) for sequence in sequences)
    print(f"bytes of text on disk = {found} ({len(pieces)} phrases and {len(sequences)} token sequences of the "
          f"streamed records, searched in {len(files)} files, {size / 1e6:.0f} MB, that the run wrote)")
    return found == 0
