#include "core/encoder.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/batch.hpp"
#include "core/embedder.hpp"
#include "core/llama.hpp"
#include "core/threads.hpp"
#include "core/tokenizer.hpp"
#include "core/weights.hpp"

namespace kpool {
namespace {

class BaseEmbedder final : public Embedder {
 public:
  BaseEmbedder(std::shared_ptr<const Base> base, std::int64_t layers, std::uint32_t tokens_max)
      : base_(std::move(base)),
        layers_(layers),
        tokens_max_(tokens_max),
        workspace_(make_workspace(base_->weights())) {}

  std::vector<float> embed(std::string_view, std::span<const std::int32_t> tokens) const override {
    const Segment segment{tokens.first(std::min<std::size_t>(tokens.size(), tokens_max_))};
    const Batch batch = make_batch(base_->weights(), {&segment, 1});
    const at::Tensor hidden = hidden_states(base_->weights(), batch, layers_, nullptr, workspace_);
    const std::int64_t first = batch.tokens > 1 ? 1 : 0;  // the first is where attention rests: the same in every text
    const at::Tensor rows = hidden.narrow(0, first, batch.tokens - first);
    const at::Tensor rms = rows.square().mean(1, /*keepdim=*/true).sqrt().clamp_min(1e-6);
    const at::Tensor mean = rows.div(rms).mean(0).cpu().contiguous();
    const float* values = mean.const_data_ptr<float>();
    return {values, values + mean.numel()};
  }

  std::size_t width() const override { return static_cast<std::size_t>(base_->shape().hidden); }

 private:
  const std::shared_ptr<const Base> base_;
  const std::int64_t layers_;
  const std::size_t tokens_max_;
  mutable Workspace workspace_;  // scratch alone: an embedder belongs to one thread
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
              std::unique_ptr<Embedder> embedder, std::uint32_t threads)
      : base_(std::move(base)), tokenizer_(std::move(tokenizer)), embedder_(std::move(embedder)), threads_(threads) {}

  std::vector<Encoded> encode(std::vector<Record> records) override {
    use_threads(threads_);
    std::vector<Encoded> encoded;
    encoded.reserve(records.size());
    for (const Record& record : records) encoded.push_back(encode_one(record));
    return encoded;
  }

  std::size_t width() const override { return embedder_->width(); }

 private:
  Encoded encode_one(const Record& record) const {
    EncodedRecord encoded{record.origin};
    if (const auto reason = tokenize(record, encoded)) return RefusedRecord{record.origin, *reason};
    encoded.embedding = embedder_->embed(record.text, encoded.tokens);
    return encoded;
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
  const std::uint32_t threads_;
};

/// L of "base:L", or nothing.
std::optional<std::int64_t> layers_of(std::string_view kind) {
  constexpr std::string_view prefix = "base:";
  if (!kind.starts_with(prefix)) return std::nullopt;
  std::int64_t layers = 0;
  const char* end = kind.data() + kind.size();
  const auto [stop, fault] = std::from_chars(kind.data() + prefix.size(), end, layers);
  if (fault != std::errc{} || stop != end || layers < 1) return std::nullopt;
  return layers;
}

Result<std::unique_ptr<Embedder>> make_embedder(const EncoderOptions& options,
                                                const std::shared_ptr<const Base>& base) {
  if (options.kind == "minilm") return make_minilm_embedder(options.path, options.tokens_max);
  const auto layers = layers_of(options.kind);
  if (!layers)
    return Error{Fault::bad_config, "encoder \"" + options.kind + "\" is neither base:L (L of at least 1) nor minilm."};
  const auto loaded = static_cast<std::int64_t>(base->weights().layers.size());
  if (*layers > loaded)
    return Error{Fault::bad_config, "encoder \"" + options.kind + "\": the base has " + std::to_string(loaded) +
                                        " layers loaded."};
  return make_base_embedder(base, *layers, options.tokens_max);
}

}  // namespace

std::unique_ptr<Embedder> make_base_embedder(std::shared_ptr<const Base> base, std::int64_t layers,
                                             std::uint32_t tokens_max) {
  return std::make_unique<BaseEmbedder>(std::move(base), layers, tokens_max);
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
      std::make_unique<TextEncoder>(base, std::move(*tokenizer), std::move(*embedder), options.threads));
}

}  // namespace kpool
