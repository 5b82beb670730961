#include "core/encoder.hpp"

#include <ATen/ops/arange.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/batch.hpp"
#include "core/embedder.hpp"
#include "core/gemm.hpp"
#include "core/int8_matrix.hpp"
#include "core/llama.hpp"
#include "core/threads.hpp"
#include "core/tokenizer.hpp"
#include "core/weights.hpp"

namespace kpool {
namespace {

class BaseEmbedder final : public Embedder {
 public:
  BaseEmbedder(std::shared_ptr<const Base> base, std::int64_t layers, std::uint32_t tokens_max, Products products)
      : base_(std::move(base)),
        layers_(layers),
        tokens_max_(tokens_max),
        products_(products),
        pack_rows_(pack_rows(base_->weights())),
        workspace_(make_workspace(base_->weights())) {}

  std::vector<Embedded> embed(std::span<const TokenizedText> texts) const override {
    std::vector<Embedded> embeddings;
    std::vector<Segment> pack;
    std::int64_t rows = 0;
    for (const TokenizedText& text : texts) {
      const std::size_t wanted = std::max(tokens_max_, text.hidden_tokens);
      const Segment segment{text.tokens.first(std::min(text.tokens.size(), wanted))};
      if (!pack.empty() && rows + padded(segment) > pack_rows_) embed_pack(pack, texts, embeddings), rows = 0;
      pack.push_back(segment);
      rows += padded(segment);
    }
    if (!pack.empty()) embed_pack(pack, texts, embeddings);
    return embeddings;
  }

  std::size_t width() const override { return static_cast<std::size_t>(base_->shape().hidden); }

 private:
  static std::int64_t padded(const Segment& segment) {
    return (static_cast<std::int64_t>(segment.tokens.size()) + kBatchPad - 1) / kBatchPad * kBatchPad;
  }

  /// The texts after those that are embedded, which the pack is left without.
  void embed_pack(std::vector<Segment>& pack, std::span<const TokenizedText> texts,
                  std::vector<Embedded>& embeddings) const {
    Batch batch = make_batch(base_->weights(), pack, /*apart=*/true);
    batch.int8 = products_ == Products::int8;
    if (products_ == Products::kept && kept_.empty()) kept_ = int8_layers(base_->weights(), layers_);
    const at::Tensor hidden = hidden_states(base_->weights(), batch, layers_, nullptr, workspace_, kept_);
    std::int64_t row = 0;
    for (const Segment& segment : pack) {
      const auto length = static_cast<std::int64_t>(std::min(segment.tokens.size(), tokens_max_));
      const std::int64_t first = length > 1 ? 1 : 0;  // the first is where attention rests: the same in every text
      const at::Tensor rows = hidden.narrow(0, row + first, length - first);
      const at::Tensor rms = rows.square().mean(1, /*keepdim=*/true).sqrt().clamp_min(1e-6);
      const at::Tensor weights = at::arange(first + 1, length + 1, rows.options()).unsqueeze(1);
      const at::Tensor mean = rows.mul(weights.div(rms)).sum(0).div(weights.sum()).cpu().contiguous();
      const auto wanted = static_cast<std::int64_t>(texts[embeddings.size()].hidden_tokens);
      const auto layers = static_cast<std::uint32_t>(layers_);
      embeddings.push_back({values_of(mean), {layers, values_of(hidden.narrow(0, row, wanted).cpu())}});
      row += padded(segment);
    }
    pack.clear();
  }

  static std::vector<float> values_of(const at::Tensor& contiguous) {
    const float* values = contiguous.const_data_ptr<float>();
    return {values, values + contiguous.numel()};
  }

  const std::shared_ptr<const Base> base_;
  const std::int64_t layers_;
  const std::size_t tokens_max_;
  const Products products_;
  const std::int64_t pack_rows_;
  // An embedder belongs to one thread.
  mutable std::vector<Int8Layer> kept_;  // from the first text on: a process may make an encoder that never encodes
  mutable Workspace workspace_;
};

bool blank(std::string_view text) {
  const auto* at = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (auto left = static_cast<utf8proc_ssize_t>(text.size()); left > 0;) {
    utf8proc_int32_t point = 0;
    const auto length = utf8proc_iterate(at, left, &point);
    if (length < 1) return false;
    const auto category = utf8proc_category(point);
    const bool space = category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
                       category == UTF8PROC_CATEGORY_ZP || (point >= 9 && point <= 13) || point == 0x85;
    if (!space) return false;
    at += length;
    left -= length;
  }
  return true;
}

bool inside_character(std::string_view text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
}

class TextEncoder final : public Encoder {
 public:
  TextEncoder(std::shared_ptr<const Base> base, std::unique_ptr<Tokenizer> tokenizer,
              std::unique_ptr<Embedder> embedder, const EncoderOptions& options)
      : base_(std::move(base)), tokenizer_(std::move(tokenizer)), embedder_(std::move(embedder)), options_(options) {}

  void begin_group() override { hidden_left_ = options_.hidden_tokens_per_group; }

  std::vector<Encoded> encode(std::vector<Record> records) override {
    use_threads(options_.threads);
    std::vector<Encoded> encoded;
    std::vector<std::size_t> whole;  // which were tokenised
    encoded.reserve(records.size());
    for (const Record& record : records) {
      EncodedRecord one{record.origin};
      const auto refusal = tokenize(record, one);
      if (refusal) encoded.push_back(RefusedRecord{record.origin, *refusal});
      else whole.push_back(encoded.size()), encoded.push_back(std::move(one));
    }
    std::vector<TokenizedText> texts;
    std::size_t left = hidden_left_;
    for (const std::size_t i : whole) {
      const auto& tokens = std::get<EncodedRecord>(encoded[i]).tokens;
      texts.push_back({records[i].text, tokens, take_hidden(tokens.size(), left)});
    }
    auto embeddings = embedder_->embed(texts);
    hidden_left_ = left;  // had it thrown, the records would come again one by one, and take the same
    for (std::size_t i = 0; i < whole.size(); ++i) {
      auto& one = std::get<EncodedRecord>(encoded[whole[i]]);
      one.embedding = std::move(embeddings[i].embedding);
      one.hidden = std::move(embeddings[i].hidden);
    }
    return encoded;
  }

  std::size_t width() const override { return embedder_->width(); }

 private:
  /// Of what is left to the group, all that a record of so many tokens needs, or nothing.
  std::size_t take_hidden(std::size_t tokens, std::size_t& left) const {
    const auto wanted = std::min<std::size_t>(tokens, options_.hidden_tokens);
    if (wanted > left) return 0;
    left -= wanted;
    return wanted;
  }

  /// The prompt and its completion are tokenised apart, so that the boundary between them is exact.
  std::optional<Refusal> tokenize(const Record& record, EncodedRecord& encoded) const {
    const std::string_view text = record.text;
    if (blank(text)) return Refusal::empty;
    if (record.prompt_bytes > text.size() || inside_character(text, record.prompt_bytes)) return Refusal::bad_prompt;
    encoded.tokens = tokenizer_->encode(text.substr(0, record.prompt_bytes));
    encoded.prompt_tokens = static_cast<std::uint32_t>(encoded.tokens.size());
    const auto completion = tokenizer_->encode(text.substr(record.prompt_bytes));
    encoded.tokens.insert(encoded.tokens.end(), completion.begin(), completion.end());
    if (encoded.tokens.size() < 2 || completion.empty()) return Refusal::no_tokens;
    return std::nullopt;
  }

  const std::shared_ptr<const Base> base_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  const std::unique_ptr<Embedder> embedder_;
  const EncoderOptions options_;
  std::size_t hidden_left_ = options_.hidden_tokens_per_group;
};

Result<std::unique_ptr<Embedder>> make_embedder(const EncoderOptions& options,
                                                const std::shared_ptr<const Base>& base) {
  if (options.kind == "minilm") return make_minilm_embedder(options.path, options.tokens_max);
  const auto layers = base_layers(options.kind);
  if (!layers)
    return Error{Fault::bad_config, "encoder \"" + options.kind + "\" is neither base:L (L of at least 1) nor minilm."};
  const auto loaded = static_cast<std::int64_t>(base->weights().layers.size());
  if (*layers > loaded)
    return Error{Fault::bad_config, "encoder \"" + options.kind + "\": the base has " + std::to_string(loaded) +
                                        " layers loaded."};
  const std::string& products = options.products;
  if (products != "auto" && products != "int8" && products != "full")
    return Error{Fault::bad_config, "encoder products \"" + products + "\" are none of auto, int8, full."};
  if (products == "int8" && base->weights().operators == Operators::library)
    return Error{Fault::bad_config, "encoder products \"int8\" are for the CPU, in a precision that it multiplies."};
  const bool dense = base->weights().layers.front().qkv.parts.empty();
  return make_base_embedder(base, *layers, options.tokens_max, products_of(options, base->weights(), dense));
}

}  // namespace

std::optional<std::int64_t> base_layers(std::string_view kind) {
  constexpr std::string_view prefix = "base:";
  if (!kind.starts_with(prefix)) return std::nullopt;
  std::int64_t layers = 0;
  const char* end = kind.data() + kind.size();
  const auto [stop, fault] = std::from_chars(kind.data() + prefix.size(), end, layers);
  if (fault != std::errc{} || stop != end || layers < 1) return std::nullopt;
  return layers;
}

std::int64_t pack_rows(const Base::Weights& weights) {
  return weights.operators == Operators::tiles && rows_are_alike(weights.dtype == at::kBFloat16) ? 512 : 0;
}

Products products_of(const EncoderOptions& options, const Base::Weights& weights, bool dense) {
  const bool int8 = options.products == "int8" || (options.products == "auto" && weights.prefers_int8);
  if (!int8) return Products::full;
  const bool shared = options.hidden_tokens > 0;  // with a learner, whose forward pass rounds anew
  return dense && !shared ? Products::kept : Products::int8;
}

std::unique_ptr<Embedder> make_base_embedder(std::shared_ptr<const Base> base, std::int64_t layers,
                                             std::uint32_t tokens_max, Products products) {
  return std::make_unique<BaseEmbedder>(std::move(base), layers, tokens_max, products);
}

std::string encoder_identity(const std::string& kind) {
  return kind == "minilm" ? kind : kind + ", tokens weighted by position";
}

Result<std::unique_ptr<Encoder>> make_encoder(const EncoderOptions& options, std::shared_ptr<const Base> base) {
  KPOOL_ASSERT(base && options.tokens_max > 0);
  use_threads(options.threads);
  auto tokenizer = make_bpe(base->file());
  if (!tokenizer) return tokenizer.error();
  if (static_cast<std::int64_t>((*tokenizer)->size()) > base->shape().vocabulary)
    return Error{Fault::bad_input,
                 base->file().path() + ": the tokenizer has more tokens than the embedding has rows."};
  auto embedder = make_embedder(options, base);
  if (!embedder) return embedder.error();
  return std::unique_ptr<Encoder>(
      std::make_unique<TextEncoder>(base, std::move(*tokenizer), std::move(*embedder), options));
}

}  // namespace kpool
