#include "apps/kpoolctl_encoder.hpp"

namespace kpool {

Result<EncoderOptions> choose_encoder(const ModelOptions& options, const Pool* pool) {
  EncoderOptions encoder;
  encoder.path = options.encoder_path;
  encoder.threads = options.threads;
  encoder.products = options.products;
  const auto stored = pool ? stored_encoder(*pool) : std::nullopt;
  if (!options.encoder.empty()) encoder.kind = options.encoder;
  else if (stored) encoder.kind = stored->substr(0, stored->find(','));
  if (const std::string now = encoder_identity(encoder.kind); stored && *stored != now)
    return Error{Fault::mismatch, "the pool " + pool->path + " was made with the encoder " + *stored + ", not with " +
                                      now};
  if (encoder.kind == "minilm" && encoder.path.empty())
    return Error{Fault::usage, "the encoder minilm needs its directory: --encoder-path DIR"};
  return encoder;
}

Result<std::unique_ptr<Encoder>> load_encoder(const ModelOptions& options, const Pool* pool) {
  auto encoder = choose_encoder(options, pool);
  if (!encoder) return encoder.error();
  const std::int64_t layers = base_layers(encoder->kind).value_or(0);  // 0: a model of its own, or refused below
  auto base = Base::load({options.model, options.precision, layers, options.weights, options.device});
  if (!base) return base.error();
  return make_encoder(*encoder, *base);
}

Sample tokenize(const Record& record, const Tokenizer& tokenizer) {
  const std::string_view text = record.text;
  Sample sample;
  sample.origin = record.origin;
  sample.tokens = tokenizer.encode(text.substr(0, record.prompt_bytes));
  sample.prompt_tokens = static_cast<std::uint32_t>(sample.tokens.size());
  const auto completion = tokenizer.encode(text.substr(record.prompt_bytes));
  sample.tokens.insert(sample.tokens.end(), completion.begin(), completion.end());
  return sample;
}

}  // namespace kpool
