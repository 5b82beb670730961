#include "core/ledger.hpp"

#include <algorithm>
#include <cmath>

#include "core/blob.hpp"

namespace kpool {
namespace {

constexpr std::string_view state_tag = "kpool regret 1\n";
constexpr double sample_memory = 0.2;  // share of the newest sample in a mean
constexpr std::uint64_t settled_gains = 5;  // before, the mean says little about the best

}  // namespace

RegretLedger::RegretLedger(std::uint32_t slots, double half_life_steps)
    : fade_(std::exp2(-1 / half_life_steps)), entries_(slots), leads_(std::size_t{slots} * slots) {
  KPOOL_ASSERT(slots > 0 && half_life_steps > 0);
}

void RegretLedger::on_birth(const Birth& birth) {
  KPOOL_ASSERT(birth.slot < entries_.size());
  Entry& entry = entries_[birth.slot];
  if (birth.merged_into) entries_.at(*birth.merged_into).share += entry.share;
  if (birth.evicts) evicted_ += entry.share * std::max(0.0, entry.gain);
  entry = {};
  for (std::uint32_t k = 0; k < entries_.size(); ++k) lead(birth.slot, k) = lead(k, birth.slot) = 0;
}

void RegretLedger::on_step(const StepReport& report) {
  KPOOL_ASSERT(report.slot < entries_.size());
  if (!report.refused.empty()) return;  // rolled back
  for (Entry& entry : entries_) entry.share *= fade_;
  evicted_ *= fade_;
  Entry& entry = entries_[report.slot];
  entry.share += 1 - fade_;
  if (report.gain) {
    entry.gain += (++entry.gains == 1 ? 1 : sample_memory) * (*report.gain - entry.gain);
    if (entry.gains >= settled_gains) entry.best_gain = std::max(entry.best_gain, entry.gain);
  }
  if (report.rival && report.rival->slot < entries_.size()) {
    double& known = lead(report.slot, report.rival->slot);
    const double seen = report.loss - report.rival->loss;
    known += (known == 0 ? 1 : sample_memory) * (seen - known);
  }
}

Regret RegretLedger::of_slot(std::uint32_t slot) const {
  KPOOL_ASSERT(slot < entries_.size());
  const auto row = leads_.begin() + static_cast<std::ptrdiff_t>(slot * entries_.size());
  Regret regret;
  regret.routing = std::max(0.0, *std::max_element(row, row + static_cast<std::ptrdiff_t>(entries_.size())));
  if (entries_[slot].best_gain > 0) regret.interference = std::max(0.0, entries_[slot].best_gain - entries_[slot].gain);
  return regret;
}

Regret RegretLedger::of_pool() const {
  double total = 0;
  for (const Entry& entry : entries_) total += entry.share;
  Regret pool{.eviction = evicted_};
  if (total == 0) return pool;
  for (std::uint32_t k = 0; k < entries_.size(); ++k) {
    const Regret own = of_slot(k);
    pool.routing += entries_[k].share / total * own.routing;
    pool.interference += entries_[k].share / total * own.interference;
  }
  return pool;
}

std::string RegretLedger::save() const {
  BlobWriter out(state_tag);
  out.put<std::uint64_t>(entries_.size());
  for (const Entry& entry : entries_) {
    for (const double value : {entry.share, entry.gain, entry.best_gain}) out.put(value);
    out.put(entry.gains);
  }
  out.put_all(leads_);
  out.put(evicted_);
  return out.close();
}

Status RegretLedger::restore(std::string_view bytes) {
  Result<BlobReader> opened = BlobReader::open(bytes, state_tag, "the saved regret");
  if (!opened) return opened.error();
  BlobReader& in = *opened;
  const auto count = in.get<std::uint64_t>();
  if (!in.failed() && count != entries_.size())
    return Error{Fault::mismatch, "the saved regret has " + std::to_string(count) + " slots, this pool has " +
                                      std::to_string(entries_.size())};
  std::vector<Entry> entries(entries_.size());
  for (Entry& entry : entries) {
    for (double* value : {&entry.share, &entry.gain, &entry.best_gain}) *value = in.get<double>();
    entry.gains = in.get<std::uint64_t>();
  }
  auto leads = in.get_all<double>();
  const double evicted = in.get<double>();
  if (!in.complete() || leads.size() != leads_.size())
    return Error{Fault::bad_input, "the saved regret has the wrong length"};
  entries_ = std::move(entries);
  leads_ = std::move(leads);
  evicted_ = evicted;
  return Done{};
}

}  // namespace kpool
