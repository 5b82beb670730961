// Rounding bfloat16 to 8-bit integers in AVX-512, to the same numbers as int8_kernels.hpp: magnitudes are compared as
// 16-bit integers, 32 at a time, and bytes are put together by shifts, for which the processor has more room than for
// shuffles. Included by avx512.cpp and avx512vnni.cpp, before set.hpp.
#pragma once

#include "core/simd/vector_avx512.hpp"
#include "core/simd/loops.hpp"  // after the vectors

#define KPOOL_QUANTISE_BF16

namespace kpool::simd {
namespace {

constexpr int kSelect = 0xca;  // ternary logic: mask ? b : c
constexpr std::uint16_t kInfinity = 0x7f80;

KPOOL_INLINE __m512i magnitudes(const Bf16* x) {
  return _mm512_and_si512(_mm512_loadu_si512(x), _mm512_set1_epi16(0x7fff));
}
/// The bytes of q = x inverse rounded, of pairs: low and high half of each lane, in the lane's lowest two bytes.
KPOOL_INLINE __m512i two_bytes(__m512i pairs, __m512 inverse, __m512 shift) {
  const __m512 low = (__m512)_mm512_slli_epi32(pairs, 16);
  const __m512 high = (__m512)_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff0000));
  return _mm512_ternarylogic_epi32(_mm512_set1_epi32(0xff), (__m512i)_mm512_fmadd_ps(low, inverse, shift),
                                   _mm512_slli_epi32((__m512i)_mm512_fmadd_ps(high, inverse, shift), 8), kSelect);
}

constexpr std::int64_t kWideStep = 32;

/// One group of quantise, n a multiple of kWideStep; see there.
KPOOL_INLINE void quantise_wide(const Bf16* x, std::int64_t n, std::int8_t* out, float* step, std::int32_t* offset) {
  __m512i most = magnitudes(x);
#pragma GCC unroll 8
  for (std::int64_t i = kWideStep; i < n; i += kWideStep) most = _mm512_max_epu16(most, magnitudes(x + i));
  const __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(most), _mm512_extracti64x4_epi64(most, 1));
  const __m128i eight = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  // There is an instruction for the least of eight alone.
  const auto bits = static_cast<std::uint16_t>(~_mm_cvtsi128_si32(_mm_minpos_epu16(~eight)));
  float largest_value;
  const std::uint32_t wide = std::uint32_t{bits} << 16;
  __builtin_memcpy(&largest_value, &wide, sizeof wide);
  const __m512 inverse = _mm512_set1_ps(largest_value > kLeast ? 127 / largest_value : 0);
  __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (std::int64_t i = 0; i < n; i += kWideStep) {
    const __m256i bytes =
        _mm512_cvtepi32_epi16(two_bytes(_mm512_loadu_si512(x + i), inverse, _mm512_set1_ps(kRound)));
    _mm256_storeu_si256((__m256i*)(out + i), bytes);
    sum = _mm256_dpbusd_epi32(sum, _mm256_set1_epi8(1), bytes);
  }
  const bool number = bits < kInfinity;
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  *step = number ? largest_value * (1 / 127.0f) : __builtin_nanf("");
  *offset = number ? -kZeroByte * (_mm_cvtsi128_si32(two) + _mm_extract_epi32(two, 1)) : 0;
}

/// A whole group of pack_int8; see there.
KPOOL_INLINE void pack_int8_group(const Bf16* panel, std::uint8_t* out, float* steps) {
  __m512i most[2] = {}, ahead[2] = {};
  for (std::int64_t d = 0; d < kInt8Group; d += 4)
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
      const Bf16* at = panel + d * kPanel + c * 32;
      __builtin_prefetch(at + kInt8Group * kPanel);  // weights come from memory
      __builtin_prefetch(at + (kInt8Group + 2) * kPanel);
      most[c] = _mm512_max_epu16(most[c], magnitudes(at));
      ahead[c] = _mm512_max_epu16(ahead[c], magnitudes(at + 2 * kPanel));
    }
#pragma GCC unroll 2
  for (int c = 0; c < 2; ++c) {
    const __m512i both = _mm512_max_epu16(most[c], ahead[c]);
    const __m512 largest_values = (__m512)_mm512_slli_epi32(_mm512_max_epu16(both, _mm512_srli_epi32(both, 16)), 16);
    const __m512 inverse = only_from(largest_values, broadcast(kLeast), 127.0f / largest_values);
    _mm512_storeu_ps(steps + c * kWidth, largest_values * (1 / 127.0f));
    for (std::int64_t d = 0; d < kInt8Group; d += 4) {
      const Bf16* at = panel + d * kPanel + c * 32;
      const __m512 shift = broadcast(kRound + kZeroByte);
      const __m512i low = two_bytes(_mm512_loadu_si512(at), inverse, shift);
      const __m512i high = two_bytes(_mm512_loadu_si512(at + 2 * kPanel), inverse, shift);
      const __m512i four =
          _mm512_ternarylogic_epi32(_mm512_set1_epi32(0xffff), low, _mm512_slli_epi32(high, 16), kSelect);
      _mm512_storeu_si512(out + d * kPanel + c * 64, four);
    }
  }
}

}  // namespace
}  // namespace kpool::simd
