#include <map>

#include <nlohmann/json.hpp>

#include "apps/kpoolctl_status.hpp"
#include "apps/kpoolctl_table.hpp"

namespace kpool {
namespace {

using nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;

/// The value at a path of keys; null where it is absent.
const json& at(const json& object, std::initializer_list<const char*> path) {
  static const json nothing;
  const json* here = &object;
  for (const char* key : path) {
    const auto found = here->is_object() ? here->find(key) : here->end();
    if (!here->is_object() || found == here->end()) return nothing;
    here = &*found;
  }
  return *here;
}

double number(const json& value) { return value.is_number() ? value.get<double>() : 0; }

std::string text(const json& value, int digits = 0) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (!value.is_number()) return "-";
  return fixed(value.get<double>(), value.is_number_float() ? digits : 0);
}

/// Per second: between two reports, or since the start.
std::string rate(const json& now, const json* before, std::initializer_list<const char*> path) {
  double count = number(at(now, path)), seconds = number(at(now, {"uptime_seconds"}));
  if (before) {
    count -= number(at(*before, path));
    seconds -= number(at(*before, {"uptime_seconds"}));
  }
  if (seconds <= 0 || count < 0) return "-";
  return fixed(count / seconds, 1);
}

std::string head(const json& report) {
  std::string line = "kpoold " + text(at(report, {"version"})) + ", up " + text(at(report, {"uptime_seconds"})) + " s";
  for (const char* key : {"base", "encoder", "store"})
    if (const std::string value = text(at(report, {key})); value != "-") line += std::string(", ") + key + " " + value;
  line += "\ngroup " + text(at(report, {"stages", "persistence", "group"})) + ", " +
          text(at(report, {"stages", "persistence", "commits"})) + " commits since the start, " +
          text(at(report, {"stages", "ingestion", "groups_in_flight"})) + " groups in flight\n";
  const json& trouble = at(report, {"stages", "persistence", "trouble"});
  if (trouble.is_string() && !trouble.get<std::string>().empty())
    line += "STORE IN TROUBLE: " + trouble.get<std::string>() + "\n";
  return line;
}

std::string rates(const json& report, const json* before) {
  const json& ingestion = at(report, {"stages", "ingestion"});
  const double busy = number(at(report, {"stages", "training", "busy_seconds"})) -
                      (before ? number(at(*before, {"stages", "training", "busy_seconds"})) : 0);
  const double seconds = number(at(report, {"uptime_seconds"})) -
                         (before ? number(at(*before, {"uptime_seconds"})) : 0);
  return "records: " + text(at(ingestion, {"records_received"})) + " received, " +
         text(at(ingestion, {"records_durable"})) + " durable, " + text(at(ingestion, {"records_refused"})) +
         " refused, " + text(at(ingestion, {"queued_records"})) + " queued\nper second: " +
         rate(report, before, {"stages", "ingestion", "records_durable"}) + " records durable, " +
         rate(report, before, {"stages", "training", "tokens"}) + " tokens trained; trainer busy " +
         (seconds > 0 ? fixed(100 * busy / seconds, 0) + " %" : "-") + "\n";
}

/// The objects of a list by their field `slot`.
std::map<std::uint64_t, json> by_slot(const json& list) {
  std::map<std::uint64_t, json> found;
  for (const json& item : list)
    if (at(item, {"slot"}).is_number_unsigned()) found[item["slot"].get<std::uint64_t>()] = item;
  return found;
}

std::string scientific(const json& value) {
  char text[32];
  if (!value.is_number()) return "-";
  std::snprintf(text, sizeof text, "%.1e", value.get<double>());
  return text;
}

std::string births(const json& report) {
  const json& routing = at(report, {"stages", "routing"});
  return "births: " + text(at(routing, {"births"})) + ", evictions: " + text(at(routing, {"evictions"})) +
         ", merges: " + text(at(routing, {"merges"})) +
         ", sources that joined a slot: " + text(at(routing, {"joins"})) +
         ", new domains that found no room: " + text(at(routing, {"without_room"})) + "\n";
}

std::string slots(const json& report) {
  auto scores = by_slot(at(report, {"stages", "fragility", "slots"}));
  auto rates = by_slot(at(report, {"stages", "training", "rates"}));
  Rows rows{{"slot", "generation", "kept", "records", "steps", "tokens", "rate", "loss", "gain", "fragility", "value",
             "reason"}};
  for (const json& slot : at(report, {"stages", "routing", "slots"})) {
    const json& index = at(slot, {"slot"});
    if (!index.is_number_unsigned()) continue;
    if (number(at(slot, {"generation"})) == 0) {
      rows.push_back({text(index), "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "free"});
      continue;
    }
    const json& score = scores[index.get<std::uint64_t>()];
    const json& kept = at(slot, {"kept"});
    rows.push_back({text(index), text(at(slot, {"generation"})), kept == "" ? "-" : text(kept),
                    text(at(slot, {"records"})), text(at(score, {"steps"})), text(at(score, {"tokens"})),
                    scientific(at(rates[index.get<std::uint64_t>()], {"learning_rate"})), text(at(score, {"loss"}), 3),
                    text(at(score, {"gain"}), 3), text(at(score, {"fragility"}), 3), text(at(score, {"value"}), 4),
                    text(at(score, {"reason"}))});
  }
  return rows.size() == 1 ? "no slot yet\n" : make_table(rows);
}

std::string regret(const json& report) {
  const json& pool = at(report, {"stages", "fragility", "regret"});
  if (!pool.is_object()) return "";
  return "regret, nats per token: routing " + text(at(pool, {"routing"}), 3) + ", interference " +
         text(at(pool, {"interference"}), 3) + ", eviction " + text(at(pool, {"eviction"}), 3) + "\n";
}

std::string sources(const json& report) {
  Rows rows{{"source", "epoch", "watermark", "received", "open bytes", "refusals kept", "connected"}};
  for (const json& source : at(report, {"stages", "ingestion", "sources"}))
    rows.push_back({text(at(source, {"source"})), text(at(source, {"epoch"})), text(at(source, {"watermark"})),
                    text(at(source, {"received"})), text(at(source, {"open_bytes"})),
                    text(at(source, {"refusals_kept"})), text(at(source, {"connected"}))});
  if (rows.size() == 1) return "no source yet\n";
  return make_table(rows) + "credit of each source: " +
         text(at(report, {"stages", "ingestion", "credit_bytes_per_source"})) + " bytes\n";
}

}  // namespace

std::string status_text(const json& report, const json* before) {
  return head(report) + rates(report, before) + "\n" + slots(report) + births(report) + regret(report) + "\n" +
         sources(report);
}

}  // namespace kpool
