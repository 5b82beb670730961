// Products of small tiles, the part of a GEMM that is the same everywhere: C (+)= A B, where B is a panel
// of kPanel columns that was packed by simd::RowKernels::pack_rows or pack_columns. float32 runs on oneDNN's brgemm
// through libtorch, bfloat16 on kernels of our own, in AMX or AVX512-BF16. What lies around it (threads,
// packing, what happens to C while it is in the cache) is the caller's, which is where a step's time is won. Tiles
// whose memory begins at a multiple of 64 bytes, with strides that are no large power of two, run two to four times as
// fast.
#pragma once

#include <cstdint>

#include "core/simd/kernels.hpp"

namespace kpool {

using simd::Bf16;
using simd::kInt8Group;
using simd::kPanel;

/// A worker thread's right to multiply tiles; lives as long as its share of a parallel loop. Not one within another.
class TileScope {
 public:
  TileScope();
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
  ~TileScope();  ///< gives the processor's tile registers back
};

/// Elements of a packed panel of this depth.
template <class T>
constexpr std::int64_t panel_size(std::int64_t depth);
template <>
constexpr std::int64_t panel_size<float>(std::int64_t depth) { return depth * kPanel; }
template <>
constexpr std::int64_t panel_size<Bf16>(std::int64_t depth) { return (depth + 1) / 2 * 2 * kPanel; }
template <>
constexpr std::int64_t panel_size<std::uint8_t>(std::int64_t depth) { return (depth + 3) / 4 * 4 * kPanel; }

/// Depths that are multiples of this need no padding on the way, which costs small products much.
std::int64_t whole_depth();

/// c (rows, kPanel) with stride c_stride = a (rows, depth) with stride a_stride, times the panel; or c += that.
/// An odd depth reads one element beyond each row of a in bfloat16, which the panel multiplies by zero: it must exist
/// and be finite.
void multiply(std::int64_t rows, std::int64_t depth, const Bf16* a, std::int64_t a_stride, const Bf16* panel, float* c,
              std::int64_t c_stride, bool add);
void multiply(std::int64_t rows, std::int64_t depth, const float* a, std::int64_t a_stride, const float* panel,
              float* c, std::int64_t c_stride, bool add);

/// Whether a tile's row comes out the same, bit for bit, beside any others: in our own kernels, and in oneDNN's, which
/// libtorch has on x86; where it falls back to a BLAS that promises no such thing, not.
bool rows_are_alike(bool bfloat16);

/// Whether products in 8-bit integers (simd::Kernels::multiply_int8) outrun those in float32 and bfloat16: with VNNI or
/// AMX.
bool int8_is_faster();

/// Whether bfloat16 tiles run in hardware here; without, simd::Kernels::multiply is null.
bool multiplies_bfloat16();

}  // namespace kpool
