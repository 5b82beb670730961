// libtorch's operators against the tiles, on the whole step: what CUDA runs, but for the device.
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "core/gemm.hpp"
#include "core/llama.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

using namespace kpool;

namespace {

std::shared_ptr<const Base> load(const std::string& precision, bool library, const std::string& device = "cpu") {
  testing::TemporaryDirectory directory;
  testing::write_tiny_model({.architecture = "qwen2", .layers = 3, .tied = false}, directory.file("tiny.gguf"));
  BaseOptions options{directory.file("tiny.gguf"), precision};
  options.library = library;
  options.device = device;
  auto base = Base::load(options);
  REQUIRE(base);
  return *base;
}

struct Outcome {
  std::vector<float> nats, gradient;
};

/// mixed: a plan with a layer of each kind.
Outcome run(const Base& base, bool mixed = false) {
  const Base::Weights& weights = base.weights();
  std::mt19937 engine(7);
  std::vector<std::int32_t> tokens(150);
  for (auto& token : tokens) token = static_cast<std::int32_t>(engine() % 256);
  const std::span<const std::int32_t> all(tokens);
  const Segment segments[] = {{all.first(101), 5}, {all.subspan(101), 1}};
  const Batch batch = make_batch(weights, segments);
  const LoraLayout layout(weights.shape, 4);
  std::vector<float> flat(layout.size), signs(layout.size);
  draw_lora(layout, 3, 1, flat);
  draw_signs(3, 1, 1, signs);
  for (const LoraPlace& place : layout.places)
    for (std::int64_t i = 0; i < place.out * layout.rank; ++i) flat[place.b + i] = 0.05f * signs[place.b + i];
  Adapter adapter(layout, weights.dtype, 2.0, weights.device);
  adapter.load(flat);
  Workspace workspace(weights.operators, weights.device);
  StepPlan plan = plan_step(weights, layout, batch.tokens, thread_count());
  if (mixed) plan.store_all = plan.store_narrow = plan.store_inputs = 1;
  Outcome outcome{{}, std::vector<float>(layout.size)};
  const at::Tensor nats = nats_and_gradient(weights, batch, adapter, plan, outcome.gradient, workspace).cpu();
  outcome.nats.assign(nats.const_data_ptr<float>(), nats.const_data_ptr<float>() + nats.numel());
  return outcome;
}

double norm(const std::vector<float>& x) {
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

void check_close(const Outcome& a, const Outcome& b, double tolerance, double nats_tolerance) {
  REQUIRE(a.nats.size() == b.nats.size());
  for (std::size_t i = 0; i < a.nats.size(); ++i) CHECK(a.nats[i] == Approx(b.nats[i]).margin(nats_tolerance));
  std::vector<float> difference(a.gradient);
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= b.gradient[i];
  CHECK(norm(difference) < tolerance * norm(a.gradient));
}

}  // namespace

TEST_CASE("libtorch's operators compute what the tiles compute", "[library]") {
  const auto tiles = load("float32", false), library = load("float32", true);
  REQUIRE(tiles->weights().operators == Operators::tiles);
  REQUIRE(library->weights().operators == Operators::library);
  check_close(run(*tiles), run(*library), 1e-4, 1e-4);
  if (!multiplies_bfloat16()) return;
  check_close(run(*load("bfloat16", false)), run(*load("bfloat16", true)), 5e-2, 0.1);
}

TEST_CASE("libtorch's operators follow a plan, too", "[library]") {
  const auto library = load("float32", true);
  check_close(run(*library), run(*library, true), 1e-5, 1e-5);
}

TEST_CASE("a device that is not there is refused by name", "[library]") {
  testing::TemporaryDirectory directory;
  testing::write_tiny_model({}, directory.file("tiny.gguf"));
  BaseOptions options{directory.file("tiny.gguf"), "auto"};
  options.device = "tpu";
  const auto refused = Base::load(options);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("tpu") != std::string::npos);
  if (at::globalContext().hasCUDA()) return;
  options.device = "cuda";
  const auto absent = Base::load(options);
  REQUIRE_FALSE(absent);
  CHECK(absent.error().fault == Fault::bad_config);
}

TEST_CASE("CUDA computes what the CPU computes", "[library][cuda]") {
  if (!at::globalContext().hasCUDA()) {
    WARN("skipped: libtorch sees no CUDA device");
    return;
  }
  const auto cpu = load("float32", true), cuda = load("float32", false, "cuda");
  check_close(run(*cpu), run(*cuda), 1e-3, 1e-3);
}
