#include "actors/training.hpp"

#include <algorithm>
#include <charconv>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "actors/kill_point.hpp"

namespace kpool {

Status Training::open() {
  auto made = make_();
  if (!made) return made.error();
  learner_ = *std::move(made);
  if (journal_place_.path.empty()) return Done{};
  auto journal = FlightJournal::open(journal_place_);
  if (!journal) return journal.error();
  journal_ = *std::move(journal);
  return Done{};
}

Status Training::restore(const std::string& key, std::string value) {
  std::uint32_t slot = 0;
  constexpr std::string_view prefix = "slot/";
  const char* end = key.data() + key.size();
  if (!key.starts_with(prefix)) return Stage::restore(key, std::move(value));
  if (const auto [stop, error] = std::from_chars(key.data() + prefix.size(), end, slot);
      stop != end || error != std::errc())
    return Stage::restore(key, std::move(value));
  return learner_->restore(slot, value);
}

Status Training::start(std::uint64_t group, Outbox&) {
  group_ = group;
  return Done{};
}

Status Training::on_message(pipeline::Message message, Outbox&) {
  if (auto* routed = std::get_if<pipeline::Routed>(&message)) {
    for (Sample& sample : routed->samples) queue_.push_back(Routed{routed->slot, std::move(sample)});
  } else if (auto* birth = std::get_if<Birth>(&message)) {
    queue_.push_back(*birth);
  } else if (auto* barrier = std::get_if<pipeline::Barrier>(&message)) {
    queue_.push_back(*barrier);
  }
  return Done{};
}

Status Training::work(Outbox& out) {
  const auto begin = Clock::now();
  Item item = std::move(queue_.front());
  queue_.pop_front();
  if (auto* routed = std::get_if<Routed>(&item)) {
    learn(std::move(*routed), out);
  } else if (auto* birth = std::get_if<Birth>(&item)) {
    flush(out);  // what the evicted domain still has in its buffer is trained first
    if (const auto merge = learner_->open(*birth))
      spdlog::info("training: slot {} takes over what slot {} learned: both adapters are averaged by steps (agreement "
                   "{:.3f}, {:.1f} % discarded)", *birth->merged_into, birth->slot, merge->agreement,
                   100 * merge->discarded);
    out.send(StageId::fragility, *birth);
  } else if (auto* save = std::get_if<Save>(&item)) {
    out.send(StageId::persistence,
             pipeline::Part{save->group, "slot/" + std::to_string(save->slot), learner_->save(save->slot)});
  } else if (auto* saved = std::get_if<Saved>(&item)) {
    close(std::move(saved->barrier), out);
  } else {
    barrier(std::move(std::get<pipeline::Barrier>(item)), out);
  }
  busy_seconds_ += std::chrono::duration<double>(Clock::now() - begin).count();
  return Done{};
}

void Training::learn(Routed routed, Outbox& out) {
  const Origin origin = routed.sample.origin;
  if (journal_ && journal_->is_poison(origin)) {
    out.send(StageId::persistence, pipeline::Refused{group_ + 1, {{origin, Refusal::poison}}});
    return;
  }
  kill_point("train.before");
  if (journal_) journal_->take(origin);
  try {
    tell(learner_->learn(routed.slot, std::move(routed.sample)), out);
    // A step trains many records; alone in it, the one that crashes is the one in hand.
    if (journal_ && journal_->careful()) tell(learner_->flush(), out);
  } catch (...) {  // the slot may be half-way: start anew from the last commit, and remember the record
    if (journal_) journal_->mark_crash();
    throw;
  }
  if (journal_) journal_->put_down();
  kill_point("train.after");
}

void Training::flush(Outbox& out) {
  try {
    tell(learner_->flush(), out);
  } catch (...) {  // of which record is not known: the next life finds out
    if (journal_) journal_->mark_crash();
    throw;
  }
}

void Training::tell(std::vector<StepReport> reports, Outbox& out) {
  for (StepReport& report : reports) {
    if (!report.refused.empty()) {
      ++rolled_back_;
      spdlog::warn("training: a step of slot {} was not finite and was rolled back; {} records are refused",
                   report.slot, report.refused.size());
      out.send(StageId::persistence, pipeline::Refused{group_ + 1, std::move(report.refused)});
      continue;
    }
    ++steps_;
    tokens_ += report.tokens;
    watch(report);
    if (report.warm)
      spdlog::info("training: slot {} starts from {} of slot {}, {:.3f} nats per token ahead", report.slot,
                   report.warm->share, report.warm->slot, report.warm->gain);
    out.send(StageId::fragility, pipeline::Trained{std::move(report)});
  }
}

/// Says once that a slot's rate went above its predicted cliff, not at every measurement.
void Training::watch(const StepReport& report) {
  Rate& last = rates_[report.slot];
  const bool was_above = last.cliff && last.rate > *last.cliff;
  last.rate = report.rate;
  if (!report.cliff) return;
  last.cliff = report.cliff;
  if (!was_above && report.rate > *report.cliff)
    spdlog::warn("training: the learning rate of slot {}, {:.2g}, is above {:.2g}, where a step stops helping",
                 report.slot, report.rate, *report.cliff);
}

void Training::barrier(pipeline::Barrier barrier, Outbox& out) {
  flush(out);
  if (journal_) journal_->end_group();
  kill_point("barrier.training");
  const auto dirty = learner_->take_dirty();
  if (auto& pair = barrier.merge) pair->agreement = learner_->agreement(pair->lesser, pair->greater);
  const std::uint64_t group = barrier.group;
  queue_.emplace_front(Saved{std::move(barrier)});  // before whatever the queue holds yet
  for (auto slot = dirty.rbegin(); slot != dirty.rend(); ++slot) queue_.emplace_front(Save{group, *slot});
}

void Training::close(pipeline::Barrier barrier, Outbox& out) {
  barrier.stage = name(id());
  group_ = barrier.group;
  out.send(StageId::persistence, barrier);
  out.send(StageId::fragility, std::move(barrier));
}

std::string Training::report() const {
  nlohmann::json rates = nlohmann::json::array();
  for (const auto& [slot, last] : rates_) {
    rates.push_back({{"slot", slot}, {"learning_rate", last.rate}});
    if (last.cliff) rates.back()["predicted_cliff"] = *last.cliff;
  }
  return nlohmann::json{{"rates", std::move(rates)}, {"steps", steps_}, {"tokens", tokens_},
                        {"rolled_back", rolled_back_},
                        {"busy_seconds", busy_seconds_}, {"queued", queue_.size()}}.dump();
}

}  // namespace kpool
