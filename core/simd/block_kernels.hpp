// The block formats as plain loops, which the compiler makes vectors of where it can: the set `plain`, and what the
// other sets do not write by hand. As with set.hpp, everything is in an anonymous namespace and calls no std::
// template, so that the linker can never take a function of one instruction set for another's.
#pragma once

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "core/simd/dequantise.hpp"

#ifndef KPOOL_INLINE
#define KPOOL_INLINE inline __attribute__((always_inline))
#endif

namespace kpool::simd {
namespace {

KPOOL_INLINE std::uint16_t word_at(const std::uint8_t* in) {
  std::uint16_t value;
  __builtin_memcpy(&value, in, sizeof value);
  return value;
}

KPOOL_INLINE float half_at(const std::uint8_t* in) {
  const std::uint32_t half = word_at(in);
#if defined(__F16C__)
  return _cvtsh_ss(static_cast<std::uint16_t>(half));
#else
  const std::uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 0x1fu, mantissa = half & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 0x7f800000u : (exponent + 112) << 23;
  return __builtin_bit_cast(float, sign | wide | (mantissa << 13));
#endif
}

KPOOL_INLINE void store(float value, float& out) { out = value; }

KPOOL_INLINE void store(float value, Bf16& out) {
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  const std::uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
  out.bits = static_cast<std::uint16_t>((value == value ? rounded : quiet) >> 16);
}

// Short loops are kept from being unrolled, after which g++ 12 would no longer make vectors of them.
template <class T>
struct Blocks {
  static void f32(const std::uint8_t* in, std::int64_t blocks, T* out) {
    for (std::int64_t i = 0; i < blocks; ++i) {
      float value;
      __builtin_memcpy(&value, in + 4 * i, sizeof value);
      store(value, out[i]);
    }
  }

  static void f16(const std::uint8_t* in, std::int64_t blocks, T* out) {
    std::int64_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= blocks; i += 8) {
      float values[8];
      _mm256_storeu_ps(values, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 2 * i))));
#pragma GCC unroll 1
      for (int lane = 0; lane < 8; ++lane) store(values[lane], out[i + lane]);
    }
#endif
    for (; i < blocks; ++i) store(half_at(in + 2 * i), out[i]);
  }

  static void bf16(const std::uint8_t* in, std::int64_t blocks, T* out) {
    for (std::int64_t i = 0; i < blocks; ++i)
      store(__builtin_bit_cast(float, static_cast<std::uint32_t>(word_at(in + 2 * i)) << 16), out[i]);
  }

  // half scale, 16 bytes; the low nibbles are the first half of the block.
  static void q4_0(const std::uint8_t* in, std::int64_t blocks, T* out) {
    for (std::int64_t b = 0; b < blocks; ++b, in += 18, out += 32) {
      const float scale = half_at(in);
#pragma GCC unroll 1
      for (int i = 0; i < 16; ++i) store(scale * static_cast<float>((in[2 + i] & 15) - 8), out[i]);
#pragma GCC unroll 1
      for (int i = 0; i < 16; ++i) store(scale * static_cast<float>((in[2 + i] >> 4) - 8), out[i + 16]);
    }
  }

  // half scale, half minimum, 16 bytes as in Q4_0.
  static void q4_1(const std::uint8_t* in, std::int64_t blocks, T* out) {
    for (std::int64_t b = 0; b < blocks; ++b, in += 20, out += 32) {
      const float scale = half_at(in), minimum = half_at(in + 2);
#pragma GCC unroll 1
      for (int i = 0; i < 16; ++i) store(scale * static_cast<float>(in[4 + i] & 15) + minimum, out[i]);
#pragma GCC unroll 1
      for (int i = 0; i < 16; ++i) store(scale * static_cast<float>(in[4 + i] >> 4) + minimum, out[i + 16]);
    }
  }

  // half scale, 32 signed bytes.
  static void q8_0(const std::uint8_t* in, std::int64_t blocks, T* out) {
    for (std::int64_t b = 0; b < blocks; ++b, in += 34, out += 32) {
      const float scale = half_at(in);
      for (int i = 0; i < 32; ++i) store(scale * static_cast<float>(static_cast<std::int8_t>(in[2 + i])), out[i]);
    }
  }

  // half scale, half minimum scale, 12 bytes of scales, 128 bytes: 32 bytes hold two sub-blocks, low nibbles first.
  static void q4_k(const std::uint8_t* in, std::int64_t blocks, T* out);
  // 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, half scale. Each half of 128 elements
  // takes 64 low and 32 high bytes: four runs of 32, the first two in the low nibbles.
  static void q6_k(const std::uint8_t* in, std::int64_t blocks, T* out);
};

/// Scales and minima of the eight sub-blocks of a block of Q4_K, of 6 bits each in 12 bytes: the first four lie whole
/// in bytes 0-3 and 4-7; of the last four the low nibbles lie in bytes 8-11 and the two high bits on top of bytes 0-7.
KPOOL_INLINE void q4_k_scales(const std::uint8_t* in, float scales[8], float minima[8]) {
  const float scale = half_at(in), minimum = half_at(in + 2);
  const std::uint8_t* packed = in + 4;
  for (int i = 0; i < 4; ++i) {
    scales[i] = scale * static_cast<float>(packed[i] & 63);
    minima[i] = minimum * static_cast<float>(packed[i + 4] & 63);
    scales[i + 4] = scale * static_cast<float>((packed[i + 8] & 15) | (packed[i] >> 6 << 4));
    minima[i + 4] = minimum * static_cast<float>((packed[i + 8] >> 4) | (packed[i + 4] >> 6 << 4));
  }
}

template <class T>
void Blocks<T>::q4_k(const std::uint8_t* in, std::int64_t blocks, T* out) {
  for (std::int64_t b = 0; b < blocks; ++b, in += 144) {
    float scales[8], minima[8];
    q4_k_scales(in, scales, minima);
    for (int pair = 0; pair < 4; ++pair, out += 64) {
      const std::uint8_t* quants = in + 16 + 32 * pair;
      const float d = scales[2 * pair], m = minima[2 * pair], e = scales[2 * pair + 1], n = minima[2 * pair + 1];
      for (int i = 0; i < 32; ++i) store(d * static_cast<float>(quants[i] & 15) - m, out[i]);
      for (int i = 0; i < 32; ++i) store(e * static_cast<float>(quants[i] >> 4) - n, out[i + 32]);
    }
  }
}

template <class T>
void Blocks<T>::q6_k(const std::uint8_t* in, std::int64_t blocks, T* out) {
  for (std::int64_t b = 0; b < blocks; ++b, in += 210) {
    const float scale = half_at(in + 208);
    for (int run = 0; run < 16; ++run, out += 16) {  // of 16 elements, which share a scale
      const int half = run / 8, quarter = run % 8 / 2, column = run % 2 * 16;
      const std::uint8_t* low = in + half * 64 + quarter % 2 * 32 + column;
      const std::uint8_t* high = in + 128 + half * 32 + column;
      const int low_shift = quarter / 2 * 4, high_shift = quarter * 2;
      const float d = scale * static_cast<float>(static_cast<std::int8_t>(in[192 + run]));
#pragma GCC unroll 1
      for (int i = 0; i < 16; ++i) {
        const int level = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;
        store(d * static_cast<float>(level - 32), out[i]);
      }
    }
  }
}

template <class T>
constexpr BlockKernels<T> plain_blocks() {
  using B = Blocks<T>;
  return {B::f32, B::f16, B::bf16, B::q4_0, B::q4_1, B::q8_0, B::q4_k, B::q6_k};
}

}  // namespace
}  // namespace kpool::simd
