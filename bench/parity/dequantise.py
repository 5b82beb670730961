#!/usr/bin/env python3
"""Records what the `gguf` package makes of generated blocks of every supported tensor type.

    bench/parity/dequantise.py > tests/golden/dequantise.json

Needs `pip install gguf`. Each case: the type's number, two blocks in hexadecimal, the expanded values.
"""
import json

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

# Byte offsets of the half-precision scales within a block; every other byte is free.
SCALES = {Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q8_0: [0], Type.Q4_K: [0, 2], Type.Q6_K: [208]}


def blocks_of(kind, generator):
    if kind in (Type.F32, Type.F16, Type.BF16):
        values = np.array([0.0, -0.0, 1.0, -2.5, 65504.0, 6.1e-5, 5.96e-8, -3.0e-6, 0.1, -1e-3, 1e4, 3.14159],
                          np.float32)
        if kind == Type.F32:
            return values.view(np.uint8)
        if kind == Type.F16:
            return values.astype(np.float16).view(np.uint8)
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    size = GGML_QUANT_SIZES[kind][1]
    blocks = generator.integers(0, 256, (2, size), np.uint8)
    for offset in SCALES[kind]:
        scale = generator.uniform(-0.1, 0.1, (2, 1)).astype(np.float16)
        blocks[:, offset:offset + 2] = scale.view(np.uint8)
    return blocks.reshape(-1)


def main():
    generator = np.random.default_rng(1)
    cases = []
    for kind in (Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q8_0, Type.Q4_K, Type.Q6_K):
        data = blocks_of(kind, generator)
        values = dequantize(data, kind).reshape(-1)
        cases.append({"name": kind.name, "type": int(kind), "data": data.tobytes().hex(),
                      "values": [float(f"{value:.9g}") for value in values]})
    print("[" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "]")


if __name__ == "__main__":
    main()
