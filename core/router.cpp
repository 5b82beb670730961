#include "core/router.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "core/mixture_router.hpp"

namespace kpool {
namespace {

/// Surprises are standard normal deviates; beyond these, one record says no more.
constexpr double surprise_min = -2, surprise_max = 2.5;
/// Above it a record waits for the outcome of its run (one in five of a known slot would).
constexpr double surprise_held = 0.84;
/// Times the join distance, where every slot is taken: a birth then costs one, and what is this close to a slot is more
/// often another source of its domain.
constexpr double crowded = 1.2;
/// Times the mean distance: as what a new slot's gate counts a record at most that was held back in the claim window.
constexpr double stray = 2;

}  // namespace

std::vector<Decision> MixtureRouter::route(Ticket ticket, std::span<const float> x, std::uint32_t source) {
  KPOOL_ASSERT(x.size() == projection_.width());
  if (generation_ == 0) give_birth({.source = source}, nullptr);
  judge({ticket, source, transformed(x)});
  return std::exchange(decisions_, {});
}

std::vector<float> MixtureRouter::transformed(std::span<const float> x) const {
  if (options_.power == 1) return projection_(x);
  std::vector<float> y(x.begin(), x.end());
  if (options_.power == 0.5)
    for (float& value : y) value = std::copysign(std::sqrt(std::fabs(value)), value);
  else
    for (float& value : y) value = std::copysign(std::pow(std::fabs(value), static_cast<float>(options_.power)), value);
  return projection_(y);
}

/// The least over the slots that have a gate; the slot of the claim has none yet.
double MixtureRouter::surprise(const Measured& measured) const {
  double least = surprise_max;
  for (std::uint32_t k = 0; k < gates_.size(); ++k) {
    if (!mixture_.live(k) || (claim_.on && k == claim_.slot)) continue;
    if (!gates_[k].ready()) return 0;
    least = std::min(least, gates_[k].surprise(measured.distances[k]));
  }
  return std::max(least, surprise_min);
}

void MixtureRouter::judge(Held record) {
  mixture_.measure(record.x, measured_);
  const double surprised = surprise(measured_);
  if (claim_.on) return judge_while_claimed(std::move(record), surprised);

  const std::uint32_t source = record.source;
  Run& run = runs_[source];
  run.evidence = std::max(0.0, run.evidence + surprised - allowance_);
  if (surprised > surprise_held && run.evidence > 0) run.held.push_back(std::move(record));
  else train(record, measured_.best);
  if (run.evidence == 0) return close_run(source, run);
  if (run.evidence >= evidence_needed_ && !run.held.empty()) settle(source, run, evidence_needed_);
}

/// The slot that is closest to the mean of what the run holds.
std::optional<Mixture::Neighbour> MixtureRouter::nearest(const Run& run) {
  std::vector<float> mean;
  for (const Held& record : run.held) {
    mixture_.measure(record.x, measured_);
    mean.resize(measured_.whitened.size());
    for (std::size_t i = 0; i < mean.size(); ++i)
      mean[i] += measured_.whitened[i] / static_cast<float>(run.held.size());
  }
  return mixture_.nearest(mean, static_cast<double>(run.held.size()));
}

/// The run is confirmed: a new domain, or another source of a known one, whose records train the domain's slot so that
/// its gate learns to expect them.
void MixtureRouter::settle(std::uint32_t source, Run& run, double needed) {
  Verdict verdict{Verdict::Outcome::joins, source, run.held.size(), run.evidence, needed};
  verdict.limit = options_.join_distance * (full() ? crowded : 1);
  const auto closest = options_.join_distance > 0 ? nearest(run) : std::nullopt;
  if (closest) verdict.nearest = closest->slot, verdict.distance = closest->distance;
  if (!closest || closest->distance > verdict.limit) return give_birth(verdict, &run);
  decisions_.push_back(verdict);
  for (Held& record : run.held) {
    mixture_.measure(record.x, measured_);
    train(record, closest->slot);
  }
  runs_.erase(source);
}

void MixtureRouter::judge_while_claimed(Held record, double surprised) {
  const bool claimant = claims(record.source);
  if (claim_.patience > 0) --claim_.patience;
  if (claimant && claim_.left > 0) --claim_.left;
  if (surprised <= surprise_held) train(record, measured_.best);
  else if (claimant) claim(std::move(record), surprised);
  else waiting_.push_back(std::move(record));
  if (!claim_.on) return;
  const bool filled = claim_.left == 0 && gates_[claim_.slot].ready();
  if (filled || claim_.patience == 0) end_claim();
}

/// A record that is novel to the others trains the new slot; but where a run of them is novel to that as well, the next
/// domain has begun before the window was over: few long records, or a short domain.
void MixtureRouter::claim(Held record, double surprised) {
  const std::uint32_t slot = claim_.slot, source = record.source;
  const bool judges = options_.covariance == "tied" && generation_ > 1 && mixture_.settled(slot);
  if (!judges) return train(record, slot);
  const double own = gates_[slot].presumed().surprise(measured_.distances[slot]);
  const double least = std::clamp(own, surprise_min, surprised);
  Run& run = runs_[source];
  run.evidence = std::max(0.0, run.evidence + least - allowance_);
  if (least > surprise_held && run.evidence > 0) run.held.push_back(std::move(record));
  else train(record, slot);
  if (run.evidence == 0) return close_run(source, run);
  if (run.evidence < evidence_needed_ || run.held.empty()) return;
  gates_[slot] = gates_[slot].presumed();
  claim_.on = false;
  settle(source, run, evidence_needed_);
  if (!claim_.on) end_claim();  // a birth's own claim goes on holding what waits; without room there is none
}

void MixtureRouter::end_claim() {
  claim_.on = false;
  for (std::deque<Held> again = std::exchange(waiting_, {}); !again.empty(); again.pop_front())
    judge(std::move(again.front()));
}

/// The record trains the slot and is absorbed. measured_ must be the record's own.
void MixtureRouter::train(Held& record, std::uint32_t slot) {
  if (mixture_.settled(slot)) gates_[slot].add(measured_.distances[slot]);
  mixture_.absorb(slot, record.x, measured_);
  decisions_.push_back(Assignment{record.ticket, slot});
}

/// The run came to nothing: its records are ordinary, also the outer ones. Without them the gate would close in on
/// itself. Those of the claimant were novel to the other slots: rare kinds of the new domain, which its slot has to
/// learn now, as they lie closer to another one until then. To its gate of few distances they are tamed: a wild one
/// would let the next domain in.
void MixtureRouter::close_run(std::uint32_t source, Run& run) {
  if (!run.held.empty()) decisions_.push_back(Verdict{.source = source, .records = run.held.size()});
  for (Held& record : run.held) {
    mixture_.measure(record.x, measured_);
    const std::uint32_t slot = claims(source) ? claim_.slot : measured_.best;
    double& distance = measured_.distances[slot];
    if (claims(source)) distance = std::min(distance, stray * gates_[slot].presumed().mean);
    train(record, slot);
  }
  for (const Distance& distance : run.released) gates_[distance.slot].add(distance.value);
  runs_.erase(source);
}

/// To the best slot there is, without a trace in the statistics.
void MixtureRouter::release(std::vector<Held>& records) {
  for (const Held& record : records) {
    mixture_.measure(record.x, measured_);
    decisions_.push_back(Assignment{record.ticket, measured_.best});
  }
  records.clear();
}

/// Opens a slot with what the run holds back; without a run (the first slot), empty.
void MixtureRouter::give_birth(Verdict verdict, Run* run) {
  const std::uint32_t source = verdict.source;
  const auto birth = make_room(verdict);
  verdict.outcome = birth ? Verdict::Outcome::opens : Verdict::Outcome::no_room;
  decisions_.push_back(verdict);
  if (!birth) {  // as it leaves no trace, the domain gets a slot once there is one
    release(run->held);
    runs_.erase(source);
    return;
  }
  const std::uint32_t slot = birth->slot;
  decisions_.push_back(*birth);
  std::vector<Held> founders;
  if (run) founders = std::move(run->held);
  runs_.erase(source);
  for (auto& [other, theirs] : runs_)
    std::erase_if(theirs.released, [&](const Distance& distance) { return distance.slot == slot; });

  mixture_.open(slot);
  gates_[slot] = {};
  const std::uint64_t window = std::uint64_t{options_.claim_batches} * options_.batch_records;
  claim_ = {true, slot, source, window, 16 * (window + 64)};
  for (Held& record : founders) {
    mixture_.measure(record.x, measured_);
    train(record, slot);
  }
}

std::vector<Decision> MixtureRouter::barrier() {
  std::vector<Held> undecided(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  for (auto next = runs_.begin(); next != runs_.end();) {
    const std::uint32_t source = next->first;
    Run& run = (next++)->second;
    const double nearly = evidence_needed_ * (options_.novel_batches - 1) / options_.novel_batches;
    if (run.evidence >= nearly && !claim_.on && 2 * run.held.size() >= options_.batch_records) {
      settle(source, run, nearly);
      continue;
    }
    for (const Held& record : run.held) {
      mixture_.measure(record.x, measured_);
      if (!claims(source)) run.released.push_back({measured_.best, measured_.distances[measured_.best]});
      decisions_.push_back(Assignment{record.ticket, claims(source) ? claim_.slot : measured_.best});
    }
    run.held.clear();
  }
  release(undecided);
  return std::exchange(decisions_, {});
}

std::optional<std::uint32_t> MixtureRouter::classify(std::span<const float> x) const {
  if (generation_ == 0) return std::nullopt;
  Measured measured;
  mixture_.measure(transformed(x), measured);
  for (std::uint32_t k = 0; k < gates_.size(); ++k)
    if (mixture_.live(k) && (!gates_[k].ready() || gates_[k].surprise(measured.distances[k]) <= options_.abstain))
      return measured.best;
  return std::nullopt;
}

/// A sum of d squared coordinates that were independent would vary by 2 / d relative to its squared mean; the gates'
/// distances vary as that of h fewer ones would. So a log density counts what it has seen d / h times too often.
double MixtureRouter::temperature() const {
  double variance = 0, weight = 0;
  for (std::uint32_t k = 0; k < gates_.size(); ++k) {
    if (!mixture_.live(k)) continue;
    const double known = std::min(static_cast<double>(gates_[k].count), NoveltyGate::memory) + 1;
    variance += known * gates_[k].relative_variance();
    weight += known;
  }
  return std::max(1.0, static_cast<double>(mixture_.gate_width()) / 2 * variance / weight);
}

std::vector<double> MixtureRouter::posterior(std::span<const float> x) const {
  if (generation_ == 0) return {};
  Measured measured;
  mixture_.measure(transformed(x), measured);
  const double least = measured.scores[measured.best], scale = 2 * temperature();
  std::vector<double> shares;
  double sum = 0;
  for (const double score : measured.scores) sum += shares.emplace_back(std::exp((least - score) / scale));
  for (double& share : shares) share /= sum;
  return shares;
}

std::unique_ptr<Router> make_router(const RoutingOptions& options, std::size_t width) {
  return std::make_unique<MixtureRouter>(options, width);
}

}  // namespace kpool
