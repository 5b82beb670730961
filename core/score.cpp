#include "core/score.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/llama.hpp"
#include "core/safetensors.hpp"
#include "core/slot.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"

namespace kpool {
namespace {

Error bad(const std::string& what) { return {Fault::bad_input, "adapter: " + what}; }
Error mismatch(const std::string& what) { return {Fault::mismatch, "adapter: " + what}; }

/// alpha / rank of a slot's blob; nothing where the metadata lacks one of them.
std::optional<double> scale_of(const SafeTensors& contents) {
  double values[2] = {};
  const char* keys[] = {"alpha", "rank"};
  for (int i = 0; i < 2; ++i) {
    const auto found = contents.metadata.find(keys[i]);
    if (found == contents.metadata.end()) return std::nullopt;
    const std::string& text = found->second;
    const auto [stop, fault] = std::from_chars(text.data(), text.data() + text.size(), values[i]);
    if (fault != std::errc{} || !std::isfinite(values[i])) return std::nullopt;
  }
  if (values[1] <= 0) return std::nullopt;
  return values[0] / values[1];
}

/// The rank that every A of the file shares.
Result<std::int64_t> rank_of(const SafeTensors& contents) {
  std::int64_t rank = 0;
  for (const auto& [name, tensor] : contents.tensors) {
    if (!name.ends_with(".lora_A.weight") || tensor.shape.size() != 2) continue;
    if (rank != 0 && tensor.shape[0] != rank) return bad("tensor " + name + " has another rank than the others.");
    rank = tensor.shape[0];
  }
  if (rank < 1 || rank > 1024) return bad("there is no lora_A of a rank from 1 to 1024 in it.");
  return rank;
}

/// The lowest layer of the base that the file adapts.
std::int64_t lowest_layer(const SafeTensors& contents, std::int64_t layers) {
  for (std::int64_t i = 0; i < layers; ++i) {
    const std::string prefix = "base_model.model.model.layers." + std::to_string(i) + ".";
    const auto found = contents.tensors.lower_bound(prefix);
    if (found != contents.tensors.end() && found->first.starts_with(prefix)) return i;
  }
  return 0;
}

/// Reads the file's matrices into a flat array; what the layout knows and the file lacks stays zero.
Result<std::vector<float>> flatten(const SafeTensors& contents, const LoraLayout& layout) {
  std::vector<float> flat(static_cast<std::size_t>(layout.size));
  std::size_t used = 0;
  auto read = [&](const std::string& name, std::int64_t rows, std::int64_t columns, std::int64_t offset) -> Status {
    const auto found = contents.tensors.find(name);
    if (found == contents.tensors.end()) return Done{};
    ++used;
    if (found->second.dtype != "F32") return bad("tensor " + name + " is " + found->second.dtype + ", not F32.");
    if (found->second.shape != std::vector<std::int64_t>{rows, columns})
      return mismatch("tensor " + name + " has another shape than the base model's linear.");
    std::memcpy(flat.data() + offset, found->second.data.data(), found->second.data.size());
    return Done{};
  };
  for (const LoraPlace& place : layout.places) {
    if (auto done = read(lora_a_name(place), layout.rank, place.in, place.a); !done) return done.error();
    if (auto done = read(lora_b_name(place), place.out, layout.rank, place.b); !done) return done.error();
  }
  for (const auto& [name, tensor] : contents.tensors)
    used += name.starts_with("momentum.");  // a slot's blob holds them beside the adapter
  if (used != contents.tensors.size()) return mismatch("it holds tensors for linears that the base model lacks.");
  return flat;
}

class LlamaScorer final : public Scorer {
 public:
  LlamaScorer(const ScoreOptions& options, std::shared_ptr<const Base> base)
      : options_(options),
        base_(std::move(base)),
        weights_(base_->weights()),
        workspace_(make_workspace(weights_)) {
    KPOOL_ASSERT(weights_.whole() && options.tokens_per_forward >= 2);
  }

  void use_base() override { active_.reset(); }

  Status use_adapter(std::string_view safetensors, std::optional<double> scale) override {
    const auto contents = parse_safetensors(safetensors);
    if (!contents) return contents.error();
    if (!scale) scale = scale_of(*contents);
    if (!scale) return bad("its metadata lacks alpha and rank, and no scale was given.");
    const auto named = contents->metadata.find("base");
    if (named != contents->metadata.end() && named->second != base_->fingerprint())
      return mismatch("it belongs to another base model (" + named->second + ").");
    const auto rank = rank_of(*contents);
    if (!rank) return rank.error();
    const auto layers = static_cast<std::int64_t>(weights_.layers.size());
    auto active = std::make_unique<Active>(weights_, *rank, *scale, layers - lowest_layer(*contents, layers));
    const auto flat = flatten(*contents, active->layout);
    if (!flat) return flat.error();
    active->adapter.load(*flat);
    active_ = std::move(active);
    return Done{};
  }

  std::vector<Score> score(std::span<const Sample> samples) override {
    use_threads(options_.threads);
    std::vector<Score> scores(samples.size());
    PackingBuffer buffer;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const auto length = static_cast<std::int64_t>(samples[i].tokens.size());
      if (length == 0) continue;
      // Only a record that is too long by itself is cut: what a record scores must not hang on its neighbours.
      if (buffer.tokens() + length > options_.tokens_per_forward) drain(buffer, scores);
      buffer.add({{0, i}, samples[i].prompt_tokens, samples[i].tokens});  // its index comes back with the piece
    }
    drain(buffer, scores);
    return scores;
  }

 private:
  struct Active {
    Active(const Base::Weights& weights, std::int64_t rank, double scale, std::int64_t top_layers)
        : layout(weights.shape, rank, top_layers), adapter(layout, weights.dtype, scale, weights.device) {}
    LoraLayout layout;
    Adapter adapter;
  };

  void drain(PackingBuffer& buffer, std::vector<Score>& scores) {
    while (!buffer.empty()) forward(buffer, scores);
  }

  void forward(PackingBuffer& buffer, std::vector<Score>& scores) {
    const auto pieces = buffer.take(options_.tokens_per_forward);
    std::vector<Segment> segments;
    for (const auto& piece : pieces) segments.push_back({piece.sample.tokens, piece.context});
    const Batch batch = make_batch(weights_, segments);
    if (batch.counted == 0) return;
    const at::Tensor all = nats(weights_, batch, active_ ? &active_->adapter : nullptr, workspace_).cpu();
    const float* values = all.const_data_ptr<float>();
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      Score& score = scores[pieces[i].sample.origin.seq];
      for (std::int64_t j = 0; j < batch.counted_per_segment[i]; ++j) score.nats += *values++;
      score.tokens += static_cast<std::uint64_t>(batch.counted_per_segment[i]);
    }
  }

  const ScoreOptions options_;
  const std::shared_ptr<const Base> base_;
  const Base::Weights& weights_;
  std::unique_ptr<Active> active_;
  Workspace workspace_;
};

}  // namespace

std::unique_ptr<Scorer> make_scorer(const ScoreOptions& options, std::shared_ptr<const Base> base) {
  return std::make_unique<LlamaScorer>(options, std::move(base));
}

}  // namespace kpool
