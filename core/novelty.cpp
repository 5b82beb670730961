#include "core/novelty.hpp"

#include <algorithm>
#include <cmath>

#include "core/result.hpp"

namespace kpool {
namespace {

constexpr double presumed_deviation = 0.6;

double normal_tail(double z) { return 0.5 * std::erfc(z / std::sqrt(2.0)); }

}  // namespace

double normal_quantile(double p) {
  KPOOL_ASSERT(p > 0 && p < 1);
  if (p < 0.5) return -normal_quantile(1 - p);
  // Bisection: called once per router, exact to rounding, nothing to mistype.
  double low = 0, high = 40;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (normal_tail(middle) > 1 - p ? low : high) = middle;
  }
  return (low + high) / 2;
}

void NoveltyGate::add(double distance) {
  // One wild record must not lift the gate for all that follow.
  constexpr double wild = 3;
  if (ready()) distance = std::min(distance, wild * mean);
  ++count;
  const double share = std::max(1.0 / static_cast<double>(count), 1 / memory);
  const double difference = distance - mean;
  mean += share * difference;
  variance = (1 - share) * (variance + share * difference * difference);
}

double NoveltyGate::blended_variance() const {
  // A few distances show too little spread, so some is presumed: twice or three times what embeddings have, hence it
  // must fade fast once there are enough, or a gate of sixty distances would let its neighbour in.
  constexpr double presumed_count = 16, enough = 12;
  const double known = std::min(static_cast<double>(count), memory);
  const double fade = known > 0 ? std::min(1.0, enough / known) : 1;
  const double presumed_weight = presumed_count * fade * fade;
  const double presumed = presumed_deviation * presumed_deviation * mean * mean;
  return (known * variance + presumed_weight * presumed) / (known + presumed_weight);
}

NoveltyGate NoveltyGate::presumed() const {
  if (ready()) return *this;
  const double share = static_cast<double>(count) / ready_count, own = mean - 1;
  const double presumed = presumed_deviation * presumed_deviation;
  return {ready_count, 1 + share * own, share * variance + (1 - share) * (presumed + share * own * own)};
}

double NoveltyGate::relative_variance() const {
  return mean > 0 ? blended_variance() / (mean * mean) : presumed_deviation * presumed_deviation;
}

double NoveltyGate::surprise(double distance) const {
  KPOOL_ASSERT(ready());
  if (mean <= 0) return distance > 0 ? 40 : 0;
  // A gamma law of this mean and variance; its cube root is nearly normal.
  const double spread = blended_variance() / (9 * mean * mean);
  return (std::cbrt(distance / mean) - 1 + spread) / std::sqrt(spread);
}

}  // namespace kpool
