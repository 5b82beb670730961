// The novelty gate of one slot: is a squared distance too large for the slot's own records? A gamma law
// matched to the first two moments of the distances seen so far (method.md 2(c)): neighbouring
// coordinates of an embedding are correlated, so chi-square with `width` degrees would cry wolf.
// Owned by the router, used on its thread alone.
#pragma once

#include <cstdint>

namespace kpool {

/// z with P(N(0, 1) <= z) = p, 0 < p < 1; error below 2e-9.
double normal_quantile(double p);

class NoveltyGate {
 public:
  /// One distance of a record of this slot, measured before the record was absorbed.
  void add(double distance);
  /// True once enough distances are known to judge by.
  bool ready() const { return count >= ready_count; }
  /// How far out a distance is for a record of this slot, as a standard normal deviate (Wilson-Hilferty).
  /// Needs ready().
  double surprise(double distance) const;
  /// Variance of the distances over their squared mean; a wide one is presumed while there are few.
  double relative_variance() const;

  /// This gate with what it lacks to be ready presumed: distances in units of a slot's own are 1 on average.
  NoveltyGate presumed() const;

  static constexpr std::uint64_t ready_count = 16;
  /// Older distances fade with this memory, as the covariance under them moves.
  static constexpr double memory = 128;

  // all of its state, public for saving
  std::uint64_t count = 0;
  double mean = 0;
  double variance = 0;

 private:
  double blended_variance() const;
};

}  // namespace kpool
