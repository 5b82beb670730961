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
constexpr std::int64_t kStep = 32;         // elements of the depth that a register holds
constexpr std::int64_t kPanelBytes = 128;  // of a pair of rows of a panel

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
  asm volatile("" : : : "memory");  // until here nothing else may lie where they do
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
