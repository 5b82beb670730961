#include "config/schema.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace kpool {
namespace {

template <class... F>
struct Overloaded : F... { using F::operator()...; };

bool is_number(const ConfigKey& key) { return key.field.index() >= 1 && key.field.index() <= 4; }
bool is_real(const ConfigKey& key) { return key.field.index() == 3 || key.field.index() == 4; }
bool may_be_auto(const ConfigKey& key) { return key.field.index() == 4; }

Error wrong(std::string clause) { return {Fault::bad_config, std::move(clause)}; }

std::string number_text(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

std::string real_toml(double value) {
  const std::string text = number_text(value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      const char* hex = "0123456789ABCDEF";
      out += std::string("\\u00") + hex[(c >> 4) & 15] + hex[c & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string join(const auto& items, const char* separator) {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : separator) + std::string(item);
  return out;
}

std::string check_text(const ConfigKey& key, const std::string& text) {
  if (!key.choices.empty() && std::find(key.choices.begin(), key.choices.end(), text) == key.choices.end()) {
    return "must be one of " + join(key.choices, ", ") + ", not " + quoted(text);
  }
  if (key.syntax != nullptr) return key.syntax(text);
  return {};
}

template <class T>
Status set_number(T& target, const ConfigKey& key, double value, bool whole, std::int64_t integer) {
  if (!std::isfinite(value) || value < key.min || value > key.max) {
    return wrong("must be a " + config_type(key) + ", not " + (whole ? std::to_string(integer) : number_text(value)));
  }
  target = whole ? static_cast<T>(integer) : static_cast<T>(value);
  return Done{};
}

// How many single-character edits lead from one word to the other.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

Result<ConfigValue> parse_text(const ConfigKey& key, const std::string& text) {
  const char* const end = text.data() + text.size();
  const Error mismatch = wrong("must be a " + config_type(key) + ", not " + quoted(text));
  if (std::holds_alternative<bool* (*)(Config&)>(key.field)) {
    if (text != "true" && text != "false") return mismatch;
    return ConfigValue(text == "true");
  }
  if (may_be_auto(key) && text == "auto") return ConfigValue(text);
  if (is_real(key)) {
    double value = 0;
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || stop != end) return mismatch;
    return ConfigValue(value);
  }
  if (is_number(key)) {
    std::int64_t value = 0;
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || stop != end) return mismatch;
    return ConfigValue(value);
  }
  if (std::holds_alternative<std::string* (*)(Config&)>(key.field)) return ConfigValue(text);
  std::vector<std::string> items;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    items.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return ConfigValue(std::move(items));
}

}  // namespace

const ConfigKey* find_config_key(std::string_view name) {
  for (const auto& key : config_keys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::string_view nearest_config_key(std::string_view name) {
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(3, name.size() / 3) + 1;
  for (const auto& key : config_keys()) {
    const std::size_t distance = edit_distance(name, key.name);
    if (distance < best_distance) best = key.name, best_distance = distance;
  }
  return best;
}

std::string environment_name(const ConfigKey& key) {
  std::string name = "KPOOL_";
  for (const char c : key.name) {
    if (c == '.') name += "__";
    else name += static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  }
  return name;
}

Status set_config_value(Config& config, const ConfigKey& key, const ConfigValue& value) {
  const Error mismatch = wrong("must be a " + config_type(key));
  const auto number = [&](auto* target) -> Status {
    if (const auto* integer = std::get_if<std::int64_t>(&value)) {
      return set_number(*target, key, static_cast<double>(*integer), true, *integer);
    }
    if (const auto* real = std::get_if<double>(&value); real && is_real(key)) {
      return set_number(*target, key, *real, false, 0);
    }
    return mismatch;
  };
  return std::visit(Overloaded{
      [&](bool* (*field)(Config&)) -> Status {
        if (!std::holds_alternative<bool>(value)) return mismatch;
        *field(config) = std::get<bool>(value);
        return Done{};
      },
      [&](std::uint32_t* (*field)(Config&)) { return number(field(config)); },
      [&](std::uint64_t* (*field)(Config&)) { return number(field(config)); },
      [&](double* (*field)(Config&)) { return number(field(config)); },
      [&](std::optional<double>* (*field)(Config&)) -> Status {
        if (const auto* text = std::get_if<std::string>(&value); text && *text == "auto") {
          field(config)->reset();
          return Done{};
        }
        double given = 0;
        if (auto set = number(&given); !set) return set;
        *field(config) = given;
        return Done{};
      },
      [&](std::string* (*field)(Config&)) -> Status {
        if (!std::holds_alternative<std::string>(value)) return mismatch;
        if (auto problem = check_text(key, std::get<std::string>(value)); !problem.empty()) return wrong(problem);
        *field(config) = std::get<std::string>(value);
        return Done{};
      },
      [&](std::vector<std::string>* (*field)(Config&)) -> Status {
        if (!std::holds_alternative<std::vector<std::string>>(value)) return mismatch;
        for (const auto& item : std::get<std::vector<std::string>>(value)) {
          if (auto problem = check_text(key, item); !problem.empty()) return wrong(problem);
        }
        *field(config) = std::get<std::vector<std::string>>(value);
        return Done{};
      }}, key.field);
}

Status set_config_text(Config& config, const ConfigKey& key, const std::string& text) {
  auto value = parse_text(key, text);
  if (!value) return value.error();
  return set_config_value(config, key, *value);
}

std::string config_value_toml(const Config& config, const ConfigKey& key) {
  auto& from = const_cast<Config&>(config);  // the accessors serve reading and writing
  return std::visit(Overloaded{
      [&](bool* (*field)(Config&)) { return std::string(*field(from) ? "true" : "false"); },
      [&](std::uint32_t* (*field)(Config&)) { return std::to_string(*field(from)); },
      [&](std::uint64_t* (*field)(Config&)) { return std::to_string(*field(from)); },
      [&](double* (*field)(Config&)) { return real_toml(*field(from)); },
      [&](std::optional<double>* (*field)(Config&)) { return *field(from) ? real_toml(**field(from)) : "\"auto\""; },
      [&](std::string* (*field)(Config&)) { return quoted(*field(from)); },
      [&](std::vector<std::string>* (*field)(Config&)) {
        std::vector<std::string> items;
        for (const auto& item : *field(from)) items.push_back(quoted(item));
        return "[" + join(items, ", ") + "]";
      }}, key.field);
}

std::string config_type(const ConfigKey& key) {
  if (is_number(key)) {
    const char* type = is_real(key) ? "number from " : "whole number from ";
    return type + number_text(key.min) + " to " + number_text(key.max) + (may_be_auto(key) ? ", or auto" : "");
  }
  if (std::holds_alternative<bool* (*)(Config&)>(key.field)) return "truth value (true or false)";
  const bool list = std::holds_alternative<std::vector<std::string>* (*)(Config&)>(key.field);
  const std::string type = list ? "list of texts" : "text";
  return key.choices.empty() ? type : type + (list ? ", each one of " : ", one of ") + join(key.choices, ", ");
}

std::string configuration_reference() {
  std::string out =
      "# Configuration\n\n"
      "Generated from the table in `config/table.cpp`; a test compares. Every key has a default. Layers, each above\n"
      "the one before: the default, the TOML file, `conf.d/*.toml` beside it in order of name, the environment\n"
      "variable `KPOOL_SECTION__KEY`, the command line's `--set section.key=value`. An unknown key or a wrong\n"
      "value is an error that names file, line and column. `kpoold --dump-config` prints the effective values and\n"
      "where each came from.\n";
  const Config defaults;
  std::string section;
  for (const auto& key : config_keys()) {
    const auto dot = key.name.find('.');
    if (key.name.substr(0, dot) != section) {
      section = key.name.substr(0, dot);
      out += "\n## [" + section + "]\n\n| key | default | type | meaning |\n|---|---|---|---|\n";
    }
    out += "| `" + std::string(key.name.substr(dot + 1)) + "` | `" + config_value_toml(defaults, key) + "` | " +
           config_type(key) + " | " + std::string(key.help) + " |\n";
  }
  return out;
}

}  // namespace kpool
