#include "apps/kpoolctl_metrics.hpp"

#include <cctype>
#include <map>

#include <nlohmann/json.hpp>

namespace kpool {
namespace {

using nlohmann::json;

std::string escaped(const std::string& value) {
  std::string text;
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    text += c == '\n' ? ' ' : c;
  }
  return text;
}

/// What tells the elements of a list apart.
std::string label(const json& element) {
  for (const char* key : {"slot", "source", "name"})
    if (element.is_object() && element.contains(key)) {
      const json& value = element[key];
      const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
      return std::string("{") + key + "=\"" + escaped(text) + "\"}";
    }
  return {};
}

class Series {
 public:
  void add(const json& value, const std::string& name, const std::string& labels) {
    if (value.is_object()) {
      for (const auto& [key, field] : value.items())
        if (labels.empty() || !labels.starts_with("{" + key + "=")) add(field, name + "_" + plain(key), labels);
    } else if (value.is_array()) {
      for (const json& element : value)
        if (const std::string own = label(element); labels.empty() && !own.empty()) add(element, name, own);
    } else if (value.is_boolean()) {
      lines_[name] += name + labels + (value.get<bool>() ? " 1\n" : " 0\n");
    } else if (value.is_string() && name.ends_with("_trouble")) {
      lines_[name] += name + labels + (value.get<std::string>().empty() ? " 0\n" : " 1\n");
    } else if (value.is_number()) {
      lines_[name] += name + labels + " " + value.dump() + "\n";
    }
  }
  std::string text() const {
    std::string all;
    for (const auto& [name, lines] : lines_) all += "# TYPE " + name + " untyped\n" + lines;
    return all;
  }

 private:
  static std::string plain(std::string key) {
    for (char& c : key)
      if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
    return key;
  }
  std::map<std::string, std::string> lines_;  // a metric's lines stand together
};

}  // namespace

std::string metrics_text(const json& report) {
  Series series;
  for (const auto& [key, value] : report.items())
    if (key == "stages") series.add(value, "kpool", "");
    else series.add(value, "kpool_" + key, "");
  return series.text();
}

}  // namespace kpool
