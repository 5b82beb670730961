// The tile product of our own, in every set that has one, against double precision.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

#include "core/simd/kernels.hpp"

using namespace kpool::simd;
using std::int64_t;

namespace {

double value(Bf16 x) { return std::bit_cast<float>(std::uint32_t{x.bits} << 16); }

std::vector<Bf16> random_bf16(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> draw(-1, 1);
  std::vector<Bf16> values(n);
  for (Bf16& x : values) x.bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(draw(random)) >> 16);
  return values;
}

/// Element (row, column) of a (rows, depth) times a packed panel.
double product(const std::vector<Bf16>& a, int64_t stride, const std::vector<Bf16>& panel, int64_t depth, int64_t row,
               int64_t column) {
  double sum = 0;
  for (int64_t d = 0; d < depth; ++d)
    sum += value(a[row * stride + d]) * value(panel[d / 2 * 2 * kPanel + 2 * column + d % 2]);
  return sum;
}

struct Case {
  int64_t rows, depth, depth2, columns;
  bool add;
  int64_t a_stride() const { return depth + 6; }
  std::vector<Bf16> a = random_bf16(rows * a_stride(), 1), panel = random_bf16(depth * kPanel, 2);
  std::vector<Bf16> a2 = random_bf16(rows * depth2, 3), panel2 = random_bf16(depth2 * kPanel, 4);
  int64_t sums_stride = kPanel + 8, out_stride = kPanel + 5;
  std::vector<float> sums = std::vector<float>(rows * sums_stride, 0.5f);
  std::vector<Bf16> out = std::vector<Bf16>(rows * out_stride, Bf16{0x1234});

  TileProduct tile() {
    TileProduct tile{rows, depth, a.data(), a_stride(), panel.data(), sums.data(), sums_stride, add};
    tile.columns = columns;
    return tile;
  }
  double expected(int64_t row, int64_t column) const {
    return product(a, a_stride(), panel, depth, row, column) + (add ? 0.5 : 0);
  }
};

void check_sums(const Kernels& set, Case c) {
  TileProduct tile = c.tile();
  tile.next = c.panel.data();  // fetched, never more
  set.multiply(tile);
  for (int64_t row = 0; row < c.rows; ++row)
    for (int64_t column = 0; column < c.sums_stride; ++column) {
      const float sum = c.sums[row * c.sums_stride + column];
      if (column >= c.columns) REQUIRE(sum == 0.5f);
      else REQUIRE(sum == Approx(c.expected(row, column)).margin(1e-4));
    }
}

void check_rounded(const Kernels& set, Case c) {
  TileProduct tile = c.tile();
  tile.depth2 = tile.a2_stride = c.depth2;
  tile.a2 = c.a2.data();
  tile.panel2 = c.panel2.data();
  tile.out = c.out.data();
  tile.out_stride = c.out_stride;
  tile.factor = 3;
  set.multiply(tile);
  for (int64_t row = 0; row < c.rows; ++row)
    for (int64_t column = 0; column < c.out_stride; ++column) {
      const Bf16 got = c.out[row * c.out_stride + column];
      if (column >= c.columns) {
        REQUIRE(got.bits == 0x1234);
        continue;
      }
      const double sum = c.expected(row, column) + product(c.a2, c.depth2, c.panel2, c.depth2, row, column);
      REQUIRE(std::fabs(value(got) - 3 * sum) <= std::fabs(3 * sum) / 256 + 1e-3);
    }
  for (const float sum : c.sums) REQUIRE(sum == 0.5f);  // only read
}

}  // namespace

TEST_CASE("tile product: sums and rounded results of any height", "[simd]") {
  const KernelSets sets = kernel_sets();
  int found = 0;
  for (int s = 0; s < sets.count; ++s) {
    const Kernels& set = *sets.sets[s];
    if (!set.multiply) continue;
    ++found;
    if (set.begin_tiles) set.begin_tiles();
    for (const int64_t rows : {1, 5, 11, 12, 13, 16, 24, 32, 48, 67})
      for (const int64_t depth : {2, 64, 130})
        for (const int64_t columns : {kPanel, kPanel / 2})
          for (const bool add : {false, true}) {
            INFO(set.name << ", " << rows << " rows, depth " << depth << ", " << columns << " columns, add " << add);
            check_sums(set, {rows, depth, 16, columns, add});
            for (const int64_t depth2 : {0, 16, 32, 62}) check_rounded(set, {rows, depth, depth2, columns, add});
          }
    if (set.end_tiles) set.end_tiles();
  }
  if (found == 0) WARN("skipped: no set of this processor has AVX512-BF16");
}

TEST_CASE("tile product: no set of another name is chosen", "[simd]") { CHECK_FALSE(choose_kernels("another")); }
