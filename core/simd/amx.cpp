// The tile product of core/gemm.hpp in AMX: 32 rows of sums stay in four registers, the fifth to eighth hold what is
// multiplied. Compiled for AMX-BF16 and what the set `avx512` needs; pure but for the thread's tile registers.
#if defined(__x86_64__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "core/simd/sets.hpp"

namespace kpool::simd {
namespace {

constexpr std::int64_t kTile = 16;         // rows of a register, and columns of sums
constexpr std::int64_t kStep = 32;         // elements of the depth that a register holds
constexpr std::int64_t kPanelBytes = 128;  // of a pair of rows of a panel
constexpr std::int64_t kStepBytes = 64;

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

/// Sums: 0 and 1 of the upper rows, 2 and 3 of the lower ones. The panel: 4 and 5. The rows: 6 and 7.
void configure(std::int64_t upper, std::int64_t lower) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = 64;
    config.rows[tile] = kTile;
  }
  config.rows[0] = config.rows[1] = config.rows[6] = static_cast<std::uint8_t>(upper);
  config.rows[2] = config.rows[3] = config.rows[7] = static_cast<std::uint8_t>(lower);
  asm volatile("" : : "r"(&config) : "memory");  // g++ 12's intrinsics do not say all that they read
  _tile_loadconfig(&config);
}

/// Adds one step of the depth. Strides in bytes. lower, right: whether those halves of the block exist.
template <bool lower, bool right>
inline __attribute__((always_inline)) void add_step(const void* a, std::int64_t stride, const void* panel) {
  _tile_loadd(4, panel, kPanelBytes);
  _tile_loadd(6, a, stride);
  _tile_dpbf16ps(0, 6, 4);
  if (lower) {
    _tile_loadd(7, static_cast<const char*>(a) + kTile * stride, stride);
    _tile_dpbf16ps(2, 7, 4);
  }
  if (right) {
    _tile_loadd(5, static_cast<const char*>(panel) + kPanelBytes / 2, kPanelBytes);
    _tile_dpbf16ps(1, 6, 5);
    if (lower) _tile_dpbf16ps(3, 7, 5);
  }
}

/// What is left of the depth, with zeros up to a whole step.
template <bool lower, bool right>
void add_rest(std::int64_t depth, std::int64_t height, const Bf16* a, std::int64_t stride, const Bf16* panel) {
  alignas(64) Bf16 rows[2 * kTile][kStep], steps[kStep / 2][2 * kPanel];
  const auto mask = static_cast<__mmask32>((1u << depth) - 1);
  for (std::int64_t r = 0; r < height; ++r)
    _mm512_store_si512(rows[r], _mm512_maskz_loadu_epi16(mask, a + r * stride));
  for (std::int64_t d = 0; d < kStep; d += 2)
    for (std::int64_t half = 0; half < 2 * kPanel; half += kPanel)
      _mm512_store_si512(steps[d / 2] + half,
                         d < depth ? _mm512_loadu_si512(panel + d * kPanel + half) : _mm512_setzero_si512());
  asm volatile("" : : "r"(rows), "r"(steps) : "memory");
  add_step<lower, right>(rows, sizeof rows[0], steps);
}

/// Sums of the block before, which are rounded and written while the registers are busy with the next one.
struct Finished {
  alignas(64) float sums[2 * kTile][kPanel];
  std::int64_t row = 0, height = 0;  // those still to be written
  Bf16* out = nullptr;
  std::int64_t stride = 0;
  __m512 factor;

  template <bool right>
  inline __attribute__((always_inline)) void write(std::int64_t rows) {
    for (const std::int64_t end = std::min(height, row + rows); row < end; ++row, out += stride) {
      const __m512 left = _mm512_load_ps(sums[row]) * factor;
      if (right)
        _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(sums[row] + kTile) * factor, left));
      else
        _mm256_storeu_si256((__m256i*)out, (__m256i)_mm512_cvtneps_pbh(left));
    }
  }
};

template <bool lower, bool right>
inline __attribute__((always_inline)) void add_product(std::int64_t depth, std::int64_t height, const Bf16* a,
                                                       std::int64_t stride, const Bf16* panel, Finished& before) {
  for (; depth >= kStep; depth -= kStep, a += kStep, panel += kStep * kPanel) {
    add_step<lower, right>(a, stride * std::int64_t{sizeof(Bf16)}, panel);
    if (before.row < before.height) before.write<right>(1);  // more would hold up the step's loads
  }
  if (depth > 0) add_rest<lower, right>(depth, height, a, stride, panel);
}

template <bool lower, bool right>
inline __attribute__((always_inline)) void store_sums(float* sums, std::int64_t stride) {
  _tile_stored(0, sums, stride * 4);
  if (right) _tile_stored(1, sums + kTile, stride * 4);
  if (lower) _tile_stored(2, sums + kTile * stride, stride * 4);
  if (lower && right) _tile_stored(3, sums + kTile * stride + kTile, stride * 4);
}

template <bool lower, bool right>
void multiply_block(const TileProduct& p, std::int64_t row, std::int64_t height, Finished& before) {
  float* const sums = p.sums + row * p.sums_stride;
  for (std::int64_t r = 0; p.out && r < height; ++r) __builtin_prefetch(p.out + (row + r) * p.out_stride, 1);
  if (p.add) {
    const std::int64_t stride = p.sums_stride * 4;
    _tile_loadd(0, sums, stride);
    if (right) _tile_loadd(1, sums + kTile, stride);
    if (lower) _tile_loadd(2, sums + kTile * p.sums_stride, stride);
    if (lower && right) _tile_loadd(3, sums + kTile * p.sums_stride + kTile, stride);
  } else {
    _tile_zero(0);
    if (right) _tile_zero(1);
    if (lower) _tile_zero(2);
    if (lower && right) _tile_zero(3);
  }
  add_product<lower, right>(p.depth, height, p.a + row * p.a_stride, p.a_stride, p.panel, before);
  if (!p.out) return store_sums<lower, right>(sums, p.sums_stride);
  if (p.depth2 > 0)
    add_product<lower, right>(p.depth2, height, p.a2 + row * p.a2_stride, p.a2_stride, p.panel2, before);
  before.write<right>(2 * kTile);
  store_sums<lower, right>(before.sums[0], kPanel);
  before.row = 0;
  before.height = height;
  before.out = p.out + row * p.out_stride;
}

/// In bytes what add_step is in bfloat16: signed rows, unsigned panel, sums in integers.
template <bool lower>
inline __attribute__((always_inline)) void add_bytes(const void* a, std::int64_t stride, const void* panel) {
  _tile_loadd(4, panel, kPanelBytes);
  _tile_loadd(6, a, stride);
  _tile_dpbsud(0, 6, 4);
  if (lower) {
    _tile_loadd(7, static_cast<const char*>(a) + kTile * stride, stride);
    _tile_dpbsud(2, 7, 4);
  }
  _tile_loadd(5, static_cast<const char*>(panel) + kPanelBytes / 2, kPanelBytes);
  _tile_dpbsud(1, 6, 5);
  if (lower) _tile_dpbsud(3, 7, 5);
}

/// What is left of a group's depth, with zeros up to a whole step.
template <bool lower>
void add_last_bytes(std::int64_t depth, std::int64_t height, const std::int8_t* a, std::int64_t stride,
                    const std::uint8_t* panel) {
  alignas(64) std::int8_t rows[2 * kTile][kStepBytes];
  alignas(64) std::uint8_t steps[kTile][kPanelBytes];
  const auto mask = static_cast<__mmask64>((std::uint64_t{1} << depth) - 1);
  for (std::int64_t r = 0; r < height; ++r) _mm512_store_si512(rows[r], _mm512_maskz_loadu_epi8(mask, a + r * stride));
  for (std::int64_t d = 0; d < kStepBytes; d += 4)
    for (std::int64_t half = 0; half < kPanelBytes; half += 64)
      _mm512_store_si512(steps[d / 4] + half,
                         d < depth ? _mm512_loadu_si512(panel + d * kPanel + half) : _mm512_setzero_si512());
  asm volatile("" : : "r"(rows), "r"(steps) : "memory");
  add_bytes<lower>(rows, sizeof rows[0], steps);
}

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
      _mm512_store_ps(sums[row] + kTile, _mm512_fmadd_ps(value(kTile), step * right, _mm512_load_ps(sums[row] + kTile)));
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
  for (std::int64_t begin = 0, group = 0; begin < p.depth; begin += kInt8Group, ++group) {
    const std::int64_t end = std::min(begin + kInt8Group, p.depth);
    _tile_zero(0);
    _tile_zero(1);
    if (lower) _tile_zero(2);
    if (lower) _tile_zero(3);
    for (std::int64_t d = begin; d < end; d += kStepBytes) {
      if (end - d >= kStepBytes) add_bytes<lower>(a + d, p.a_stride, p.panel + d * kPanel);
      else add_last_bytes<lower>(end - d, height, a + d, p.a_stride, p.panel + d * kPanel);
      dots.add(sums, kTile);
      before.write<true>(4);
    }
    dots.add(sums, kTile);
    _tile_stored(0, dots.values[0], sizeof dots.values[0]);
    _tile_stored(1, dots.values[0] + kTile, sizeof dots.values[0]);
    if (lower) _tile_stored(2, dots.values[kTile], sizeof dots.values[0]);
    if (lower) _tile_stored(3, dots.values[kTile] + kTile, sizeof dots.values[0]);
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
    _tile_loadd(0, sums[0], 128);
    _tile_loadd(1, sums[0] + kTile, 128);
    if (lower) _tile_loadd(2, sums[kTile], 128);
    if (lower) _tile_loadd(3, sums[kTile] + kTile, 128);
    add_product<lower, true>(rest.depth2, height, rest.a2 + row * rest.a2_stride, rest.a2_stride, rest.panel2, before);
    store_sums<lower, true>(before.sums[0], kPanel);
  } else {
    __builtin_memcpy(before.sums, sums, sizeof sums);
  }
  before.row = 0;
  before.height = height;
  before.out = rest.out + row * rest.out_stride;
}

template <bool right>
void multiply_all(const TileProduct& product) {
  const std::int64_t blocks = (product.rows + 2 * kTile - 1) / (2 * kTile);
  const auto* next = reinterpret_cast<const char*>(product.next);
  const std::int64_t fetched = product.depth * kPanel * 2 / std::max<std::int64_t>(blocks, 1) + 64;
  Finished before;
  before.stride = product.out_stride;
  before.factor = _mm512_set1_ps(product.factor);
  for (std::int64_t row = 0; row < product.rows; row += 2 * kTile) {
    for (std::int64_t i = 0; next && i < fetched; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
    if (next) next += fetched / 64 * 64;
    const std::int64_t height = std::min(2 * kTile, product.rows - row);
    if (height % kTile != 0) configure(std::min(kTile, height), height > kTile ? height - kTile : kTile);
    if (height > kTile) multiply_block<true, right>(product, row, height, before);
    else multiply_block<false, right>(product, row, height, before);
    if (height % kTile != 0) configure(kTile, kTile);
  }
  before.write<right>(2 * kTile);
}

}  // namespace

void multiply_amx(const TileProduct& product) {
  if (product.columns == kPanel) multiply_all<true>(product);
  else multiply_all<false>(product);
}

void multiply_int8_amx(const Int8Product& product) {
  Finished before;
  if (product.rest) {
    before.stride = product.rest->out_stride;
    before.factor = _mm512_set1_ps(product.rest->factor);
  }
  for (std::int64_t row = 0; row < product.rows; row += 2 * kTile) {
    const std::int64_t height = std::min(2 * kTile, product.rows - row);
    if (height % kTile != 0) configure(std::min(kTile, height), height > kTile ? height - kTile : kTile);
    if (height > kTile) multiply_int8_block<true>(product, row, height, before);
    else multiply_int8_block<false>(product, row, height, before);
    if (height % kTile != 0) configure(kTile, kTile);
  }
  before.write<true>(2 * kTile);
}

void begin_amx() { configure(kTile, kTile); }
void end_amx() { _tile_release(); }

bool may_use_amx() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // of arch_prctl, since Linux 5.16
  return __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("amx-tile") &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace kpool::simd
#endif
