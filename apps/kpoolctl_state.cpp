#include "apps/kpoolctl_state.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include <nlohmann/json.hpp>

#include "apps/kpoolctl_pool.hpp"
#include "core/fragility.hpp"
#include "core/ledger.hpp"
#include "core/router.hpp"

namespace kpool {
namespace {

using nlohmann::json;

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || fault != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool unsigned_at(const json& object, const char* key) {
  return object.contains(key) && object[key].is_number_unsigned();
}

/// What is wrong with one value; nothing where it is right.
using Complaint = std::optional<std::string>;

Complaint check_source(const std::string& value) {
  const json source = json::parse(value, nullptr, false);
  if (!source.is_object() || !source.contains("key") || !source["key"].is_string() || !unsigned_at(source, "epoch") ||
      !unsigned_at(source, "watermark"))
    return "does not hold key, epoch and watermark";
  return std::nullopt;
}

Complaint check_refusals(const std::string& value) {
  const json refusals = json::parse(value, nullptr, false);
  bool fits = refusals.is_array();
  for (const json& refusal : fits ? refusals : json::array()) {
    fits = fits && refusal.is_array() && refusal.size() == 3;
    for (const json& number : fits ? refusal : json::array()) fits = fits && number.is_number_unsigned();
  }
  return fits ? Complaint() : "is no list of (source, number, reason)";
}

Complaint check_routing(const std::string& value) {
  const json routing = json::parse(value, nullptr, false);
  bool fits = routing.is_object() && routing.contains("slots") && routing["slots"].is_array();
  for (const json& slot : fits ? routing["slots"] : json::array())
    fits = fits && slot.is_array() && slot.size() == 2 && slot[0].is_number_unsigned() && slot[1].is_number_unsigned();
  return fits ? Complaint() : "is no table of generation and records per slot";
}

Complaint check_slot(std::string_view number, const std::string& blob, const json& routing) {
  const auto index = whole_number(number);
  if (!index) return "has no number in its key";
  const auto label = read_slot(blob);
  if (!label) return label.error().message;
  if (!routing.contains("slots")) return std::nullopt;
  const json& slots = routing["slots"];
  if (*index >= slots.size()) return "is beyond the " + std::to_string(slots.size()) + " slots of routing";
  if (slots[*index][0] == label->generation) return std::nullopt;
  return "is of generation " + std::to_string(label->generation) + ", routing has " + slots[*index][0].dump();
}

Complaint check_mixture(const std::string& value) {
  const auto read = read_router(value, RoutingOptions{});
  return read ? Complaint() : "cannot be read: " + read.error().message;
}

Complaint check_fragility(const std::string& key, const std::string& value, const json& routing) {
  if (!routing.contains("slots")) return std::nullopt;  // the number of slots is not known
  FragilityOptions options;
  options.slots = static_cast<std::uint32_t>(routing["slots"].size());
  const auto read = key == "regret" ? RegretLedger(options.slots).restore(value)
                                    : Fragility(options).restore(value);
  return read ? Complaint() : "cannot be read: " + read.error().message;
}

/// routing: the value of that key where it is right, else an empty object.
Complaint check_value(const std::string& key, const std::string& value, const json& routing) {
  const auto after = [&](std::string_view prefix) { return std::string_view(key).substr(prefix.size()); };
  const auto numbered = [&](std::string_view prefix) { return whole_number(after(prefix)).has_value(); };
  if (key == "group") return whole_number(value) ? Complaint() : "is no number";
  if (key == "routing") return check_routing(value);
  if (key == "mixture") return check_mixture(value);
  if (key == "fragility" || key == "regret") return check_fragility(key, value, routing);
  if (key.starts_with("slot/")) return check_slot(after("slot/"), value, routing);
  if (key.starts_with("source/")) return numbered("source/") ? check_source(value) : "has no number in its key";
  if (key.starts_with("keep/")) {
    if (!numbered("keep/")) return "has no number in its key";
    return value == "pinned" || value == "held" || value == "pinned held" ? Complaint() : "is neither pinned nor held";
  }
  if (key.starts_with("refusals/")) return numbered("refusals/") ? check_refusals(value) : "has no number in its key";
  if (key.starts_with("identity/")) return value.empty() ? Complaint("is empty") : std::nullopt;
  return std::nullopt;
}

/// What a whole pool has, once a group was committed.
void check_presence(const Values& values, std::vector<std::string>& problems) {
  const bool begun = std::any_of(values.begin(), values.end(),
                                 [](const auto& entry) { return !entry.first.starts_with("keep/"); });
  if (!begun) return;
  for (const char* key : {"group", "mixture", "routing", "fragility"})
    if (!values.contains(key)) problems.push_back(std::string(key) + " is absent");
}

}  // namespace

std::vector<std::string> state_problems(const Values& values) {
  std::vector<std::string> problems;
  check_presence(values, problems);
  const auto found = values.find("routing");
  const bool known = found != values.end() && !check_routing(found->second);
  const json routing = known ? json::parse(found->second) : json::object();
  for (const auto& [key, value] : values)
    if (const Complaint complaint = check_value(key, value, routing)) problems.push_back(key + " " + *complaint);
  return problems;
}

}  // namespace kpool
