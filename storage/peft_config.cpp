#include "storage/peft_config.hpp"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace kpool {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kRankMax = 1 << 16;

Error refused(const std::string& what) { return {Fault::bad_input, what}; }

bool is_unset(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) || (value.is_structured() && value.empty());
}

// What changes the meaning of the tensors beyond W + alpha / rank * B A.
constexpr const char* kUnsupported[] = {
    "use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias", "layer_replication",
    "use_qalora", "alora_invocation_tokens", "trainable_token_indices", "target_parameters", "use_bdlora",
    "arrow_config", "velora_config", "monteclora_config", "kasa_config"};

Status check_plain(const Json& json) {
  if (json.value("peft_type", Json()) != "LORA") return refused("peft_type is not LORA");
  if (json.value("bias", Json("none")) != "none") return refused("bias is not none");
  const Json start = json.value("init_lora_weights", Json());
  if (start.is_string() && start != "gaussian" && start != "orthogonal" && start != "eva")
    return refused("init_lora_weights is " + start.dump() + ", which changes the base model");
  for (const char* key : kUnsupported)
    if (json.contains(key) && !is_unset(json[key]))
      return refused(std::string(key) + " is set, which is not supported");
  return Done{};
}

}  // namespace

std::string number_text(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

std::string write_peft_config(const PeftConfig& config) {
  const bool whole = config.alpha == std::floor(config.alpha) && std::abs(config.alpha) < 1e15;
  Json json = {
      {"alpha_pattern", Json::object()},
      {"base_model_name_or_path", nullptr},
      {"bias", "none"},
      {"fan_in_fan_out", false},
      {"inference_mode", true},
      {"init_lora_weights", true},
      {"lora_alpha", whole ? Json(static_cast<std::int64_t>(config.alpha)) : Json(config.alpha)},
      {"lora_dropout", 0.0},
      {"modules_to_save", nullptr},
      {"peft_type", "LORA"},
      {"r", config.rank},
      {"rank_pattern", Json::object()},
      {"revision", nullptr},
      {"target_modules", config.target_modules},
      {"task_type", "CAUSAL_LM"},
      {"use_dora", false},
      {"use_rslora", false},
  };
  if (!config.layers.empty()) {
    json["layers_pattern"] = "layers";
    json["layers_to_transform"] = config.layers;
  }
  return json.dump(2) + "\n";
}

Result<PeftConfig> parse_peft_config(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return refused("it is not a JSON object");
  if (auto plain = check_plain(json); !plain) return plain.error();
  PeftConfig config;
  const Json rank = json.value("r", Json()), alpha = json.value("lora_alpha", Json());
  if (!rank.is_number_integer() || rank < 1 || rank > kRankMax) return refused("r is not an integer from 1 to 65536");
  if (!alpha.is_number() || !std::isfinite(alpha.get<double>())) return refused("lora_alpha is not a number");
  config.rank = rank.get<std::int64_t>();
  config.alpha = alpha.get<double>();
  const Json stabilised = json.value("use_rslora", Json(false));
  if (stabilised.is_boolean() && stabilised.get<bool>()) config.alpha *= std::sqrt(static_cast<double>(config.rank));
  return config;
}

}  // namespace kpool
