// The Gaussian mixture over embeddings: a mean per slot and one covariance, tied (pooled within the
// slots) or diagonal per slot. Statistics are Welford's, in double precision; distances come from a
// whitening matrix that is renewed every so many records. What was absorbed is not kept.
// Owned by the router, used on its thread alone. Every result depends on the sequence of calls only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/blob.hpp"
#include "core/dense.hpp"

namespace kpool {

enum class Covariance : std::uint8_t { tied, diagonal };

/// A record as the mixture sees it.
struct Measured {
  std::vector<float> centered;    ///< (width) tied only: x - center
  std::vector<float> whitened;    ///< (gate width) tied only: the first of L^-1 (x - center)
  std::vector<double> distances;  ///< (slots) squared Mahalanobis distance over them, in units of a record's own
  std::vector<double> scores;     ///< (slots) -2 log density up to a constant; infinite where the slot is not live
  std::uint32_t best = 0;         ///< the live slot of the least score, which is of the greatest density
};

class Mixture {
 public:
  Mixture(Covariance kind, std::uint32_t slots, std::size_t width, double shrinkage);

  /// Makes the slot live and empty. Its covariance is the pooled one.
  void open(std::uint32_t slot);
  bool live(std::uint32_t slot) const { return slots_[slot].live; }
  /// True where the slot's own spread is known, so that distances to it are in units of it.
  bool settled(std::uint32_t slot) const { return slots_[slot].expected > 0; }
  std::uint64_t records(std::uint32_t slot) const { return slots_[slot].records; }
  /// Coordinates that distances are over.
  std::size_t gate_width() const { return gate_width_; }
  /// True once a covariance was estimated; before, all distances are 0.
  bool scaled() const { return refreshes_ > 0; }

  /// x: (width). Needs a live slot.
  void measure(std::span<const float> x, Measured& out) const;
  /// Adds x to the slot's statistics. measured: of the same x, since the last absorb or open at the latest.
  void absorb(std::uint32_t slot, std::span<const float> x, const Measured& measured);

  /// The slot whose mean is closest to the mean of records that were whitened since the last refresh, and the squared
  /// distance in units of a record's own, less what chance adds to means of so few records. Nothing while not scaled.
  struct Neighbour {
    std::uint32_t slot = 0;
    double distance = 0;
  };
  std::optional<Neighbour> nearest(std::span<const float> whitened_mean, double records) const;
  /// The two live slots that are closest to each other, the one of fewer records first, and how close. pinned: (slots)
  /// these take no part.
  struct Pair {
    std::uint32_t lesser = 0, greater = 0;
    double distance = 0;
  };
  std::optional<Pair> closest_pair(const std::vector<bool>& pinned) const;
  /// Adds the statistics of `from` to those of `into` (Chan, Golub and LeVeque 1979). `from` stays as it is.
  void merge(std::uint32_t from, std::uint32_t into);

  void save(BlobWriter& out) const;
  /// False where the state does not fit this mixture's shape.
  bool restore(BlobReader& in);

 private:
  struct Slot {
    bool live = false;
    std::uint64_t records = 0;
    std::vector<double> mean;      // (width)
    std::vector<double> scatter;   // within the slot. tied: packed (width, width); diagonal: (width)
    double freedom = 0;            // degrees of freedom in it
    double expected = 0;           // squared distance of a record of this slot, on average; 0: not known yet
    std::vector<float> whitened;   // (gate width) tied: whitened mean; diagonal: 1 / variance
    std::vector<float> discriminant;  // (width) tied only: P (mean - center)
    double offset = 0;             // tied only: (mean - center) . discriminant
    double log_determinant = 0;    // diagonal only
    std::vector<double> pending;   // (pending, width) deviations that are not yet in the scatter
    std::vector<double> pending_weights;
  };

  void refresh();
  double pool(std::vector<double>& covariance) const;
  void refresh_tied();
  void expect(double rho, double records);
  void refresh_diagonal();
  void flush(Slot& slot) const;
  void add_pending(const Slot& slot, std::vector<double>& scatter) const;
  template <class Value>
  void center(std::span<const Value> x, std::vector<float>& out) const;
  std::vector<float> discriminate(Slot& slot) const;
  void whiten(Slot& slot) const;
  double separation(std::span<const float> whitened_mean, double records, const Slot& slot) const;
  double diagonal_distance(const Slot& slot, std::span<const float> x) const;

  // constant after construction
  Covariance kind_;
  std::size_t width_;
  std::size_t gate_width_;         // leading coordinates that distances are over
  double shrinkage_;
  // state
  std::vector<Slot> slots_;
  std::vector<double> center_;     // (width) what is subtracted before whitening
  std::vector<float> whitening_;   // packed (width, width) L^-1 of the covariance at the last refresh
  double expected_ = 1;            // squared distance of a record to its own mean, on average over the pool
  std::vector<float> panels_;      // of the whitening, for multiply_lower
  std::uint64_t refreshes_ = 0;
  std::uint64_t absorbed_since_open_ = 0;
  std::uint64_t next_refresh_ = 0;  // in absorbed_since_open_
};

}  // namespace kpool
