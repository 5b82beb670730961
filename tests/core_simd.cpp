// Every kernel of every set that this processor runs, against the plainest double-precision form of it.
#include "core/simd/kernels.hpp"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace kpool::simd;
using std::int64_t;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
const std::vector<int64_t> kSizes{1, 7, 31, 33, 64, 577};

double value(float x) { return x; }
double value(Bf16 x) { return std::bit_cast<float>(std::uint32_t{x.bits} << 16); }

/// The nearest T, ties to even; NaN stays one.
template <class T>
T rounded(float x);
template <>
float rounded(float x) { return x; }
template <>
Bf16 rounded(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if (std::isnan(x)) return {static_cast<std::uint16_t>(bits >> 16 | 0x40)};
  return {static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

template <class T>
constexpr double kRounding = sizeof(T) == 2 ? 1.0 / 256 : 3e-7;

/// How far exp may be off before it is rounded.
template <class T>
constexpr double kExponential = sizeof(T) == 2 ? 2e-4 : 2e-7;

/// A vector with a border behind it that a kernel must leave alone.
template <class T>
struct Row {
  explicit Row(int64_t size) : n(size), data(size + 40, rounded<T>(-77)) {}
  Row(int64_t size, unsigned seed, float spread = 2) : Row(size) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> draw(-spread, spread);
    for (int64_t i = 0; i < n; ++i) data[i] = rounded<T>(draw(random));
  }
  T* get() { return data.data(); }
  double operator[](int64_t i) const { return value(data[i]); }
  bool border_intact() const {
    for (std::size_t i = n; i < data.size(); ++i) {
      if (value(data[i]) != -77) return false;
    }
    return true;
  }
  int64_t n;
  std::vector<T> data;
};

/// Compares with what `reference` gives for every i, to `tolerance` of the value plus `absolute`.
template <class T, class Reference>
void check(const Row<T>& row, Reference reference, double absolute = 1e-6, double tolerance = kRounding<T>) {
  CHECK(row.border_intact());
  for (int64_t i = 0; i < row.n; ++i) {
    const double want = reference(i);
    if (std::abs(row[i] - want) <= tolerance * std::abs(want) + absolute) continue;
    FAIL_CHECK("element " << i << " of " << row.n << " is " << row[i] << ", not " << want);
    return;
  }
}

double silu(double x) { return x / (1 + std::exp(-x)); }

/// body(set's kernels, n) for every set and size.
template <class T, class Body>
void each_set(Body body) {
  const KernelSets all = kernel_sets();
  for (int k = 0; k < all.count; ++k) {
    const Kernels& set = *all.sets[k];
    for (const int64_t n : kSizes) {
      INFO("set " << set.name << ", " << n << " elements of " << sizeof(T) << " bytes");
      if constexpr (sizeof(T) == 2) {
        body(set.bf16, n);
      } else {
        body(set.f32, n);
      }
    }
  }
}

}  // namespace

TEST_CASE("plain kernels are always there, and the best set is the last", "[simd]") {
  const KernelSets all = kernel_sets();
  REQUIRE(all.count >= 1);
  CHECK(std::string(all.sets[0]->name) == "plain");
  CHECK(&kernels() == all.sets[all.count - 1]);
  CHECK(&rows<float>() == &kernels().f32);
  CHECK(&rows<Bf16>() == &kernels().bf16);
}

TEMPLATE_TEST_CASE("norm adds, norms and can be repeated from what it kept", "[simd]", float, Bf16) {
  using T = TestType;
  each_set<T>([](const RowKernels<T>& k, int64_t n) {
    Row<float> hidden(n, 1), weight(n, 2), sum(n);
    Row<T> delta(n, 3), out(n), again(n), alone(n);
    const float inverse = k.norm(hidden.get(), delta.get(), weight.get(), 1e-5, n, sum.get(), out.get());
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += std::pow(hidden[i] + delta[i], 2);
    const double want = 1 / std::sqrt(squares / double(n) + 1e-5);
    CHECK(inverse == Approx(want).epsilon(1e-6));
    check(sum, [&](int64_t i) { return hidden[i] + delta[i]; });
    check(out, [&](int64_t i) { return (hidden[i] + delta[i]) * want * weight[i]; });
    k.normed(sum.get(), inverse, weight.get(), n, again.get());
    CHECK(std::memcmp(again.get(), out.get(), n * sizeof(T)) == 0);
    const float of_sum = k.norm(sum.get(), nullptr, weight.get(), 1e-5, n, nullptr, alone.get());
    CHECK(of_sum == inverse);
    CHECK(std::memcmp(alone.get(), out.get(), n * sizeof(T)) == 0);
    k.norm(hidden.get(), delta.get(), weight.get(), 1e-5, n, hidden.get(), again.get());  // in place
    CHECK(hidden.data == sum.data);
    CHECK(std::memcmp(again.get(), out.get(), n * sizeof(T)) == 0);
  });
}

TEMPLATE_TEST_CASE("norm_backward adds the gradient of norm", "[simd]", float, Bf16) {
  using T = TestType;
  each_set<T>([](const RowKernels<T>& k, int64_t n) {
    Row<float> sum(n, 1), weight(n, 2), gradient(n, 3);
    const Row<float> before = gradient;
    Row<T> dout(n, 4);
    const float inverse = 0.7f;
    k.norm_backward(dout.get(), sum.get(), inverse, weight.get(), n, gradient.get());
    double along = 0;
    for (int64_t i = 0; i < n; ++i) along += dout[i] * weight[i] * sum[i];
    check(gradient, [&](int64_t i) {
      return before[i] + inverse * dout[i] * weight[i] - sum[i] * std::pow(inverse, 3) * along / double(n);
    }, 3e-6);
  });
}

TEMPLATE_TEST_CASE("rotate turns pairs half a head apart, unrotate is its transpose", "[simd]", float, Bf16) {
  using T = TestType;
  each_set<T>([](const RowKernels<T>& k, int64_t half) {
    Row<float> cos(half, 1, 1), sin(half, 2, 1), dy(2 * half, 3);
    Row<T> x(2 * half, 4), dx(2 * half);
    const Row<T> before = x;
    const float scale = 0.125f;
    k.rotate(x.get(), cos.get(), sin.get(), half, scale);
    check(x, [&](int64_t i) {
      const int64_t j = i % half;
      const double a = before[j], b = before[half + j];
      return scale * (i < half ? a * cos[j] - b * sin[j] : b * cos[j] + a * sin[j]);
    });
    k.unrotate(dy.get(), cos.get(), sin.get(), half, scale, dx.get());
    check(dx, [&](int64_t i) {
      const int64_t j = i % half;
      const double a = dy[j], b = dy[half + j];
      return scale * (i < half ? a * cos[j] + b * sin[j] : b * cos[j] - a * sin[j]);
    });
  });
}

TEMPLATE_TEST_CASE("swiglu and its backward pass", "[simd]", float, Bf16) {
  using T = TestType;
  each_set<T>([](const RowKernels<T>& k, int64_t n) {
    Row<T> gate(n, 1, 8), up(n, 2), dout(n, 3), out(n), again(n), dgate(n), dup(n);
    gate.get()[0] = rounded<T>(-200);  // where exp overflows
    gate.get()[n - 1] = rounded<T>(200);
    k.swiglu(gate.get(), up.get(), n, out.get());
    check(out, [&](int64_t i) { return silu(gate[i]) * up[i]; });
    k.swiglu_backward(dout.get(), gate.get(), up.get(), n, dgate.get(), dup.get(), again.get());
    CHECK(std::memcmp(again.get(), out.get(), n * sizeof(T)) == 0);
    check(dup, [&](int64_t i) { return dout[i] * silu(gate[i]); });
    check(dgate, [&](int64_t i) {
      const double s = 1 / (1 + std::exp(-gate[i]));
      return dout[i] * up[i] * s * (1 + gate[i] * (1 - s));
    }, 4e-6);
  });
}

TEMPLATE_TEST_CASE("values go to float and back, are added and taken", "[simd]", float, Bf16) {
  using T = TestType;
  each_set<T>([](const RowKernels<T>& k, int64_t n) {
    Row<float> in(n, 1), wide(n), sum(n, 2);
    const Row<float> before = sum;
    Row<T> out(n);
    k.from_float(in.get(), n, out.get());
    CHECK(out.border_intact());
    for (int64_t i = 0; i < n; ++i) REQUIRE(out[i] == value(rounded<T>(in.data[i])));
    k.to_float(out.get(), n, wide.get());
    check(wide, [&](int64_t i) { return out[i]; }, 0, 0);
    k.add_to_float(out.get(), n, sum.get());
    check(sum, [&](int64_t i) { return before[i] + out[i]; });
    k.take_from_float(out.get(), n, sum.get());
    check(sum, [&](int64_t i) { return before[i]; });
    k.scaled(in.get(), n, 0.375f, out.get());
    check(out, [&](int64_t i) { return 0.375 * in[i]; }, 0);
  });
}

TEMPLATE_TEST_CASE("dot is the sum of products", "[simd]", float, Bf16) {
  using T = TestType;
  each_set<T>([](const RowKernels<T>& k, int64_t n) {
    Row<T> a(n, 1), b(n, 2);
    double want = 0, size = 0;
    for (int64_t i = 0; i < n; ++i) want += a[i] * b[i], size += std::abs(a[i] * b[i]);
    CHECK(std::abs(k.dot(a.get(), b.get(), n) - want) <= 1e-6 * size);
    CHECK(k.dot(a.get(), b.get(), n) == k.dot(a.get(), b.get(), n));
  });
}

TEMPLATE_TEST_CASE("exponentials and their sum", "[simd]", float, Bf16) {
  using T = TestType;
  each_set<T>([](const RowKernels<T>& k, int64_t n) {
    Row<float> x(n, 1, 20);
    if (n > 1) x.data[n / 2] = -kInfinity;
    Row<T> out(n);
    const float shift = 3, factor = 0.5f;
    const float sum = k.exponentials(x.get(), n, shift, factor, out.get());
    const auto e = [&](int64_t i) { return std::exp(double(x.data[i] - shift)); };  // the difference in float32
    double want = 0;
    for (int64_t i = 0; i < n; ++i) want += factor * e(i);
    CHECK(sum == Approx(want).epsilon(1e-6 + kExponential<T>));
    check(out, [&](int64_t i) { return factor * e(i); }, 0, kRounding<T> + kExponential<T>);
    if (n > 1) CHECK(out[n / 2] == 0);
  });
}

TEMPLATE_TEST_CASE("the softmax's backward pass of a panel", "[simd]", float, Bf16) {
  using T = TestType;
  each_set<T>([](const RowKernels<T>& k, int64_t n) {
    const int64_t rows = 2 * n, stride = kPanel + 5;
    Row<float> x(rows * kPanel, 1, 20), dp(rows * kPanel, 2), shift(rows, 3), mean(rows, 4);
    x.data[kPanel + 3] = -kInfinity;
    Row<T> p(rows * kPanel), packed(rows * kPanel), dx(rows * stride - 5);
    k.softmax_backward(x.get(), dp.get(), rows, shift.get(), mean.get(), p.get(), packed.get(), dx.get(), stride);
    const auto row = [&](int64_t i) { return sizeof(T) == 2 ? i / (2 * kPanel) * 2 + i % 2 : i / kPanel; };
    const auto place = [&](int64_t i) { return row(i) * kPanel + (sizeof(T) == 2 ? i / 2 : i) % kPanel; };
    const auto e = [&](int64_t i) {
      return std::exp(double(x.data[place(i)] - shift.data[row(i)]));  // the difference in float32
    };
    const double tolerance = kRounding<T> + kExponential<T>;
    check(p, [&](int64_t i) { return e(i); }, 0, tolerance);
    check(packed, [&](int64_t i) { return e(i) * (dp[place(i)] - mean[row(i)]); }, 1e-6, tolerance);
    CHECK(dx.border_intact());
    for (int64_t i = 0; i < rows * kPanel; ++i) REQUIRE(dx[row(i) * stride + place(i) % kPanel] == packed[i]);
  });
}

TEST_CASE("exp is right to 2e-7 over the normal range and sane beyond", "[simd]") {
  const KernelSets all = kernel_sets();
  for (int k = 0; k < all.count; ++k) {
    INFO("set " << all.sets[k]->name);
    const auto exponentials = all.sets[k]->f32.exponentials;
    std::vector<float> x, y;
    for (float v = -87.33f; v < 88.72f; v += 0.00731f) x.push_back(v);
    y.resize(x.size());
    exponentials(x.data(), static_cast<int64_t>(x.size()), 0, 1, y.data());
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(y[i] / std::exp(double(x[i])) - 1));
    CHECK(worst <= 2e-7);
    std::vector<float> special{-kInfinity, -1e30f, -200, -104, -88, 89, 200, 1e30f, kInfinity, kNan, 0, -0.0f};
    std::vector<float> of(special.size());
    exponentials(special.data(), 12, 0, 1, of.data());
    for (int i = 0; i < 5; ++i) CHECK(of[i] == 0);
    for (int i = 5; i < 9; ++i) CHECK((of[i] > 3.4e38f && !std::isnan(of[i])));
    CHECK(std::isnan(of[9]));
    CHECK((of[10] == 1 && of[11] == 1));
  }
}

TEST_CASE("bfloat16 rounds to nearest even, a NaN stays one", "[simd]") {
  std::vector<float> in{1, 1.00390625f, 1.01171875f, -1.00390625f, 1.00390637f, kInfinity, -kInfinity, 3.4e38f, 0,
                        -0.0f, 3.3961776e38f, 65535, 1e-30f};
  std::vector<float> nans{kNan, -kNan, std::bit_cast<float>(0x7f800001u), std::bit_cast<float>(0xffffffffu)};
  const float denormal = std::bit_cast<float>(0x00418001u);
  const KernelSets all = kernel_sets();
  for (int k = 0; k < all.count; ++k) {
    INFO("set " << all.sets[k]->name);
    std::vector<Bf16> out(16);
    for (int repeat = 0; repeat < 2; ++repeat) {  // in the vectors' tail, then in whole vectors
      all.sets[k]->bf16.from_float(in.data(), static_cast<int64_t>(in.size()), out.data());
      for (std::size_t i = 0; i < std::min(in.size(), out.size()); ++i) CHECK(out[i].bits == rounded<Bf16>(in[i]).bits);
      all.sets[k]->bf16.from_float(nans.data(), static_cast<int64_t>(nans.size()), out.data());
      for (std::size_t i = 0; i < nans.size(); ++i) CHECK(std::isnan(value(out[i])));
      if (repeat == 0) nans.resize(16, kNan), in.resize(16, 3.0f);
    }
    nans.resize(4), in.resize(13);
    all.sets[k]->bf16.from_float(&denormal, 1, out.data());
    CHECK((out[0].bits == 0 || out[0].bits == rounded<Bf16>(denormal).bits));  // some processors flush
    float back = 1;
    out[0] = {0x0041};
    all.sets[k]->bf16.to_float(out.data(), 1, &back);
    CHECK(back == std::bit_cast<float>(0x00410000u));
  }
}
