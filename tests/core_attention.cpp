// Attention on tiles against a plain double-precision reference, and against finite differences.
#include "core/attention_tiles.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "core/gemm.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"

using namespace kpool;

namespace {

using Lengths = std::vector<std::int64_t>;

struct Case {
  BaseShape shape;
  Batch batch;
  std::int64_t tokens = 0;  ///< with padding

  Case(std::int64_t heads, std::int64_t kv_heads, std::int64_t width, const Lengths& lengths) {
    Base::Weights weights;
    weights.shape.heads = heads;
    weights.shape.kv_heads = kv_heads;
    weights.shape.head_width = width;
    weights.shape.vocabulary = 1;
    for (std::int64_t j = 0; j < width / 2; ++j)
      weights.inverse_frequencies.push_back(std::pow(100.0, -2.0 * j / width));
    std::vector<std::vector<std::int32_t>> texts;
    for (const std::int64_t length : lengths) texts.emplace_back(length, 0);
    std::vector<Segment> segments;
    for (const auto& text : texts) segments.push_back({text, 1});
    shape = weights.shape;
    batch = make_batch(weights, segments);
    tokens = static_cast<std::int64_t>(batch.starts.size());
  }
  std::int64_t columns() const { return (shape.heads + 2 * shape.kv_heads) * shape.head_width; }
  std::int64_t out_columns() const { return shape.heads * shape.head_width; }
};

struct Outcome {
  at::Tensor out, log_sums, dqkv;  ///< (tokens, heads width); (heads, tokens); (tokens, (heads + 2 kv_heads) width)
};

at::Tensor random_rows(std::int64_t rows, std::int64_t columns, at::ScalarType dtype, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  at::Tensor x = at::empty({rows, columns}, at::kFloat);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.mutable_data_ptr<float>()[i] = normal(engine);
  return x.to(dtype);
}

/// RoPE of one head by `sign` times its angles, times scale.
void turn(double* x, const Batch& batch, std::int64_t row, std::int64_t half, double sign, double scale) {
  for (std::int64_t j = 0; j < half; ++j) {
    const double cos = batch.cos.const_data_ptr<float>()[row * half + j];
    const double sin = sign * batch.sin.const_data_ptr<float>()[row * half + j];
    const double low = x[j], high = x[j + half];
    x[j] = scale * (low * cos - high * sin);
    x[j + half] = scale * (high * cos + low * sin);
  }
}

double dot(const double* a, const double* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}
void add(double factor, const double* in, std::int64_t n, double* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] += factor * in[i];
}

/// One query of one head: its output, and what it gives to all gradients.
void refer_query(const Case& c, std::int64_t row, std::int64_t head, const double* x, const double* dout, double* out,
                 double* log_sum, double* dx) {
  const std::int64_t width = c.shape.head_width, stride = c.columns(), from = c.batch.starts[row];
  const std::int64_t kv = head / (c.shape.heads / c.shape.kv_heads), q = row * stride + head * width;
  const std::int64_t k = (c.shape.heads + kv) * width, v = k + c.shape.kv_heads * width;
  std::vector<double> p(row + 1 - from);
  double total = 0, mean = 0;
  for (std::int64_t j = from; j <= row; ++j) total += p[j - from] = std::exp(dot(x + q, x + j * stride + k, width));
  *log_sum = std::log(total);
  for (std::int64_t j = from; j <= row; ++j) {
    p[j - from] /= total;
    add(p[j - from], x + j * stride + v, width, out);
    mean += p[j - from] * dot(dout, x + j * stride + v, width);
  }
  for (std::int64_t j = from; j <= row; ++j) {
    const double ds = p[j - from] * (dot(dout, x + j * stride + v, width) - mean);
    add(ds, x + j * stride + k, width, dx + q);
    add(ds, x + q, width, dx + j * stride + k);
    add(p[j - from], dout, width, dx + j * stride + v);
  }
}

Outcome refer(const Case& c, const at::Tensor& qkv, const at::Tensor& dout) {
  const std::int64_t width = c.shape.head_width, rotated = c.shape.heads + c.shape.kv_heads;
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  at::Tensor x = qkv.to(at::kDouble).clone(), d = dout.to(at::kDouble);
  Outcome result{at::zeros_like(d), at::zeros({c.shape.heads, c.tokens}, at::kDouble), at::zeros_like(x)};
  auto* data = x.mutable_data_ptr<double>();
  auto* gradient = result.dqkv.mutable_data_ptr<double>();
  auto turn_all = [&](double* rows, double sign) {
    for (std::int64_t row = 0; row < c.tokens; ++row)
      for (std::int64_t head = 0; head < rotated; ++head)
        turn(rows + row * c.columns() + head * width, c.batch, row, width / 2, sign, head < c.shape.heads ? scale : 1);
  };
  turn_all(data, 1);
  for (std::int64_t row = 0; row < c.tokens; ++row)
    for (std::int64_t head = 0; head < c.shape.heads; ++head) {
      const std::int64_t at = row * c.out_columns() + head * width;
      refer_query(c, row, head, data, d.const_data_ptr<double>() + at, result.out.mutable_data_ptr<double>() + at,
                  result.log_sums.mutable_data_ptr<double>() + head * c.tokens + row, gradient);
    }
  turn_all(gradient, -1);
  return result;
}

Outcome run(const Case& c, const at::Tensor& qkv, const at::Tensor& dout) {
  Workspace workspace;
  workspace.reserve(tiles::attention_bytes(c.shape, c.tokens, qkv.scalar_type(), at::get_num_threads()));
  at::Tensor x = qkv.clone();
  Outcome result{at::full_like(dout, 9), at::full({c.shape.heads, c.tokens}, 9, at::kFloat), at::full_like(x, 9)};
  tiles::rotate(x, c.batch, c.shape);
  tiles::attend(x, c.batch, c.shape, result.out, result.log_sums, workspace);
  tiles::attend_backward(dout, result.out, x, result.log_sums, c.batch, c.shape, result.dqkv, workspace);
  CHECK(workspace.peak() <= workspace.capacity());
  return result;
}

/// The largest difference, in units of the largest value.
double error(const at::Tensor& measured, const at::Tensor& expected) {
  const at::Tensor difference = (measured.to(at::kDouble) - expected).abs();
  return (difference.max() / expected.abs().max()).item<double>();
}

void check(std::int64_t heads, std::int64_t kv_heads, std::int64_t width, const Lengths& lengths) {
  const Case c(heads, kv_heads, width, lengths);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    if (dtype == at::kBFloat16 && !multiplies_bfloat16()) continue;
    const double bound = dtype == at::kFloat ? 1e-4 : 2e-2;
    const at::Tensor qkv = random_rows(c.tokens, c.columns(), dtype, 1);
    const at::Tensor dout = random_rows(c.tokens, c.out_columns(), dtype, 2);
    const Outcome expected = refer(c, qkv, dout);
    for (const std::uint32_t threads : {1u, 2u}) {
      use_threads(threads);
      INFO(heads << " heads, " << kv_heads << " kv heads, width " << width << ", " << lengths.size()
                 << " segments, first " << lengths[0] << ", " << at::toString(dtype) << ", " << threads << " threads");
      const Outcome measured = run(c, qkv, dout);
      CHECK(error(measured.out, expected.out) <= bound);
      CHECK(error(measured.log_sums, expected.log_sums) <= bound);
      std::int64_t column = 0;
      for (const std::int64_t count : {heads, kv_heads, kv_heads}) {  // q, k, v
        const std::int64_t columns = count * width;
        INFO("gradient from column " << column);
        CHECK(error(measured.dqkv.narrow(1, column, columns), expected.dqkv.narrow(1, column, columns)) <= bound);
        column += columns;
      }
    }
  }
}

}  // namespace

TEST_CASE("attention on tiles is that of the definition, whatever the heads") {
  for (const std::int64_t width : {8, 16, 64, 128}) {
    check(2, 2, width, {70});
    check(3, 1, width, {45, 30, 3});
  }
}

TEST_CASE("attention on tiles keeps segments of any length apart") {
  check(3, 1, 16, {1});
  check(3, 1, 16, {32});
  check(6, 2, 16, {1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71});
  check(3, 3, 16, {128, 128, 128, 128});
  check(3, 1, 64, {129, 127, 300, 95});
}

TEST_CASE("attention on tiles rescales where a segment is longer than a block of keys") {
  check(3, 1, 64, {37, 1100, 9});
}

TEST_CASE("attention on tiles holds scores far beyond the range of exp") {
  const Case c(1, 1, 16, {600});
  const at::Tensor qkv = 30 * random_rows(c.tokens, c.columns(), at::kFloat, 3);
  const Outcome measured = run(c, qkv, random_rows(c.tokens, c.out_columns(), at::kFloat, 4));
  CHECK(measured.log_sums.max().item<float>() > 200);
  CHECK(at::isfinite(measured.out).all().item<bool>());
  CHECK(at::isfinite(measured.log_sums).all().item<bool>());
  CHECK(at::isfinite(measured.dqkv).all().item<bool>());
}

TEST_CASE("the gradient of attention is that of finite differences") {
  const Case c(3, 1, 8, {5, 9});
  const at::Tensor qkv = random_rows(c.tokens, c.columns(), at::kFloat, 5);
  const at::Tensor dout = random_rows(c.tokens, c.out_columns(), at::kFloat, 6);
  const Outcome measured = run(c, qkv, dout);
  auto loss = [&](const at::Tensor& x) { return (run(c, x, dout).out.to(at::kDouble) * dout).sum().item<double>(); };
  for (std::uint32_t seed = 7; seed < 12; ++seed) {
    const at::Tensor direction = random_rows(c.tokens, c.columns(), at::kFloat, seed);
    const double difference = (loss(qkv + 1e-3 * direction) - loss(qkv - 1e-3 * direction)) / 2e-3;
    const double expected = (measured.dqkv.to(at::kDouble) * direction).sum().item<double>();
    CHECK(difference == Approx(expected).epsilon(2e-3).margin(2e-2));
  }
}

TEST_CASE("attention gives the same bytes in every run") {
  use_threads(2);
  const Case c(9, 3, 64, {300, 17, 195});
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    if (dtype == at::kBFloat16 && !multiplies_bfloat16()) continue;
    const at::Tensor qkv = random_rows(c.tokens, c.columns(), dtype, 1);
    const at::Tensor dout = random_rows(c.tokens, c.out_columns(), dtype, 2);
    const Outcome first = run(c, qkv, dout);
    for (int i = 0; i < 5; ++i) {
      const Outcome again = run(c, qkv, dout);
      CHECK(at::equal(first.out, again.out));
      CHECK(at::equal(first.log_sums, again.log_sums));
      CHECK(at::equal(first.dqkv, again.dqkv));
    }
  }
}
