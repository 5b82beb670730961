// The losses of records under the base and under each slot. Those of held-out records are computed once per state of
// a slot: most slots rest while one learns. Owned by one run, used on its thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include "apps/kpool_eval_domains.hpp"
#include "core/learner.hpp"
#include "core/score.hpp"

namespace kpool {

/// Where a slot stands: nothing changes it without a birth or a step.
struct SlotVersion {
  std::uint64_t generation = 0, steps = 0;
  auto operator<=>(const SlotVersion&) const = default;
};

/// The slot that answers, or the base.
using Answer = std::optional<std::uint32_t>;

class SlotLosses {
 public:
  SlotLosses(const std::vector<Domain>& domains, std::unique_ptr<Scorer> scorer)
      : domains_(domains), scorer_(std::move(scorer)) {}
  /// Mean nats per token of a domain's held-out records. answers: one per record. versions: one per slot.
  Result<double> loss(std::uint32_t domain, std::span<const Answer> answers, const Learner& learner,
                      std::span<const SlotVersion> versions);
  /// All of a domain under one answer.
  Result<double> loss_under(std::uint32_t domain, Answer answer, const Learner& learner,
                            std::span<const SlotVersion> versions);
  /// (slots) Mean nats per token of one record under each slot as it stands; all are open. Not a number where nothing
  /// of the record is predicted.
  std::vector<double> under_each(const EncodedRecord& record, std::uint32_t slots, const Learner& learner);

 private:
  using Scores = std::vector<std::optional<Score>>;  ///< one per record
  Status score_missing(std::uint32_t domain, Answer answer, std::span<const std::uint32_t> records,
                       const Learner& learner, Scores& scores);

  const std::vector<Domain>& domains_;
  const std::unique_ptr<Scorer> scorer_;
  std::map<std::pair<Answer, std::uint32_t>, std::pair<SlotVersion, Scores>> known_;  ///< by answer and domain
};

}  // namespace kpool
