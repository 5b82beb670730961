// A slot's blob in either type of momentum, and the packing of samples into steps.
#include "core/slot.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>

#include "core/safetensors.hpp"

using namespace kpool;

namespace {

const BaseShape shape{"llama", 2, 32, 4, 2, 8, 64, 264, 512};
const SlotIdentity identity{8, "base"};

/// A slot with weights and momenta of many magnitudes, and some zeros.
SlotState trained(const LoraLayout& layout) {
  const auto size = static_cast<std::size_t>(layout.size);
  std::vector<float> weights(size), momentum(size);
  for (std::size_t i = 0; i < size; ++i) {
    weights[i] = 0.001f * static_cast<float>(i % 17) - 0.008f;
    momentum[i] = static_cast<float>(std::ldexp(static_cast<double>(i % 101) - 50, -static_cast<int>(i % 40)));
  }
  return {3, 7, weights, momentum};
}

}  // namespace

TEST_CASE("a momentum in bfloat16 takes half the room, and a stored one of the other type is converted", "[slot]") {
  const LoraLayout layout(shape, 4);
  const SlotState state = trained(layout);
  const std::string wide = save_slot(state, layout, identity);
  const auto narrowed = restore_slot(wide, layout, identity, MomentumType::bfloat16);
  REQUIRE(narrowed);
  CHECK((narrowed->generation == 3 && narrowed->step == 7));
  CHECK(narrowed->weights == state.weights);
  const std::string narrow = save_slot(*narrowed, layout, identity);
  CHECK(wide.size() - narrow.size() == Approx(2 * layout.size).margin(1024));  // the headers differ a little
  const auto contents = parse_safetensors(narrow);
  REQUIRE(contents);
  for (const auto& [name, tensor] : contents->tensors)
    CHECK(tensor.dtype == (name.starts_with("momentum.") ? "BF16" : "F32"));

  const auto same = restore_slot(narrow, layout, identity, MomentumType::bfloat16);
  REQUIRE(same);
  CHECK(save_slot(*same, layout, identity) == narrow);
  const auto widened = restore_slot(narrow, layout, identity, MomentumType::float32);
  REQUIRE(widened);
  CHECK(widened->weights == state.weights);
  const auto& before = std::get<std::vector<float>>(state.momentum);
  const auto& after = std::get<std::vector<float>>(widened->momentum);
  for (std::size_t i = 0; i < before.size(); ++i)
    if (std::abs(after[i] - before[i]) > std::abs(before[i]) / 256) FAIL(before[i] << " came back as " << after[i]);
}

TEST_CASE("weights in bfloat16 and momenta that are not finite are refused", "[slot]") {
  const LoraLayout layout(shape, 4);
  const std::string name = lora_b_name(layout.places[2]);
  const auto narrowed = restore_slot(save_slot(trained(layout), layout, identity), layout, identity,
                                     MomentumType::bfloat16);
  REQUIRE(narrowed);
  const std::string blob = save_slot(*narrowed, layout, identity);
  auto changed = [&](const std::string& tensor, const std::string& dtype, const std::string& bytes) {
    auto contents = parse_safetensors(blob);
    contents->tensors.at(tensor).dtype = dtype;
    contents->tensors.at(tensor).data = bytes;
    return restore_slot(write_safetensors(*contents), layout, identity, MomentumType::bfloat16);
  };
  const auto bytes = static_cast<std::size_t>(layout.places[2].out * layout.rank) * 2;
  const auto narrow_weights = changed(name, "BF16", std::string(bytes, '\0'));
  REQUIRE_FALSE(narrow_weights);
  CHECK(narrow_weights.error().fault == Fault::mismatch);
  CHECK(changed("momentum." + name, "BF16", std::string(bytes, '\x7f')));  // 0x7f7f is the largest finite value
  std::string infinite(bytes, '\0');
  infinite[bytes - 2] = '\x80';
  infinite[bytes - 1] = '\x7f';
  const auto refused = changed("momentum." + name, "BF16", infinite);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().fault == Fault::bad_input);
  CHECK(refused.error().message.find("momentum." + name) != std::string::npos);
}

TEST_CASE("the packing buffer cuts a long sample with one token of context", "[learner]") {
  PackingBuffer buffer;
  Sample long_sample{{0, 1}};
  for (std::int32_t token = 0; token < 10; ++token) long_sample.tokens.push_back(token);
  long_sample.prompt_tokens = 6;
  buffer.add(long_sample);
  const auto first = buffer.take(4), second = buffer.take(4), third = buffer.take(9);
  REQUIRE(first.size() == 1);
  CHECK(first[0].context == 6);  // all prompt
  CHECK_FALSE(first[0].ends);
  CHECK(second[0].sample.tokens[0] == long_sample.tokens[3]);
  CHECK(second[0].context == 3);  // tokens 3, 4, 5 are the prompt's; 6 is predicted
  CHECK(third[0].sample.tokens.size() == 4);
  CHECK(third[0].context == 1);
  CHECK(third[0].ends);
  CHECK(buffer.empty());
  CHECK(buffer.tokens() == 0);
}
