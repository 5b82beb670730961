// The plan of an experiment: which stream, which methods, which settings over which grid, how often. Read from
// one TOML file before anything runs; the hash of its bytes stands in every result. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "config/config.hpp"
#include "core/result.hpp"

namespace kpool {

/// What is streamed. A segment ends where the losses of all domains are measured.
struct StreamPlan {
  std::vector<std::string> domains;    ///< folders of *.jsonl in the data directory
  std::string shape = "blocks";        ///< blocks: one domain after the other | shuffled: all at once | both: blocks
                                       ///< of equal length, then as much shuffled
  std::string order = "given";         ///< given | seed: of the domains, drawn anew for each seed
  std::string sources = "first";       ///< file of a domain | mixed: all | in turn: all | unseen: one is learned |
                                       ///< split: train.jsonl is learned, test.jsonl held out
  std::string prompts = "masked";      ///< masked: completions alone count | learned: as any other text
  std::string gateways = "one";        ///< one source for the router | per domain
  std::uint64_t rounds = 1;            ///< blocks: every domain comes back so often
  std::uint64_t tokens_per_domain = 12288;
  std::vector<double> shares;          ///< of the shuffled tokens, per domain; empty: equal
  std::uint64_t held_out_tokens = 4096;
  bool learn = true;                   ///< false: routing alone, without learner and losses
};

/// Settings of the baselines, baseline.<name> among a plan's settings.
struct BaselineOptions {
  double rls_features = 2048;         ///< a whole number
  double rls_ridge = 1;
  double gate_learning_rate = 0.3;
  double gate_balance = 0.01;         ///< coefficient of the load-balance loss, softmax-balanced only
  std::string gate_choice = "argmax"; ///< argmax | sampled: the slot that a record trains
  std::string optimiser = "signum";   ///< signum | adamw: of every method's slots
};

using Assignments = std::vector<std::pair<std::string, std::string>>;  ///< configuration key, value as text

struct Plan {
  std::string name, question;
  std::string hash;                  ///< SHA-256 of the file
  double margin = 0.02;              ///< nats per token: what counts as equivalent
  std::vector<std::string> methods;  ///< see make_assigner
  std::vector<std::uint64_t> seeds;
  StreamPlan stream;
  Assignments settings;
  std::vector<std::pair<std::string, std::vector<std::string>>> grid;
};

/// One cell of the grid under one method and seed.
struct RunPlan {
  std::string method;
  std::uint64_t seed = 0;
  Assignments cell;
  Config config;
  BaselineOptions baseline;
  std::string name() const;  ///< unique within the plan
};

/// Errors: missing, bad_config with file:line:column.
Result<Plan> read_plan(const std::string& path);
/// All runs in order, seeds outermost, so that an interrupted experiment has whole replications. overrides: as the
/// plan's settings, above them. Errors: bad_config.
Result<std::vector<RunPlan>> list_runs(const Plan& plan, const Assignments& overrides);

}  // namespace kpool
