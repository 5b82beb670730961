// The tile product of core/gemm.hpp in AVX512-BF16, for processors without AMX. oneDNN's brgemm does large ones as fast;
// a step has tens of thousands of small ones, and its call alone takes a fifth of those. Included after
// vector_avx512.hpp.
#pragma once

#include "core/simd/vector_avx512.hpp"

namespace kpool::simd {
namespace {

constexpr int kTileHeight = 12;  // two vectors of sums a row: 24 registers, which hide the latency of an addition

/// `height` rows by one panel; the sums stay in registers.
template <int height>
void multiply_rows(std::int64_t depth, const Bf16* a, std::int64_t a_stride, const Bf16* panel, float* c,
                   std::int64_t c_stride, bool add) {
  V sums[height][2];
#pragma GCC unroll 12
  for (int r = 0; r < height; ++r) {
    sums[r][0] = add ? _mm512_loadu_ps(c + r * c_stride) : _mm512_setzero_ps();
    sums[r][1] = add ? _mm512_loadu_ps(c + r * c_stride + kWidth) : _mm512_setzero_ps();
  }
  for (std::int64_t d = 0; d < depth; d += 2, panel += 2 * kPanel) {
    const auto left = (__m512bh)_mm512_loadu_si512(panel), right = (__m512bh)_mm512_loadu_si512(panel + kPanel);
#pragma GCC unroll 12
    for (int r = 0; r < height; ++r) {
      std::int32_t two;
      __builtin_memcpy(&two, a + r * a_stride + d, sizeof two);
      const auto pair = (__m512bh)_mm512_set1_epi32(two);
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], pair, left);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], pair, right);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < height; ++r) {
    _mm512_storeu_ps(c + r * c_stride, sums[r][0]);
    _mm512_storeu_ps(c + r * c_stride + kWidth, sums[r][1]);
  }
}

using MultiplyRows = void (*)(std::int64_t, const Bf16*, std::int64_t, const Bf16*, float*, std::int64_t, bool);
constexpr MultiplyRows multiply_heights[kTileHeight + 1] = {
    nullptr,          multiply_rows<1>, multiply_rows<2>, multiply_rows<3>,  multiply_rows<4>,  multiply_rows<5>,
    multiply_rows<6>, multiply_rows<7>, multiply_rows<8>, multiply_rows<9>, multiply_rows<10>, multiply_rows<11>,
    multiply_rows<12>};

inline void multiply_tile(std::int64_t rows, std::int64_t depth, const Bf16* a, std::int64_t a_stride,
                          const Bf16* panel, float* c, std::int64_t c_stride, bool add) {
  for (std::int64_t left = (rows + kTileHeight - 1) / kTileHeight; left > 0; --left) {  // of about the same height
    const std::int64_t height = (rows + left - 1) / left;
    multiply_heights[height](depth, a, a_stride, panel, c, c_stride, add);
    a += height * a_stride;
    c += height * c_stride;
    rows -= height;
  }
}

}  // namespace
}  // namespace kpool::simd
