// The real parts of a pipeline: base model, encoder, learner and store as the configuration names
// them. Loads the base once for all stages of the process that need it.
#pragma once

#include "actors/pipeline.hpp"

namespace kpool {

/// Errors: missing, bad_input (model file), bad_config.
Result<Parts> load_parts(const Config& config);
/// The key pair and allow-list where a stage here has a door. Errors: missing, denied, bad_input.
Result<Keys> load_keys(const Config& config);

LearnerOptions learner_options(const Config& config);
EncoderOptions encoder_options(const Config& config);

}  // namespace kpool
