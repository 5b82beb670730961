#if defined(__x86_64__)
#include <immintrin.h>

#include "core/simd/block_kernels.hpp"
#include "core/simd/dequantise_sets.hpp"

namespace kpool::simd {
namespace {

typedef __m512 V;

KPOOL_INLINE __m256i bytes32(const std::uint8_t* in) { return _mm256_loadu_si256((const __m256i*)in); }
KPOOL_INLINE __m128i bytes16(const std::uint8_t* in) { return _mm_loadu_si128((const __m128i*)in); }

/// Any NaN becomes the one that rounding cannot carry into the sign.
KPOOL_INLINE V tame(V x) {
  return _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), _mm512_set1_ps(__builtin_nanf("")));
}
KPOOL_INLINE V scale_at(const std::uint8_t* in) { return tame(_mm512_set1_ps(half_at(in))); }

/// The upper halves of the lanes hold the values rounded to bfloat16.
KPOOL_INLINE __m512i rounded(V x) {
  const __m512i bits = (__m512i)x, odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
}
KPOOL_INLINE __m256i narrow(V x) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded(x), 16)); }

KPOOL_INLINE void store32(V first, V second, float* out) {
  _mm512_storeu_ps(out, first);
  _mm512_storeu_ps(out + 16, second);
}
KPOOL_INLINE void store32(V first, V second, Bf16* out) {
  const __m512i a = _mm512_srli_epi32(rounded(first), 16), b = _mm512_srli_epi32(rounded(second), 16);
  const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);  // packus works on each 128 bits alone
  _mm512_storeu_si512(out, _mm512_permutexvar_epi64(order, _mm512_packus_epi32(a, b)));
}

/// Sixteen values that four bits choose from: made once for a block, looked up for each element.
KPOOL_INLINE V levels() { return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

/// 16 bytes: the low nibbles are the first sixteen elements, the high ones the others.
KPOOL_INLINE void choose(V table, const std::uint8_t* in, float* out) {
  const __m512i pairs = _mm512_cvtepu8_epi32(bytes16(in));  // a lookup takes the lowest four bits
  store32(_mm512_permutexvar_ps(pairs, table), _mm512_permutexvar_ps(_mm512_srli_epi32(pairs, 4), table), out);
}
KPOOL_INLINE void choose(V table, const std::uint8_t* in, Bf16* out) {
  const __m256i pairs = _mm256_cvtepu8_epi16(bytes16(in)), words = narrow(table);
  _mm256_storeu_si256((__m256i*)out, _mm256_permutexvar_epi16(pairs, words));
  _mm256_storeu_si256((__m256i*)(out + 16), _mm256_permutexvar_epi16(_mm256_srli_epi16(pairs, 4), words));
}

/// 32 signed bytes, each half times its scale.
template <class T>
KPOOL_INLINE void scale32(__m256i values, V first, V second, T* out) {
  const V a = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(values)));
  const V b = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(values, 1)));
  store32(_mm512_mul_ps(first, a), _mm512_mul_ps(second, b), out);
}

template <class T>
struct Wide {
  static void q4_0(const std::uint8_t* in, std::int64_t blocks, T* out) {
    for (std::int64_t b = 0; b < blocks; ++b, in += 18, out += 32)
      choose(_mm512_mul_ps(scale_at(in), _mm512_sub_ps(levels(), _mm512_set1_ps(8))), in + 2, out);
  }

  static void q4_1(const std::uint8_t* in, std::int64_t blocks, T* out) {
    for (std::int64_t b = 0; b < blocks; ++b, in += 20, out += 32)
      choose(_mm512_add_ps(_mm512_mul_ps(scale_at(in), levels()), scale_at(in + 2)), in + 4, out);
  }

  static void q8_0(const std::uint8_t* in, std::int64_t blocks, T* out) {
    for (std::int64_t b = 0; b < blocks; ++b, in += 34, out += 32) {
      const V scale = scale_at(in);
      scale32(bytes32(in + 2), scale, scale, out);
    }
  }

  static void q4_k(const std::uint8_t* in, std::int64_t blocks, T* out) {
    for (std::int64_t b = 0; b < blocks; ++b, in += 144) {
      float scales[8], minima[8];
      q4_k_scales(in, scales, minima);
      for (int i = 0; i < 8; i += 2, out += 64) {
        const V low = _mm512_sub_ps(_mm512_mul_ps(_mm512_set1_ps(scales[i]), levels()), _mm512_set1_ps(minima[i]));
        const V high =
            _mm512_sub_ps(_mm512_mul_ps(_mm512_set1_ps(scales[i + 1]), levels()), _mm512_set1_ps(minima[i + 1]));
        choose_pairs(tame(low), tame(high), in + 16 + 16 * i, out);
      }
    }
  }

  static void q6_k(const std::uint8_t* in, std::int64_t blocks, T* out) {
    for (std::int64_t b = 0; b < blocks; ++b, in += 210, out += 256) {
      alignas(64) float scales[16];
      const V wide = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes16(in + 192)));
      _mm512_store_ps(scales, _mm512_mul_ps(scale_at(in + 208), wide));
      for (int half = 0; half < 2; ++half)
        q6_k_half(in + 64 * half, in + 128 + 32 * half, scales + 8 * half, out + 128 * half);
    }
  }

 private:
  /// 32 bytes: the low nibbles are 32 elements from one table, the high ones 32 from another.
  KPOOL_INLINE static void choose_pairs(V low, V high, const std::uint8_t* in, float* out) {
    const __m512i first = _mm512_cvtepu8_epi32(bytes16(in)), second = _mm512_cvtepu8_epi32(bytes16(in + 16));
    store32(_mm512_permutexvar_ps(first, low), _mm512_permutexvar_ps(second, low), out);
    store32(_mm512_permutexvar_ps(_mm512_srli_epi32(first, 4), high),
            _mm512_permutexvar_ps(_mm512_srli_epi32(second, 4), high), out + 32);
  }
  KPOOL_INLINE static void choose_pairs(V low, V high, const std::uint8_t* in, Bf16* out) {
    const __m512i pairs = _mm512_cvtepu8_epi16(bytes32(in));
    // A lookup takes five bits: the table stands there twice.
    const __m512i first = _mm512_broadcast_i64x4(narrow(low)), second = _mm512_broadcast_i64x4(narrow(high));
    _mm512_storeu_si512(out, _mm512_permutexvar_epi16(pairs, first));
    _mm512_storeu_si512(out + 32, _mm512_permutexvar_epi16(_mm512_srli_epi16(pairs, 4), second));
  }

  /// Four runs of 32 elements.
  KPOOL_INLINE static void q6_k_half(const std::uint8_t* low, const std::uint8_t* high, const float* scales, T* out) {
    const __m256i pairs = bytes32(high);
    for (int run = 0; run < 4; ++run) {
      const __m256i nibbles = _mm256_and_si256(_mm256_srli_epi16(bytes32(low + run % 2 * 32), run / 2 * 4),
                                               _mm256_set1_epi8(15));
      const __m256i top = _mm256_and_si256(_mm256_srli_epi16(pairs, 2 * run), _mm256_set1_epi8(3));
      const __m256i level = _mm256_or_si256(nibbles, _mm256_slli_epi16(top, 4));
      scale32(_mm256_sub_epi8(level, _mm256_set1_epi8(32)), _mm512_set1_ps(scales[2 * run]),
              _mm512_set1_ps(scales[2 * run + 1]), out + 32 * run);
    }
  }
};

template <class T>
constexpr BlockKernels<T> wide_blocks() {
  using B = Blocks<T>;
  using W = Wide<T>;
  return {B::f32, B::f16, B::bf16, W::q4_0, W::q4_1, W::q8_0, W::q4_k, W::q6_k};
}

}  // namespace

constinit const Dequantise avx512_dequantise = {"avx512", wide_blocks<float>(), wide_blocks<Bf16>()};

}  // namespace kpool::simd
#endif
