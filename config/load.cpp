#include "config/load.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

// Debian's library holds the throwing variant alone; this one is compiled here.
#define TOML_EXCEPTIONS 0
#define TOML_IMPLEMENTATION
#include <toml++/toml.h>

#include "config/schema.hpp"

namespace kpool {
namespace {

constexpr std::uintmax_t file_bytes_max = 1u << 20;

Error wrong(std::string message) { return {Fault::bad_config, std::move(message)}; }

std::string place(const std::string& file, const toml::source_region& source) {
  return file + ":" + std::to_string(source.begin.line) + ":" + std::to_string(source.begin.column);
}

Error unknown_key(const std::string& where, const std::string& name) {
  const auto nearest = nearest_config_key(name);
  std::string message = where + ": unknown key \"" + name + "\"";
  if (!nearest.empty()) message += "; did you mean \"" + std::string(nearest) + "\"?";
  return wrong(message);
}

Result<ConfigValue> to_value(const toml::node& node) {
  if (const auto* value = node.as_boolean()) return ConfigValue(value->get());
  if (const auto* value = node.as_integer()) return ConfigValue(value->get());
  if (const auto* value = node.as_floating_point()) return ConfigValue(value->get());
  if (const auto* value = node.as_string()) return ConfigValue(value->get());
  if (const auto* array = node.as_array()) {
    std::vector<std::string> items;
    for (const auto& item : *array) {
      if (!item.is_string()) return wrong("must be a list of texts");
      items.push_back(item.as_string()->get());
    }
    return ConfigValue(std::move(items));
  }
  return wrong("has a type that no key takes");
}

Status apply(LoadedConfig& loaded, const std::string& name, const std::string& where, const toml::node& node) {
  const ConfigKey* key = find_config_key(name);
  if (key == nullptr) return unknown_key(where, name);
  auto value = to_value(node);
  if (!value) return wrong(where + ": " + name + " " + value.error().message);
  if (auto set = set_config_value(loaded.config, *key, *value); !set) {
    return wrong(where + ": " + name + " " + set.error().message);
  }
  loaded.origins[name] = where;
  return Done{};
}

Status apply_section(LoadedConfig& loaded, const std::string& file, const toml::key& key, const toml::node& node) {
  const std::string section(key.str());
  const toml::table* table = node.as_table();
  if (table == nullptr) {
    return wrong(place(file, key.source()) + ": \"" + section +
                 "\" stands outside of a section; keys are written as in [store] path = \"...\"");
  }
  for (const auto& [name, value] : *table) {
    const std::string full = section + "." + std::string(name.str());
    if (auto done = apply(loaded, full, place(file, name.source()), value); !done) return done;
  }
  return Done{};
}

Result<std::string> read_text(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) {
    const Fault fault = error == std::errc::no_such_file_or_directory ? Fault::missing
                        : error == std::errc::permission_denied       ? Fault::denied
                                                                      : Fault::bad_config;
    return Error{fault, path + ": the configuration cannot be read: " + error.message()};
  }
  if (size > file_bytes_max) return wrong(path + ": longer than 1 MiB, so it is no configuration");
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (in && size == 0) return std::string();  // copying nothing would count as a failure below
  if (!in || !(text << in.rdbuf())) {
    return Error{errno == EACCES ? Fault::denied : Fault::bad_config,
                 path + ": the configuration cannot be read: " + std::strerror(errno)};
  }
  return std::move(text).str();
}

Status apply_file(LoadedConfig& loaded, const std::string& path) {
  auto text = read_text(path);
  if (!text) return text.error();
  const auto parsed = toml::parse(*text, std::string_view(path));
  if (!parsed) {
    return wrong(place(path, parsed.error().source()) + ": " + std::string(parsed.error().description()));
  }
  // In the order of the file, so that the first mistake is reported first.
  std::vector<std::pair<const toml::key*, const toml::node*>> sections;
  for (const auto& [key, node] : parsed.table()) sections.emplace_back(&key, &node);
  std::sort(sections.begin(), sections.end(), [](const auto& a, const auto& b) {
    return a.first->source().begin.line < b.first->source().begin.line;
  });
  for (const auto& [key, node] : sections) {
    if (auto done = apply_section(loaded, path, *key, *node); !done) return done;
  }
  return Done{};
}

Status apply_environment(LoadedConfig& loaded, const std::map<std::string, std::string>& environment) {
  for (const auto& [variable, text] : environment) {
    const auto& keys = config_keys();
    const auto key =
        std::find_if(keys.begin(), keys.end(), [&](const auto& k) { return environment_name(k) == variable; });
    const std::string where = "environment variable " + variable;
    if (key == keys.end()) {
      std::string name = variable.substr(std::min<std::size_t>(6, variable.size()));
      if (const auto dot = name.find("__"); dot != std::string::npos) name.replace(dot, 2, ".");
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      return unknown_key(where, name);
    }
    if (auto set = set_config_text(loaded.config, *key, text); !set) {
      return wrong(where + ": " + std::string(key->name) + " " + set.error().message);
    }
    loaded.origins[std::string(key->name)] = where;
  }
  return Done{};
}

Status apply_override(LoadedConfig& loaded, const std::string& argument) {
  const auto equals = argument.find('=');
  if (equals == std::string::npos) {
    return wrong("command line: \"" + argument + "\" is not of the form section.key=value");
  }
  const std::string name = argument.substr(0, equals);
  const ConfigKey* key = find_config_key(name);
  if (key == nullptr) return unknown_key("command line", name);
  if (auto set = set_config_text(loaded.config, *key, argument.substr(equals + 1)); !set) {
    return wrong("command line: " + name + " " + set.error().message);
  }
  loaded.origins[name] = "command line";
  return Done{};
}

std::string origin(const LoadedConfig& loaded, const std::string& name) {
  const auto found = loaded.origins.find(name);
  return found == loaded.origins.end() ? "default" : found->second;
}

// "name = value (origin)", for checks that compare keys.
std::string shown(const LoadedConfig& loaded, const char* name) {
  return std::string(name) + " = " + config_value_toml(loaded.config, *find_config_key(name)) + " (" +
         origin(loaded, name) + ")";
}

Status cross_check(const LoadedConfig& loaded) {
  const Config& config = loaded.config;
  const std::uint64_t share = config.gateway.credit_bytes / config.gateway.sources_max;
  const std::string credit = shown(loaded, "gateway.credit_bytes") + " divided by " +
                             shown(loaded, "gateway.sources_max") + " is one gateway's credit, which must be at least ";
  if (share / 4 < config.commit.bytes) {
    return wrong(credit + "four times " + shown(loaded, "commit.bytes") + ", or groups would wait for their credit");
  }
  if (share / 2 < config.gateway.record_bytes_max) {
    return wrong(credit + "twice " + shown(loaded, "gateway.record_bytes_max") + ", or long records would wait for it");
  }
  if (config.engine.deterministic && config.gateway.credit_records < config.commit.records_max) {
    return wrong(shown(loaded, "gateway.credit_records") + " is less than " + shown(loaded, "commit.records_max") +
                 ": a group of short records would wait for its credit, as no clock ends it in deterministic mode");
  }
  if (config.encoder.kind == "minilm" && config.encoder.path.empty()) {
    return wrong(shown(loaded, "encoder.kind") + " needs encoder.path, the directory of its model");
  }
  if (!config.train.learning_rate && config.train.rate_guard == "warn") {
    return wrong(shown(loaded, "train.learning_rate") + " lets the guard choose the rate, where " +
                 shown(loaded, "train.rate_guard") + " leaves it alone");
  }
  if (config.engine.transport == "inproc" && !config.engine.stages.empty()) {
    return wrong(shown(loaded, "engine.stages") + " needs an engine.transport that other processes reach: ipc or tcp");
  }
  return Done{};
}

}  // namespace

Result<std::vector<std::string>> config_files(const std::string& main_file) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  std::error_code error;
  const fs::path directory = fs::path(main_file).parent_path() / "conf.d";
  if (fs::is_directory(directory, error)) {
    for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
      if (it->path().extension() == ".toml") files.push_back(it->path().string());
    }
    if (error) return Error{Fault::io, directory.string() + ": cannot be listed: " + error.message()};
  }
  std::sort(files.begin(), files.end());
  files.insert(files.begin(), main_file);
  return files;
}

std::map<std::string, std::string> config_environment(const char* const* environment) {
  std::map<std::string, std::string> found;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    const auto equals = entry.find('=');
    if (equals == std::string_view::npos || !entry.starts_with("KPOOL_")) continue;
    // Without "__" it names no key: variables of the build and of tests are called KPOOL_ too.
    if (entry.substr(0, equals).find("__") == std::string_view::npos) continue;
    found.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return found;
}

Result<LoadedConfig> load_config(const std::vector<std::string>& files,
                                 const std::map<std::string, std::string>& environment,
                                 const std::vector<std::string>& overrides) {
  LoadedConfig loaded;
  for (const auto& file : files) {
    if (auto done = apply_file(loaded, file); !done) return done.error();
  }
  if (auto done = apply_environment(loaded, environment); !done) return done.error();
  for (const auto& argument : overrides) {
    if (auto done = apply_override(loaded, argument); !done) return done.error();
  }
  if (auto done = cross_check(loaded); !done) return done.error();
  loaded.config.eviction.slots = loaded.config.routing.slots;
  loaded.config.routing.evicts = loaded.config.eviction.policy != "none";
  loaded.config.eviction.window_batches = loaded.config.routing.claim_batches;
  return loaded;
}

std::string dump_config(const LoadedConfig& loaded) {
  std::string out, section;
  for (const auto& key : config_keys()) {
    const auto dot = key.name.find('.');
    if (key.name.substr(0, dot) != section) {
      out += out.empty() ? "" : "\n";
      section = key.name.substr(0, dot);
      out += "[" + section + "]\n";
    }
    out += std::string(key.name.substr(dot + 1)) + " = " + config_value_toml(loaded.config, key) + "  # " +
           origin(loaded, std::string(key.name)) + "\n";
  }
  return out;
}

}  // namespace kpool
