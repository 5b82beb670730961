#include "apps/kpool_eval_losses.hpp"

namespace kpool {

Status SlotLosses::score_missing(std::uint32_t domain, Answer answer, std::span<const std::uint32_t> records,
                                    const Learner& learner, Scores& scores) {
  std::vector<Sample> samples;
  std::vector<std::uint32_t> missing;
  for (const std::uint32_t i : records) {
    if (scores[i]) continue;
    const EncodedRecord& record = domains_[domain].held_out[i];
    samples.push_back({record.origin, record.prompt_tokens, record.tokens});
    missing.push_back(i);
  }
  if (samples.empty()) return Done{};
  if (!answer) scorer_->use_base();
  else if (auto used = scorer_->use_adapter(learner.save(*answer), std::nullopt); !used) return used;
  const auto found = scorer_->score(samples);
  for (std::size_t i = 0; i < missing.size(); ++i) scores[missing[i]] = found[i];
  return Done{};
}

Result<double> SlotLosses::loss(std::uint32_t domain, std::span<const Answer> answers, const Learner& learner,
                                   std::span<const SlotVersion> versions) {
  std::map<Answer, std::vector<std::uint32_t>> records;
  for (std::uint32_t i = 0; i < answers.size(); ++i) records[answers[i]].push_back(i);
  double nats = 0, tokens = 0;
  for (const auto& [answer, indices] : records) {
    auto& [version, scores] = known_[{answer, domain}];
    const SlotVersion now = answer ? versions[*answer] : SlotVersion{};
    if (scores.empty() || version != now) scores.assign(answers.size(), std::nullopt);
    version = now;
    if (auto scored = score_missing(domain, answer, indices, learner, scores); !scored) return scored.error();
    for (const std::uint32_t i : indices) {
      nats += scores[i]->nats;
      tokens += static_cast<double>(scores[i]->tokens);
    }
  }
  return nats / tokens;
}

Result<double> SlotLosses::loss_under(std::uint32_t domain, Answer answer, const Learner& learner,
                                         std::span<const SlotVersion> versions) {
  const std::vector<Answer> answers(domains_[domain].held_out.size(), answer);
  return loss(domain, answers, learner, versions);
}

std::vector<double> SlotLosses::under_each(const EncodedRecord& record, std::uint32_t slots, const Learner& learner) {
  const Sample sample{record.origin, record.prompt_tokens, record.tokens};
  std::vector<double> losses;
  for (std::uint32_t k = 0; k < slots; ++k) {
    const Status used = scorer_->use_adapter(learner.save(k), std::nullopt);
    KPOOL_ASSERT(used);  // the learner's own
    const Score score = scorer_->score({&sample, 1}).front();
    losses.push_back(score.nats / static_cast<double>(score.tokens));
  }
  return losses;
}

}  // namespace kpool
