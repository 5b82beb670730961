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
constexpr std::uint64_t thinned_from = 1024, thinned_to = 8;
/// Means and scatter follow slow drift: older records fade with these memories.
constexpr double mean_memory = 4096, scatter_memory = 8192;
/// A slot's weight in the pooled covariance ends here: one long domain must not set the measure of all.
constexpr double pooled_records = 1000;
/// A slot's own spread is known from so many records on.
constexpr double settled_records = 8;
/// The gates look at so many of the coordinates (random directions, so any will do): whether a record is novel shows in
/// few of them, which slot it belongs to needs all.
constexpr std::size_t gate_width_max = 128;
/// Up to so many records a slot's discriminant follows its mean at once, later with the covariance.
constexpr std::uint64_t young_records = 64;
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
      gate_width_(kind == Covariance::tied ? std::min(width, gate_width_max) : width),
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
                      .whitened = std::vector<float>(gate_width_, 0.0F),
                      .discriminant = std::vector<float>(kind_ == Covariance::tied ? width_ : 0, 0.0F)};
  absorbed_since_open_ = 0;
  next_refresh_ = refresh_interval_min;
  if (kind_ == Covariance::diagonal && scaled()) refresh_diagonal();
}

template <class Value>
void Mixture::center(std::span<const Value> x, std::vector<float>& out) const {
  out.resize(width_);
  for (std::size_t i = 0; i < width_; ++i) out[i] = static_cast<float>(x[i] - center_[i]);
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
    out.whitened.resize(gate_width_);
    center(x, out.centered);
    multiply_lower(panels_, std::span(out.centered).first(gate_width_), out.whitened);
  }
  bool found = false;
  for (std::uint32_t k = 0; k < slots_.size(); ++k) {
    const Slot& slot = slots_[k];
    if (!slot.live) continue;
    // An empty slot is as far away as can be, until it has a mean.
    const bool known = scaled() && slot.records > 0;
    const double distance = !known ? 0 : kind_ == Covariance::tied ? squared_distance(out.whitened, slot.whitened)
                                                                    : diagonal_distance(slot, x);
    const double usual = slot.expected > 0 ? slot.expected : expected_;
    out.distances[k] = distance / usual;
    if (!known) out.scores[k] = std::numeric_limits<double>::max();
    else if (kind_ == Covariance::diagonal) out.scores[k] = distance + slot.log_determinant;
    else out.scores[k] = slot.offset - 2 * double{dot_product(slot.discriminant, out.centered)};
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
    for (std::size_t i = 0; i < gate_width_; ++i)
      slot.whitened[i] += static_cast<float>(share) * (measured.whitened[i] - slot.whitened[i]);
  if (kind_ == Covariance::tied && scaled() && slot.records <= young_records) discriminate(slot);
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
  for (Slot& slot : slots_)
    if (slot.live) whiten(slot);
}

/// What measuring needs of the slot's mean, under the present whitening.
void Mixture::whiten(Slot& slot) const {
  const std::vector<float> whitened = discriminate(slot);
  std::copy_n(whitened.begin(), gate_width_, slot.whitened.begin());
}

/// The slot's linear discriminant from its mean: D^2(x) = x^T P x - 2 w^T x + m^T w with w = P m, all of them centered.
/// Returns the whitened mean. (width)
std::vector<float> Mixture::discriminate(Slot& slot) const {
  std::vector<float> centered, whitened(width_);
  center(std::span<const double>(slot.mean), centered);
  multiply_lower(panels_, centered, whitened);
  multiply_transposed(whitening_, whitened, slot.discriminant);
  slot.offset = dot_product(centered, slot.discriminant);
  return whitened;
}

/// What a new record has on average: the mean over the old ones, tr(P S) of the pool or of a slot, corrected for
/// their own part in the covariance (Sherman-Morrison) and in the mean.
void Mixture::expect(double rho, double records) {
  const auto leading = std::span<const float>(whitening_).first(triangle_size(gate_width_));
  const std::vector<double> precision = gram_lower(leading, gate_width_);
  const auto corrected = [&](double own) { return own / std::max(0.05, 1 - (1 - rho) * own / records); };
  double pooled = 0, total = 0;
  for (Slot& slot : slots_) {
    if (slot.freedom == 0) continue;
    double sum = 0, diagonal = 0;
    for (std::size_t i = 0; i < gate_width_; ++i) {
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

}  // namespace kpool
