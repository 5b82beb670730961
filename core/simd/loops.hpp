// What the row kernels of a set share: loops over vectors, and exp. Included after one of the vector_*.hpp.
#pragma once

#include "core/simd/kernels.hpp"

namespace kpool::simd {
namespace {

// Of rounding to 8-bit integers (int8_kernels.hpp).
constexpr float kRound = 12582912.0f;    // 1.5 2^23: what is added to it ends in the bits of an integer
constexpr float kLeast = 1e-30f;         // of a group whose largest is less, everything is zero
constexpr std::int32_t kZeroByte = 128;  // the weights' bytes have no sign

/// body(i, lanes) for every vector of n elements; the last may be a Part.
template <class Body>
KPOOL_INLINE void each(std::int64_t n, Body body) {
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) body(i, Full{});
  if (i < n) body(i, Part{n - i});
}

/// The same for reductions: body(i, lanes, accumulator), with four accumulators that hide the latency of an add,
/// always filled in the same order. Returns them, to be combined.
struct Accumulators {
  V a, b, c, d;
};
template <class Body>
KPOOL_INLINE Accumulators reduce(std::int64_t n, V start, Body body) {
  Accumulators s{start, start, start, start};
  std::int64_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
    body(i, Full{}, s.a);
    body(i + kWidth, Full{}, s.b);
    body(i + 2 * kWidth, Full{}, s.c);
    body(i + 3 * kWidth, Full{}, s.d);
  }
  for (; i + kWidth <= n; i += kWidth) body(i, Full{}, s.a);
  if (i < n) body(i, Part{n - i}, s.b);
  return s;
}
KPOOL_INLINE float total(const Accumulators& s) { return total((s.a + s.b) + (s.c + s.d)); }

/// e^x to 1e-7 of itself; zero where that is denormal, 3.4e38 where it is beyond float32. A NaN stays one.
/// x = n ln 2 + r; the polynomial (a minimax fit of our own) gives e^r, and n goes into its exponent.
KPOOL_INLINE V exponential(V x) {
  const V smallest = broadcast(-87.3365402f), magic = broadcast(12582912.0f);  // 1.5 2^23: rounds to integers
  const V most = at_most(x, broadcast(88.7228317f)), shifted = most * 1.44269504f + magic, n = shifted - magic;
  const V r = (most - n * 0.693359375f) - n * -2.12194440e-4f;
  V p = broadcast(0.00138145401f);
  p = p * r + 0.0083687452f;
  p = p * r + 0.0416683908f;
  p = p * r + 0.166665204f;
  p = p * r + 0.499999934f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return zero_below(x, smallest, (V)((U)p + ((U)shifted << 23)));
}

/// e^(x - shift) for a result in T. For bfloat16 to 1e-4 of itself, x - shift below 88: 2^n 2^r with fewer terms (a
/// minimax fit of our own), and -127 for what is less, which is zero.
template <class T>
KPOOL_INLINE V exponential(V x, float shift) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return exponential(x - shift);
  } else {
    constexpr float log2_e = 1.44269504f;
    const V magic = broadcast(12582912.0f), y = at_least(x * log2_e - shift * log2_e, broadcast(-127));
    const V shifted = y + magic, r = y - (shifted - magic);
    V p = broadcast(0.05500885f);
    p = p * r + 0.24221095f;
    p = p * r + 0.69328296f;
    p = p * r + 1.0f;
    return (V)((U)p + ((U)shifted << 23));
  }
}

/// For a result in T.
template <class T>
KPOOL_INLINE V sigmoid(V x) {
  if constexpr (sizeof(T) == sizeof(float)) return reciprocal(1.0f + exponential(-x));
  else return coarse_reciprocal(1.0f + exponential<T>(at_most(-x, broadcast(87)), 0));
}

}  // namespace
}  // namespace kpool::simd
