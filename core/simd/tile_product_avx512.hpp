// The tile product of core/gemm.hpp in AVX512-BF16, for processors without AMX. oneDNN's brgemm does large ones as
// fast, but a step has tens of thousands of small ones, and its call alone takes a fifth of those; and a result that is
// rounded from registers spares a pass over float32 sums. Included by avx512.cpp alone.
#pragma once

#include "core/simd/vector_avx512.hpp"

namespace kpool::simd {
namespace {

#define KPOOL_TILE_PRODUCT
constexpr int kTileHeight = 12;  // two vectors of sums a row: 24 registers, which hide the latency of an addition

/// sums += a times the panel. vectors: of sums a row.
template <int height, int vectors>
KPOOL_INLINE void add_product(std::int64_t depth, const Bf16* a, std::int64_t stride, const Bf16* panel,
                              V (&sums)[height][vectors]) {
  for (std::int64_t d = 0; d < depth; d += 2, panel += 2 * kPanel) {
    __m512bh b[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) b[v] = (__m512bh)_mm512_loadu_si512(panel + v * kPanel);
#pragma GCC unroll 12
    for (int r = 0; r < height; ++r) {
      std::int32_t two;
      __builtin_memcpy(&two, a + r * stride + d, sizeof two);
      const auto pair = (__m512bh)_mm512_set1_epi32(two);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], pair, b[v]);
    }
  }
}

KPOOL_INLINE void round_row(Bf16* out, const V (&sums)[1], float factor) { store(out, sums[0] * factor, Full{}); }
KPOOL_INLINE void round_row(Bf16* out, const V (&sums)[2], float factor) {
  _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(sums[1] * factor, sums[0] * factor));
}

/// Adds the adapter's part to finished sums, rounds and writes them.
template <int height, int vectors>
KPOOL_INLINE void finish_rows(const TileProduct& p, std::int64_t row, V (&sums)[height][vectors]) {
  add_product<height, vectors>(p.depth2, p.a2 + row * p.a2_stride, p.a2_stride, p.panel2, sums);
#pragma GCC unroll 12
  for (int r = 0; r < height; ++r) round_row(p.out + (row + r) * p.out_stride, sums[r], p.factor);
}

/// `height` rows from `row` on; the sums stay in registers.
template <int height, int vectors>
void multiply_rows(const TileProduct& p, std::int64_t row) {
  V sums[height][vectors];
  float* const at = p.sums + row * p.sums_stride;
#pragma GCC unroll 12
  for (int r = 0; r < height; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
      sums[r][v] = p.add ? load(at + r * p.sums_stride + v * kWidth, Full{}) : broadcast(0);
  add_product<height, vectors>(p.depth, p.a + row * p.a_stride, p.a_stride, p.panel, sums);
  if (p.out) return finish_rows<height, vectors>(p, row, sums);
#pragma GCC unroll 12
  for (int r = 0; r < height; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) store(at + r * p.sums_stride + v * kWidth, sums[r][v], Full{});
}

template <int vectors>
void multiply_tile(const TileProduct& product) {
  using Rows = void (*)(const TileProduct&, std::int64_t);
  constexpr Rows heights[kTileHeight] = {
      multiply_rows<1, vectors>, multiply_rows<2, vectors>, multiply_rows<3, vectors>,  multiply_rows<4, vectors>,
      multiply_rows<5, vectors>, multiply_rows<6, vectors>, multiply_rows<7, vectors>,  multiply_rows<8, vectors>,
      multiply_rows<9, vectors>, multiply_rows<10, vectors>, multiply_rows<11, vectors>, multiply_rows<12, vectors>};
  const std::int64_t parts = (product.rows + kTileHeight - 1) / kTileHeight;
  const auto* next = reinterpret_cast<const char*>(product.next);
  const std::int64_t fetched = product.depth * kPanel * 2 / parts + 64;  // bytes; the first to read them would wait
  for (std::int64_t row = 0, left = parts; left > 0; --left) {
    for (std::int64_t i = 0; next && i < fetched; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
    if (next) next += fetched / 64 * 64;
    const std::int64_t height = (product.rows - row + left - 1) / left;  // all of about the same
    heights[height - 1](product, row);
    row += height;
  }
}

inline void multiply_tile(const TileProduct& product) {
  if (product.columns == kPanel) multiply_tile<2>(product);
  else multiply_tile<1>(product);
}

}  // namespace
}  // namespace kpool::simd
