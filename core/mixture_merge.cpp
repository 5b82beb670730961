// Which slots of the mixture are close to each other, and how two become one.
#include "core/dense.hpp"
#include "core/mixture.hpp"

namespace kpool {

double Mixture::separation(std::span<const float> whitened_mean, double records, const Slot& slot) const {
  return squared_distance(whitened_mean, slot.whitened) / expected_ - 1 / records -
         1 / static_cast<double>(slot.records);
}

std::optional<Mixture::Neighbour> Mixture::nearest(std::span<const float> whitened_mean, double records) const {
  std::optional<Neighbour> nearest;
  if (kind_ != Covariance::tied || !scaled()) return nearest;
  for (std::uint32_t k = 0; k < slots_.size(); ++k) {
    if (!slots_[k].live || slots_[k].records == 0) continue;
    const double distance = separation(whitened_mean, records, slots_[k]);
    if (!nearest || distance < nearest->distance) nearest = Neighbour{k, distance};
  }
  return nearest;
}

std::optional<Mixture::Pair> Mixture::closest_pair(const std::vector<bool>& pinned) const {
  std::optional<Pair> closest;
  if (kind_ != Covariance::tied || !scaled()) return closest;
  for (std::uint32_t i = 0; i < slots_.size(); ++i)
    for (std::uint32_t j = 0; j < i; ++j) {
      const Slot &one = slots_[i], &other = slots_[j];
      if (one.records == 0 || other.records == 0 || pinned[i] || pinned[j]) continue;
      const double distance = separation(one.whitened, static_cast<double>(one.records), other);
      if (closest && closest->distance <= distance) continue;
      closest = one.records < other.records ? Pair{i, j, distance} : Pair{j, i, distance};
    }
  return closest;
}

void Mixture::merge(std::uint32_t from, std::uint32_t into) {
  KPOOL_ASSERT(kind_ == Covariance::tied && from != into && slots_[from].live && slots_[into].live);
  Slot &lesser = slots_[from], &greater = slots_[into];
  flush(lesser);
  flush(greater);
  const auto a = static_cast<double>(lesser.records), b = static_cast<double>(greater.records);
  std::vector<double> between(width_);
  for (std::size_t i = 0; i < width_; ++i) {
    between[i] = lesser.mean[i] - greater.mean[i];
    greater.mean[i] += a / (a + b) * between[i];
  }
  // The scatter counts as many records as its degrees of freedom say; older ones have faded from it.
  const double fresh_a = lesser.freedom + 1, fresh_b = greater.freedom + 1;
  const double weight = fresh_a * fresh_b / (fresh_a + fresh_b);
  for (std::size_t i = 0; i < greater.scatter.size(); ++i) greater.scatter[i] += lesser.scatter[i];
  add_outer_products(greater.scatter, between, std::span(&weight, 1), width_);
  greater.freedom += lesser.freedom + 1;
  greater.records += lesser.records;
  if (scaled()) whiten(greater);
}

}  // namespace kpool
