#include "core/novelty.hpp"

#include <algorithm>
#include <cmath>

#include "core/result.hpp"

namespace kpool {
namespace {

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

double chi_square_quantile(double z, double degrees) {
  KPOOL_ASSERT(degrees > 0);
  const double spread = 2 / (9 * degrees);
  const double root = 1 - spread + z * std::sqrt(spread);
  return degrees * std::max(0.0, root * root * root);
}

void NoveltyGate::add(double distance, double z) {
  // One wild record must not lift the gate for all that follow.
  if (ready()) distance = std::min(distance, 2 * threshold(z));
  ++count;
  const double share = std::max(1.0 / static_cast<double>(count), 1 / memory);
  const double difference = distance - mean;
  mean += share * difference;
  variance = (1 - share) * (variance + share * difference * difference);
}

double NoveltyGate::threshold(double z) const {
  KPOOL_ASSERT(ready());
  if (variance <= 0 || mean <= 0) return mean;
  const double scale = variance / (2 * mean);
  return scale * chi_square_quantile(z, 2 * mean * mean / variance);
}

}  // namespace kpool
