// The tile product of core/gemm.hpp in AMX, and what else a process has to do to use it. Compiled for AMX-BF16 and what
// the set `avx512` needs; pure but for the thread's tile registers.
#if defined(__x86_64__)
#include "core/simd/tile_amx.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include "core/simd/sets.hpp"

namespace kpool::simd {
namespace {

template <bool lower, bool right>
void multiply_block(const TileProduct& p, std::int64_t row, std::int64_t height, Finished& before) {
  float* const sums = p.sums + row * p.sums_stride;
  for (std::int64_t r = 0; p.out && r < height; ++r) __builtin_prefetch(p.out + (row + r) * p.out_stride, 1);
  if (p.add) load_sums<lower, right>(sums, p.sums_stride);
  else zero_sums<lower, right>();
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

template <bool right>
void multiply_all(const TileProduct& product) {
  const std::int64_t blocks = (product.rows + 2 * kTile - 1) / (2 * kTile);
  const auto* next = reinterpret_cast<const char*>(product.next);
  const std::int64_t fetched = product.depth * kPanel * 2 / std::max<std::int64_t>(blocks, 1) + 64;
  Finished before;
  before.stride = product.out_stride;
  before.factor = _mm512_set1_ps(product.factor);
  each_block(product.rows, [&](std::int64_t row, std::int64_t height) __attribute__((always_inline)) {
    for (std::int64_t i = 0; next && i < fetched; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
    if (next) next += fetched / 64 * 64;
    if (height > kTile) multiply_block<true, right>(product, row, height, before);
    else multiply_block<false, right>(product, row, height, before);
  });
  before.write<right>(2 * kTile);
}

}  // namespace

void multiply_amx(const TileProduct& product) {
  if (product.columns == kPanel) multiply_all<true>(product);
  else multiply_all<false>(product);
}

void begin_amx() { configure(kTile, kTile); }
void end_amx() { _tile_release(); }

bool may_use_amx() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // of arch_prctl, since Linux 5.16
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
         __builtin_cpu_supports("amx-int8") && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace kpool::simd
#endif
