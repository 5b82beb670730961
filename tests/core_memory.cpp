// What is foreseen from a model's file is what is there once it is loaded.
#include "core/memory.hpp"

#include <catch2/catch.hpp>

#include "core/int8_matrix.hpp"
#include "core/slot.hpp"
#include "core/weights.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

using namespace kpool;
using namespace kpool::testing;

namespace {

std::size_t loaded_bytes(const Base::Weights& weights) {
  auto bytes = [](const FrozenMatrix& matrix) {
    return (matrix.dense.defined() ? matrix.dense.nbytes() : 0) +
           (matrix.panels.defined() ? matrix.panels.nbytes() : 0);
  };
  std::size_t sum = bytes(weights.embedding);
  const bool tied = weights.head.defined() && weights.head.panels.is_same(weights.embedding.panels) &&
                    weights.head.dense.is_same(weights.embedding.dense);
  if (weights.head.defined() && !tied) sum += bytes(weights.head);
  for (const LayerWeights& layer : weights.layers)
    sum += bytes(layer.qkv) + bytes(layer.output) + bytes(layer.gate_up) + bytes(layer.down);
  return sum;
}

}  // namespace

TEST_CASE("the base takes what is foreseen, tied or not, whole or a part", "[memory]") {
  const TemporaryDirectory directory;
  const bool tied = GENERATE(true, false);
  const std::string precision = GENERATE("float32", "bfloat16");
  const std::int64_t layers = GENERATE(-1, 1);
  write_tiny_model({.tied = tied}, directory.file("tiny.gguf"));
  const auto outline = Base::load({directory.file("tiny.gguf"), precision, layers, "quantised"});
  const auto base = Base::load({directory.file("tiny.gguf"), precision, layers, "bf16"});
  REQUIRE((outline && base));
  const BaseMemory memory = base_memory(**outline);
  const std::size_t loaded = loaded_bytes((*base)->weights());
  CHECK(memory.expanded >= loaded);
  CHECK(memory.expanded <= loaded + loaded / 4);  // matrices of a tiny model fill their panels badly
  const std::size_t element = precision == "float32" ? 4 : 2;
  CHECK(memory.mapped >= loaded * 3 / 4 / element * 4);  // the file holds float32
}

TEST_CASE("what the encoder keeps in 8-bit integers is foreseen", "[memory]") {
  const TemporaryDirectory directory;
  write_tiny_model({.layers = 3, .ffn = 100}, directory.file("tiny.gguf"));
  const auto outline = Base::load({directory.file("tiny.gguf"), "float32", -1, "quantised"});
  const auto base = Base::load({directory.file("tiny.gguf"), "float32"});
  REQUIRE((outline && base));
  EncoderOptions options{"base:2"};
  options.products = "int8";
  std::size_t kept = 0;
  for (const Int8Layer& layer : int8_layers((*base)->weights(), 2))
    for (const Int8Matrix* matrix : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down})
      kept += matrix->panels.nbytes() + matrix->steps.nbytes();
  CHECK(encoder_memory(options, **outline, true).int8 == kept);
  CHECK(encoder_memory(options, **outline, false).int8 == 0);
  options.products = "full";
  CHECK(encoder_memory(options, **outline, true).int8 == 0);
}

TEST_CASE("a leaner step, fewer layers and a narrower momentum take less", "[memory]") {
  const TemporaryDirectory directory;
  write_tiny_model({.layers = 6}, directory.file("tiny.gguf"));
  const auto base = Base::load({directory.file("tiny.gguf"), "float32", -1, "quantised"});
  REQUIRE(base);
  LearnerOptions options;
  options.threads = 1;
  options.momentum_type = MomentumType::float32;
  const LearnerMemory wide = learner_memory(options, **base);
  CHECK(wide.slot == 8 * static_cast<std::size_t>(LoraLayout((*base)->shape(), 8).size));
  CHECK(wide.activations_least < wide.activations_most);
  options.momentum_type = MomentumType::bfloat16;
  CHECK(learner_memory(options, **base).slot * 4 == wide.slot * 3);
  options.top_layers = 2;
  const LearnerMemory top = learner_memory(options, **base);
  CHECK(top.slot * 4 == wide.slot);
  CHECK(top.activations_most < wide.activations_most);
  const std::size_t below = (options.tokens_per_step + 32) * static_cast<std::size_t>((*base)->shape().hidden) * 4;
  CHECK((top.scratch > below && top.scratch - below < wide.scratch));
}
