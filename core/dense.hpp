// Small dense kernels of the mixture: row-major lower triangles in double precision, a fast orthogonal transform, one
// thread, a fixed order of additions (the same calls give the same bits). Any thread; no state.
#pragma once

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

/// A packed lower triangle as multiply_lower reads it: panels of 16 rows, column by column.
std::vector<float> pack_lower(std::span<const float> triangle, std::size_t width);

/// out = triangle x, of panels by pack_lower of a triangle at least as wide, of which the first rows are used. x, out:
/// (width).
void multiply_lower(std::span<const float> panels, std::span<const float> x, std::span<float> out);

/// The orthonormal cosine transform (DCT-II) of the odd part m of width. (m, m)
std::vector<float> odd_basis(std::size_t width);

/// In place, an orthogonal transform that mixes all values in width (log2 q + m) operations: Walsh-Hadamard of q by
/// cosine of m, where values.size() = q m, q a power of two, m odd, basis = odd_basis of it. The order of the
/// coordinates is its own; lengths grow by sqrt(q).
void mix(std::vector<float>& values, std::span<const float> basis);

/// out = triangle^T x, of a packed lower triangle. x, out: (width).
void multiply_transposed(std::span<const float> triangle, std::span<const float> x, std::span<float> out);

/// a . b. a, b: (width).
float dot_product(std::span<const float> a, std::span<const float> b);

/// Squared Euclidean distance. a, b: (width).
double squared_distance(std::span<const float> a, std::span<const float> b);

}  // namespace kpool
