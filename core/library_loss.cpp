#include <ATen/TensorOperators.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>

#include <algorithm>

#include "core/library.hpp"

namespace kpool::library {

void token_nats(const at::Tensor& x, const FrozenMatrix& head, const at::Tensor& targets, at::Tensor& nats,
                at::Tensor* gradient) {
  constexpr std::int64_t kRows = 256;  // whose logits exist at a time
  const std::int64_t rows = targets.size(0);
  const at::Tensor weight = head.expanded();
  for (std::int64_t first = 0; first < rows; first += kRows) {
    const std::int64_t count = std::min(kRows, rows - first);
    const at::Tensor target = targets.narrow(0, first, count).unsqueeze(1);
    const at::Tensor logits = at::mm(x.narrow(0, first, count), weight.t()).to(at::kFloat);
    const at::Tensor sums = at::logsumexp(logits, {1}, true);
    nats.narrow(0, first, count).copy_((sums - logits.gather(1, target)).squeeze(1));
    if (!gradient) continue;
    at::Tensor p = at::exp(logits - sums);
    p.scatter_add_(1, target, at::ones_like(target, at::kFloat).neg_());
    gradient->narrow(0, first, count)
        .copy_(at::mm(p.to(weight.scalar_type()), weight).to(at::kFloat) / static_cast<double>(rows));
  }
}

}  // namespace kpool::library
