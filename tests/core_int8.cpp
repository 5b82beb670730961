// Products in 8-bit integers, which input gradients take: the kernels against double precision, and whole steps against
// those without them.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/gemm.hpp"
#include "core/linear.hpp"
#include "core/quantisation.hpp"
#include "tests/step_fixture.hpp"

using namespace kpool;
using namespace kpool::testing;
using std::int64_t;

namespace {

int64_t groups_of(int64_t depth) { return (depth + kInt8Group - 1) / kInt8Group; }

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
Quantised quantised(const simd::Kernels& set, const std::vector<T>& x, int64_t rows, int64_t depth, int64_t stride) {
  const int64_t groups = groups_of(depth);
  Quantised out{std::vector<std::int8_t>(rows * stride, 99), std::vector<float>(rows * groups),
                std::vector<std::int32_t>(rows * groups)};
  for (int64_t i = 0; i < rows; ++i)
    of<T>(set).quantise(x.data() + i * depth, depth, out.q.data() + i * stride, out.steps.data() + i * groups,
                        out.offsets.data() + i * groups);
  return out;
}

template <class T>
void check_product(const simd::Kernels& set, int64_t rows, int64_t depth, bool add) {
  INFO(set.name << ": " << rows << " rows, depth " << depth << ", element of " << sizeof(T) << ", add " << add);
  const int64_t groups = groups_of(depth), stride = (depth + 3) / 4 * 4 + 8;
  const auto a = narrowed<T>(values(rows, depth, 1)), b = narrowed<T>(values(depth, kPanel, 2));
  const auto wide_a = widened(a), wide_b = widened(b);
  const Quantised left = quantised(set, a, rows, depth, stride);
  std::vector<double> exact_a(wide_a.size());  // step q
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t d = 0; d < depth; ++d) {
      const double step = left.steps[i * groups + d / kInt8Group], x = wide_a[i * depth + d];
      exact_a[i * depth + d] = step * left.q[i * stride + d];
      REQUIRE(std::fabs(exact_a[i * depth + d] - x) <= 0.5001 * step);
    }
  std::vector<T> panel(panel_size<T>(depth));
  of<T>(set).pack_rows(b.data(), kPanel, depth, kPanel, panel.data());
  std::vector<std::uint8_t> bytes(panel_size<std::uint8_t>(depth));
  std::vector<float> steps(groups * kPanel);
  of<T>(set).pack_int8(panel.data(), depth, bytes.data(), steps.data());
  std::vector<double> exact_b(wide_b.size());
  for (int64_t d = 0; d < depth; ++d)
    for (int64_t c = 0; c < kPanel; ++c) {
      const double step = steps[d / kInt8Group * kPanel + c];
      exact_b[d * kPanel + c] = step * (bytes[(d / 4 * kPanel + c) * 4 + d % 4] - 128);
      REQUIRE(std::fabs(exact_b[d * kPanel + c] - wide_b[d * kPanel + c]) <= 0.5001 * step);
    }
  const int64_t sums_stride = kPanel + 8;
  std::vector<float> sums(rows * sums_stride, 0.5f);
  if (set.begin_tiles) set.begin_tiles();
  set.multiply_int8({rows, depth, left.q.data(), stride, left.steps.data(), left.offsets.data(), groups, bytes.data(),
                     steps.data(), sums.data(), sums_stride, add});
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

/// Of two gradients: the length of the difference in units of the second's.
double distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

std::vector<std::string> precisions() {
  std::vector<std::string> all{"float32"};
  if (multiplies_bfloat16()) all.push_back("bfloat16");
  return all;
}

}  // namespace

TEST_CASE("int8: rows, panels and their product are those of double precision", "[int8]") {
  const simd::KernelSets sets = simd::kernel_sets();
  for (int s = 0; s < sets.count; ++s)
    for (const int64_t rows : {1, 2, 5, 6, 7, 13, 16, 33, 64})
      for (const int64_t depth : {4, 7, 64, 128, 130, 300})
        for (const bool add : {false, true}) {
          check_product<float>(*sets.sets[s], rows, depth, add);
          check_product<Bf16>(*sets.sets[s], rows, depth, add);
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

TEST_CASE("int8: a step's gradient is nearly that of full precision, its loss the same", "[int8]") {
  use_threads(2);
  for (const std::string& precision : precisions())
    for (const char* weights : {"bf16", "quantised"})
      for (const TinyModel& model : kStepModels) {
        INFO(model.architecture << ", " << precision << ", " << weights);
        const auto full = load(model, {.precision = precision, .weights = weights, .gradients = "full"});
        const auto int8 = load(model, {.precision = precision, .weights = weights, .gradients = "int8"});
        Workspace workspace = make_workspace(full->weights());
        const Outcome expected = train(*full, workspace, Kept::all), measured = train(*int8, workspace, Kept::all);
        CHECK(at::equal(measured.nats, expected.nats));
        const double off = distance(measured.gradient, expected.gradient);
        CHECK(off > 0);
        CHECK(off < 0.02);
      }
}

TEST_CASE("int8: a base that stays quantised gives the same gradient, bit for bit", "[int8]") {
  use_threads(2);
  for (const std::string& precision : precisions())
    for (const TinyModel& model : kStepModels) {
      INFO(model.architecture << ", " << precision);
      const auto dense = load(model, {.precision = precision, .gradients = "int8"});
      const auto mapped = load(model, {.precision = precision, .weights = "quantised", .gradients = "int8"});
      Workspace workspace = make_workspace(dense->weights());
      CHECK(at::equal(train(*dense, workspace, Kept::all).gradient, train(*mapped, workspace, Kept::all).gradient));
    }
}

TEST_CASE("int8: linears of any shape stay within linear_bytes, mapped ones give what dense ones do", "[int8]") {
  std::mt19937 engine(4);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1536, 288}, {288, 768}, {70, 512}, {3300, 256}})
    for (const std::string& precision : precisions())
      for (const GgmlType type : {GgmlType::q4_k, GgmlType::q6_k}) {
        if (columns % 256 != 0 && type == GgmlType::q6_k) continue;
        const at::ScalarType dtype = precision == "float32" ? at::kFloat : at::kBFloat16;
        const bool blocks = columns % 256 == 0;
        INFO(rows << " x " << columns << ", " << precision << ", type " << static_cast<int>(type));
        const auto layout = *block_layout(static_cast<std::uint32_t>(blocks ? type : GgmlType::q4_0));
        std::string bytes(static_cast<std::size_t>(rows * columns / layout.elements * layout.bytes), '\0');
        for (char& byte : bytes) byte = static_cast<char>(engine() & 0x2d);  // no scale is a NaN or large
        GgufTensor tensor;
        tensor.type = blocks ? type : GgmlType::q4_0;
        tensor.shape = {rows, columns};
        tensor.data = std::as_bytes(std::span(bytes));
        FrozenMatrix mapped{.rows = rows, .columns = columns, .dtype = dtype, .parts = {{&tensor}}};
        mapped.int8_gradients = true;
        FrozenMatrix dense = mapped;
        dense.panels = mapped.packed();
        dense.parts.clear();
        constexpr int64_t tokens = 64;
        for (const int threads : {1, 4}) {
          use_threads(static_cast<std::uint32_t>(threads));
          const at::Tensor in = random_rows(tokens, columns, dtype, 1);
          at::Tensor outs[2] = {at::empty({tokens, rows}, dtype), at::empty({tokens, rows}, dtype)}, none;
          for (int i = 0; i < 2; ++i) {
            const FrozenMatrix& matrix = i == 0 ? dense : mapped;
            Workspace workspace;
            workspace.reserve(linear_bytes(matrix, 0, tokens, threads));
            project({matrix, nullptr, nullptr, 0, true}, in, none, outs[i], workspace);
          }
          CHECK(at::equal(outs[0], outs[1]));
          const at::Tensor exact = in.to(at::kFloat).mm(mapped.expanded().to(at::kFloat).t());
          CHECK(distance(outs[0].to(at::kFloat), exact) < 0.03);
        }
      }
}

TEST_CASE("int8: a step of a model whose products are wide fits the plan", "[int8]") {
  for (const std::string& precision : precisions()) {
    TinyModel model;
    model.hidden = 288, model.heads = model.kv_heads = 6, model.ffn = 768;
    const auto base = load(model, {.precision = precision, .gradients = "int8"});
    for (const std::uint32_t threads : {1U, 3U, 12U}) {
      use_threads(threads);
      Workspace workspace = make_workspace(base->weights());
      CHECK(at::isfinite(train(*base, workspace, Kept::least).gradient).all().item<bool>());
    }
  }
  use_threads(2);
}

TEST_CASE("int8: gradients are a choice", "[int8]") {
  const auto layer = [](const BaseOptions& options) { return load({}, options)->weights().layers[0].down; };
  CHECK_FALSE(layer({.precision = "float32"}).int8_gradients);
  CHECK_FALSE(layer({.gradients = "full"}).int8_gradients);
  CHECK(layer({.precision = "float32", .gradients = "int8"}).int8_gradients);
  CHECK(layer({}).int8_gradients == int8_is_faster(multiplies_bfloat16(), Pass::backward));
  const auto refused = try_load({}, {.gradients = "int4"});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message == "gradients \"int4\" are none of auto, int8, full.");
}
