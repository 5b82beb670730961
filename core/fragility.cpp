#include "core/fragility.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "core/blob.hpp"

namespace kpool {
namespace {

constexpr std::string_view state_tag = "kpool fragility 2\n";
constexpr double loss_memory = 0.05;        // share of the newest step in the mean loss
constexpr double sharpness_memory = 0.2;    // share of the newest probe
constexpr double sharpness_min = 1e-6;      // nats; keeps the erasure budget finite
constexpr double confidence = 1.645;        // one-sided 95 %

std::string text(const char* format, double first, double second) {
  char line[160];
  std::snprintf(line, sizeof line, format, first, second);
  return line;
}

}  // namespace

Fragility::Fragility(FragilityOptions options) : options_(std::move(options)), slots_(options_.slots) {
  constexpr std::array policies = {"count", "lru", "random", "gain", "score", "none"};
  KPOOL_ASSERT(std::find(policies.begin(), policies.end(), options_.policy) != policies.end());
  KPOOL_ASSERT(options_.half_life_batches > 0 && options_.window_batches > 0);
}

void Fragility::on_birth(const Birth& birth) {
  KPOOL_ASSERT(birth.slot < slots_.size());
  if (birth.merged_into) {  // gain and sharpness stay those of the greater part
    const SlotStatistics& from = slots_[birth.slot];
    SlotStatistics& into = slots_.at(*birth.merged_into);
    into.steps += from.steps;
    into.tokens += from.tokens;
    into.last_step = std::max(into.last_step, from.last_step);
  }
  agreed_.reset();
  slots_[birth.slot] = {};
  slots_[birth.slot].live = true;
  slots_[birth.slot].generation = birth.generation;
  slots_[birth.slot].last_step = clock_;
}

void Fragility::on_step(const StepReport& report) {
  KPOOL_ASSERT(report.slot < slots_.size());
  if (!report.refused.empty()) return;  // rolled back: it taught nothing
  SlotStatistics& slot = slots_[report.slot];
  slot.live = true;
  slot.last_step = ++clock_;
  slot.tokens += report.tokens;
  slot.loss = ++slot.steps == 1 ? report.loss : slot.loss + loss_memory * (report.loss - slot.loss);
  if (report.gain) {
    const double difference = *report.gain - slot.gain_mean;
    slot.gain_mean += difference / static_cast<double>(++slot.gains);
    slot.gain_m2 += difference * (*report.gain - slot.gain_mean);
  }
  if (report.sharpness) {
    const double share = slot.probes++ == 0 ? 1 : sharpness_memory;
    slot.sharpness += share * (*report.sharpness - slot.sharpness);
  }
}

SlotScore Fragility::score(std::uint32_t index) const {
  const SlotStatistics& slot = slots_[index];
  SlotScore score{.slot = index,
                  .generation = slot.generation,
                  .steps = slot.steps,
                  .tokens = slot.tokens,
                  .loss = slot.loss,
                  .sharpness = slot.sharpness};
  // One measurement has no spread: nothing is established by it.
  if (slot.gains > 1) {
    const double count = static_cast<double>(slot.gains);
    score.gain = std::max(0.0, slot.gain_mean - confidence * std::sqrt(slot.gain_m2 / (count - 1) / count));
  }
  const double budget = score.gain / std::max(slot.sharpness, sharpness_min);
  score.fragility = 1 / (1 + budget / options_.window_batches);
  score.value = recurrence(slot) * score.gain * (1 - score.fragility);
  return score;
}

/// Steps ever taken, halved for every half-life since the last one; not yet normalised.
double Fragility::recurrence(const SlotStatistics& slot) const {
  const double age = static_cast<double>(clock_ - slot.last_step);
  return static_cast<double>(slot.steps) * std::exp2(-age / options_.half_life_batches);
}

/// A number that nothing of the slot's worth decides, but the same after a restart.
std::uint64_t Fragility::lot(const SlotStatistics& slot) const {
  std::uint64_t mixed = (clock_ << 20) + slot.generation + 0x9e3779b97f4a7c15;  // splitmix64
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

std::vector<SlotScore> Fragility::ranking() const {
  double total = 0;
  for (const SlotStatistics& slot : slots_)
    if (slot.live) total += recurrence(slot);
  std::vector<SlotScore> ranks;
  for (std::uint32_t k = 0; k < slots_.size(); ++k) {
    if (!slots_[k].live) continue;
    ranks.push_back(score(k));
    if (total > 0) ranks.back().value /= total;
    ranks.back().reason = reason(ranks.back());
  }
  std::stable_sort(ranks.begin(), ranks.end(), [&](const SlotScore& a, const SlotScore& b) {
    const SlotStatistics &left = slots_[a.slot], &right = slots_[b.slot];
    if (options_.policy == "score" && a.value != b.value) return a.value < b.value;
    if (options_.policy == "gain" && a.gain != b.gain) return a.gain < b.gain;
    if (options_.policy == "random") return lot(left) < lot(right);
    if (options_.policy != "lru" && left.steps != right.steps) return left.steps < right.steps;
    return left.last_step < right.last_step;
  });
  return ranks;
}

std::string Fragility::reason(const SlotScore& score) const {
  const double steps = static_cast<double>(score.steps);
  const double age = static_cast<double>(clock_ - slots_[score.slot].last_step);
  if (options_.policy == "count" || options_.policy == "none")
    return text("%.0f steps taken, the last one %.0f steps ago", steps, age);
  if (options_.policy == "lru") return text("last used %.0f steps ago, after %.0f of its own", age, steps);
  if (options_.policy == "random") return text("drawn by lot after %.0f steps", steps, age);
  if (score.gain == 0) return text("no gain established yet in %.0f steps, the last one %.0f steps ago", steps, age);
  return text("worth %.4f nats per token; about ", score.gain, 0) +
         text("%.0f misrouted steps would erase it; last used %.0f steps ago",
              score.gain / std::max(score.sharpness, sharpness_min), age);
}

std::string Fragility::save() const {
  BlobWriter out(state_tag);
  out.put<std::uint64_t>(slots_.size());
  out.put(clock_);
  for (const SlotStatistics& slot : slots_) {
    out.put<std::uint8_t>(slot.live);
    for (const std::uint64_t value :
         {slot.generation, slot.steps, slot.tokens, slot.last_step, slot.gains, slot.probes})
      out.put(value);
    for (const double value : {slot.loss, slot.gain_mean, slot.gain_m2, slot.sharpness}) out.put(value);
  }
  const MergePair pair = agreed_.value_or(MergePair{});
  out.put<std::uint8_t>(agreed_.has_value());
  for (const std::uint32_t slot : {pair.lesser, pair.greater}) out.put(slot);
  out.put(pair.birth);
  out.put(pair.agreement);
  return out.close();
}

Status Fragility::restore(std::string_view bytes) {
  Result<BlobReader> opened = BlobReader::open(bytes, state_tag, "the saved fragility");
  if (!opened) return opened.error();
  BlobReader& in = *opened;
  const auto count = in.get<std::uint64_t>();
  if (!in.failed() && count != slots_.size())
    return Error{Fault::mismatch, "the saved fragility has " + std::to_string(count) + " slots, this pool has " +
                                      std::to_string(slots_.size())};
  const auto clock = in.get<std::uint64_t>();
  std::vector<SlotStatistics> slots(slots_.size());
  for (SlotStatistics& slot : slots) {
    slot.live = in.get<std::uint8_t>() != 0;
    for (std::uint64_t* value :
         {&slot.generation, &slot.steps, &slot.tokens, &slot.last_step, &slot.gains, &slot.probes})
      *value = in.get<std::uint64_t>();
    for (double* value : {&slot.loss, &slot.gain_mean, &slot.gain_m2, &slot.sharpness}) *value = in.get<double>();
  }
  const bool agreed = in.get<std::uint8_t>() != 0;
  MergePair pair;
  for (std::uint32_t* slot : {&pair.lesser, &pair.greater}) *slot = in.get<std::uint32_t>();
  pair.birth = in.get<std::uint64_t>();
  pair.agreement = in.get<double>();
  if (!in.complete()) return Error{Fault::bad_input, "the saved fragility has the wrong length"};
  clock_ = clock;
  slots_ = std::move(slots);
  agreed_ = agreed ? std::optional(pair) : std::nullopt;
  return Done{};
}

}  // namespace kpool
