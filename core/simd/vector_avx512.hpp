// Vectors of sixteen float32 in AVX-512 (F, BW, DQ, VL, VNNI): what core/simd/*_kernels.hpp stands on in the sets
// `avx512`, which has BF16 as well, and `avx512vnni`. The same names as vector_plain.hpp, which says what they do; with
// BF16 conversions and dot products take denormals for zero, as the processor's instructions do.
#pragma once

#include <immintrin.h>

#include "core/simd/kernels.hpp"

#define KPOOL_INLINE inline __attribute__((always_inline))

namespace kpool::simd {
namespace {

constexpr std::int64_t kWidth = 16;
typedef __m512 V;
typedef std::int32_t I __attribute__((vector_size(64)));
typedef std::uint32_t U __attribute__((vector_size(64)));

struct Full {};
struct Part {
  std::int64_t count;
};

KPOOL_INLINE V broadcast(float x) { return _mm512_set1_ps(x); }
KPOOL_INLINE __mmask16 lanes(Part part) { return __mmask16((1u << part.count) - 1); }
KPOOL_INLINE V widen(__m256i half) { return (V)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16); }
KPOOL_INLINE V load(const float* in, Full) { return _mm512_loadu_ps(in); }
KPOOL_INLINE V load(const float* in, Part part) { return _mm512_maskz_loadu_ps(lanes(part), in); }
KPOOL_INLINE V load(const Bf16* in, Full) { return widen(_mm256_loadu_si256((const __m256i*)in)); }
KPOOL_INLINE V load(const Bf16* in, Part part) { return widen(_mm256_maskz_loadu_epi16(lanes(part), in)); }
KPOOL_INLINE void store(float* out, V x, Full) { _mm512_storeu_ps(out, x); }
KPOOL_INLINE void store(float* out, V x, Part part) { _mm512_mask_storeu_ps(out, lanes(part), x); }
#if defined(__AVX512BF16__)
KPOOL_INLINE __m256i narrow(V x) { return (__m256i)_mm512_cvtneps_pbh(x); }
#else
/// Each lane's upper half: bfloat16, rounded to nearest even.
KPOOL_INLINE U rounded(V x) {
  const U bits = (U)x;
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return (U)_mm512_mask_mov_epi32((__m512i)(bits + 0x7fff + (bits >> 16 & 1)), nan, (__m512i)(bits | 0x400000));
}
KPOOL_INLINE __m256i narrow(V x) { return _mm512_cvtepi32_epi16((__m512i)(rounded(x) >> 16)); }
#endif
KPOOL_INLINE void store(Bf16* out, V x, Full) { _mm256_storeu_si256((__m256i*)out, narrow(x)); }
KPOOL_INLINE void store(Bf16* out, V x, Part part) { _mm256_mask_storeu_epi16(out, lanes(part), narrow(x)); }

KPOOL_INLINE V at_most(V x, V limit) { return _mm512_min_ps(limit, x); }
KPOOL_INLINE V at_least(V x, V limit) { return _mm512_max_ps(limit, x); }
KPOOL_INLINE V zero_below(V x, V limit, V y) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), y);
}
KPOOL_INLINE V only_from(V x, V limit, V y) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), y);
}
/// x finite: an estimate of 14 bits and one step of Newton's, half the time of a division.
KPOOL_INLINE V reciprocal(V x) {
  const V estimate = _mm512_rcp14_ps(x);
  return _mm512_fmadd_ps(estimate, _mm512_fnmadd_ps(x, estimate, _mm512_set1_ps(1)), estimate);
}
/// To 14 bits, enough for a result in bfloat16.
KPOOL_INLINE V coarse_reciprocal(V x) { return _mm512_rcp14_ps(x); }
KPOOL_INLINE float total(V x) { return _mm512_reduce_add_ps(x); }
KPOOL_INLINE float largest(V x) { return _mm512_reduce_max_ps(x); }
KPOOL_INLINE V inside(V x, Full, float = 0) { return x; }
KPOOL_INLINE V inside(V x, Part part, float other = 0) {
  return _mm512_mask_mov_ps(broadcast(other), lanes(part), x);
}

/// Masked broadcasts from memory rather than inserts: those compete with the shuffles for one port.
KPOOL_INLINE I gather(const char* in, std::int64_t stride, std::int64_t apart) {
  const auto row = [&](int k) { return _mm_loadu_si128((const __m128i*)(in + k * apart * stride)); };
  __m512i x = _mm512_zextsi128_si512(row(0));
  x = _mm512_mask_broadcast_i32x4(x, 0x00f0, row(1));
  x = _mm512_mask_broadcast_i32x4(x, 0x0f00, row(2));
  return (I)_mm512_mask_broadcast_i32x4(x, 0xf000, row(3));
}
KPOOL_INLINE void scatter(char* out, I x) { _mm512_storeu_si512(out, (__m512i)x); }
KPOOL_INLINE I low16(I a, I b) { return (I)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b); }
KPOOL_INLINE I high16(I a, I b) { return (I)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b); }
KPOOL_INLINE I low32(I a, I b) { return (I)_mm512_unpacklo_epi32((__m512i)a, (__m512i)b); }
KPOOL_INLINE I high32(I a, I b) { return (I)_mm512_unpackhi_epi32((__m512i)a, (__m512i)b); }
KPOOL_INLINE I low64(I a, I b) { return (I)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b); }
KPOOL_INLINE I high64(I a, I b) { return (I)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b); }
KPOOL_INLINE I cross16(I x) {
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
  return (I)_mm512_shuffle_epi8((__m512i)x, _mm512_broadcast_i32x4(order));
}

KPOOL_INLINE void interleave(const Bf16* a, const Bf16* b, Bf16* out) {
  const __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
  const __m512i low = _mm512_unpacklo_epi16(x, y), high = _mm512_unpackhi_epi16(x, y);
  const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), second = first + 4;
  _mm512_storeu_si512(out, _mm512_permutex2var_epi64(low, first, high));
  _mm512_storeu_si512(out + kPanel, _mm512_permutex2var_epi64(low, second, high));
}

#if defined(__AVX512BF16__)
KPOOL_INLINE void store_pairs(Bf16* out, V a, V b) {
  alignas(64) static constexpr std::uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                          8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(b, a);
  _mm512_storeu_si512(out, _mm512_permutexvar_epi16(_mm512_load_si512(order), both));
}

KPOOL_INLINE V dot_pairs(const Bf16* a, const Bf16* b, V sum) {
  return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(a), (__m512bh)_mm512_loadu_si512(b));
}
#else
KPOOL_INLINE void store_pairs(Bf16* out, V a, V b) {
  _mm512_storeu_si512(out, (__m512i)(rounded(a) >> 16 | (rounded(b) & 0xffff0000u)));
}

KPOOL_INLINE V dot_pairs(const Bf16* a, const Bf16* b, V sum) {
  const U x = (U)_mm512_loadu_si512(a), y = (U)_mm512_loadu_si512(b);
  sum = _mm512_fmadd_ps((V)(x << 16), (V)(y << 16), sum);
  return _mm512_fmadd_ps((V)(x & 0xffff0000u), (V)(y & 0xffff0000u), sum);
}
#endif

KPOOL_INLINE void store_low_bytes(std::int8_t* out, I x, Full) {
  _mm_storeu_si128((__m128i*)out, _mm512_cvtepi32_epi8((__m512i)x));
}

#define KPOOL_DOT_INT8
KPOOL_INLINE I dot_int8(I sums, I bytes, I signed_bytes) {
  return (I)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)bytes, (__m512i)signed_bytes);
}

}  // namespace
}  // namespace kpool::simd
