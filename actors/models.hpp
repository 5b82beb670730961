// The real parts of a pipeline: base model, encoder, learner and store as the configuration names
// them. Loads the base once for all stages of the process that need it.
#pragma once

#include <functional>
#include <string>

#include "actors/memory_plan.hpp"
#include "actors/pipeline.hpp"

namespace kpool {

/// What this process will take of memory, from the model's file alone. Errors: missing, bad_input (model file),
/// bad_config (sizes that no commit could carry).
Result<MemoryPlan> foresee_memory(const Config& config);
/// Says the plan line by line, where the model's file can be read. Errors: bad_config.
Status tell_memory(const Config& config, const std::function<void(const std::string&)>& say);

/// Refuses what does not fit into memory.budget_mb before it loads anything. Errors: missing, bad_input (model file),
/// bad_config.
Result<Parts> load_parts(const Config& config);
/// The key pair and allow-list where a stage here has a door. Errors: missing, denied, bad_input.
Result<Keys> load_keys(const Config& config);

/// Bytes of a slot's part of a commit, and of the mixture's: upper bounds, headers aside.
std::size_t slot_bytes(const BaseShape& shape, std::uint32_t rank, MomentumType momentum, std::uint32_t top_layers = 0);
std::size_t mixture_bytes(const RoutingOptions& options, std::size_t width);
/// Each part has to fit into one frame between stages. Errors: bad_config, naming the key to lower.
Status check_part_sizes(const Config& config, const BaseShape& shape, std::size_t embedding_width);

MomentumType momentum_type(const Config& config);
LearnerOptions learner_options(const Config& config);
/// The encoder alone: what it computes is not handed on.
EncoderOptions encoder_options(const Config& config);
/// In a pipeline: training begins above the encoder's layers where these have no adapter and encoder.share is on.
EncoderOptions encoder_options(const Config& config, const BaseShape& shape);
/// layers: as in BaseOptions.
BaseOptions base_options(const Config& config, std::int64_t layers);

}  // namespace kpool
