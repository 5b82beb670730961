// Reads the effective configuration out of its layers: defaults, TOML files, environment, command
// line, each above the one before. Pure but for reading the named files; called once in main.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "core/result.hpp"

namespace kpool {

struct LoadedConfig {
  Config config;
  std::map<std::string, std::string> origins;  ///< "section.key" -> where its value came from; absent: default
};

/// A configuration file and, in order of name, conf.d/*.toml beside it. Errors: missing, io.
Result<std::vector<std::string>> config_files(const std::string& main_file);

/// The KPOOL_SECTION__KEY variables of an environment (as `environ`).
std::map<std::string, std::string> config_environment(const char* const* environment);

/// overrides: "section.key=value". Errors: missing or denied (a file), bad_config with
/// file:line:column, the variable's or the option's name, and for an unknown key its nearest relative.
Result<LoadedConfig> load_config(const std::vector<std::string>& files,
                                 const std::map<std::string, std::string>& environment,
                                 const std::vector<std::string>& overrides);

/// The effective configuration as TOML, each value with its origin. Secrets appear as their files' paths only.
std::string dump_config(const LoadedConfig& loaded);

}  // namespace kpool
