// Whole steps whose input gradients pass the frozen matrices in 8-bit integers, against those without.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "core/gemm.hpp"
#include "core/linear.hpp"
#include "core/quantisation.hpp"
#include "tests/step_fixture.hpp"

using namespace kpool;
using namespace kpool::testing;
using std::int64_t;

namespace {

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

TEST_CASE("int8: a step's gradient is nearly that of full precision, its loss the same", "[int8]") {
  use_threads(2);
  for (const std::string& precision : precisions())
    for (const char* weights : {"bf16", "quantised"})
      for (const TinyModel& model : kStepModels) {
        INFO(model.architecture << ", " << precision << ", " << weights);
        BaseOptions options{.precision = precision, .weights = weights, .gradients = "full", .forward = "full"};
        const auto full = load(model, options);
        options.gradients = "int8";
        const auto int8 = load(model, options);
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
    for (const char* forward : {"full", "int8"})
      for (const TinyModel& model : kStepModels) {
        INFO(model.architecture << ", " << precision << ", forward " << forward);
        BaseOptions options{.precision = precision, .gradients = "int8", .forward = forward};
        const auto dense = load(model, options);
        options.weights = "quantised";
        const auto mapped = load(model, options);
        Workspace workspace = make_workspace(dense->weights());
        CHECK(at::equal(train(*dense, workspace, Kept::all).gradient, train(*mapped, workspace, Kept::all).gradient));
      }
}

TEST_CASE("int8: forward, a step's loss and gradient are nearly those of full precision", "[int8]") {
  use_threads(2);
  for (const std::string& precision : precisions())
    for (const TinyModel& model : kStepModels) {
      INFO(model.architecture << ", " << precision);
      const auto full = load(model, {.precision = precision, .gradients = "full", .forward = "full"});
      const auto int8 = load(model, {.precision = precision, .gradients = "full", .forward = "int8"});
      Workspace workspace = make_workspace(full->weights());
      const Outcome expected = train(*full, workspace, Kept::all), all = train(*int8, workspace, Kept::all);
      const double off = distance(all.nats, expected.nats);
      CHECK((off > 0 && off < 0.01));
      CHECK(distance(all.gradient, expected.gradient) < 0.1);
      for (const Kept kept : {Kept::least, Kept::mixed}) {  // what is computed again is computed as before
        const Outcome again = train(*int8, workspace, kept);
        CHECK(at::equal(again.nats, all.nats));
        CHECK(distance(again.gradient, all.gradient) < 1e-3);
      }
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
    const auto base = load(model, {.precision = precision, .gradients = "int8", .forward = "int8"});
    for (const std::uint32_t threads : {1U, 3U, 12U}) {
      use_threads(threads);
      Workspace workspace = make_workspace(base->weights());
      CHECK(at::isfinite(train(*base, workspace, Kept::least).gradient).all().item<bool>());
    }
  }
  use_threads(2);
}

TEST_CASE("int8: the forward pass is a choice, and only training's", "[int8]") {
  const auto base = load({}, {.precision = "float32", .forward = "int8"});
  CHECK(base->int8_forward());
  CHECK_FALSE(load({}, {.forward = "full"})->int8_forward());
  CHECK_FALSE(load({}, {.precision = "float32"})->int8_forward());
  const std::string kernels = simd::kernels().name;
  CHECK(load({}, {})->int8_forward() == (kernels != "plain" && kernels != "avx2"));
  const std::vector<std::int32_t> text{65, 66, 67, 68, 69, 70};
  const Segment segment{text, 1};
  Workspace workspace = make_workspace(base->weights());
  Batch batch = make_batch(base->weights(), {&segment, 1});
  const at::Tensor scored = nats(base->weights(), batch, nullptr, workspace);
  CHECK(at::equal(scored, nats(load({}, {.precision = "float32"})->weights(), batch, nullptr, workspace)));
  batch.int8 = true;
  CHECK_FALSE(at::equal(scored, nats(base->weights(), batch, nullptr, workspace)));
  const auto refused = try_load({}, {.forward = "int4"});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message == "forward \"int4\": none of auto, int8, full.");
}

TEST_CASE("int8: gradients are a choice", "[int8]") {
  const auto layer = [](const BaseOptions& options) { return load({}, options)->weights().layers[0].down; };
  CHECK_FALSE(layer({.precision = "float32"}).int8_gradients);
  CHECK_FALSE(layer({.gradients = "full"}).int8_gradients);
  CHECK(layer({.precision = "float32", .gradients = "int8"}).int8_gradients);
  CHECK(layer({}).int8_gradients == int8_is_faster());
  const auto refused = try_load({}, {.gradients = "int4"});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message == "gradients \"int4\": none of auto, int8, full.");
}
