// The one table of configuration keys: parsing, validation, environment, dump and the reference in
// docs/configuration.md all come from it. Constant; read from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.hpp"

namespace kpool {

/// A value as a TOML file, the environment or the command line gives it.
using ConfigValue = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>>;

struct ConfigKey {
  /// Where the value lives in a Config. A number that may be missing is written "auto" then.
  using Field = std::variant<bool* (*)(Config&), std::uint32_t* (*)(Config&), std::uint64_t* (*)(Config&),
                             double* (*)(Config&), std::optional<double>* (*)(Config&),
                             std::string* (*)(Config&), std::vector<std::string>* (*)(Config&)>;
  std::string_view name;  ///< "section.key"
  Field field;
  double min = 0, max = 0;                ///< of numbers, both included
  std::vector<std::string_view> choices;  ///< of texts; empty: `syntax` decides
  /// What is wrong with a text ("is not ..."), or empty.
  std::string (*syntax)(const std::string&) = nullptr;
  std::string_view help;
};

const std::vector<ConfigKey>& config_keys();
const ConfigKey* find_config_key(std::string_view name);
/// The known name that is nearest to a mistyped one, or empty where none is near.
std::string_view nearest_config_key(std::string_view name);
/// KPOOL_SECTION__KEY.
std::string environment_name(const ConfigKey& key);

/// Sets one key. Errors: bad_config, a clause without its subject ("must be ...").
Status set_config_value(Config& config, const ConfigKey& key, const ConfigValue& value);
/// The same from text, by the key's type: true, 12, 0.5, plain text, or a list "a,b".
Status set_config_text(Config& config, const ConfigKey& key, const std::string& text);
/// The value as TOML.
std::string config_value_toml(const Config& config, const ConfigKey& key);
/// "whole number, 1 to 1024" or the like.
std::string config_type(const ConfigKey& key);

/// docs/configuration.md.
std::string configuration_reference();

}  // namespace kpool
