// Vectors of eight float32 in AVX2 and FMA: what core/simd/*_kernels.hpp stands on in the set `avx2`. The same names
// as vector_plain.hpp, which says what they do.
#pragma once

#include <immintrin.h>

#include "core/simd/kernels.hpp"

#define KPOOL_INLINE inline __attribute__((always_inline))

namespace kpool::simd {
namespace {

constexpr std::int64_t kWidth = 8;
typedef __m256 V;
typedef std::int32_t I __attribute__((vector_size(32)));
typedef std::uint32_t U __attribute__((vector_size(32)));

struct Full {};
struct Part {
  std::int64_t count;
};

KPOOL_INLINE V broadcast(float x) { return _mm256_set1_ps(x); }
KPOOL_INLINE __m256i lanes(Part part) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(part.count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
KPOOL_INLINE V load(const float* in, Full) { return _mm256_loadu_ps(in); }
KPOOL_INLINE V load(const float* in, Part part) { return _mm256_maskload_ps(in, lanes(part)); }
KPOOL_INLINE V load(const Bf16* in, Full) {
  return (V)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)in)), 16);
}
KPOOL_INLINE V load(const Bf16* in, Part part) {
  Bf16 copy[kWidth] = {};
  for (std::int64_t i = 0; i < part.count; ++i) copy[i] = in[i];
  return load(copy, Full{});
}
KPOOL_INLINE void store(float* out, V x, Full) { _mm256_storeu_ps(out, x); }
KPOOL_INLINE void store(float* out, V x, Part part) { _mm256_maskstore_ps(out, lanes(part), x); }
KPOOL_INLINE void store(Bf16* out, V x, Full) {
  const U bits = (U)x, rounded = bits + 0x7fff + (bits >> 16 & 1);
  const V nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  const __m256i half = _mm256_srli_epi32(
      (__m256i)_mm256_blendv_ps((V)rounded, (V)(bits | 0x400000), nan), 16);
  _mm_storeu_si128((__m128i*)out,
                   _mm_packus_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}
KPOOL_INLINE void store(Bf16* out, V x, Part part) {
  Bf16 copy[kWidth];
  store(copy, x, Full{});
  for (std::int64_t i = 0; i < part.count; ++i) out[i] = copy[i];
}

KPOOL_INLINE V at_most(V x, V limit) { return _mm256_min_ps(limit, x); }
KPOOL_INLINE V at_least(V x, V limit) { return _mm256_max_ps(limit, x); }
KPOOL_INLINE V zero_below(V x, V limit, V y) { return _mm256_and_ps(y, _mm256_cmp_ps(x, limit, _CMP_NLT_UQ)); }
KPOOL_INLINE V only_from(V x, V limit, V y) { return _mm256_and_ps(y, _mm256_cmp_ps(x, limit, _CMP_GE_OQ)); }
KPOOL_INLINE V reciprocal(V x) { return 1.0f / x; }
KPOOL_INLINE V coarse_reciprocal(V x) { return 1.0f / x; }
KPOOL_INLINE float total(V x) {
  const __m128 half = _mm256_castps256_ps128(x) + _mm256_extractf128_ps(x, 1);
  const __m128 pair = half + _mm_movehl_ps(half, half);
  return pair[0] + pair[1];
}
KPOOL_INLINE float largest(V x) {
  const __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return pair[0] > pair[1] ? pair[0] : pair[1];
}
KPOOL_INLINE V inside(V x, Full, float = 0) { return x; }
KPOOL_INLINE V inside(V x, Part part, float other = 0) {
  return _mm256_blendv_ps(broadcast(other), x, (V)lanes(part));
}

KPOOL_INLINE I gather(const char* in, std::int64_t stride, std::int64_t apart) {
  return (I)_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)in)),
                                    _mm_loadu_si128((const __m128i*)(in + apart * stride)), 1);
}
KPOOL_INLINE void scatter(char* out, I x) { _mm256_storeu_si256((__m256i*)out, (__m256i)x); }
KPOOL_INLINE I low16(I a, I b) { return (I)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b); }
KPOOL_INLINE I high16(I a, I b) { return (I)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b); }
KPOOL_INLINE I low32(I a, I b) { return (I)_mm256_unpacklo_epi32((__m256i)a, (__m256i)b); }
KPOOL_INLINE I high32(I a, I b) { return (I)_mm256_unpackhi_epi32((__m256i)a, (__m256i)b); }
KPOOL_INLINE I low64(I a, I b) { return (I)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b); }
KPOOL_INLINE I high64(I a, I b) { return (I)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b); }
KPOOL_INLINE I cross16(I x) {
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
  return (I)_mm256_shuffle_epi8((__m256i)x, _mm256_broadcastsi128_si256(order));
}

KPOOL_INLINE void interleave(const Bf16* a, const Bf16* b, Bf16* out) {
  for (std::int64_t i = 0; i < kPanel; i += 16) {
    const __m256i x = _mm256_loadu_si256((const __m256i*)(a + i)), y = _mm256_loadu_si256((const __m256i*)(b + i));
    const __m256i low = _mm256_unpacklo_epi16(x, y), high = _mm256_unpackhi_epi16(x, y);
    _mm256_storeu_si256((__m256i*)(out + 2 * i), _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256((__m256i*)(out + 2 * i + 16), _mm256_permute2x128_si256(low, high, 0x31));
  }
}

KPOOL_INLINE void store_pairs(Bf16* out, V a, V b) {
  Bf16 even[kWidth], odd[kWidth];
  store(even, a, Full{});
  store(odd, b, Full{});
  for (std::int64_t i = 0; i < kWidth; ++i) out[2 * i] = even[i], out[2 * i + 1] = odd[i];
}

KPOOL_INLINE V dot_pairs(const Bf16* a, const Bf16* b, V sum) {
  sum = _mm256_fmadd_ps(load(a, Full{}), load(b, Full{}), sum);
  return _mm256_fmadd_ps(load(a + kWidth, Full{}), load(b + kWidth, Full{}), sum);
}

KPOOL_INLINE void store_low_bytes(std::int8_t* out, I x, Full) {
  const __m256i first = _mm256_set1_epi32(0x0c080400);  // of each lane's words the first byte
  const __m256i low = _mm256_shuffle_epi8((__m256i)x, first);
  const __m128i both = _mm_unpacklo_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  _mm_storel_epi64((__m128i*)out, both);
}

#if defined(__AVXVNNI__)
#define KPOOL_DOT_INT8
KPOOL_INLINE I dot_int8(I sums, I bytes, I signed_bytes) {
  return (I)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)bytes, (__m256i)signed_bytes);
}
#endif

}  // namespace
}  // namespace kpool::simd
