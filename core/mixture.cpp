#include "core/mixture.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/dense.hpp"

namespace kpool {
namespace {

constexpr std::uint64_t refresh_interval_min = 16, refresh_interval_max = 4096;
constexpr std::size_t pending_max = 16;
/// A slot of more records knows its scatter well: one record in so many is enough to follow it.
constexpr std::uint64_t thinned_from = 1024, thinned_to = 4;
/// Means and scatter follow slow drift: older records fade with these memories.
constexpr double mean_memory = 4096, scatter_memory = 8192;
/// A slot's weight in the pooled covariance ends here: one long domain must not set the measure of all.
constexpr double pooled_records = 1000;
/// A slot's own spread is known from so many records on.
constexpr double settled_records = 8;
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
      center_(width, 0.0),
      next_refresh_(refresh_interval_min) {
  KPOOL_ASSERT(slots > 0 && width > 0);
}

void Mixture::open(std::uint32_t slot) {
  slots_[slot] = Slot{.live = true,
                      .mean = std::vector<double>(width_, 0.0),
                      .scatter = std::vector<double>(kind_ == Covariance::tied ? triangle_size(width_) : width_, 0.0),
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
    multiply_lower(panels_, centered, out.whitened);
  }
  bool found = false;
  for (std::uint32_t k = 0; k < slots_.size(); ++k) {
    const Slot& slot = slots_[k];
    if (!slot.live) continue;
    // An empty slot is as far away as can be, until it has a mean.
    const bool known = scaled() && slot.records > 0;
    const double distance = !known ? 0 : kind_ == Covariance::tied ? tied_distance(slot, out.whitened)
                                                                    : diagonal_distance(slot, x);
    const double usual = slot.expected > 0 ? slot.expected : expected_;
    out.distances[k] = distance / usual;
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
  if (slot.records <= thinned_from || slot.records % thinned_to == 0) {
    if (slot.pending_weights.size() == pending_max) flush(slot);
    const std::size_t begin = slot.pending.size();
    slot.pending.resize(begin + width_);
    for (std::size_t i = 0; i < width_; ++i) slot.pending[begin + i] = x[i] - slot.mean[i];
    slot.pending_weights.push_back(1 - share);
    if (slot.records > 1) slot.freedom += 1;
  }
  for (std::size_t i = 0; i < width_; ++i) slot.mean[i] += share * (x[i] - slot.mean[i]);
  if (kind_ == Covariance::tied && scaled())
    for (std::size_t i = 0; i < width_; ++i)
      slot.whitened[i] += static_cast<float>(share) * (measured.whitened[i] - slot.whitened[i]);
  if (++absorbed_since_open_ == next_refresh_) refresh();
}

void Mixture::flush(Slot& slot) const {
  add_pending(slot, slot.scatter);
  slot.pending.clear();
  slot.pending_weights.clear();
}

void Mixture::add_pending(const Slot& slot, std::vector<double>& scatter) const {
  if (kind_ == Covariance::tied) return add_outer_products(scatter, slot.pending, slot.pending_weights, width_);
  for (std::size_t n = 0; n < slot.pending_weights.size(); ++n)
    for (std::size_t i = 0; i < width_; ++i)
      scatter[i] += slot.pending_weights[n] * slot.pending[n * width_ + i] * slot.pending[n * width_ + i];
}

/// The covariance within the slots, each weighed by its records up to a limit. Returns the sum of weights.
double Mixture::pool(std::vector<double>& covariance) const {
  double total = 0;
  for (const Slot& slot : slots_) total += std::min(slot.freedom, pooled_records);
  covariance.assign(kind_ == Covariance::tied ? triangle_size(width_) : width_, 0.0);
  for (const Slot& slot : slots_) {
    if (slot.freedom == 0) continue;
    const double weight = std::min(slot.freedom, pooled_records) / (slot.freedom * total);
    for (std::size_t i = 0; i < covariance.size(); ++i) covariance[i] += weight * slot.scatter[i];
  }
  return total;
}

void Mixture::refresh() {
  for (Slot& slot : slots_)
    if (slot.live) flush(slot);
  kind_ == Covariance::tied ? refresh_tied() : refresh_diagonal();
  for (Slot& slot : slots_)
    if (slot.freedom > scatter_memory) {
      for (double& value : slot.scatter) value /= 2;
      slot.freedom /= 2;
    }
  next_refresh_ += std::clamp(absorbed_since_open_ / 2, refresh_interval_min, refresh_interval_max);
}

void Mixture::refresh_tied() {
  std::vector<double> factor;
  const double records = pool(factor);
  const double width = static_cast<double>(width_);
  double trace = 0;
  for (std::size_t i = 0; i < width_; ++i) trace += factor[triangle_row(i) + i];
  const double rho = effective_shrinkage(shrinkage_, records, width);
  const double ridge = rho * trace / width;
  if (!(ridge > 0) || !std::isfinite(ridge)) return;  // all records alike so far: nothing to scale by
  for (double& value : factor) value *= 1 - rho;
  for (std::size_t i = 0; i < width_; ++i) factor[triangle_row(i) + i] += ridge;
  if (!cholesky(factor, width_)) return;
  whitening_ = inverse_lower(factor, width_);
  panels_ = pack_lower(whitening_, width_);
  expect(rho, records);

  if (refreshes_++ == 0)
    for (const Slot& slot : slots_)
      if (slot.live) center_ = slot.mean;
  std::vector<float> centered(width_);
  for (Slot& slot : slots_) {
    if (!slot.live) continue;
    for (std::size_t i = 0; i < width_; ++i) centered[i] = static_cast<float>(slot.mean[i] - center_[i]);
    multiply_lower(panels_, centered, slot.whitened);
  }
}

/// What a new record has on average: the mean over the old ones, tr(P S) of the pool or of a slot, corrected for
/// their own part in the covariance (Sherman-Morrison) and in the mean.
void Mixture::expect(double rho, double records) {
  const std::vector<double> precision = gram_lower(whitening_, width_);
  const auto corrected = [&](double own) { return own / std::max(0.05, 1 - (1 - rho) * own / records); };
  double pooled = 0, total = 0;
  for (Slot& slot : slots_) {
    if (slot.freedom == 0) continue;
    double sum = 0, diagonal = 0;
    for (std::size_t i = 0; i < width_; ++i) {
      const std::size_t row = triangle_row(i);
      for (std::size_t j = 0; j < i; ++j) sum += precision[row + j] * slot.scatter[row + j];
      diagonal += precision[row + i] * slot.scatter[row + i];
    }
    const double own = (2 * sum + diagonal) / slot.freedom;
    slot.expected = slot.freedom + 1 < settled_records ? 0 : corrected(own) * (1 + 1 / slot.freedom);
    const double weight = std::min(slot.freedom, pooled_records);
    pooled += weight * own;
    total += weight;
  }
  expected_ = corrected(pooled / total);
}

void Mixture::refresh_diagonal() {
  std::vector<double> pooled;
  pool(pooled);
  const double width = static_cast<double>(width_);
  double mean_variance = 0;
  for (const double value : pooled) mean_variance += value / width;
  if (!(mean_variance > 0)) return;
  for (Slot& slot : slots_) {
    if (!slot.live) continue;
    slot.log_determinant = 0;
    double own = 0;
    for (std::size_t i = 0; i < width_; ++i) {
      const double blended = (slot.scatter[i] + prior_records * pooled[i]) / (slot.freedom + prior_records);
      const double variance = (1 - shrinkage_) * blended + shrinkage_ * mean_variance;
      slot.whitened[i] = static_cast<float>(1 / variance);
      slot.log_determinant += std::log(variance);
      own += slot.scatter[i] / variance;
    }
    slot.expected = slot.freedom + 1 < settled_records ? 0 : own / slot.freedom * (1 + 1 / slot.freedom);
  }
  expected_ = width;
  ++refreshes_;
}

void Mixture::save(BlobWriter& out) const {
  for (std::uint32_t k = 0; k < slots_.size(); ++k) {
    const Slot& slot = slots_[k];
    std::vector<double> scatter = slot.scatter;
    if (slot.live) add_pending(slot, scatter);
    out.put<std::uint8_t>(slot.live);
    out.put(slot.records);
    out.put_all(slot.mean);
    out.put_all(scatter);
    out.put(slot.freedom);
    out.put(slot.expected);
    out.put_all(slot.whitened);
    out.put(slot.log_determinant);
  }
  out.put_all(center_);
  out.put_all(whitening_);
  out.put(expected_);
  out.put(refreshes_);
  out.put(absorbed_since_open_);
  out.put(next_refresh_);
}

bool Mixture::restore(BlobReader& in) {
  Mixture read(kind_, static_cast<std::uint32_t>(slots_.size()), width_, shrinkage_);
  const std::size_t scatter_size = kind_ == Covariance::tied ? triangle_size(width_) : width_;
  bool fits = true;
  for (Slot& slot : read.slots_) {
    slot.live = in.get<std::uint8_t>() != 0;
    slot.records = in.get<std::uint64_t>();
    slot.mean = in.get_all<double>();
    slot.scatter = in.get_all<double>();
    slot.freedom = in.get<double>();
    slot.expected = in.get<double>();
    slot.whitened = in.get_all<float>();
    slot.log_determinant = in.get<double>();
    const std::size_t width = slot.live ? width_ : 0;
    fits = fits && slot.mean.size() == width && slot.whitened.size() == width &&
           slot.scatter.size() == (slot.live ? scatter_size : 0);
  }
  read.center_ = in.get_all<double>();
  read.whitening_ = in.get_all<float>();
  read.expected_ = in.get<double>();
  read.refreshes_ = in.get<std::uint64_t>();
  read.absorbed_since_open_ = in.get<std::uint64_t>();
  read.next_refresh_ = in.get<std::uint64_t>();
  const std::size_t whitening_size = kind_ == Covariance::tied && read.scaled() ? scatter_size : 0;
  fits = fits && !in.failed() && read.center_.size() == width_ && read.whitening_.size() == whitening_size;
  if (!fits) return false;
  if (!read.whitening_.empty()) read.panels_ = pack_lower(read.whitening_, width_);
  *this = std::move(read);
  return true;
}

}  // namespace kpool
