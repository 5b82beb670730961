// Classifiers of embeddings into slots that learn from labelled records, as routers of the literature do. Owned by one
// run, used on its thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace kpool {

class SlotClassifier {
 public:
  virtual ~SlotClassifier() = default;
  /// Forgets what the slot was taught: another domain takes it.
  virtual void reset(std::uint32_t slot) = 0;
  /// x: (width) embedding of a record of the slot's domain.
  virtual void learn(std::uint32_t slot, std::span<const float> x) = 0;
  /// Of the slots that were taught something; nothing where there is none.
  virtual std::optional<std::uint32_t> classify(std::span<const float> x) const = 0;
};

/// The nearest mean in Euclidean distance.
std::unique_ptr<SlotClassifier> make_centroids(std::uint32_t slots, std::size_t width);

struct LeastSquaresOptions {
  std::uint32_t features = 2048;
  double ridge = 1;  ///< weight of the squared norm; a feature's mean square is about 0.5
  std::uint64_t seed = 0;
};

/// Ridge regression of one-hot slots on random features relu(P x / |x|), the entries of P standard normal:
/// RanPAC (McDonnell et al. 2023). Recursive (Any-SSR's way): each record updates the inverse Gram matrix by
/// Sherman-Morrison, which gives the solution over all records, whatever their order.
std::unique_ptr<SlotClassifier> make_least_squares(std::uint32_t slots, std::size_t width,
                                                   const LeastSquaresOptions& options);

}  // namespace kpool
