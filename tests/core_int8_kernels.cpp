// Rounding to 8-bit integers and products of them: every set of kernels against double precision, and the sets alike.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/gemm.hpp"

using namespace kpool;
using std::int64_t;

namespace {

int64_t groups_of(int64_t depth, int64_t group) { return (depth + group - 1) / group; }

/// Values whose size differs from group to group, and one group of zeros.
std::vector<float> values(int64_t rows, int64_t columns, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> all(rows * columns);
  for (int64_t i = 0; i < rows * columns; ++i)
    all[i] = normal(engine) * std::exp2(static_cast<float>(i % columns / kInt8Group * 5) - 20.0f);
  return all;
}

template <class T>
std::vector<T> narrowed(const std::vector<float>& wide) {
  std::vector<T> out(wide.size());
  simd::rows<T>().from_float(wide.data(), static_cast<int64_t>(wide.size()), out.data());
  return out;
}

template <class T>
std::vector<float> widened(const std::vector<T>& narrow) {
  std::vector<float> out(narrow.size());
  simd::rows<T>().to_float(narrow.data(), static_cast<int64_t>(narrow.size()), out.data());
  return out;
}

template <class T>
const simd::RowKernels<T>& of(const simd::Kernels& set);
template <>
const simd::RowKernels<float>& of<float>(const simd::Kernels& set) { return set.f32; }
template <>
const simd::RowKernels<Bf16>& of<Bf16>(const simd::Kernels& set) { return set.bf16; }

struct Quantised {
  std::vector<std::int8_t> q;
  std::vector<float> steps;
  std::vector<std::int32_t> offsets;
};

template <class T>
Quantised quantised(const simd::Kernels& set, const std::vector<T>& x, int64_t rows, int64_t depth, int64_t stride,
                    int64_t group = kInt8Group) {
  const int64_t groups = groups_of(depth, group);
  Quantised out{std::vector<std::int8_t>(rows * stride, 99), std::vector<float>(rows * groups),
                std::vector<std::int32_t>(rows * groups)};
  for (int64_t i = 0; i < rows; ++i)
    of<T>(set).quantise(x.data() + i * depth, depth, group, out.q.data() + i * stride, out.steps.data() + i * groups,
                        out.offsets.data() + i * groups);
  return out;
}

template <class T>
void check_product(const simd::Kernels& set, int64_t rows, int64_t depth, int64_t group, bool add) {
  INFO(set.name << ": " << rows << " rows, depth " << depth << ", element of " << sizeof(T) << ", add " << add);
  const int64_t groups = groups_of(depth, group), stride = (depth + 3) / 4 * 4 + 8;
  const auto a = narrowed<T>(values(rows, depth, 1)), b = narrowed<T>(values(depth, kPanel, 2));
  const auto wide_a = widened(a), wide_b = widened(b);
  const Quantised left = quantised(set, a, rows, depth, stride, group);
  std::vector<double> exact_a(wide_a.size());  // step q
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t d = 0; d < depth; ++d) {
      const double step = left.steps[i * groups + d / group], x = wide_a[i * depth + d];
      exact_a[i * depth + d] = step * left.q[i * stride + d];
      REQUIRE(std::fabs(exact_a[i * depth + d] - x) <= 0.5001 * step);
    }
  std::vector<T> panel(panel_size<T>(depth));
  of<T>(set).pack_rows(b.data(), kPanel, depth, kPanel, panel.data());
  std::vector<std::uint8_t> bytes(panel_size<std::uint8_t>(depth));
  std::vector<float> steps(groups * kPanel);
  of<T>(set).pack_int8(panel.data(), depth, group, bytes.data(), steps.data());
  std::vector<double> exact_b(wide_b.size());
  for (int64_t d = 0; d < depth; ++d)
    for (int64_t c = 0; c < kPanel; ++c) {
      const double step = steps[d / group * kPanel + c];
      exact_b[d * kPanel + c] = step * (bytes[(d / 4 * kPanel + c) * 4 + d % 4] - 128);
      REQUIRE(std::fabs(exact_b[d * kPanel + c] - wide_b[d * kPanel + c]) <= 0.5001 * step);
    }
  const int64_t sums_stride = kPanel + 8;
  std::vector<float> sums(rows * sums_stride, 0.5f);
  if (set.begin_tiles) set.begin_tiles();
  set.multiply_int8({rows, depth, left.q.data(), stride, left.steps.data(), left.offsets.data(), groups, bytes.data(),
                     steps.data(), sums.data(), sums_stride, add, group});
  if (set.end_tiles) set.end_tiles();
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < sums_stride; ++c) {
      const float sum = sums[i * sums_stride + c];
      if (c >= kPanel) {
        REQUIRE(sum == 0.5f);
        continue;
      }
      double expected = add ? 0.5 : 0, size = expected;
      for (int64_t d = 0; d < depth; ++d) {
        expected += exact_a[i * depth + d] * exact_b[d * kPanel + c];
        size += std::fabs(exact_a[i * depth + d] * exact_b[d * kPanel + c]);
      }
      REQUIRE(std::fabs(sum - expected) <= 1e-5 * size);
    }
}

/// A product whose sums are not kept but, with an adapter's part (depth2 0: without), rounded.
void check_rounded(const simd::Kernels& set, int64_t rows, int64_t depth, int64_t group, int64_t depth2) {
  INFO(set.name << ": " << rows << " rows, depth " << depth << ", group " << group << ", adapter " << depth2);
  const int64_t groups = groups_of(depth, group), stride = (depth + 3) / 4 * 4, out_stride = kPanel + 3;
  std::vector<Bf16> a = narrowed<Bf16>(values(rows, depth, 1)), b = narrowed<Bf16>(values(depth, kPanel, 2));
  const Quantised left = quantised(set, a, rows, depth, stride, group);
  std::vector<Bf16> panel(panel_size<Bf16>(depth)), panel2(panel_size<Bf16>(depth2));
  set.bf16.pack_rows(b.data(), kPanel, depth, kPanel, panel.data());
  std::vector<std::uint8_t> bytes(panel_size<std::uint8_t>(depth));
  std::vector<float> steps(groups * kPanel), sums(rows * kPanel), sums2(rows * kPanel);
  set.bf16.pack_int8(panel.data(), depth, group, bytes.data(), steps.data());
  const std::vector<Bf16> a2 = narrowed<Bf16>(values(rows, depth2, 3)), b2 = narrowed<Bf16>(values(depth2, kPanel, 4));
  set.bf16.pack_rows(b2.data(), kPanel, depth2, kPanel, panel2.data());
  std::vector<Bf16> out(rows * out_stride, Bf16{0x1234});
  simd::TileProduct rest{.rows = rows, .depth2 = depth2, .a2 = a2.data(), .a2_stride = depth2};
  rest.next = bytes.data();
  rest.panel2 = panel2.data();
  rest.out = out.data();
  rest.out_stride = out_stride;
  rest.factor = 2;
  simd::Int8Product product{rows, depth, left.q.data(), stride, left.steps.data(), left.offsets.data(), groups,
                            bytes.data(), steps.data(), sums.data(), kPanel, false, group};
  if (set.begin_tiles) set.begin_tiles();
  set.multiply_int8(product);
  if (depth2 > 0) set.multiply({rows, depth2, a2.data(), depth2, panel2.data(), sums2.data(), kPanel, false});
  product.rest = &rest;
  set.multiply_int8(product);
  if (set.end_tiles) set.end_tiles();
  const std::vector<float> wide = widened(out);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < out_stride; ++c) {
      if (c >= kPanel) {
        REQUIRE(out[i * out_stride + c].bits == 0x1234);
        continue;
      }
      const float first = sums[i * kPanel + c], second = sums2[i * kPanel + c];
      const float size = std::fabs(first) + std::fabs(second);
      REQUIRE(std::fabs(wide[i * out_stride + c] - 2 * (first + second)) <= size / 100);
    }
}

}  // namespace

TEST_CASE("int8: rows, panels and their product are those of double precision", "[int8]") {
  const simd::KernelSets sets = simd::kernel_sets();
  for (int s = 0; s < sets.count; ++s)
    for (const int64_t rows : {1, 2, 5, 6, 7, 13, 16, 33, 64})
      for (const int64_t depth : {4, 7, 64, 128, 130, 300, 320})
        for (const int64_t group : {kInt8Group, 2 * kInt8Group, depth})
          for (const bool add : {false, true}) {
            check_product<float>(*sets.sets[s], rows, depth, group, add);
            check_product<Bf16>(*sets.sets[s], rows, depth, group, add);
          }
}

TEST_CASE("int8: a product that is rounded with an adapter's part", "[int8]") {
  const simd::KernelSets sets = simd::kernel_sets();
  for (int s = 0; s < sets.count; ++s)
    for (const int64_t rows : {1, 13, 16, 33, 64})
      for (const int64_t depth : {64, 130, 300, 320, 576})
        for (const int64_t group : {kInt8Group, depth})
          for (const int64_t depth2 : {0, 16, 32, 62})
            if (sets.sets[s]->multiply) check_rounded(*sets.sets[s], rows, depth, group, depth2);
}

TEST_CASE("int8: the deepest sums are held, and a row that is no number is none alone", "[int8]") {
  const simd::KernelSets sets = simd::kernel_sets();
  constexpr int64_t depth = 1 << 17, rows = 3;
  std::vector<Bf16> panel(panel_size<Bf16>(depth), narrowed<Bf16>({1})[0]), a(rows * depth, panel[0]);
  a[2 * depth + 5] = narrowed<Bf16>({std::numeric_limits<float>::quiet_NaN()})[0];
  for (int s = 0; s < sets.count; ++s) {
    const simd::Kernels& set = *sets.sets[s];
    INFO(set.name);
    const Quantised left = quantised(set, a, rows, depth, depth, depth);
    std::vector<std::uint8_t> bytes(panel_size<std::uint8_t>(depth));
    std::vector<float> steps(kPanel), sums(rows * kPanel);
    set.bf16.pack_int8(panel.data(), depth, depth, bytes.data(), steps.data());
    std::vector<Bf16> out(rows * kPanel);
    simd::TileProduct rest{.rows = rows};
    rest.out = out.data();
    rest.out_stride = kPanel;
    simd::Int8Product product{rows, depth, left.q.data(), depth, left.steps.data(), left.offsets.data(), 1,
                              bytes.data(), steps.data(), sums.data(), kPanel, false, depth};
    if (set.multiply) product.rest = &rest;
    if (set.begin_tiles) set.begin_tiles();
    set.multiply_int8(product);
    if (set.end_tiles) set.end_tiles();
    const std::vector<float> got = set.multiply ? widened(out) : sums;
    for (int64_t i = 0; i < 2 * kPanel; ++i) REQUIRE(got[i] == Approx(depth).epsilon(1e-3));
    for (int64_t i = 2 * kPanel; i < 3 * kPanel; ++i) REQUIRE(std::isnan(got[i]));
  }
}

TEST_CASE("int8: bytes agree in every set, steps are the same", "[int8]") {
  const simd::KernelSets sets = simd::kernel_sets();
  constexpr int64_t depth = 3 * kInt8Group + 6;
  std::vector<Bf16> panel(panel_size<Bf16>(depth));
  const std::vector<Bf16> x = narrowed<Bf16>(values(kPanel, depth, 5));
  simd::rows<Bf16>().pack_columns(x.data(), depth, depth, kPanel, panel.data());
  const Quantised first = quantised(*sets.sets[0], x, kPanel, depth, depth + 2);
  std::vector<std::uint8_t> first_bytes(panel_size<std::uint8_t>(depth)), bytes(first_bytes.size());
  std::vector<float> first_steps(groups_of(depth, kInt8Group) * kPanel), steps(first_steps.size());
  sets.sets[0]->bf16.pack_int8(panel.data(), depth, kInt8Group, first_bytes.data(), first_steps.data());
  for (int s = 1; s < sets.count; ++s) {
    const Quantised got = quantised(*sets.sets[s], x, kPanel, depth, depth + 2);
    sets.sets[s]->bf16.pack_int8(panel.data(), depth, kInt8Group, bytes.data(), steps.data());
    INFO(sets.sets[s]->name);
    for (std::size_t i = 0; i < got.q.size(); ++i) REQUIRE(std::abs(got.q[i] - first.q[i]) <= 1);
    for (std::size_t i = 0; i < bytes.size(); ++i) REQUIRE(std::abs(bytes[i] - first_bytes[i]) <= 1);
    CHECK(got.steps == first.steps);
    CHECK(steps == first_steps);
  }
}

TEST_CASE("int8: what is no number reaches the result, zeros stay zero", "[int8]") {
  const simd::KernelSets sets = simd::kernel_sets();
  for (int s = 0; s < sets.count; ++s)
    for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::vector<float> x(3 * kInt8Group, 0.0f);
      x[kInt8Group + 3] = wrong;
      x[2 * kInt8Group + 1] = 1;
      const Quantised got = quantised(*sets.sets[s], x, 1, 3 * kInt8Group, 3 * kInt8Group);
      CHECK((got.steps[0] == 0 && got.offsets[0] == 0));
      CHECK(std::isnan(got.steps[1]));
      CHECK((got.q[2 * kInt8Group + 1] == 127 && got.steps[2] == Approx(1 / 127.0)));
      CHECK(got.offsets[2] == -128 * 127);
    }
}
