#include "core/workspace.hpp"

#include <catch2/catch.hpp>
#include <map>
#include <numeric>

#include "core/llama.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

using namespace kpool;

TEST_CASE("a step says which section it turns to", "[workspace]") {
  kpool::testing::TemporaryDirectory directory;
  kpool::testing::write_tiny_model({.layers = 3}, directory.file("tiny.gguf"));
  const auto base = Base::load({directory.file("tiny.gguf"), "float32"});
  REQUIRE(base);
  const Base::Weights& weights = (*base)->weights();
  std::vector<std::int32_t> tokens(40);
  std::iota(tokens.begin(), tokens.end(), 1);
  const Segment segment{tokens, 1};
  const Batch batch = make_batch(weights, {&segment, 1});
  const LoraLayout layout(weights.shape, 4);
  Adapter adapter(layout, at::kFloat, 2.0);
  std::vector<float> flat(layout.size), gradient(layout.size);
  draw_lora(layout, 1, 1, flat);
  adapter.load(flat);
  const StepPlan leanest = plan_step(weights, layout, batch.tokens, thread_count(), 1);
  std::map<Section, int> entered;
  Workspace workspace;
  workspace.on_section = [&](Section section) { ++entered[section]; };
  nats_and_gradient(weights, batch, adapter, leanest, gradient, workspace);
  CHECK(entered[Section::loss] == 1);
  CHECK(entered[Section::attention] == 9);  // of three layers: forward, again, backward
  CHECK((entered[Section::product] > 0 && entered[Section::lora] > 0 && entered[Section::elementwise] > 0));
}
