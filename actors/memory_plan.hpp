// What of memory.budget_mb goes where in this process, for the stages that it has: counted before anything is loaded,
// and logged. Pure; called once at start. docs/memory.md explains the lines.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "core/llama.hpp"
#include "core/memory.hpp"

namespace kpool {

/// What the plan is made of besides the configuration.
struct MemoryFacts {
  std::size_t process = 0;  ///< resident before anything is loaded: the program, libtorch and the other libraries
  int threads = 1;          ///< of training
  BaseMemory base;
  LearnerMemory learner;    ///< zero where nothing is trained here
  EncoderMemory encoder;
  std::size_t embedding_width = 0;
  std::size_t hidden_tokens = 0;  ///< of a group, whose hidden states go from the encoder to the learner
};

struct MemoryLine {
  std::string what;
  std::size_t bytes = 0;
  std::string how;  ///< it is computed
};

struct MemoryPlan {
  std::vector<MemoryLine> lines;  ///< all but the activations
  std::size_t budget = 0;         ///< 0: none
  std::size_t activations_least = 0, activations_most = 0;
  StepPlan step;  ///< of training within activations()

  std::size_t fixed() const;  ///< the sum of the lines
  bool fits() const { return budget == 0 || fixed() + activations_least <= budget; }
  /// The limit of a step's workspace: what the budget leaves, at most what is fastest.
  std::size_t activations() const;
};

MemoryPlan plan_memory(const Config& config, const MemoryFacts& facts);

/// Errors: bad_config, with the arithmetic and what to change.
Status check_budget(const MemoryPlan& plan, const Config& config);

/// One line per item, and their sum: for the log and for --check.
std::vector<std::string> describe(const MemoryPlan& plan);

/// Resident bytes of this process now. Errors: io.
Result<std::size_t> resident_bytes();

}  // namespace kpool
