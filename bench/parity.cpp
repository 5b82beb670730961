// bench_parity MODEL.gguf MINILM_DIRECTORY PRECISION < request.json > reply.safetensors
// What our model computes, for bench/parity/model.py to compare with transformers and PEFT. The request:
// {"texts": ["...", ...], "layers": 4, "rank": 8, "rows": 8, "tokens": 256}. The reply: tokens.N per text,
// embedding.base and embedding.minilm (texts, width); of the first tokens of the first rows: logits.N
// (tokens, vocabulary), nats and grad.NAME of their mean, packed, under a random adapter with PEFT's names.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <iostream>
#include <iterator>
#include <list>
#include <nlohmann/json.hpp>

#include "bench/common.hpp"
#include "core/encoder.hpp"
#include "core/llama.hpp"
#include "core/safetensors.hpp"
#include "core/slot.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"

using namespace kpool;

namespace {

/// Collects tensors and keeps their bytes alive until they are written.
class Reply {
 public:
  void add(const std::string& name, const at::Tensor& tensor) {
    const at::Tensor values = kept_.emplace_back(tensor.to(at::kFloat).contiguous());
    contents_.tensors[name] = {"F32", values.sizes().vec(), bytes_of(values.const_data_ptr<float>(), values.numel())};
  }
  void add(const std::string& name, std::vector<std::int64_t> shape, std::vector<float> values) {
    const auto& kept = lists_.emplace_back(std::move(values));
    contents_.tensors[name] = {"F32", std::move(shape), bytes_of(kept.data(), static_cast<std::int64_t>(kept.size()))};
  }
  void write() const { std::cout << write_safetensors(contents_); }

 private:
  static std::string_view bytes_of(const float* values, std::int64_t count) {
    return {reinterpret_cast<const char*>(values), static_cast<std::size_t>(count) * sizeof(float)};
  }
  std::list<at::Tensor> kept_;
  std::list<std::vector<float>> lists_;
  SafeTensors contents_;
};

void add_adapter(const Base& base, std::span<const Segment> segments, std::int64_t rank, Reply& reply) {
  const LoraLayout layout(base.shape(), rank);
  std::vector<float> flat(layout.size), signs(layout.size), gradient(layout.size);
  draw_lora(layout, 1, 1, flat);
  draw_signs(1, 1, 1, signs);
  for (const LoraPlace& place : layout.places)  // B as after some steps, so that A has a gradient
    for (std::int64_t i = place.b; i < place.b + place.out * rank; ++i) flat[i] = 0.005f * signs[i];
  Adapter adapter(layout, base.weights().dtype, 2.0);
  adapter.load(flat);
  const Batch batch = make_batch(base.weights(), segments);
  const StepPlan plan = plan_step(base.weights(), layout, batch.tokens, thread_count());
  Workspace workspace = make_workspace(base.weights());
  const at::Tensor loss = nats_and_gradient(base.weights(), batch, adapter, plan, gradient, workspace);
  reply.add("nats", loss);
  auto slice = [](const std::vector<float>& all, std::int64_t offset, std::int64_t count) {
    return std::vector<float>(all.begin() + offset, all.begin() + offset + count);
  };
  for (const LoraPlace& place : layout.places) {
    const std::int64_t a = rank * place.in, b = rank * place.out;
    reply.add(lora_a_name(place), {rank, place.in}, slice(flat, place.a, a));
    reply.add(lora_b_name(place), {place.out, rank}, slice(flat, place.b, b));
    reply.add("grad." + lora_a_name(place), {rank, place.in}, slice(gradient, place.a, a));
    reply.add("grad." + lora_b_name(place), {place.out, rank}, slice(gradient, place.b, b));
  }
}

/// Returns the tokens of each text.
std::vector<std::vector<std::int32_t>> add_embeddings(const std::string& name, const EncoderOptions& options,
                                                      std::shared_ptr<const Base> base,
                                                      const std::vector<std::string>& texts, Reply& reply) {
  const auto encoder = value_or_exit(make_encoder(options, std::move(base)));
  std::vector<Record> records;
  for (const std::string& text : texts) records.push_back({{0, records.size() + 1}, 0, text});
  std::vector<float> all;
  std::vector<std::vector<std::int32_t>> tokens;
  for (const Encoded& encoded : encoder->encode(std::move(records))) {
    const auto& record = std::get<EncodedRecord>(encoded);
    all.insert(all.end(), record.embedding.begin(), record.embedding.end());
    reply.add("tokens." + std::to_string(tokens.size()), {static_cast<std::int64_t>(record.tokens.size())},
              {record.tokens.begin(), record.tokens.end()});
    tokens.push_back(record.tokens);
  }
  reply.add(name, {static_cast<std::int64_t>(tokens.size()), static_cast<std::int64_t>(encoder->width())},
            std::move(all));
  return tokens;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::cerr << "usage: bench_parity MODEL.gguf MINILM_DIRECTORY PRECISION < request.json > reply.safetensors\n";
    return 64;
  }
  const auto request = nlohmann::json::parse(std::cin);
  const auto base = value_or_exit(Base::load({arguments[1], arguments[3]}));
  const auto texts = request.at("texts").get<std::vector<std::string>>();
  use_threads(0);
  Reply reply;
  Workspace workspace = make_workspace(base->weights());
  const std::string layers = std::to_string(request.at("layers").get<int>());
  add_embeddings("embedding.minilm", {"minilm", arguments[2]}, base, texts, reply);
  const auto tokens = add_embeddings("embedding.base", {"base:" + layers}, base, texts, reply);
  std::vector<Segment> segments;
  for (std::size_t i = 0; i < std::min(tokens.size(), request.at("rows").get<std::size_t>()); ++i) {
    const std::span<const std::int32_t> row = tokens[i];
    segments.push_back({row.first(std::min(row.size(), request.at("tokens").get<std::size_t>())), 1});
    const Batch batch = make_batch(base->weights(), {&segments.back(), 1});
    const at::Tensor all = logits(base->weights(), batch, nullptr, workspace);
    reply.add("logits." + std::to_string(i), all.narrow(0, 0, batch.tokens));
  }
  add_adapter(*base, segments, request.at("rank"), reply);
  reply.write();
  return 0;
}
