// A fixed random projection of embeddings onto fewer coordinates: a covariance of p coordinates costs p^2, and
// distances between means need some hundreds of them. Random signs, a fast orthogonal transform and a random choice of
// its coordinates (Ailon and Chazelle 2009; Tropp 2011): orthonormal directions, as of a dense matrix, for far less
// work. It depends on the two widths alone: a saved mixture fits every process. Immutable: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kpool {

class Projection {
 public:
  /// dimensions: of the result; 0, or at least width: the embedding itself.
  Projection(std::size_t width, std::size_t dimensions);
  static std::size_t dimensions(std::size_t width, std::size_t wanted) {
    return wanted == 0 || wanted > width ? width : wanted;
  }
  std::size_t width() const { return width_; }
  std::size_t dimensions() const { return dimensions_; }
  /// x: (width). Returns (dimensions): its coordinates along orthonormal directions.
  std::vector<float> operator()(std::span<const float> x) const;

 private:
  std::size_t width_, dimensions_;
  std::vector<float> signs_;           // (width), with the scale in them; empty: the identity
  std::vector<float> basis_;
  std::vector<std::uint32_t> chosen_;  // (dimensions), coordinates of the transform
};

}  // namespace kpool
