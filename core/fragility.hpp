// Which slot is the most expendable: per-slot statistics of use, gain and sharpness, and the eviction
// policies over them (method.md 2(d)). Owned by the fragility stage, used on its thread alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/learner.hpp"
#include "core/result.hpp"

namespace kpool {

struct FragilityOptions {
  std::uint32_t slots = 5;
  std::string policy = "score";       ///< count | lru | random | gain | score | none: ranked by count
  double half_life_batches = 10000;   ///< H of the recurrence term: well beyond the time until a domain is back
  double window_batches = 4;          ///< W of the fragility term: the claim window
};

/// One slot's statistics, as shown to operators.
struct SlotScore {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;
  std::uint64_t steps = 0;
  std::uint64_t tokens = 0;
  double loss = 0;        ///< nats per token, exponential mean of the prequential loss
  double gain = 0;        ///< G_k, nats per token (lower confidence bound)
  double sharpness = 0;   ///< S_k, nats
  double fragility = 1;   ///< phi_k in (0, 1]
  double value = 0;       ///< V_k, retention value
  std::string reason;     ///< one clause: why it stands where it stands
};

class Fragility {
 public:
  explicit Fragility(FragilityOptions options);
  void on_birth(const Birth& birth);
  void on_step(const StepReport& report);
  /// What is known of the slots that would become one (Router::merge_candidate); a birth makes it void.
  void set_agreement(const std::optional<MergePair>& pair) { agreed_ = pair; }
  const std::optional<MergePair>& agreement() const { return agreed_; }
  /// Live slots, most expendable first.
  std::vector<SlotScore> ranking() const;
  std::string save() const;
  /// Errors: bad_input (damaged), mismatch (another number of slots). The state is unchanged then.
  Status restore(std::string_view bytes);

 private:
  struct SlotStatistics {
    std::uint64_t generation = 0, steps = 0, tokens = 0, last_step = 0;
    double loss = 0;
    std::uint64_t gains = 0, probes = 0;  ///< measurements of gain and of sharpness
    double gain_mean = 0, gain_m2 = 0;
    double sharpness = 0;
    bool live = false;
  };
  SlotScore score(std::uint32_t slot) const;
  double recurrence(const SlotStatistics& slot) const;
  std::uint64_t lot(const SlotStatistics& slot) const;
  std::string reason(const SlotScore& score) const;

  FragilityOptions options_;
  std::uint64_t clock_ = 0;  ///< steps of all slots
  std::vector<SlotStatistics> slots_;
  std::optional<MergePair> agreed_;
};

}  // namespace kpool
