#!/usr/bin/env python3
"""Writes a Llama of random weights in Q4_0 as a GGUF file, to measure speed and memory at sizes that need no download.

    bench/generate_model.py 1.5b /tmp/llama-1.5b.gguf
    bench/generate_model.py 8b /tmp/llama-8b.gguf
    bench/generate_model.py 8b /tmp/llama-8b-2.gguf --layers 2

Needs numpy. The tensors are written one piece at a time; the same arguments give the same bytes. The weights are scaled
so that an untrained network behaves: the loss of any text is about log(vocabulary), gradients are finite.
"""
import argparse
import math
import struct

import numpy as np

ALIGNMENT = 32
F32, Q4_0, Q8_0 = 0, 2, 8
BLOCK_BYTES = {Q4_0: 18, Q8_0: 34}
LEVEL_DEVIATION = {Q4_0: 16 / math.sqrt(12), Q8_0: 256 / math.sqrt(12)}  # of uniform levels
BLOCKS_PER_PIECE = 1 << 19
SHAPES = {
    "1.5b": dict(layers=28, hidden=1536, heads=12, kv_heads=2, ffn=8960, vocabulary=151936, tied=True),
    "8b": dict(layers=32, hidden=4096, heads=32, kv_heads=8, ffn=14336, vocabulary=128256, tied=False),
}
MERGES = ["t h", "th e", "i n", "a n", "\u0120 the", "e r", "\u0120 an"]
LOGIT_DEVIATION = 0.3


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def metadata_of(shape):
    """Key, GGUF type, packed value."""
    def word(value):
        return 4, struct.pack("<I", value)

    def real(value):
        return 6, struct.pack("<f", value)

    def texts(values):
        return 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(string, values))

    def integers(values):
        return 9, struct.pack("<IQ", 5, len(values)) + np.asarray(values, np.int32).tobytes()

    tokens, types = vocabulary_of(shape["vocabulary"])
    return [
        ("general.architecture", 8, string("llama")),
        ("general.name", 8, string("random weights")),
        ("llama.block_count", *word(shape["layers"])),
        ("llama.embedding_length", *word(shape["hidden"])),
        ("llama.attention.head_count", *word(shape["heads"])),
        ("llama.attention.head_count_kv", *word(shape["kv_heads"])),
        ("llama.feed_forward_length", *word(shape["ffn"])),
        ("llama.context_length", *word(8192)),
        ("llama.vocab_size", *word(shape["vocabulary"])),
        ("llama.rope.dimension_count", *word(shape["hidden"] // shape["heads"])),
        ("llama.attention.layer_norm_rms_epsilon", *real(1e-5)),
        ("llama.rope.freq_base", *real(500000.0)),
        ("tokenizer.ggml.model", 8, string("gpt2")),
        ("tokenizer.ggml.pre", 8, string("smollm")),
        ("tokenizer.ggml.tokens", *texts(tokens)),
        ("tokenizer.ggml.token_type", *integers(types)),
        ("tokenizer.ggml.merges", *texts(MERGES)),
        ("tokenizer.ggml.bos_token_id", *word(tokens.index("<|endoftext|>"))),
        ("tokenizer.ggml.eos_token_id", *word(tokens.index("<|endoftext|>"))),
    ]


def vocabulary_of(size):
    """The 256 bytes in byte-level BPE's alphabet, a few merges, the end of text, and tokens that no text has."""
    printable = [byte for byte in range(256) if 32 < byte < 127 or (byte > 160 and byte != 173)]
    unprintable = [byte for byte in range(256) if byte not in printable]
    names = {**{byte: chr(byte) for byte in printable},
             **{byte: chr(256 + i) for i, byte in enumerate(unprintable)}}
    tokens = [names[byte] for byte in range(256)] + [merge.replace(" ", "") for merge in MERGES]
    types = [1] * len(tokens) + [3] + [5] * (size - len(tokens) - 1)
    tokens += ["<|endoftext|>"] + [f"<|unused_{i}|>" for i in range(size - len(tokens) - 1)]
    return tokens, types


def tensors_of(shape):
    """Name, type, rows (0: a vector), columns, standard deviation of the weights (None: all ones)."""
    hidden, ffn = shape["hidden"], shape["ffn"]
    kv = hidden // shape["heads"] * shape["kv_heads"]
    into, out_of, out_of_ffn = (1 / math.sqrt(width) for width in (hidden, hidden, ffn))
    calm = 1 / math.sqrt(2 * shape["layers"])  # what the layers add to the stream sums up to about one
    yield "token_embd.weight", Q8_0 if shape["tied"] else Q4_0, shape["vocabulary"], hidden, LOGIT_DEVIATION * into
    for i in range(shape["layers"]):
        yield f"blk.{i}.attn_norm.weight", F32, 0, hidden, None
        yield f"blk.{i}.attn_q.weight", Q4_0, hidden, hidden, into
        yield f"blk.{i}.attn_k.weight", Q4_0, kv, hidden, into
        yield f"blk.{i}.attn_v.weight", Q4_0, kv, hidden, into
        yield f"blk.{i}.attn_output.weight", Q4_0, hidden, hidden, calm * out_of
        yield f"blk.{i}.ffn_norm.weight", F32, 0, hidden, None
        yield f"blk.{i}.ffn_gate.weight", Q4_0, ffn, hidden, into
        yield f"blk.{i}.ffn_up.weight", Q4_0, ffn, hidden, into
        yield f"blk.{i}.ffn_down.weight", Q4_0, hidden, ffn, calm * out_of_ffn
    yield "output_norm.weight", F32, 0, hidden, None
    if not shape["tied"]:
        yield "output.weight", Q8_0, shape["vocabulary"], hidden, LOGIT_DEVIATION * into


def bytes_of(kind, rows, columns):
    return 4 * columns if kind == F32 else rows * columns // 32 * BLOCK_BYTES[kind]


def write_weights(file, generator, kind, rows, columns, deviation):
    if kind == F32:
        file.write(np.ones(columns, np.float32).tobytes())
        return
    scale = np.float16(deviation / LEVEL_DEVIATION[kind])
    scales = np.array([scale, -scale])  # of both signs, since the levels reach one further down than up
    blocks = rows * columns // 32
    for first in range(0, blocks, BLOCKS_PER_PIECE):
        count = min(BLOCKS_PER_PIECE, blocks - first)
        data = np.frombuffer(bytearray(generator.bytes(count * BLOCK_BYTES[kind])), np.uint8).reshape(count, -1)
        data[:, :2] = scales[data[:, 0] & 1].view(np.uint8).reshape(count, 2)
        file.write(data.data)


def write_model(path, shape, seed):
    metadata, tensors = metadata_of(shape), list(tensors_of(shape))
    generator = np.random.Generator(np.random.SFC64(seed))
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
        for key, kind, value in metadata:
            file.write(string(key) + struct.pack("<I", kind) + value)
        offset = 0
        for name, kind, rows, columns, _ in tensors:
            extents = [columns, rows] if rows else [columns]
            file.write(string(name) + struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, kind, offset))
            offset += -(-bytes_of(kind, rows, columns) // ALIGNMENT) * ALIGNMENT
        for _, kind, rows, columns, deviation in tensors:
            file.write(bytes(-file.tell() % ALIGNMENT))
            write_weights(file, generator, kind, rows, columns, deviation)
        return file.tell(), sum(max(rows, 1) * columns for _, _, rows, columns, _ in tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("path")
    parser.add_argument("--layers", type=int, help="only so many")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    shape = dict(SHAPES[arguments.shape])
    if arguments.layers is not None:
        shape["layers"] = arguments.layers
    size, parameters = write_model(arguments.path, shape, arguments.seed)
    print(f"{arguments.path}: {parameters / 1e9:.2f} G parameters, {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
