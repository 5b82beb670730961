#include "core/dense.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>

#include "core/result.hpp"

// One copy per instruction set, chosen at start-up. ThreadSanitizer runs before such a choice could be made.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define KPOOL_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3")))
#else
#define KPOOL_CLONES
#endif

namespace kpool {
namespace {

constexpr std::size_t lanes = 16;
#pragma GCC diagnostic ignored "-Wpsabi"  // a vector is never passed: load is inlined
/// Half as wide: GCC 12 takes vectors apart that are wider than the target's.
using Half [[gnu::vector_size(lanes / 2 * sizeof(float))]] = float;

__attribute__((always_inline)) inline Half load(const float* from) {
  Half values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

std::size_t odd_part(std::size_t width) { return width >> std::countr_zero(width); }

/// Partial sums in lanes, so that the compiler may use vectors without changing the order of additions.
template <class Value>
__attribute__((always_inline)) inline Value dot(const Value* a, const Value* b, std::size_t length) {
  Value sums[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= length; i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  Value total = 0;
  for (; i < length; ++i) total += a[i] * b[i];
  for (const Value sum : sums) total += sum;
  return total;
}

KPOOL_CLONES void add_outer(double* triangle, const double* v, double weight, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) {
    const double scale = weight * v[i];
    for (std::size_t j = 0; j <= i; ++j) triangle[j] += scale * v[j];
    triangle += i + 1;
  }
}

/// Four at once: the triangle passes through memory once. Each element gets its terms in the same order as by
/// four calls of add_outer.
KPOOL_CLONES void add_outer4(double* triangle, const double* v, const double* weight, std::size_t width) {
  const double *a = v, *b = v + width, *c = v + 2 * width, *d = v + 3 * width;
  for (std::size_t i = 0; i < width; ++i) {
    const double p = weight[0] * a[i], q = weight[1] * b[i], r = weight[2] * c[i], s = weight[3] * d[i];
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = triangle[j];
      sum += p * a[j];
      sum += q * b[j];
      sum += r * c[j];
      sum += s * d[j];
      triangle[j] = sum;
    }
    triangle += i + 1;
  }
}

KPOOL_CLONES bool factorise(double* triangle, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) {
    double* row = triangle + triangle_row(i);
    for (std::size_t j = 0; j < i; ++j) {
      const double* other = triangle + triangle_row(j);
      row[j] = (row[j] - dot(row, other, j)) / other[j];
    }
    const double pivot = row[i] - dot(row, row, i);
    if (!(pivot > 0)) return false;
    row[i] = std::sqrt(pivot);
  }
  return true;
}

KPOOL_CLONES void invert(const double* factor, double* inverse, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) {
    const double* row = factor + triangle_row(i);
    double* out = inverse + triangle_row(i);
    for (std::size_t k = 0; k < i; ++k) {
      const double scale = row[k];
      const double* done = inverse + triangle_row(k);
      for (std::size_t j = 0; j <= k; ++j) out[j] -= scale * done[j];
    }
    out[i] = 1;
    for (std::size_t j = 0; j <= i; ++j) out[j] /= row[i];
  }
}

KPOOL_CLONES void gram(const float* triangle, double* out, std::size_t width) {
  for (std::size_t k = 0; k < width; ++k) {
    const float* row = triangle + triangle_row(k);
    for (std::size_t i = 0; i <= k; ++i) {
      const double scale = row[i];
      double* sums = out + triangle_row(i);
      for (std::size_t j = 0; j <= i; ++j) sums[j] += scale * row[j];
    }
  }
}

/// Two columns at a time, in sums of their own, to hide the latency of an addition.
KPOOL_CLONES void multiply(const float* panels, const float* x, float* out, std::size_t width) {
  constexpr std::size_t half = lanes / 2;
  for (std::size_t row = 0; row < width; row += lanes) {
    const std::size_t columns = std::min(row + lanes, width);
    Half a{}, b{}, c{}, d{};
    for (std::size_t j = 0; j + 1 < columns; j += 2, panels += 2 * lanes) {
      a += load(panels) * x[j];
      b += load(panels + half) * x[j];
      c += load(panels + lanes) * x[j + 1];
      d += load(panels + lanes + half) * x[j + 1];
    }
    if (columns % 2 != 0) {
      a += load(panels) * x[columns - 1];
      b += load(panels + half) * x[columns - 1];
      panels += lanes;
    }
    const Half sums[2] = {a + c, b + d};
    std::memcpy(out + row, sums, (columns - row) * sizeof(float));
  }
}

/// out[2i] and out[2i + 1]: sum and difference of the halves. One step of the transform; it moves every coordinate's
/// highest bit to the lowest place.
KPOOL_CLONES void fold(const float* in, float* out, std::size_t half) {
  for (std::size_t i = 0; i < half; ++i) {
    out[2 * i] = in[i] + in[half + i];
    out[2 * i + 1] = in[i] - in[half + i];
  }
}

/// Sums and differences of neighbours `stride` apart, in place.
KPOOL_CLONES void butterfly(float* values, std::size_t size, std::size_t stride) {
  for (std::size_t begin = 0; begin < size; begin += 2 * stride)
    for (std::size_t i = begin; i < begin + stride; ++i) {
      const float a = values[i], b = values[i + stride];
      values[i] = a + b;
      values[i + stride] = a - b;
    }
}

/// out = basis in, along the middle axis of (width / (m neighbours), m, neighbours).
KPOOL_CLONES void rotate(const float* in, const float* basis, float* out, std::size_t width, std::size_t m,
                         std::size_t neighbours) {
  for (std::size_t begin = 0; begin < width; begin += m * neighbours)
    for (std::size_t i = 0; i < m; ++i)
      if (neighbours == sizeof(Half) / sizeof(float)) {
        Half sums{};
        for (std::size_t j = 0; j < m; ++j) sums += load(in + begin + j * neighbours) * basis[i * m + j];
        std::memcpy(out + begin + i * neighbours, &sums, sizeof sums);
      } else {
        for (std::size_t n = 0; n < neighbours; ++n) {
          float sum = 0;
          for (std::size_t j = 0; j < m; ++j) sum += in[begin + j * neighbours + n] * basis[i * m + j];
          out[begin + i * neighbours + n] = sum;
        }
      }
}

KPOOL_CLONES float product(const float* a, const float* b, std::size_t width) { return dot(a, b, width); }

KPOOL_CLONES void add_rows(const float* triangle, const float* x, float* out, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) {
    for (std::size_t j = 0; j <= i; ++j) out[j] += x[i] * triangle[j];
    triangle += i + 1;
  }
}

KPOOL_CLONES float distance(const float* a, const float* b, std::size_t width) {
  constexpr std::size_t half = lanes / 2;
  Half even{}, odd{};
  std::size_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    const Half left = load(a + i) - load(b + i), right = load(a + i + half) - load(b + i + half);
    even += left * left;
    odd += right * right;
  }
  even += odd;
  float total = 0;
  for (; i < width; ++i) total += (a[i] - b[i]) * (a[i] - b[i]);
  for (std::size_t lane = 0; lane < half; ++lane) total += even[lane];
  return total;
}

}  // namespace

void add_outer_products(std::span<double> triangle, std::span<const double> vectors, std::span<const double> weights,
                        std::size_t width) {
  KPOOL_ASSERT(triangle.size() == triangle_size(width) && vectors.size() == weights.size() * width);
  std::size_t i = 0;
  for (; i + 4 <= weights.size(); i += 4)
    add_outer4(triangle.data(), vectors.data() + i * width, weights.data() + i, width);
  for (; i < weights.size(); ++i) add_outer(triangle.data(), vectors.data() + i * width, weights[i], width);
}

bool cholesky(std::span<double> triangle, std::size_t width) {
  KPOOL_ASSERT(triangle.size() == triangle_size(width));
  return factorise(triangle.data(), width);
}

std::vector<float> inverse_lower(std::span<const double> factor, std::size_t width) {
  KPOOL_ASSERT(factor.size() == triangle_size(width));
  std::vector<double> inverse(factor.size(), 0.0);
  invert(factor.data(), inverse.data(), width);
  return {inverse.begin(), inverse.end()};
}

std::vector<double> gram_lower(std::span<const float> triangle, std::size_t width) {
  KPOOL_ASSERT(triangle.size() == triangle_size(width));
  std::vector<double> product(triangle.size(), 0.0);
  gram(triangle.data(), product.data(), width);
  return product;
}

std::vector<float> pack_lower(std::span<const float> triangle, std::size_t width) {
  KPOOL_ASSERT(triangle.size() == triangle_size(width));
  std::vector<float> panels;
  for (std::size_t row = 0; row < width; row += lanes) {
    const std::size_t end = std::min(row + lanes, width);
    for (std::size_t column = 0; column < end; ++column)
      for (std::size_t i = row; i < row + lanes; ++i)
        panels.push_back(i < end && column <= i ? triangle[triangle_row(i) + column] : 0.0F);
  }
  return panels;
}

void multiply_lower(std::span<const float> panels, std::span<const float> x, std::span<float> out) {
  KPOOL_ASSERT(out.size() == x.size());
  multiply(panels.data(), x.data(), out.data(), x.size());
}

std::vector<float> odd_basis(std::size_t width) {
  const std::size_t m = odd_part(width);
  const double unit = std::numbers::pi / static_cast<double>(m);
  std::vector<float> basis(m * m);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < m; ++j)
      basis[i * m + j] = static_cast<float>(std::sqrt((i == 0 ? 1.0 : 2.0) / static_cast<double>(m)) *
                                            std::cos(unit * static_cast<double>(i) * (static_cast<double>(j) + 0.5)));
  return basis;
}

void mix(std::vector<float>& values, std::span<const float> basis) {
  const std::size_t width = values.size(), m = odd_part(width);
  KPOOL_ASSERT(basis.size() == m * m);
  std::vector<float> other(width);
  // Three steps by folding make a vector of neighbours; the other steps run along such vectors.
  std::size_t neighbours = 1;
  for (; neighbours < std::min<std::size_t>(8, width / m); neighbours *= 2) {
    fold(values.data(), other.data(), width / 2);
    values.swap(other);
  }
  for (std::size_t stride = neighbours * m; 2 * stride <= width; stride *= 2) butterfly(values.data(), width, stride);
  if (m == 1) return;
  rotate(values.data(), basis.data(), other.data(), width, m, neighbours);
  values.swap(other);
}

void multiply_transposed(std::span<const float> triangle, std::span<const float> x, std::span<float> out) {
  KPOOL_ASSERT(triangle.size() == triangle_size(x.size()) && out.size() == x.size());
  std::fill(out.begin(), out.end(), 0.0F);
  add_rows(triangle.data(), x.data(), out.data(), x.size());
}

float dot_product(std::span<const float> a, std::span<const float> b) {
  KPOOL_ASSERT(a.size() == b.size());
  return product(a.data(), b.data(), a.size());
}

double squared_distance(std::span<const float> a, std::span<const float> b) {
  KPOOL_ASSERT(a.size() == b.size());
  return distance(a.data(), b.data(), a.size());
}

}  // namespace kpool
