#include <algorithm>
#include <charconv>

#include "config/schema.hpp"

namespace kpool {
namespace {

constexpr double kib = 1024, mib = 1024 * kib, gib = 1024 * mib;

bool is_whole_number(std::string_view text, long min, long max) {
  long value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && stop == text.data() + text.size() && value >= min && value <= max;
}

bool is_host_and_port(std::string_view text, bool wildcard_port) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  const auto port = text.substr(colon + 1);
  return is_whole_number(port, 1, 65535) || (wildcard_port && port == "*");
}

std::string encoder_kind(const std::string& text) {
  if (text == "minilm" || (text.starts_with("base:") && is_whole_number(std::string_view(text).substr(5), 0, 1024))) {
    return {};
  }
  return "must be base:L (L a layer, as in base:4) or minilm, not \"" + text + "\"";
}

std::string socket_path(const std::string& text) {
  // A Unix socket's path, with its end, has 108 bytes.
  if (text.starts_with("ipc://") && text.size() > 6 && text.size() <= 6 + 107) return {};
  return "must be ipc:// and a path of at most 107 bytes, not \"" + text + "\"";
}

std::string listen_endpoint(const std::string& text) {
  if (text.starts_with("tcp://") && is_host_and_port(std::string_view(text).substr(6), true)) return {};
  if (text.starts_with("ipc://") && socket_path(text).empty()) return {};
  return "must be tcp://HOST:PORT or ipc://PATH, not \"" + text + "\"";
}

std::string transport(const std::string& text) {
  const std::string_view view = text;
  if (text == "inproc") return {};
  if (text.starts_with("ipc:/") && !text.starts_with("ipc://")) return {};
  if (text.starts_with("tcp:") && !text.starts_with("tcp:/") && is_host_and_port(view.substr(4), false)) return {};
  return "must be inproc, ipc:DIRECTORY (an absolute path) or tcp:HOST:FIRST_PORT, not \"" + text + "\"";
}

template <auto Section, auto Key>
constexpr auto at = [](Config& config) { return &((config.*Section).*Key); };

using C = Config;

std::vector<ConfigKey> model_keys() {
  return {
      {"base.path", +at<&C::base, &BaseConfig::path>, 0, 0, {}, nullptr, "GGUF file of the frozen base model"},
      {"base.precision", +at<&C::base, &BaseConfig::precision>, 0, 0, {"auto", "float32", "bfloat16"}, nullptr,
       "of the frozen weights where they are multiplied; auto: bfloat16 where the processor does so in hardware"},
      {"base.weights", +at<&C::base, &BaseConfig::weights>, 0, 0, {"bf16", "quantised"}, nullptr,
       "bf16: expanded to `base.precision` when the base is loaded; quantised: left in the mapped file, expanded where "
       "they are multiplied: less memory, a little slower"},
      {"base.gradients", +at<&C::base, &BaseConfig::gradients>, 0, 0, {"auto", "int8", "full"}, nullptr,
       "how gradients go back through the frozen weights: full: in `base.precision`; int8: in 8-bit integers; auto: "
       "int8 where the processor does so faster (VNNI or AMX) and `base.precision` is not float32"},
      {"base.forward", +at<&C::base, &BaseConfig::forward>, 0, 0, {"auto", "int8", "full"}, nullptr,
       "how training's forward pass goes through them; auto: int8 where the processor does so faster and "
       "`base.precision` is not float32"},

      {"device.kind", +at<&C::device, &DeviceConfig::kind>, 0, 0, {"cpu", "cuda"}, nullptr,
       "where the base model computes; cuda needs a libtorch with CUDA and dense weights"},

      {"encoder.kind", +at<&C::encoder, &EncoderConfig::kind>, 0, 0, {}, encoder_kind,
       "`base:L`: hidden states after the base model's layer L, meaned with weights that grow with the position; "
       "`minilm`: a model of its own"},
      {"encoder.path", +at<&C::encoder, &EncoderConfig::path>, 0, 0, {}, nullptr,
       "minilm: directory with model.safetensors and vocab.txt"},
      {"encoder.tokens_max", +at<&C::encoder, &EncoderConfig::tokens_max>, 1, 8192, {}, nullptr,
       "leading tokens of a record that are embedded; all of them are trained on"},
      {"encoder.products", +at<&C::encoder, &EncoderConfig::products>, 0, 0, {"auto", "int8", "full"}, nullptr,
       "base:L: its frozen products: full: in `base.precision`; int8: in 8-bit integers, in which the L layers of a "
       "base that is not quantised are kept besides, unless they are shared; auto: int8 where the processor does so "
       "faster (VNNI or AMX) and `base.precision` is not float32"},
      {"encoder.share", +at<&C::encoder, &EncoderConfig::share>, 0, 0, {}, nullptr,
       "base:L, where `lora.layers` leaves its L layers without an adapter and `encoder.products` is auto or "
       "`base.forward`: they run once for routing and training, as `base.forward` says"},

      {"routing.slots", +at<&C::routing, &RoutingOptions::slots>, 1, 1024, {}, nullptr,
       "K, the size of the pool: adapters that live at once"},
      {"routing.covariance", +at<&C::routing, &RoutingOptions::covariance>, 0, 0, {"tied", "diagonal"}, nullptr,
       "of the mixture's Gaussians"},
      {"routing.shrinkage", +at<&C::routing, &RoutingOptions::shrinkage>, 0, 1, {}, nullptr,
       "share of a multiple of the identity in the covariance, at the least"},
      {"routing.dimensions", +at<&C::routing, &RoutingOptions::dimensions>, 0, 16384, {}, nullptr,
       "of the mixture, which sees a fixed random projection of the embedding; 0: the embedding itself"},
      {"routing.power", +at<&C::routing, &RoutingOptions::power>, 0.05, 1, {}, nullptr,
       "coordinates of an embedding enter as sign(x) abs(x)^power: tames the few that are huge"},
      {"routing.false_alarm", +at<&C::routing, &RoutingOptions::false_alarm>, 1e-12, 0.5, {}, nullptr,
       "chance that one batch of a known domain is more surprising than is allowed for"},
      {"routing.batch_records", +at<&C::routing, &RoutingOptions::batch_records>, 1, 65536, {}, nullptr,
       "records that make a batch"},
      {"routing.novel_batches", +at<&C::routing, &RoutingOptions::novel_batches>, 1, 1024, {}, nullptr,
       "how much evidence opens a slot, in batches: fewer find new domains sooner, more are surer"},
      {"routing.claim_batches", +at<&C::routing, &RoutingOptions::claim_batches>, 0, 1024, {}, nullptr,
       "batches for which a new slot claims what is novel to the others"},
      {"routing.join_distance", +at<&C::routing, &RoutingOptions::join_distance>, 0, 1000, {}, nullptr,
       "how close to a slot the mean of something new must be to train that slot instead of a new one, in squared "
       "distances of its own records; 0: never (tied only)"},
      {"routing.merge_agreement", +at<&C::routing, &RoutingOptions::merge_agreement>, 0, 1, {}, nullptr,
       "to make room, two slots within join_distance become one where their adapters agree at least so much (cosine of "
       "their changes of the base), else one is evicted; 0: however much they agree"},
      {"routing.abstain", +at<&C::routing, &RoutingOptions::abstain>, 1, 1000, {}, nullptr,
       "standard deviates beyond which a query fits no slot, so that the base answers (docs/routing.md)"},

      {"eviction.policy", +at<&C::eviction, &FragilityOptions::policy>, 0, 0,
       {"count", "lru", "random", "gain", "score", "none"}, nullptr,
       "which slot goes when all are taken: the least used, the longest unused, any, the one of the least gain or "
       "retention value; none: a new domain shares the slots that are there"},
      {"eviction.half_life_batches", +at<&C::eviction, &FragilityOptions::half_life_batches>, 1, 1e9, {}, nullptr,
       "batches after which a slot's recurrence counts half: many times what passes until a domain is back"},
  };
}

std::vector<ConfigKey> training_keys() {
  return {
      {"lora.rank", +at<&C::lora, &LoraConfig::rank>, 1, 256, {}, nullptr, "rank of every adapter"},
      {"lora.alpha", +at<&C::lora, &LoraConfig::alpha>, 1e-3, 4096, {}, nullptr,
       "an adapter's output is scaled by alpha / rank: how far B goes for what A goes (docs/training.md)"},
      {"lora.layers", +at<&C::lora, &LoraConfig::layers>, 0, 1024, {}, nullptr,
       "top layers of the base that have an adapter; 0: all. Fewer train faster and learn less (docs/training.md)"},
      {"lora.births", +at<&C::lora, &LoraConfig::births>, 0, 0, {"fresh", "warm", "directions"}, nullptr,
       "a new slot starts fresh, or from the share (a whole, a half, a quarter) of another slot's change that is "
       "clearly better than the base on its first step; directions: with that slot's A alone"},
      {"train.learning_rate", +at<&C::train, &TrainConfig::learning_rate>, 0, 1, {}, nullptr,
       "of a full Signum step: every weight moves by exactly so much; auto: 5e-4 for a slot's first step, and "
       "rate_guard as auto"},
      {"train.rate_guard", +at<&C::train, &TrainConfig::rate_guard>, 0, 0, {"off", "warn", "auto"}, nullptr,
       "warn: measure for each slot the rate at which a step stops helping, and say when learning_rate is above it; "
       "auto: a slot starts with learning_rate and then keeps to a twentieth of that (docs/training.md)"},
      {"train.momentum", +at<&C::train, &TrainConfig::momentum>, 0, 0.9999, {}, nullptr, "of Signum"},
      {"train.momentum_type", +at<&C::train, &TrainConfig::momentum_type>, 0, 0, {"float32", "bfloat16"}, nullptr,
       "how the momentum is held and stored; a stored slot of the other type is converted"},
      {"train.weight_decay", +at<&C::train, &TrainConfig::weight_decay>, 0, 1, {}, nullptr, "decoupled"},
      {"train.tokens_per_step", +at<&C::train, &TrainConfig::tokens_per_step>, 8, 65536, {}, nullptr,
       "tokens in a full batch of one slot"},
      {"train.threads", +at<&C::train, &TrainConfig::threads>, 0, 1024, {}, nullptr,
       "of the training stage's kernels; 0: one per core"},

      {"commit.bytes", +at<&C::commit, &CommitConfig::bytes>, 1, gib, {}, nullptr,
       "text bytes in a commit group (about four per token)"},
      {"commit.records_max", +at<&C::commit, &CommitConfig::records_max>, 1, 1e6, {}, nullptr,
       "or as many records"},
      {"commit.max_wait_ms", +at<&C::commit, &CommitConfig::max_wait_ms>, 1, 3.6e6, {}, nullptr,
       "or so many milliseconds after the group's first record"},
      {"commit.groups_in_flight", +at<&C::commit, &CommitConfig::groups_in_flight>, 1, 64, {}, nullptr,
       "groups that are in the pipeline and not yet durable"},
  };
}

std::vector<ConfigKey> service_keys() {
  return {
      {"gateway.listen", +at<&C::gateway, &GatewayConfig::listen>, 0, 0, {}, listen_endpoint,
       "where gateways connect, under CURVE"},
      {"gateway.secret_key_file", +at<&C::gateway, &GatewayConfig::secret_key_file>, 0, 0, {}, nullptr,
       "the daemon's key pair (`kpoolctl keys new`), mode 0600"},
      {"gateway.authorized_keys_file", +at<&C::gateway, &GatewayConfig::authorized_keys_file>, 0, 0, {}, nullptr,
       "lines `name public-key` of the gateways that may connect"},
      {"gateway.credit_bytes", +at<&C::gateway, &GatewayConfig::credit_bytes>, 4 * kib, 64 * gib, {}, nullptr,
       "unacknowledged text of all gateways together; one's share (divided by sources_max) is at least 4 x "
       "commit.bytes and 2 x record_bytes_max"},
      {"gateway.credit_records", +at<&C::gateway, &GatewayConfig::credit_records>, 1, 1e7, {}, nullptr,
       "records of one gateway that may be unacknowledged"},
      {"gateway.sources_max", +at<&C::gateway, &GatewayConfig::sources_max>, 1, 1024, {}, nullptr,
       "gateways that are served at once"},
      {"gateway.record_bytes_max", +at<&C::gateway, &GatewayConfig::record_bytes_max>, 16, mib, {}, nullptr,
       "a longer record is refused"},

      {"store.kind", +at<&C::store, &StoreConfig::kind>, 0, 0, {"rocksdb", "memory"}, nullptr,
       "memory: nothing outlives the process"},
      {"store.path", +at<&C::store, &StoreConfig::path>, 0, 0, {}, nullptr, "directory of the store"},

      {"admin.socket", +at<&C::admin, &AdminConfig::socket>, 0, 0, {}, socket_path,
       "where kpoolctl asks; who may open it may administer"},

      {"engine.deterministic", +at<&C::engine, &EngineConfig::deterministic>, 0, 0, {}, nullptr,
       "the same stream gives the same bytes, whatever interrupts it; slower"},
      {"engine.seed", +at<&C::engine, &EngineConfig::seed>, 0, 9007199254740992.0, {}, nullptr,
       "of everything random"},
      {"engine.stages", +at<&C::engine, &EngineConfig::stages>, 0, 0,
       {"ingestion", "encoding", "routing", "training", "fragility", "persistence", "serving"}, nullptr,
       "stages that this process runs; empty: all"},
      {"engine.journal", +at<&C::engine, &EngineConfig::journal>, 0, 0, {}, nullptr,
       "files, one per stage, that say which record was in hand at a crash (number only), best on a tmpfs; "
       "empty: none"},
      {"engine.transport", +at<&C::engine, &EngineConfig::transport>, 0, 0, {}, transport,
       "between the stages: `inproc`, `ipc:DIRECTORY`, or `tcp:HOST:FIRST_PORT`"},

      {"memory.budget_mb", +at<&C::memory, &MemoryConfig::budget_mb>, 0, 1e7, {}, nullptr,
       "megabytes (10^6 bytes) that this process may take, for the stages that it runs; what does not fit is refused "
       "at start with the arithmetic (docs/memory.md); 0: no limit"},

      {"log.level", +at<&C::log, &LogConfig::level>, 0, 0, {"trace", "debug", "info", "warning", "error"}, nullptr,
       "the least severe message that is logged"},
  };
}

}  // namespace

const std::vector<ConfigKey>& config_keys() {
  static const std::vector<ConfigKey> keys = [] {
    auto all = model_keys();
    for (const auto& more : {training_keys(), service_keys()}) all.insert(all.end(), more.begin(), more.end());
    return all;
  }();
  return keys;
}

}  // namespace kpool
