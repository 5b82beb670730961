#include "core/mixture.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/dense.hpp"

namespace kpool {
namespace {

constexpr std::uint64_t refresh_interval_min = 16, refresh_interval_max = 1024;
constexpr std::size_t pending_max = 16;
/// Means and scatter follow slow drift: older records fade with these memories.
constexpr double mean_memory = 4096, scatter_memory = 32768;
/// Records' worth of pooled variance in a slot's own (diagonal).
constexpr double prior_records = 32;

/// With fewer records than dimensions the covariance is little known: lean on its mean variance the more.
double effective_shrinkage(double shrinkage, double records, double width) {
  return shrinkage + (1 - shrinkage) * width / (width + 8 * records);
}

}  // namespace

Mixture::Mixture(Covariance kind, std::uint32_t slots, std::size_t width, double shrinkage)
    : kind_(kind),
      width_(width),
      shrinkage_(shrinkage),
      slots_(slots),
      scatter_(kind == Covariance::tied ? triangle_size(width) : width, 0.0),
      center_(width, 0.0),
      next_refresh_(refresh_interval_min) {
  KPOOL_ASSERT(slots > 0 && width > 0);
}

void Mixture::open(std::uint32_t slot) {
  slots_[slot] = Slot{.live = true,
                      .mean = std::vector<double>(width_, 0.0),
                      .scatter = std::vector<double>(kind_ == Covariance::diagonal ? width_ : 0, 0.0),
                      .whitened = std::vector<float>(width_, 0.0F)};
  absorbed_since_open_ = 0;
  next_refresh_ = refresh_interval_min;
  if (kind_ == Covariance::diagonal && scaled()) refresh_diagonal();
}

double Mixture::tied_distance(const Slot& slot, std::span<const float> whitened) const {
  return squared_distance(whitened, slot.whitened);
}

double Mixture::diagonal_distance(const Slot& slot, std::span<const float> x) const {
  double sum = 0;
  for (std::size_t i = 0; i < width_; ++i) {
    const double deviation = x[i] - slot.mean[i];
    sum += deviation * deviation * slot.whitened[i];
  }
  return sum;
}

void Mixture::measure(std::span<const float> x, Measured& out) const {
  KPOOL_ASSERT(x.size() == width_);
  out.distances.assign(slots_.size(), 0.0);
  out.scores.assign(slots_.size(), std::numeric_limits<double>::infinity());
  if (scaled() && kind_ == Covariance::tied) {
    out.whitened.resize(width_);
    std::vector<float>& centered = out.centered;
    centered.resize(width_);
    for (std::size_t i = 0; i < width_; ++i) centered[i] = static_cast<float>(x[i] - center_[i]);
    multiply_lower(whitening_, centered, out.whitened);
  }
  bool found = false;
  for (std::uint32_t k = 0; k < slots_.size(); ++k) {
    const Slot& slot = slots_[k];
    if (!slot.live) continue;
    // An empty slot is as far away as can be, until it has a mean.
    const bool known = scaled() && slot.records > 0;
    const double distance = !known ? 0 : kind_ == Covariance::tied ? tied_distance(slot, out.whitened)
                                                                    : diagonal_distance(slot, x);
    out.distances[k] = distance / expected_;
    out.scores[k] = known ? distance + slot.log_determinant : std::numeric_limits<double>::max();
    if (!found || out.scores[k] < out.scores[out.best]) out.best = k;
    found = true;
  }
  KPOOL_ASSERT(found);
}

void Mixture::absorb(std::uint32_t index, std::span<const float> x, const Measured& measured) {
  Slot& slot = slots_[index];
  KPOOL_ASSERT(slot.live && x.size() == width_);
  ++slot.records;
  const double share = std::max(1.0 / static_cast<double>(slot.records), 1 / mean_memory);
  const double keep = static_cast<double>(slot.records) > mean_memory ? 1 - 1 / mean_memory : 1;
  const std::size_t begin = pending_.size();
  if (kind_ == Covariance::tied) pending_.resize(begin + width_);
  for (std::size_t i = 0; i < width_; ++i) {
    const double deviation = x[i] - slot.mean[i];
    slot.mean[i] += share * deviation;
    if (kind_ == Covariance::tied) {
      pending_[begin + i] = deviation;
    } else {
      const double square = (1 - share) * deviation * deviation;
      slot.scatter[i] = keep * slot.scatter[i] + square;
      scatter_[i] += square;
    }
  }
  if (slot.records > 1) scatter_records_ += 1;
  if (kind_ == Covariance::tied) {
    pending_weights_.push_back(1 - share);
    if (pending_weights_.size() == pending_max) flush();
    if (scaled())
      for (std::size_t i = 0; i < width_; ++i)
        slot.whitened[i] += static_cast<float>(share) * (measured.whitened[i] - slot.whitened[i]);
  }
  if (++absorbed_since_open_ == next_refresh_) refresh();
}

void Mixture::flush() {
  add_outer_products(scatter_, pending_, pending_weights_, width_);
  pending_.clear();
  pending_weights_.clear();
}

void Mixture::refresh() {
  if (scatter_records_ > 0) kind_ == Covariance::tied ? refresh_tied() : refresh_diagonal();
  if (scatter_records_ > scatter_memory) {
    for (double& value : scatter_) value /= 2;
    scatter_records_ /= 2;
  }
  next_refresh_ += std::clamp(absorbed_since_open_ / 2, refresh_interval_min, refresh_interval_max);
}

void Mixture::refresh_tied() {
  flush();
  const double width = static_cast<double>(width_);
  double trace = 0;
  for (std::size_t i = 0; i < width_; ++i) trace += scatter_[triangle_row(i) + i] / scatter_records_;
  const double rho = effective_shrinkage(shrinkage_, scatter_records_, width);
  const double ridge = rho * trace / width;
  if (!(ridge > 0) || !std::isfinite(ridge)) return;  // all records alike so far: nothing to scale by
  std::vector<double> factor = scatter_;
  for (double& value : factor) value *= (1 - rho) / scatter_records_;
  for (std::size_t i = 0; i < width_; ++i) factor[triangle_row(i) + i] += ridge;
  if (!cholesky(factor, width_)) return;
  whitening_ = inverse_lower(factor, width_);

  // What a new record has on average: the mean over the old ones, tr(P S), corrected for their own part in S
  // (Sherman-Morrison; their part in the pooled mean of a slot is neglected).
  double precision_trace = 0;
  for (const float value : whitening_) precision_trace += double{value} * value;
  const double own = (width - ridge * precision_trace) / (1 - rho);
  expected_ = own / std::max(0.05, 1 - (1 - rho) * own / scatter_records_);

  if (refreshes_++ == 0)
    for (const Slot& slot : slots_)
      if (slot.live) center_ = slot.mean;
  std::vector<float> centered(width_);
  for (Slot& slot : slots_) {
    if (!slot.live) continue;
    for (std::size_t i = 0; i < width_; ++i) centered[i] = static_cast<float>(slot.mean[i] - center_[i]);
    multiply_lower(whitening_, centered, slot.whitened);
  }
}

void Mixture::refresh_diagonal() {
  const double width = static_cast<double>(width_);
  double mean_variance = 0;
  for (const double value : scatter_) mean_variance += value / scatter_records_ / width;
  if (!(mean_variance > 0)) return;
  for (Slot& slot : slots_) {
    if (!slot.live) continue;
    slot.log_determinant = 0;
    const double own = std::min(static_cast<double>(slot.records), mean_memory);
    for (std::size_t i = 0; i < width_; ++i) {
      const double pooled = scatter_[i] / scatter_records_;
      const double blended = (slot.scatter[i] + prior_records * pooled) / (own + prior_records);
      const double variance = (1 - shrinkage_) * blended + shrinkage_ * mean_variance;
      slot.whitened[i] = static_cast<float>(1 / variance);
      slot.log_determinant += std::log(variance);
    }
  }
  expected_ = width;
  ++refreshes_;
}

void Mixture::save(BlobWriter& out) const {
  std::vector<double> scatter = scatter_;
  if (kind_ == Covariance::tied) add_outer_products(scatter, pending_, pending_weights_, width_);
  for (const Slot& slot : slots_) {
    out.put<std::uint8_t>(slot.live);
    out.put(slot.records);
    out.put_all(slot.mean);
    out.put_all(slot.scatter);
    out.put_all(slot.whitened);
    out.put(slot.log_determinant);
  }
  out.put_all(scatter);
  out.put(scatter_records_);
  out.put_all(center_);
  out.put_all(whitening_);
  out.put(expected_);
  out.put(refreshes_);
  out.put(absorbed_since_open_);
  out.put(next_refresh_);
}

bool Mixture::restore(BlobReader& in) {
  Mixture read(kind_, static_cast<std::uint32_t>(slots_.size()), width_, shrinkage_);
  bool fits = true;
  for (Slot& slot : read.slots_) {
    slot.live = in.get<std::uint8_t>() != 0;
    slot.records = in.get<std::uint64_t>();
    slot.mean = in.get_all<double>();
    slot.scatter = in.get_all<double>();
    slot.whitened = in.get_all<float>();
    slot.log_determinant = in.get<double>();
    const std::size_t width = slot.live ? width_ : 0;
    fits = fits && slot.mean.size() == width && slot.whitened.size() == width &&
           slot.scatter.size() == (kind_ == Covariance::diagonal ? width : 0);
  }
  const std::size_t scatter_size = read.scatter_.size();
  read.scatter_ = in.get_all<double>();
  read.scatter_records_ = in.get<double>();
  read.center_ = in.get_all<double>();
  read.whitening_ = in.get_all<float>();
  read.expected_ = in.get<double>();
  read.refreshes_ = in.get<std::uint64_t>();
  read.absorbed_since_open_ = in.get<std::uint64_t>();
  read.next_refresh_ = in.get<std::uint64_t>();
  const std::size_t whitening_size = kind_ == Covariance::tied && read.scaled() ? scatter_size : 0;
  fits = fits && !in.failed() && read.scatter_.size() == scatter_size && read.center_.size() == width_ &&
         read.whitening_.size() == whitening_size;
  if (fits) *this = std::move(read);
  return fits;
}

}  // namespace kpool
