#include "core/dense.hpp"

#include <cmath>

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

KPOOL_CLONES void multiply(const float* triangle, const float* x, float* out, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) {
    out[i] = dot(triangle, x, i + 1);
    triangle += i + 1;
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

KPOOL_CLONES double distance(const float* a, const float* b, std::size_t width) {
  double sums[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= width; i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const double difference = double{a[i + lane]} - b[i + lane];
      sums[lane] += difference * difference;
    }
  double total = 0;
  for (; i < width; ++i) total += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  for (const double sum : sums) total += sum;
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

void multiply_lower(std::span<const float> triangle, std::span<const float> x, std::span<float> out) {
  KPOOL_ASSERT(triangle.size() == triangle_size(x.size()) && out.size() == x.size());
  multiply(triangle.data(), x.data(), out.data(), x.size());
}

void hadamard(std::vector<float>& values) {
  KPOOL_ASSERT(values.size() == hadamard_size(values.size()));
  // Eight neighbours are a vector: what lies within one is folded first, so that the rest runs along vectors.
  std::vector<float> folded(values.size());
  for (int step = 0; step < 3; ++step) {
    fold(values.data(), folded.data(), values.size() / 2);
    values.swap(folded);
  }
  for (std::size_t stride = 8; stride < values.size(); stride *= 2) butterfly(values.data(), values.size(), stride);
}

double squared_distance(std::span<const float> a, std::span<const float> b) {
  KPOOL_ASSERT(a.size() == b.size());
  return distance(a.data(), b.data(), a.size());
}

}  // namespace kpool
