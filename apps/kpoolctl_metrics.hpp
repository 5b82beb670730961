// `kpoolctl status --metrics`: the daemon's report for Prometheus (text format 0.0.4), as node_exporter's textfile
// collector reads it.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace kpool {

/// Every number and truth value of a report (of a trouble: whether there is one), by where it stands:
/// kpool_<stage>_<field>, of a list's elements with their slot or source as label. Untyped, as the report does not say
/// what is a counter.
std::string metrics_text(const nlohmann::json& report);

}  // namespace kpool
