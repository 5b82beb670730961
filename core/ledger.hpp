// What the pool loses against an oracle that gives every record the best adapter it ever had, while it runs and
// without kept data: estimates from the losses that training measures on its samples anyway (docs/evaluation.md).
//   routing:      a slot's records would be predicted better by another slot (sampled forwards under one rival each)
//   interference: a slot's gain over the base has fallen below the best it had
//   eviction:     the gain of slots that went, as often as they were used, fading as its half-life passes
// Nats per token, never negative. Owned by the fragility stage, used on its thread alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/learner.hpp"
#include "core/result.hpp"

namespace kpool {

struct Regret {
  double routing = 0, interference = 0, eviction = 0;
};

class RegretLedger {
 public:
  /// half_life_steps: after so many a step counts half.
  explicit RegretLedger(std::uint32_t slots, double half_life_steps = 1000);
  void on_birth(const Birth& birth);
  void on_step(const StepReport& report);
  /// Of one slot's records; eviction is the pool's alone.
  Regret of_slot(std::uint32_t slot) const;
  /// Slots weigh by their share of the recent steps.
  Regret of_pool() const;
  std::string save() const;
  /// Errors: bad_input (damaged), mismatch (another number of slots). The state is unchanged then.
  Status restore(std::string_view bytes);

 private:
  struct Entry {
    double share = 0;       ///< of the recent steps
    double gain = 0;        ///< nats per token, exponential mean
    double best_gain = 0;   ///< the highest that the mean has been
    std::uint64_t gains = 0;
  };
  double& lead(std::uint32_t slot, std::uint32_t rival) { return leads_[slot * entries_.size() + rival]; }

  double fade_;                  ///< of shares and of what was evicted, per step
  std::vector<Entry> entries_;   ///< (slots)
  std::vector<double> leads_;    ///< (slots, slots): mean of the slot's loss minus the rival's, on the slot's records
  double evicted_ = 0;           ///< nats per token of the stream
};

}  // namespace kpool
