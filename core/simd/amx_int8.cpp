// Products in 8-bit integers (int8_kernels.hpp) in AMX. A group's sums of integers leave the registers for the first
// cache, and become float32 there while the next group is multiplied, or the next block where a group is all. Compiled
// for AMX-INT8, AMX-BF16 and what the set `avx512` needs; pure but for the thread's tile registers.
#if defined(__x86_64__)
#include "core/simd/sets.hpp"
#include "core/simd/tile_amx.hpp"

namespace kpool::simd {
namespace {

/// The integer sums of a group, which become float32 while the registers are busy with the next one.
struct Dots {
  alignas(64) std::int32_t values[2 * kTile][kPanel];
  std::int64_t row = 0, height = 0;  // those still to be added
  const float* a_steps = nullptr;
  const std::int32_t* a_offsets = nullptr;
  std::int64_t groups = 0;
  __m512 left, right;  // steps of the panel

  inline __attribute__((always_inline)) void add(float (&sums)[2 * kTile][kPanel], std::int64_t rows) {
    for (const std::int64_t end = std::min(height, row + rows); row < end; ++row) {
      const __m512i offset = _mm512_set1_epi32(a_offsets[row * groups]);
      const __m512 step = _mm512_set1_ps(a_steps[row * groups]);
      const auto value = [&](std::int64_t column) __attribute__((always_inline)) {
        return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_load_si512(values[row] + column), offset));
      };
      _mm512_store_ps(sums[row], _mm512_fmadd_ps(value(0), step * left, _mm512_load_ps(sums[row])));
      float* const at = sums[row] + kTile;
      _mm512_store_ps(at, _mm512_fmadd_ps(value(kTile), step * right, _mm512_load_ps(at)));
    }
  }
};

template <bool lower>
void multiply_int8_block(const Int8Product& p, std::int64_t row, std::int64_t height, Finished& before) {
  alignas(64) float sums[2 * kTile][kPanel];
  for (std::int64_t r = 0; r < height; ++r)
    for (std::int64_t half = 0; half < kPanel; half += kTile)
      _mm512_store_ps(sums[r] + half, p.add ? _mm512_loadu_ps(p.sums + (row + r) * p.sums_stride + half) : __m512{});
  for (std::int64_t r = 0; p.rest && r < height; ++r)
    __builtin_prefetch(p.rest->out + (row + r) * p.rest->out_stride, 1);
  Dots dots;
  dots.groups = p.groups;
  const std::int8_t* a = p.a + row * p.a_stride;
  for (std::int64_t begin = 0, group = 0; begin < p.depth; begin += p.group, ++group) {
    const std::int64_t end = std::min(begin + p.group, p.depth);
    zero_sums<lower, true>();
    for (std::int64_t d = begin; d < end; d += kStepBytes) {
      const std::uint8_t* panel = p.panel + d * kPanel;
      if (end - d >= kStepBytes) add_step<lower, true, true>(a + d, p.a_stride, panel);
      else add_rest<lower, true, true>(end - d, height, a + d, p.a_stride, panel);
      dots.add(sums, kTile);
      before.write<true>(4);
    }
    dots.add(sums, kTile);
    store_sums<lower, true>(dots.values[0], kPanel);
    dots.row = 0;
    dots.height = height;
    dots.a_steps = p.a_steps + row * p.groups + group;
    dots.a_offsets = p.a_offsets + row * p.groups + group;
    dots.left = _mm512_loadu_ps(p.steps + group * kPanel);
    dots.right = _mm512_loadu_ps(p.steps + group * kPanel + kTile);
  }
  dots.add(sums, 2 * kTile);
  if (!p.rest) {
    for (std::int64_t r = 0; r < height; ++r)
      for (std::int64_t half = 0; half < kPanel; half += kTile)
        _mm512_storeu_ps(p.sums + (row + r) * p.sums_stride + half, _mm512_load_ps(sums[r] + half));
    return;
  }
  before.write<true>(2 * kTile);
  const TileProduct& rest = *p.rest;
  asm volatile("" : : "r"(sums) : "memory");
  if (rest.depth2 > 0) {
    load_sums<lower, true>(sums[0], kPanel);
    add_product<lower, true>(rest.depth2, height, rest.a2 + row * rest.a2_stride, rest.a2_stride, rest.panel2, before);
    store_sums<lower, true>(before.sums[0], kPanel);
  } else {
    __builtin_memcpy(before.sums, sums, sizeof sums);
  }
  before.row = 0;
  before.height = height;
  before.out = rest.out + row * rest.out_stride;
}

/// The integer sums of a block whose depth is one group: they are scaled, rounded and written while the registers are
/// busy with the next one.
struct Unscaled {
  alignas(64) std::int32_t sums[2 * kTile][kPanel];
  std::int64_t row = 0, height = 0;  // those still to be written
  const float* a_steps = nullptr;
  const std::int32_t* a_offsets = nullptr;
  Bf16* out = nullptr;

  inline __attribute__((always_inline)) void write(const Int8Product& p, __m512 left, __m512 right, std::int64_t rows) {
    for (const std::int64_t end = std::min(height, row + rows); row < end; ++row, out += p.rest->out_stride) {
      const __m512i offset = _mm512_set1_epi32(a_offsets[row * p.groups]);
      const __m512 step = _mm512_set1_ps(a_steps[row * p.groups]);
      const auto value = [&](std::int64_t column, __m512 panel_step) __attribute__((always_inline)) {
        const __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums[row] + column), offset);
        return _mm512_cvtepi32_ps(sum) * (step * panel_step);
      };
      _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(value(kTile, right), value(0, left)));
    }
  }
};

template <bool lower>
void multiply_whole_block(const Int8Product& p, std::int64_t row, std::int64_t height, Unscaled& before, __m512 left,
                          __m512 right) {
  for (std::int64_t r = 0; r < height; ++r) __builtin_prefetch(p.rest->out + (row + r) * p.rest->out_stride, 1);
  const std::int8_t* a = p.a + row * p.a_stride;
  zero_sums<lower, true>();
  for (std::int64_t d = 0; d < p.depth; d += kStepBytes) {
    const std::uint8_t* panel = p.panel + d * kPanel;
    if (p.depth - d >= kStepBytes) add_step<lower, true, true>(a + d, p.a_stride, panel);
    else add_rest<lower, true, true>(p.depth - d, height, a + d, p.a_stride, panel);
    before.write(p, left, right, 4);
  }
  before.write(p, left, right, 2 * kTile);
  store_sums<lower, true>(before.sums[0], kPanel);
  before.row = 0;
  before.height = height;
  before.a_steps = p.a_steps + row * p.groups;
  before.a_offsets = p.a_offsets + row * p.groups;
  before.out = p.rest->out + row * p.rest->out_stride;
}

/// Of a depth that is one group, without an adapter's part.
void multiply_whole(const Int8Product& product) {
  const __m512 factor = _mm512_set1_ps(product.rest->factor);
  const __m512 left = _mm512_loadu_ps(product.steps) * factor, right = _mm512_loadu_ps(product.steps + kTile) * factor;
  const auto* next = reinterpret_cast<const char*>(product.rest->next);
  const std::int64_t blocks = (product.rows + 2 * kTile - 1) / (2 * kTile);
  const std::int64_t fetched = (product.depth * kPanel / blocks + 63) / 64 * 64;
  Unscaled before;
  each_block(product.rows, [&](std::int64_t row, std::int64_t height) __attribute__((always_inline)) {
    for (std::int64_t i = 0; next && i < fetched; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
    if (next) next += fetched;
    if (height > kTile) multiply_whole_block<true>(product, row, height, before, left, right);
    else multiply_whole_block<false>(product, row, height, before, left, right);
  });
  before.write(product, left, right, 2 * kTile);
}

}  // namespace

void multiply_int8_amx(const Int8Product& product) {
  const TileProduct* rest = product.rest;
  if (rest && product.group >= product.depth && !product.add && rest->depth2 == 0) return multiply_whole(product);
  Finished before;
  if (product.rest) {
    before.stride = product.rest->out_stride;
    before.factor = _mm512_set1_ps(product.rest->factor);
  }
  each_block(product.rows, [&](std::int64_t row, std::int64_t height) __attribute__((always_inline)) {
    if (height > kTile) multiply_int8_block<true>(product, row, height, before);
    else multiply_int8_block<false>(product, row, height, before);
  });
  before.write<true>(2 * kTile);
}

}  // namespace kpool::simd
#endif
