// The projection of embeddings: orthonormal directions at any width, the same in every process.
#include "core/projection.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

using kpool::Projection;

TEST_CASE("a projection's directions are orthonormal") {
  for (const std::size_t width : {7, 24, 64, 90, 384, 576}) {
    const std::size_t dimensions = width / 2;
    const Projection projection(width, dimensions);
    std::vector<double> gram(dimensions * dimensions, 0.0);  // sum over unit vectors e of (P e)(P e)^T = P P^T
    for (std::size_t i = 0; i < width; ++i) {
      std::vector<float> unit(width, 0.0F);
      unit[i] = 1;
      const std::vector<float> column = projection(unit);
      REQUIRE(column.size() == dimensions);
      for (std::size_t a = 0; a < dimensions; ++a)
        for (std::size_t b = 0; b < dimensions; ++b) gram[a * dimensions + b] += double{column[a]} * column[b];
    }
    double worst = 0;
    for (std::size_t a = 0; a < dimensions; ++a)
      for (std::size_t b = 0; b < dimensions; ++b)
        worst = std::max(worst, std::abs(gram[a * dimensions + b] - (a == b ? 1.0 : 0.0)));
    CAPTURE(width);
    CHECK(worst < 1e-5);
  }
}

TEST_CASE("each direction sees every coordinate of an embedding") {
  const Projection projection(576, 64);
  for (std::size_t i = 0; i < 576; ++i) {
    std::vector<float> unit(576, 0.0F);
    unit[i] = 1;
    const std::vector<float> column = projection(unit);
    CHECK(std::count(column.begin(), column.end(), 0.0F) == 0);
  }
}

TEST_CASE("no projection leaves the embedding as it is") {
  const std::vector<float> x{3, 1, 2};
  for (const std::size_t dimensions : {0, 3, 9}) CHECK(Projection(3, dimensions)(x) == x);
}
