#include "apps/kpoolctl_verify.hpp"

#include <nlohmann/json.hpp>

#include "apps/kpoolctl_digest.hpp"
#include "apps/kpoolctl_pool.hpp"
#include "apps/kpoolctl_state.hpp"
#include "apps/kpoolctl_table.hpp"

namespace kpool {
namespace {

bool is_state(std::string_view key) {
  return key == "group" || key == "mixture" || key == "routing" || key == "fragility" || key == "regret" ||
         key.starts_with("slot/") || key.starts_with("keep/") || key.starts_with("source/");
}

std::string length_prefix(std::size_t length) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(length >> (8 * i));
  return bytes;
}

void print_text(const std::string& path, const Verification& found, std::ostream& out) {
  std::vector<std::vector<std::string>> rows{{"key", "bytes", "SHA-256"}};
  for (const auto& [key, value] : found.values) rows.push_back({key, std::to_string(value.bytes), value.sha256});
  out << make_table(rows) << "\n"
      << path << ": group " << found.group << ", " << found.values.size() << " values, "
      << (found.problems.empty() ? "all whole" : "NOT whole") << "\nstate SHA-256 " << found.state_sha256 << "\n";
}

void print_json(const std::string& path, const Verification& found, std::ostream& out) {
  nlohmann::json values = nlohmann::json::object();
  for (const auto& [key, value] : found.values) values[key] = {{"bytes", value.bytes}, {"sha256", value.sha256}};
  out << nlohmann::json{{"path", path}, {"group", found.group}, {"values", values},
                        {"state_sha256", found.state_sha256}, {"problems", found.problems}}.dump(2) << "\n";
}

}  // namespace

Verification verify_values(const Values& values) {
  Verification found;
  Digest state;
  for (const auto& [key, value] : values) {
    Digest one;
    one.add(value);
    found.values[key] = {value.size(), one.finish()};
    if (key == "group") found.group = value;
    if (!is_state(key)) continue;
    for (const std::string_view part : {std::string_view(key), std::string_view(value)}) {
      state.add(length_prefix(part.size()));
      state.add(part);
    }
  }
  found.state_sha256 = state.finish();
  found.problems = state_problems(values);
  return found;
}

Status verify_store(const std::string& path, bool json, std::ostream& out) {
  auto pool = open_pool(path);
  if (!pool) return pool.error();
  const Verification found = verify_values(pool->values);
  json ? print_json(path, found, out) : print_text(path, found, out);
  if (found.problems.empty()) return Done{};
  std::string all = path + ": " + found.problems.front();
  for (std::size_t i = 1; i < found.problems.size(); ++i) all += "; " + found.problems[i];
  return Error{Fault::bad_input, all};
}

}  // namespace kpool
