#include "core/lora_merge.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "core/result.hpp"

namespace kpool {
namespace {

/// One place's factors in double precision. a: (rank, in), b: (out, rank).
struct Factors {
  at::Tensor a, b;
};

Factors factors(const LoraLayout& layout, const LoraPlace& place, std::span<const float> flat) {
  const auto view = [&](std::int64_t offset, std::int64_t rows, std::int64_t columns) {
    return at::from_blob(const_cast<float*>(flat.data()) + offset, {rows, columns}, at::kFloat).to(at::kDouble);
  };
  return {view(place.a, layout.rank, place.in), view(place.b, place.out, layout.rank)};
}

/// Sum over all entries of (B A) of one times (B A) of the other, by products of rank x rank.
double inner(const Factors& one, const Factors& other) {
  return one.b.t().matmul(other.b).mul(one.a.matmul(other.a.t())).sum().item().toDouble();
}

void store(const at::Tensor& values, std::int64_t offset, std::span<float> flat) {
  at::from_blob(flat.data() + offset, values.sizes(), at::kFloat).copy_(values);
}

}  // namespace

double lora_agreement(const LoraLayout& layout, std::span<const float> a, std::span<const float> b) {
  double both = 0, of_a = 0, of_b = 0;
  for (const LoraPlace& place : layout.places) {
    const Factors one = factors(layout, place, a), other = factors(layout, place, b);
    both += inner(one, other);
    of_a += inner(one, one);
    of_b += inner(other, other);
  }
  return of_a > 0 && of_b > 0 ? both / std::sqrt(of_a * of_b) : 0;
}

double merge_lora(const LoraLayout& layout, std::span<const float> from, double share, std::span<float> into) {
  KPOOL_ASSERT(share >= 0 && share <= 1);
  const double row_length = 1 / std::sqrt(3.0);  // of a new A: uniform within 1 / sqrt(in)
  double all = 0, kept = 0;
  for (const LoraPlace& place : layout.places) {
    const Factors one = factors(layout, place, from), other = factors(layout, place, into);
    const auto [qb, rb] = at::linalg_qr(at::cat({one.b.mul(share), other.b.mul(1 - share)}, 1));
    const auto [qa, ra] = at::linalg_qr(at::cat({one.a, other.a}, 0).t().contiguous());
    const auto [u, s, vh] = at::linalg_svd(rb.matmul(ra.t()), /*full_matrices=*/false);
    const std::int64_t rank = std::min(layout.rank, s.numel());
    const at::Tensor power = s.square();
    all += power.sum().item().toDouble();
    kept += power.narrow(0, 0, rank).sum().item().toDouble();
    const at::Tensor a = at::zeros({layout.rank, place.in}, at::kDouble);
    const at::Tensor b = at::zeros({place.out, layout.rank}, at::kDouble);
    a.narrow(0, 0, rank).copy_(vh.narrow(0, 0, rank).matmul(qa.t()).mul(row_length));
    b.narrow(1, 0, rank).copy_(qb.matmul(u.narrow(1, 0, rank)).mul(s.narrow(0, 0, rank).div(row_length)));
    store(a, place.a, into);
    store(b, place.b, into);
  }
  return all > 0 ? 1 - kept / all : 0;
}

}  // namespace kpool
