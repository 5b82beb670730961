// The block formats of GGML tensors, expanded to float32 or bfloat16, in the same instruction sets as the kernels of
// kernels.hpp. Every set gives the same bits: those of float32 arithmetic without fused operations, rounded to nearest
// even. Pure functions on raw blocks; no tensor, no thread, no allocation. A NaN stays one, whichever.
#pragma once

#include <cstdint>

#include "core/simd/kernels.hpp"

namespace kpool::simd {

/// out: (blocks x elements of a block). in: the blocks, at any address.
template <class T>
using Expand = void (*)(const std::uint8_t* in, std::int64_t blocks, T* out);

/// One function per tensor type; a block of f32, f16 and bf16 is one element.
template <class T>
struct BlockKernels {
  Expand<T> f32, f16, bf16, q4_0, q4_1, q8_0, q4_k, q6_k;
};

struct Dequantise {
  const char* name;  ///< plain | avx2 | avx512
  BlockKernels<float> to_f32;
  BlockKernels<Bf16> to_bf16;
};

/// The best that this processor runs.
const Dequantise& dequantise_kernels();
/// All that it runs, plainest first, for tests and measurements.
struct DequantiseSets {
  const Dequantise* sets[3];
  int count;
};
DequantiseSets dequantise_sets();

template <class T>
const BlockKernels<T>& block_kernels(const Dequantise& set);
template <>
inline const BlockKernels<float>& block_kernels<float>(const Dequantise& set) { return set.to_f32; }
template <>
inline const BlockKernels<Bf16>& block_kernels<Bf16>(const Dequantise& set) { return set.to_bf16; }

}  // namespace kpool::simd
