// One run of an experiment: a stream through router, learner and fragility as the daemon's stages use them, without
// sockets and store; and the losses of all domains after each segment. Owned by the program, used on one thread.
#pragma once

#include <memory>

#include <nlohmann/json.hpp>

#include "apps/kpool_eval_domains.hpp"
#include "core/base.hpp"

namespace kpool {

/// What runs share.
struct Materials {
  std::shared_ptr<const Base> base;
  const std::vector<Domain>* domains = nullptr;
  std::size_t embedding_width = 0;
};

/// The result as one row (docs/evaluation.md). Errors: bad_config (too little data), bad_input.
Result<nlohmann::ordered_json> carry_out(const RunPlan& run, const StreamPlan& stream, const Materials& materials);

}  // namespace kpool
