// Small dense kernels of the mixture: row-major lower triangles in double precision, the Hadamard transform, one thread, a fixed
// order of additions (the same calls give the same bits). Any thread; no state.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>
#include <vector>

namespace kpool {

/// Row i of a packed lower triangle begins at i (i + 1) / 2.
constexpr std::size_t triangle_size(std::size_t width) { return width * (width + 1) / 2; }
constexpr std::size_t triangle_row(std::size_t row) { return row * (row + 1) / 2; }

/// triangle += weight v v^T for each v in turn. vectors: (count, width), weights: (count).
void add_outer_products(std::span<double> triangle, std::span<const double> vectors, std::span<const double> weights,
                        std::size_t width);

/// In place: triangle of a symmetric positive definite matrix -> its Cholesky factor L. False where a pivot is not
/// positive.
bool cholesky(std::span<double> triangle, std::size_t width);

/// L^-1 of a packed lower triangle, in single precision for fast use.
std::vector<float> inverse_lower(std::span<const double> factor, std::size_t width);

/// W^T W of a packed lower triangle W, packed.
std::vector<double> gram_lower(std::span<const float> triangle, std::size_t width);

/// out = triangle x. x, out: (width).
void multiply_lower(std::span<const float> triangle, std::span<const float> x, std::span<float> out);

/// The length that hadamard wants for `width` values: a power of two of at least 16.
constexpr std::size_t hadamard_size(std::size_t width) { return std::max<std::size_t>(16, std::bit_ceil(width)); }

/// In place: the Walsh-Hadamard transform without scale, its coordinates in an order of its own. values.size():
/// hadamard_size of something.
void hadamard(std::vector<float>& values);

/// Squared Euclidean distance. a, b: (width).
double squared_distance(std::span<const float> a, std::span<const float> b);

}  // namespace kpool
