#include "actors/models.hpp"

#include <charconv>
#include <thread>

#include <spdlog/spdlog.h>

namespace kpool {

namespace {

/// Layers of the base that this process needs: all to train, L to encode with base:L.
std::int64_t layers_needed(const Config& config) {
  if (has_stage(config, StageId::training)) return -1;
  std::int64_t layers = 0;
  const std::string& kind = config.encoder.kind;
  if (kind.starts_with("base:")) std::from_chars(kind.data() + 5, kind.data() + kind.size(), layers);
  return layers;
}

}  // namespace

LearnerOptions learner_options(const Config& config) {
  LearnerOptions options;
  options.slots = config.routing.slots;
  options.rank = config.lora.rank;
  options.alpha = config.lora.alpha;
  options.learning_rate = config.train.learning_rate;
  options.momentum = config.train.momentum;
  options.weight_decay = config.train.weight_decay;
  options.tokens_per_step = config.train.tokens_per_step;
  options.seed = config.engine.seed;
  // The order in which threads add is not fixed, so bit-identical runs train on one.
  options.threads = config.engine.deterministic ? 1 : config.train.threads;
  return options;
}

EncoderOptions encoder_options(const Config& config) {
  return {config.encoder.kind, config.encoder.path, config.encoder.tokens_max, 1};
}

Result<Parts> load_parts(const Config& config) {
  Parts parts;
  const bool needs_base = has_stage(config, StageId::training) || has_stage(config, StageId::encoding) ||
                          has_stage(config, StageId::routing);
  parts.store = [kind = config.store.kind, path = config.store.path] { return open_store(kind, path); };
  if (!needs_base) return parts;
  auto base = Base::load({config.base.path, config.base.precision, layers_needed(config)});
  if (!base) return base.error();
  spdlog::info("base model {}: {} layers, hidden {}, SHA-256 {}", config.base.path, (*base)->shape().layers,
               (*base)->shape().hidden, (*base)->fingerprint());
  const std::string identity = "base " + (*base)->fingerprint().substr(0, 16);
  parts.encoder_identity = identity + ", encoder " + config.encoder.kind;
  parts.learner_identity = identity + ", rank " + std::to_string(config.lora.rank) + ", " +
                           std::to_string(config.routing.slots) + " slots";
  auto encoder = std::make_shared<Result<std::unique_ptr<Encoder>>>(make_encoder(encoder_options(config), *base));
  if (!*encoder) return encoder->error();
  parts.embedding_width = (**encoder)->width();
  parts.encoder = [encoder]() -> Result<std::unique_ptr<Encoder>> { return std::move(*encoder); };
  parts.learner = [options = learner_options(config), base = *base]() -> Result<std::unique_ptr<Learner>> {
    return make_learner(options, base);
  };
  return parts;
}

Result<Keys> load_keys(const Config& config) {
  Keys keys;
  const bool has_door = has_stage(config, StageId::ingestion);
  if (!has_door && !config.engine.transport.starts_with("tcp")) return keys;
  auto daemon = read_keys(config.gateway.secret_key_file);
  if (!daemon) return daemon.error();
  keys.daemon = *std::move(daemon);
  if (!has_door) return keys;
  auto gateways = read_authorized_keys(config.gateway.authorized_keys_file);
  if (!gateways) return gateways.error();
  keys.gateways = *std::move(gateways);
  return keys;
}

}  // namespace kpool
