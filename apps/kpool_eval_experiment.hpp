// All runs of a plan, those that are missing from the results. Owned by the program, used on one thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/result.hpp"

namespace kpool {

struct ExperimentOptions {
  std::string plan, model, data, out;
  std::vector<std::string> settings;  ///< section.key=value, above the plan's
  bool list = false;                  ///< name the runs alone
};

/// Appends a line per run to options.out, each whole or not at all. say: progress, line by line. Errors: missing,
/// bad_config, bad_input, mismatch (the results are of another plan), io.
Status run_experiment(const ExperimentOptions& options, const std::function<void(const std::string&)>& say);

}  // namespace kpool
