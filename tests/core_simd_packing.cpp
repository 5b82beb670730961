// What moves elements must move every one to its place, in every set; and the kernels on plain float32 arrays.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "core/simd/kernels.hpp"

using namespace kpool::simd;
using std::int64_t;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// A matrix whose elements all differ as far as T can count.
template <class T>
std::vector<T> numbered(int64_t n);
template <>
std::vector<float> numbered(int64_t n) {
  std::vector<float> v(n);
  std::iota(v.begin(), v.end(), 1.0f);
  return v;
}
template <>
std::vector<Bf16> numbered(int64_t n) {
  std::vector<Bf16> v(n);
  for (int64_t i = 0; i < n; ++i) v[i].bits = static_cast<std::uint16_t>(1 + i % 65521);
  return v;
}

bool same(float a, float b) { return a == b; }
bool same(Bf16 a, Bf16 b) { return a.bits == b.bits; }

const RowKernels<float>& of(const Kernels& set, float) { return set.f32; }
const RowKernels<Bf16>& of(const Kernels& set, Bf16) { return set.bf16; }

/// Where B[d][c] lies in a panel.
template <class T>
int64_t place(int64_t d, int64_t c) {
  return sizeof(T) == 2 ? d / 2 * kPanel * 2 + c * 2 + d % 2 : d * kPanel + c;
}

template <class T>
void check_packing(const RowKernels<T>& k, bool by_rows, int64_t depth, int64_t count) {
  INFO((by_rows ? "rows" : "columns") << " of depth " << depth << ", " << count << " columns");
  const int64_t stride = (by_rows ? count : depth) + 3, across = by_rows ? depth : count;
  const std::vector<T> in = numbered<T>(across * stride - 3);
  const T border{77};
  const int64_t padded = sizeof(T) == 2 ? (depth + 1) / 2 * 2 : depth;
  std::vector<T> panel(padded * kPanel + 40, border), want(panel.size(), border);
  for (int64_t d = 0; d < padded; ++d) {
    for (int64_t c = 0; c < kPanel; ++c) {
      const bool there = d < depth && c < count;
      want[place<T>(d, c)] = there ? in[by_rows ? d * stride + c : c * stride + d] : T{0};
    }
  }
  (by_rows ? k.pack_rows : k.pack_columns)(in.data(), stride, depth, count, panel.data());
  CHECK(std::equal(panel.begin(), panel.end(), want.begin(), [](T a, T b) { return same(a, b); }));
  if (by_rows || depth % 2 != 0 || depth > kPanel) return;
  const int64_t turned_size = (sizeof(T) == 2 ? (count + 1) / 2 * 2 : count) * kPanel;
  std::vector<T> turned(turned_size + 40, border), turned_want = turned;
  k.pack_rows(in.data(), stride, count, depth, turned_want.data());
  k.turn_panel(panel.data(), depth, count, turned.data());
  CHECK(std::equal(turned.begin(), turned.end(), turned_want.begin(), [](T a, T b) { return same(a, b); }));
}

template <class T>
void check_scaled_panels(const RowKernels<T>& k, int64_t rows, int64_t columns) {
  INFO("scaled panels of " << rows << " x " << columns);
  const int64_t apart = rows * kPanel + 7, stride = columns + 3;
  std::vector<float> in((columns + kPanel - 1) / kPanel * apart);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i % 97);
  const T border{77};
  std::vector<T> out(rows * stride, border), want = out;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      const float value = in[c / kPanel * apart + r * kPanel + c % kPanel] * 2;
      k.from_float(&value, 1, &want[r * stride + c]);
    }
  k.scaled_panels(in.data(), apart, rows, columns, 2, out.data(), stride);
  CHECK(std::equal(out.begin(), out.end(), want.begin(), [](T a, T b) { return same(a, b); }));
}

template <class T>
void check_transpose(const RowKernels<T>& k, int64_t rows, int64_t columns) {
  INFO("transpose of " << rows << " x " << columns);
  const int64_t in_stride = columns + 5, out_stride = rows + 3;
  const std::vector<T> in = numbered<T>(rows * in_stride - 5);
  const T border{77};
  std::vector<T> out(columns * out_stride + 40, border), want = out;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) want[c * out_stride + r] = in[r * in_stride + c];
  }
  k.transpose(in.data(), in_stride, rows, columns, out.data(), out_stride);
  CHECK(std::equal(out.begin(), out.end(), want.begin(), [](T a, T b) { return same(a, b); }));
}

template <class Body>
void each_set(Body body) {
  const KernelSets all = kernel_sets();
  for (int k = 0; k < all.count; ++k) {
    INFO("set " << all.sets[k]->name);
    body(*all.sets[k]);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("panels hold every element in its place and zeros elsewhere", "[simd]", float, Bf16) {
  each_set([](const Kernels& set) {
    for (const int64_t depth : {1, 2, 7, 8, 31, 32, 33, 64, 577}) {
      for (const int64_t count : {1, 7, 15, 16, 17, 31, 32}) {
        check_packing(of(set, TestType{}), true, depth, count);
        check_packing(of(set, TestType{}), false, depth, count);
      }
    }
  });
}

TEMPLATE_TEST_CASE("transpose moves every element", "[simd]", float, Bf16) {
  each_set([](const Kernels& set) {
    for (const int64_t rows : {1, 7, 31, 33, 64, 577}) {
      for (const int64_t columns : {1, 7, 31, 33, 64, 130}) check_transpose(of(set, TestType{}), rows, columns);
    }
  });
}

TEMPLATE_TEST_CASE("panels side by side are scaled and rounded", "[simd]", float, Bf16) {
  each_set([](const Kernels& set) {
    for (const int64_t columns : {1, 7, 31, 33, 64, 130}) check_scaled_panels(of(set, TestType{}), 9, columns);
  });
}

TEST_CASE("maximum finds the largest wherever it is", "[simd]") {
  each_set([](const Kernels& set) {
    CHECK(set.maximum(nullptr, 0) == -kInfinity);
    for (const int64_t n : {1, 7, 31, 33, 64, 577}) {
      for (int64_t at = 0; at < n; ++at) {
        std::vector<float> x(n, -5.0f);
        x[at] = -3;
        REQUIRE(set.maximum(x.data(), n) == -3);
      }
    }
    const std::vector<float> nothing(33, -kInfinity);
    CHECK(set.maximum(nothing.data(), 33) == -kInfinity);
  });
}

TEST_CASE("finite sees a NaN or an infinity wherever it is", "[simd]") {
  each_set([](const Kernels& set) {
    CHECK(set.finite(nullptr, 0));
    for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      for (const int64_t n : {1, 7, 31, 33, 64, 577}) {
        std::vector<float> x(n, -std::numeric_limits<float>::max());
        REQUIRE(set.finite(x.data(), n));
        for (int64_t at = 0; at < n; ++at) {
          x[at] = bad;
          REQUIRE_FALSE(set.finite(x.data(), n));
          x[at] = 3e38f;
        }
      }
    }
  });
}

TEMPLATE_TEST_CASE("signum moves weights by the sign and keeps the momentum", "[simd]", float, Bf16) {
  each_set([](const Kernels& set) {
    for (const float dead : {0.0f, 0.25f}) {
      for (const int64_t n : {1, 7, 31, 33, 64, 577}) {
        INFO(n << " weights, dead zone " << dead);
        const SignumFactors factors{.beta = 0.5f, .fresh = 0.5f, .keep = 0.75f, .eta = 0.125f, .dead = dead};
        std::vector<float> weights(n), gradient(n), want_weights(n), want_momentum(n), momentum32(n);
        std::vector<TestType> momentum(n);
        for (int64_t i = 0; i < n; ++i) {  // all sums are exact, so that no set may differ
          weights[i] = float(i % 17) - 8;
          gradient[i] = i % 5 == 0 ? 0 : 0.25f * float(i % 7 - 3);
          momentum32[i] = i % 5 == 0 ? 0 : 0.5f * float(i % 3 - 1);
          want_momentum[i] = 0.5f * momentum32[i] + 0.5f * gradient[i];
          const bool moves = want_momentum[i] != 0 && std::abs(want_momentum[i]) >= dead;
          want_weights[i] = 0.75f * weights[i] - (moves ? std::copysign(0.125f, want_momentum[i]) : 0);
        }
        of(set, TestType{}).from_float(momentum32.data(), n, momentum.data());
        if constexpr (sizeof(TestType) == 2) {
          set.signum_bf16(weights.data(), momentum.data(), gradient.data(), n, factors);
        } else {
          set.signum(weights.data(), momentum.data(), gradient.data(), n, factors);
        }
        of(set, TestType{}).to_float(momentum.data(), n, momentum32.data());
        CHECK(weights == want_weights);
        CHECK(momentum32 == want_momentum);
      }
    }
  });
}

TEST_CASE("signum takes the sign before the momentum is rounded away", "[simd]") {
  each_set([](const Kernels& set) {
    const SignumFactors factors{.beta = 0.9f, .fresh = 0.1f, .keep = 1, .eta = 0.5f, .dead = 0};
    std::vector<float> weights{1, 1, 1};
    std::vector<Bf16> momentum(3);
    const std::vector<float> gradient{1e-39f, -1e-39f, std::numeric_limits<float>::quiet_NaN()};
    set.signum_bf16(weights.data(), momentum.data(), gradient.data(), 3, factors);
    CHECK(weights == std::vector<float>{0.5f, 1.5f, 1});  // a NaN moves nothing
    CHECK((momentum[2].bits & 0x7fff) > 0x7f80);
  });
}
