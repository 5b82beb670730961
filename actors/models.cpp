#include "actors/models.hpp"

#include <algorithm>
#include <thread>

#include <spdlog/spdlog.h>

#include "core/llama.hpp"
#include "core/lora.hpp"
#include "core/projection.hpp"
#include "core/threads.hpp"
#include "messages/pipeline.hpp"

namespace kpool {

namespace {

/// L of base:L; 0: another encoder.
std::int64_t encoder_layers(const Config& config) { return base_layers(config.encoder.kind).value_or(0); }

/// Layers of the base that this process needs: all to train, L to encode with base:L.
std::int64_t layers_needed(const Config& config) {
  return has_stage(config, StageId::training) ? -1 : encoder_layers(config);
}

constexpr std::size_t part_bytes_max = pipeline::frame_bytes_max - (1u << 20);  // the rest is for headers

Error too_large(const char* key, std::uint32_t value, const char* what, std::size_t bytes, const std::string& where) {
  return {Fault::bad_config, std::string(key) + " = " + std::to_string(value) + " makes " + what + " of " +
                                 std::to_string(bytes) + " bytes, more than the " + std::to_string(part_bytes_max) +
                                 " that one part of a commit may have; at most " +
                                 std::to_string(part_bytes_max / (bytes / value)) + " will do with " + where};
}

}  // namespace

std::size_t slot_bytes(const BaseShape& shape, std::uint32_t rank, MomentumType momentum, std::uint32_t top_layers) {
  const auto parameters = static_cast<std::size_t>(LoraLayout(shape, rank, top_layers).size);
  return parameters * (sizeof(float) + (momentum == MomentumType::bfloat16 ? sizeof(simd::Bf16) : sizeof(float)));
}

MomentumType momentum_type(const Config& config) {
  return config.train.momentum_type == "bfloat16" ? MomentumType::bfloat16 : MomentumType::float32;
}

std::size_t mixture_bytes(const RoutingOptions& options, std::size_t embedding_width) {
  const std::size_t width = Projection::dimensions(embedding_width, options.dimensions);
  const std::size_t triangle = width * (width + 1) / 2;
  const bool tied = options.covariance == "tied";
  const std::size_t vectors = width * (sizeof(double) + sizeof(float));  // of a slot: mean, discriminant or variances
  const std::size_t scatter = sizeof(double) * (tied ? triangle : width);
  const std::size_t numbers =  // of a slot: counts, gate, place in the eviction order; whitened mean
      128 + (tied ? sizeof(float) * std::min<std::size_t>(width, 128) : 0);
  return options.slots * (vectors + scatter + numbers) + sizeof(double) * width + (tied ? sizeof(float) * triangle : 0);
}

Status check_part_sizes(const Config& config, const BaseShape& shape, std::size_t embedding_width) {
  if (has_stage(config, StageId::training) && config.lora.layers > shape.layers)
    return Error{Fault::bad_config, "lora.layers = " + std::to_string(config.lora.layers) +
                                        " is more than the base model has, " + std::to_string(shape.layers)};
  const std::uint32_t top_layers = has_stage(config, StageId::training) ? config.lora.layers : 0;
  const std::size_t slot = slot_bytes(shape, config.lora.rank, momentum_type(config), top_layers);
  if (has_stage(config, StageId::training) && slot > part_bytes_max)
    return too_large("lora.rank", config.lora.rank, "a slot", slot, "this base model");
  const std::size_t mixture = mixture_bytes(config.routing, embedding_width);
  if (has_stage(config, StageId::routing) && mixture > part_bytes_max)
    return too_large("routing.slots", config.routing.slots, "a mixture", mixture,
                     "this encoder and routing.covariance = " + config.routing.covariance);
  return Done{};
}

RateGuardMode rate_guard_mode(const std::string& name) {
  if (name == "auto") return RateGuardMode::automatic;
  return name == "warn" ? RateGuardMode::warn : RateGuardMode::off;
}

LearnerOptions learner_options(const Config& config) {
  LearnerOptions options;
  options.slots = config.routing.slots;
  options.rank = config.lora.rank;
  options.alpha = config.lora.alpha;
  options.top_layers = config.lora.layers;
  options.births = config.lora.births == "warm"         ? Births::warm
                   : config.lora.births == "directions" ? Births::directions
                                                        : Births::fresh;
  options.learning_rate = config.train.learning_rate.value_or(options.learning_rate);
  options.rate_guard = config.train.learning_rate ? rate_guard_mode(config.train.rate_guard) : RateGuardMode::automatic;
  options.momentum = config.train.momentum;
  options.momentum_type = momentum_type(config);
  options.weight_decay = config.train.weight_decay;
  options.tokens_per_step = config.train.tokens_per_step;
  options.seed = config.engine.seed;
  // The order in which threads add is not fixed, so bit-identical runs train on one.
  options.threads = config.engine.deterministic ? 1 : config.train.threads;
  return options;
}

EncoderOptions encoder_options(const Config& config) {
  return {config.encoder.kind, config.encoder.path, config.encoder.tokens_max, 1, config.encoder.products};
}

EncoderOptions encoder_options(const Config& config, const BaseShape& shape) {
  EncoderOptions options = encoder_options(config);
  const std::int64_t layers = encoder_layers(config), adapted = config.lora.layers;
  if (!config.encoder.share || layers == 0 || adapted == 0 || layers > shape.file_layers - adapted) return options;
  if (options.products != "auto" && options.products != config.base.forward) return options;
  options.products = config.base.forward;
  // As many as a group usually has, and no more than a frame between stages can carry.
  constexpr std::uint64_t group_bytes_max = 64u << 20;
  const std::uint64_t usual = std::max<std::uint64_t>(config.commit.bytes / 4, config.train.tokens_per_step);
  const std::uint64_t most = group_bytes_max / (static_cast<std::uint64_t>(shape.hidden) * sizeof(float));
  options.hidden_tokens_per_group = static_cast<std::uint32_t>(std::min(usual, most));
  options.hidden_tokens = std::min(config.train.tokens_per_step, options.hidden_tokens_per_group);
  return options;
}

BaseOptions base_options(const Config& config, std::int64_t layers) {
  return {.path = config.base.path, .precision = config.base.precision, .layers = layers,
          .weights = config.base.weights, .device = config.device.kind, .gradients = config.base.gradients,
          .forward = config.base.forward};
}

namespace {

bool needs_base(const Config& config) {
  return has_stage(config, StageId::training) || has_stage(config, StageId::encoding) ||
         has_stage(config, StageId::routing);
}

/// The base as its file describes it: nothing of it is expanded.
Result<std::shared_ptr<const Base>> outline(const Config& config, std::int64_t layers) {
  BaseOptions options = base_options(config, layers);
  options.weights = "quantised";
  options.device = "cpu";
  return Base::load(options);
}

/// What learning takes, and how a step runs within the plan.
void foresee_learner(const Config& config, const Base& whole, MemoryFacts& facts) {
  const auto top_layers = std::min<std::int64_t>(config.lora.layers, whole.shape().layers);
  facts.learner.slot = slot_bytes(whole.shape(), config.lora.rank, momentum_type(config),
                                  static_cast<std::uint32_t>(top_layers));
  if (!has_stage(config, StageId::training)) return;
  facts.learner = learner_memory(learner_options(config), whole);
  facts.threads = thread_count();
}

StepPlan foresee_step(const Config& config, const Base& whole, std::size_t bytes) {
  const LearnerOptions options = learner_options(config);
  use_threads(options.threads);
  const LoraLayout layout(whole.shape(), options.rank, options.top_layers);
  return plan_step(whole.weights(), layout, options.tokens_per_step, thread_count(), bytes);
}

}  // namespace

Result<MemoryPlan> foresee_memory(const Config& config) {
  const auto process = resident_bytes();
  if (!process) return process.error();
  MemoryFacts facts{.process = *process};
  if (needs_base(config)) {
    const auto part = outline(config, layers_needed(config));
    if (!part) return part.error();
    facts.base = base_memory(**part);
    const EncoderOptions encoding = encoder_options(config, (*part)->shape());
    const bool dense = config.base.weights != "quantised" && config.device.kind == "cpu";
    facts.encoder = encoder_memory(encoding, **part, dense);
    facts.hidden_tokens = encoding.hidden_tokens_per_group;
    constexpr std::size_t minilm_width = 384;
    const auto hidden = static_cast<std::size_t>((*part)->shape().hidden);
    facts.embedding_width = config.encoder.kind == "minilm" ? minilm_width : hidden;
  }
  const bool has_slots = has_stage(config, StageId::training) || has_stage(config, StageId::persistence);
  if (!has_slots) return plan_memory(config, facts);
  const auto whole = outline(config, -1);
  if (!whole) return whole.error();
  if (auto fits = check_part_sizes(config, (*whole)->shape(), facts.embedding_width); !fits) return fits.error();
  foresee_learner(config, **whole, facts);
  MemoryPlan plan = plan_memory(config, facts);
  if (has_stage(config, StageId::training)) plan.step = foresee_step(config, **whole, plan.activations());
  return plan;
}

Status tell_memory(const Config& config, const std::function<void(const std::string&)>& say) {
  const auto plan = foresee_memory(config);
  if (!plan) return plan.error().fault == Fault::bad_config ? Status(plan.error()) : Done{};
  for (const std::string& line : describe(*plan)) say("memory: " + line);
  return check_budget(*plan, config);
}

Result<Parts> load_parts(const Config& config) {
  Parts parts;
  parts.store = [kind = config.store.kind, path = config.store.path] { return open_store(kind, path); };
  const auto plan = foresee_memory(config);
  if (!plan && (needs_base(config) || config.memory.budget_mb > 0)) return plan.error();
  if (plan) {
    if (auto fits = check_budget(*plan, config); !fits) return fits.error();
    for (const std::string& line : describe(*plan)) spdlog::info("memory: {}", line);
  }
  if (!needs_base(config)) return parts;
  auto base = Base::load(base_options(config, layers_needed(config)));
  if (!base) return base.error();
  const auto products = [](bool int8) { return int8 ? "int8" : "full"; };
  spdlog::info("base model {}: {} layers, hidden {}, training's forward pass in {}, input gradients in {}, SHA-256 {}",
               config.base.path, (*base)->shape().layers, (*base)->shape().hidden, products((*base)->int8_forward()),
               products((*base)->int8_gradients()), (*base)->fingerprint());
  const std::string identity = "base " + (*base)->fingerprint().substr(0, 16);
  parts.encoder_identity = identity + ", encoder " + encoder_identity(config.encoder.kind);
  parts.learner_identity = identity + ", rank " + std::to_string(config.lora.rank) + ", " +
                           std::to_string(config.routing.slots) + " slots" +
                           (config.lora.layers ? ", top " + std::to_string(config.lora.layers) + " layers" : "");
  const EncoderOptions encoding = encoder_options(config, (*base)->shape());
  if (encoding.hidden_tokens > 0 && has_stage(config, StageId::encoding))
    spdlog::info("encoding {}: these layers have no adapter, so they run once for routing and training", encoding.kind);
  auto encoder = std::make_shared<Result<std::unique_ptr<Encoder>>>(make_encoder(encoding, *base));
  if (!*encoder) return encoder->error();
  parts.embedding_width = (**encoder)->width();
  if (auto fits = check_part_sizes(config, (*base)->shape(), parts.embedding_width); !fits) return fits.error();
  parts.encoder = [encoder]() -> Result<std::unique_ptr<Encoder>> { return std::move(*encoder); };
  LearnerOptions learning = learner_options(config);
  learning.activation_bytes = plan->budget == 0 ? 0 : plan->activations();
  parts.learner = [options = learning, base = *base]() -> Result<std::unique_ptr<Learner>> {
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
