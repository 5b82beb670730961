// adapter_config.json: how a slot describes itself to PEFT. Values in, values out. It names no base model: PEFT
// would look the name up on the network, and the fingerprint stands in the metadata of the tensors.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace kpool {

struct PeftConfig {
  std::int64_t rank = 0;
  double alpha = 0;  ///< the adapter's output is scaled by alpha / rank
  std::set<std::string> target_modules;  ///< q_proj and so on
  std::set<std::int64_t> layers;         ///< that have an adapter; empty: not said, all that there are
};

std::string write_peft_config(const PeftConfig& config);

/// Errors: bad_input (not JSON, or a kind of adapter that is more than a plain LoRA), without the file's name.
Result<PeftConfig> parse_peft_config(std::string_view json);

/// The shortest text that reads back as the same number.
std::string number_text(double value);

}  // namespace kpool
