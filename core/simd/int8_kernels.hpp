// Products in 8-bit integers, as SwitchBack (Wortsman et al. 2023, arXiv 2304.13013) takes them, with a step for each
// group of the depth, which may be all of it. Included by set.hpp after one of the vector_*.hpp, of
// which those with KPOOL_DOT_INT8 have an instruction for it.
#pragma once

#include "core/simd/loops.hpp"

namespace kpool::simd {
namespace {

KPOOL_INLINE V magnitude(V x) { return (V)((I)x & 0x7fffffff); }
KPOOL_INLINE I load_bits(const void* in) {
  I x;
  __builtin_memcpy(&x, in, sizeof x);
  return x;
}
KPOOL_INLINE void store_low_bytes(std::int8_t* out, I x, Part part) {
  std::int8_t bytes[kWidth];
  store_low_bytes(bytes, x, Full{});
  __builtin_memcpy(out, bytes, part.count);
}

#if !defined(KPOOL_DOT_INT8)
constexpr bool kDotsInt8 = false;
/// sums + products of four unsigned bytes with four signed ones, each lane its own.
KPOOL_INLINE I dot_int8(I sums, I bytes, I signed_bytes) {
  for (int shift = 0; shift < 32; shift += 8)
    sums += (I)((U)bytes >> shift & 255) * (signed_bytes << (24 - shift) >> 24);
  return sums;
}
#else
constexpr bool kDotsInt8 = true;
#endif

/// One group. A NaN or an infinity makes its step a NaN: nothing is lost that would stop a step.
template <class T>
KPOOL_INLINE void quantise_group(const T* x, std::int64_t n, std::int8_t* out, float* step, std::int32_t* offset) {
  const Accumulators most = reduce(n, V{}, [&](std::int64_t i, auto lanes, V& m) __attribute__((always_inline)) {
    m = at_least(magnitude(load(x + i, lanes)), m);
  });
  const float largest_value = largest(at_least(at_least(most.a, most.b), at_least(most.c, most.d)));
  const V inverse = broadcast(largest_value > kLeast ? 127 / largest_value : 0);
  const float sum = total(reduce(n, V{}, [&](std::int64_t i, auto lanes, V& s) __attribute__((always_inline)) {
    const V shifted = load(x + i, lanes) * inverse + kRound;
    store_low_bytes(out + i, (I)shifted, lanes);
    s += inside(shifted - kRound, lanes);
  }));
  *step = largest_value * (1 / 127.0f) + sum * 0.0f;
  *offset = sum == sum ? -kZeroByte * static_cast<std::int32_t>(sum) : 0;
}

template <class T>
KPOOL_INLINE void quantise_one(const T* x, std::int64_t n, std::int8_t* out, float* step, std::int32_t* offset) {
#if defined(KPOOL_QUANTISE_BF16)
  if constexpr (sizeof(T) == sizeof(Bf16))
    if (n % kWideStep == 0) return quantise_wide(x, n, out, step, offset);
#endif
  quantise_group(x, n, out, step, offset);
}

template <class T>
void quantise(const T* x, std::int64_t n, std::int64_t group, std::int8_t* out, float* steps, std::int32_t* offsets) {
  for (std::int64_t i = n; i % 4 != 0; ++i) out[i] = 0;
  for (; n > 0; n -= group, x += group, out += group) {
    // The compiler unrolls a length that it knows.
    if (group == kInt8Group && n >= kInt8Group) quantise_one(x, kInt8Group, out, steps++, offsets++);
    else quantise_one(x, n < group ? n : group, out, steps++, offsets++);
  }
}

/// The elements of one vector of columns in two rows of a panel.
KPOOL_INLINE void load_two(const float* panel, V (&two)[2]) {
  two[0] = load(panel, Full{});
  two[1] = load(panel + kPanel, Full{});
}
KPOOL_INLINE void load_two(const Bf16* panel, V (&two)[2]) {
  const I pairs = load_bits(panel);
  two[0] = (V)((U)pairs << 16);
  two[1] = (V)((U)pairs & 0xffff0000u);
}

template <class T>
void pack_int8(const T* panel, std::int64_t depth, std::int64_t group, std::uint8_t* out, float* steps) {
  constexpr std::int64_t pair = sizeof(T) == sizeof(float) ? 1 : 2;  // elements along the depth that lie together
  for (std::int64_t begin = 0; begin < depth; begin += group, steps += kPanel) {
    const std::int64_t end = begin + group < depth ? begin + group : depth;
#if defined(KPOOL_QUANTISE_BF16)
    if constexpr (sizeof(T) == sizeof(Bf16))
      if (group == kInt8Group && end - begin == kInt8Group) {
        pack_int8_group(panel + begin * kPanel, out + begin * kPanel, steps);
        continue;
      }
#endif
    for (std::int64_t column = 0; column < kPanel; column += kWidth) {
      const T* at = panel + column * pair;
      V most{}, odd{}, two[2];  // the largest of even rows and of odd ones
      const auto rows = [&](std::int64_t d) __attribute__((always_inline)) {
        if (pair == 1 && d + 1 == depth) two[0] = load((const float*)(at + d * kPanel), Full{}), two[1] = V{};
        else load_two(at + d * kPanel, two);
      };
      for (std::int64_t d = begin; d < end; d += 2) {
        __builtin_prefetch(at + (d + kInt8Group) * kPanel);  // weights come from memory
        rows(d);
        most = at_least(magnitude(two[0]), most);
        odd = at_least(magnitude(two[1]), odd);
      }
      most = at_least(odd, most);
      const V inverse = only_from(most, broadcast(kLeast), 127.0f / most);
      store(steps + column, most * (1 / 127.0f), Full{});
      for (std::int64_t d = begin; d < end; d += 4) {
        U four{};
        for (int half = 0; half < 4; half += 2) {
          two[0] = two[1] = V{};
          if (d + half < end) rows(d + half);
          four |= ((U)(two[0] * inverse + (kRound + kZeroByte)) & 255) << 8 * half;
          four |= ((U)(two[1] * inverse + (kRound + kZeroByte)) & 255) << (8 * half + 8);
        }
        __builtin_memcpy(out + d * kPanel + 4 * column, &four, sizeof four);
      }
    }
  }
}

constexpr int kInt8Vectors = 2;  // of sums a row

template <int height>
void multiply_int8_rows(const Int8Product& p, std::int64_t row, std::int64_t column) {
  V sums[height][kInt8Vectors];
  float* const at = p.sums + row * p.sums_stride + column;
#pragma GCC unroll 6
  for (int r = 0; r < height; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kInt8Vectors; ++v)
      sums[r][v] = p.add ? load(at + r * p.sums_stride + v * kWidth, Full{}) : V{};
  const std::int8_t* a = p.a + row * p.a_stride;
  const std::uint8_t* panel = p.panel + 4 * column;
  for (std::int64_t begin = 0, group = 0; begin < p.depth; begin += p.group, ++group) {
    const std::int64_t end = begin + p.group < p.depth ? begin + p.group : p.depth;
    I dots[height][kInt8Vectors];
#pragma GCC unroll 6
    for (int r = 0; r < height; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < kInt8Vectors; ++v) dots[r][v] = I{} + p.a_offsets[(row + r) * p.groups + group];
    for (std::int64_t d = begin; d < end; d += 4) {
      I weights[kInt8Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < kInt8Vectors; ++v) weights[v] = load_bits(panel + d * kPanel + 4 * v * kWidth);
#pragma GCC unroll 6
      for (int r = 0; r < height; ++r) {
        std::int32_t four;
        __builtin_memcpy(&four, a + r * p.a_stride + d, sizeof four);
#pragma GCC unroll 2
        for (int v = 0; v < kInt8Vectors; ++v) dots[r][v] = dot_int8(dots[r][v], weights[v], I{} + four);
      }
    }
#pragma GCC unroll 2
    for (int v = 0; v < kInt8Vectors; ++v) {
      const V step = load(p.steps + group * kPanel + column + v * kWidth, Full{});
#pragma GCC unroll 6
      for (int r = 0; r < height; ++r)
        sums[r][v] += __builtin_convertvector(dots[r][v], V) * (step * p.a_steps[(row + r) * p.groups + group]);
    }
  }
#if defined(KPOOL_TILE_PRODUCT)
  if (p.rest) return finish_rows<height, kInt8Vectors>(*p.rest, row, sums);
#endif
#pragma GCC unroll 6
  for (int r = 0; r < height; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kInt8Vectors; ++v) store(at + r * p.sums_stride + v * kWidth, sums[r][v], Full{});
}

template <int... heights>
void multiply_int8_all(const Int8Product& product) {
  using Rows = void (*)(const Int8Product&, std::int64_t, std::int64_t);
  constexpr Rows kernels[] = {multiply_int8_rows<heights>...};
  constexpr std::int64_t most = sizeof...(heights);
  for (std::int64_t column = 0; column < kPanel; column += kInt8Vectors * kWidth) {
    std::int64_t row = 0;
    for (std::int64_t left = (product.rows + most - 1) / most; left > 0; --left) {
      const std::int64_t height = (product.rows - row + left - 1) / left;  // all of about the same
      kernels[height - 1](product, row, column);
      row += height;
    }
  }
}

/// Sums in integers and in float32 fill the registers.
inline void multiply_int8(const Int8Product& product) {
  if constexpr (kWidth == 16) multiply_int8_all<1, 2, 3, 4, 5, 6>(product);
  else if constexpr (kWidth == 8) multiply_int8_all<1, 2, 3>(product);
  else multiply_int8_all<1, 2>(product);
}

}  // namespace
}  // namespace kpool::simd
