// Vectors of four float32 for any processor, by the compiler's vector types: what core/simd/*_kernels.hpp stands on
// in the set `plain`. Everything in a set is in an anonymous namespace and calls no std:: template, so that
// the linker can never take a function of one instruction set for another's.
#pragma once

#include "core/simd/kernels.hpp"

#define KPOOL_INLINE inline __attribute__((always_inline))

namespace kpool::simd {
namespace {

constexpr std::int64_t kWidth = 4;
typedef float V __attribute__((vector_size(16)));
typedef std::int32_t I __attribute__((vector_size(16)));
typedef std::uint32_t U __attribute__((vector_size(16)));
typedef std::uint16_t Half __attribute__((vector_size(8)));
typedef std::uint16_t Halves __attribute__((vector_size(16)));
typedef std::int64_t Longs __attribute__((vector_size(16)));

struct Full {};
struct Part {  ///< the first `count` lanes: the others read as zero and are not written
  std::int64_t count;
};

KPOOL_INLINE V broadcast(float x) { return V{x, x, x, x}; }
KPOOL_INLINE V load(const float* in, Full) {
  V x;
  __builtin_memcpy(&x, in, sizeof x);
  return x;
}
KPOOL_INLINE V load(const Bf16* in, Full) {
  Half half;
  __builtin_memcpy(&half, in, sizeof half);
  return (V)(__builtin_convertvector(half, U) << 16);
}
KPOOL_INLINE void store(float* out, V x, Full) { __builtin_memcpy(out, &x, sizeof x); }
KPOOL_INLINE void store(Bf16* out, V x, Full) {
  const U bits = (U)x, rounded = bits + 0x7fff + (bits >> 16 & 1), nan = (U)(x != x);
  const U chosen = (rounded & ~nan) | ((bits | 0x400000) & nan);
#if defined(__SSE2__)  // which has no conversion of 32 bits to 16, but this one that saturates with a sign
  const auto half = __builtin_ia32_packssdw128((I)chosen >> 16, I{});
  __builtin_memcpy(out, &half, 8);
#else
  const Half half = __builtin_convertvector(chosen >> 16, Half);
  __builtin_memcpy(out, &half, sizeof half);
#endif
}
template <class T>
KPOOL_INLINE V load(const T* in, Part part) {
  T lanes[kWidth] = {};
  for (std::int64_t i = 0; i < part.count; ++i) lanes[i] = in[i];
  return load(lanes, Full{});
}
template <class T>
KPOOL_INLINE void store(T* out, V x, Part part) {
  T lanes[kWidth];
  store(lanes, x, Full{});
  for (std::int64_t i = 0; i < part.count; ++i) out[i] = lanes[i];
}

/// limit where x is beyond it, else x, a NaN too.
KPOOL_INLINE V at_most(V x, V limit) { return limit < x ? limit : x; }
KPOOL_INLINE V at_least(V x, V limit) { return limit > x ? limit : x; }
/// y, or zero where x < limit.
KPOOL_INLINE V zero_below(V x, V limit, V y) { return (V)((I)y & ~(I)(x < limit)); }
/// y where x >= limit, else zero.
KPOOL_INLINE V only_from(V x, V limit, V y) { return (V)((I)y & (I)(x >= limit)); }
KPOOL_INLINE V reciprocal(V x) { return 1.0f / x; }
KPOOL_INLINE V coarse_reciprocal(V x) { return 1.0f / x; }
KPOOL_INLINE float total(V x) { return (x[0] + x[2]) + (x[1] + x[3]); }
KPOOL_INLINE float largest(V x) {
  const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
}

/// x, with `other` in the lanes that are not there.
KPOOL_INLINE V inside(V x, Full, float = 0) { return x; }
KPOOL_INLINE V inside(V x, Part part, float other = 0) {
  return I{0, 1, 2, 3} < I{} + std::int32_t(part.count) ? x : broadcast(other);
}

/// Lanes of 128 bits: 16 bytes of each of the rows 0, apart, 2 apart, ... (stride in bytes).
KPOOL_INLINE I gather(const char* in, std::int64_t, std::int64_t) {
  I x;
  __builtin_memcpy(&x, in, sizeof x);
  return x;
}
KPOOL_INLINE void scatter(char* out, I x) { __builtin_memcpy(out, &x, sizeof x); }
KPOOL_INLINE I low16(I a, I b) { return (I)__builtin_shuffle((Halves)a, (Halves)b, Halves{0, 8, 1, 9, 2, 10, 3, 11}); }
KPOOL_INLINE I high16(I a, I b) {
  return (I)__builtin_shuffle((Halves)a, (Halves)b, Halves{4, 12, 5, 13, 6, 14, 7, 15});
}
KPOOL_INLINE I low32(I a, I b) { return __builtin_shuffle(a, b, I{0, 4, 1, 5}); }
KPOOL_INLINE I high32(I a, I b) { return __builtin_shuffle(a, b, I{2, 6, 3, 7}); }
KPOOL_INLINE I low64(I a, I b) { return (I)__builtin_shuffle((Longs)a, (Longs)b, Longs{0, 2}); }
KPOOL_INLINE I high64(I a, I b) { return (I)__builtin_shuffle((Longs)a, (Longs)b, Longs{1, 3}); }
/// Of each four of 16 bits, exchanges the two in the middle.
KPOOL_INLINE I cross16(I x) { return (I)__builtin_shuffle((Halves)x, Halves{0, 2, 1, 3, 4, 6, 5, 7}); }

/// out = a[0] b[0] a[1] b[1] ..., kPanel pairs.
KPOOL_INLINE void interleave(const Bf16* a, const Bf16* b, Bf16* out) {
  for (std::int64_t i = 0; i < kPanel; i += 8) {
    const I x = gather((const char*)(a + i), 0, 0), y = gather((const char*)(b + i), 0, 0);
    scatter((char*)(out + 2 * i), low16(x, y));
    scatter((char*)(out + 2 * i + 8), high16(x, y));
  }
}

/// out = a[0] b[0] a[1] b[1] ..., rounded.
KPOOL_INLINE void store_pairs(Bf16* out, V a, V b) {
  Bf16 even[kWidth], odd[kWidth];
  store(even, a, Full{});
  store(odd, b, Full{});
  for (std::int64_t i = 0; i < kWidth; ++i) out[2 * i] = even[i], out[2 * i + 1] = odd[i];
}

/// sum + products of 2 kWidth elements: here simply in float32.
KPOOL_INLINE V dot_pairs(const Bf16* a, const Bf16* b, V sum) {
  sum += load(a, Full{}) * load(b, Full{});
  return sum + load(a + kWidth, Full{}) * load(b + kWidth, Full{});
}

/// The lowest byte of each lane.
KPOOL_INLINE void store_low_bytes(std::int8_t* out, I x, Full) {
  for (std::int64_t i = 0; i < kWidth; ++i) out[i] = static_cast<std::int8_t>(x[i]);
}

}  // namespace
}  // namespace kpool::simd
