// What products in AMX share: tile registers, a step of the depth in bfloat16, and the rounding of what is finished.
// A block of 32 rows and kPanel columns keeps its sums in four registers; the other four hold what is multiplied.
// Included by amx*.cpp alone, which are compiled for it.
#pragma once

#include <immintrin.h>

#include <algorithm>

#include "core/simd/kernels.hpp"

namespace kpool::simd {
namespace {

constexpr std::int64_t kTile = 16;         // rows of a register, and columns of sums
constexpr std::int64_t kStepBytes = 64;    // of the depth that a register holds
constexpr std::int64_t kStep = 32;         // the same in elements of bfloat16
constexpr std::int64_t kPanelBytes = 128;  // of two rows of a panel in bfloat16, four in bytes

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

/// What of a step differs between numbers in bfloat16 and in bytes (signed rows, unsigned panel, sums in integers).
#define KPOOL_TILE_DOT(sums, rows, panel)                 \
  do {                                                    \
    if constexpr (bytes) _tile_dpbsud(sums, rows, panel); \
    else _tile_dpbf16ps(sums, rows, panel);               \
  } while (false)

/// Adds one step of the depth. The stride in bytes. lower, right: whether those halves of the block exist.
template <bool lower, bool right, bool bytes>
inline __attribute__((always_inline)) void add_step(const void* a, std::int64_t stride, const void* panel) {
  _tile_loadd(4, panel, kPanelBytes);
  _tile_loadd(6, a, stride);
  KPOOL_TILE_DOT(0, 6, 4);
  if (lower) {
    _tile_loadd(7, static_cast<const char*>(a) + kTile * stride, stride);
    KPOOL_TILE_DOT(2, 7, 4);
  }
  if (right) {
    _tile_loadd(5, static_cast<const char*>(panel) + kPanelBytes / 2, kPanelBytes);
    KPOOL_TILE_DOT(1, 6, 5);
    if (lower) KPOOL_TILE_DOT(3, 7, 5);
  }
}
#undef KPOOL_TILE_DOT

/// What is left of the depth, less than a step, with zeros up to a whole one. All sizes in bytes.
template <bool lower, bool right, bool bytes>
void add_rest(std::int64_t depth, std::int64_t height, const void* a, std::int64_t stride, const void* panel) {
  alignas(64) char rows[2 * kTile][kStepBytes], steps[kTile][kPanelBytes];
  const auto mask = static_cast<__mmask64>((std::uint64_t{1} << depth) - 1);
  for (std::int64_t r = 0; r < height; ++r)
    _mm512_store_si512(rows[r], _mm512_maskz_loadu_epi8(mask, static_cast<const char*>(a) + r * stride));
  for (std::int64_t i = 0; i < kTile; ++i)
    for (std::int64_t half = 0; half < kPanelBytes; half += 64) {
      const char* at = static_cast<const char*>(panel) + i * kPanelBytes + half;
      _mm512_store_si512(steps[i] + half, 4 * i < depth ? _mm512_loadu_si512(at) : _mm512_setzero_si512());
    }
  asm volatile("" : : "r"(rows), "r"(steps) : "memory");
  add_step<lower, right, bytes>(rows, sizeof rows[0], steps);
  asm volatile("" : : : "memory");  // until here nothing else may lie where they do
}

template <bool lower, bool right>
inline __attribute__((always_inline)) void zero_sums() {
  _tile_zero(0);
  if (right) _tile_zero(1);
  if (lower) _tile_zero(2);
  if (lower && right) _tile_zero(3);
}
/// The stride in elements.
template <bool lower, bool right>
inline __attribute__((always_inline)) void load_sums(const float* sums, std::int64_t stride) {
  _tile_loadd(0, sums, stride * 4);
  if (right) _tile_loadd(1, sums + kTile, stride * 4);
  if (lower) _tile_loadd(2, sums + kTile * stride, stride * 4);
  if (lower && right) _tile_loadd(3, sums + kTile * stride + kTile, stride * 4);
}
template <bool lower, bool right, class Number>
inline __attribute__((always_inline)) void store_sums(Number* sums, std::int64_t stride) {
  static_assert(sizeof(Number) == 4);
  _tile_stored(0, sums, stride * 4);
  if (right) _tile_stored(1, sums + kTile, stride * 4);
  if (lower) _tile_stored(2, sums + kTile * stride, stride * 4);
  if (lower && right) _tile_stored(3, sums + kTile * stride + kTile, stride * 4);
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
    add_step<lower, right, false>(a, 2 * stride, panel);
    if (before.row < before.height) before.write<right>(1);  // more would hold up the step's loads
  }
  if (depth > 0) add_rest<lower, right, false>(2 * depth, height, a, 2 * stride, panel);
}

/// Calls block(row, height) for blocks of up to 32 rows, with the registers shaped for that height.
template <class Block>
inline __attribute__((always_inline)) void each_block(std::int64_t rows, Block block) {
  for (std::int64_t row = 0; row < rows; row += 2 * kTile) {
    const std::int64_t height = std::min(2 * kTile, rows - row);
    if (height % kTile != 0) configure(std::min(kTile, height), height > kTile ? height - kTile : kTile);
    block(row, height);
    if (height % kTile != 0) configure(kTile, kTile);
  }
}

}  // namespace
}  // namespace kpool::simd
