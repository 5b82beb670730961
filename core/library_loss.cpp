#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>

#include <algorithm>

#include "core/library.hpp"

namespace kpool::library {
namespace {

constexpr std::int64_t kLogits = 1 << 24;  ///< at once: 64 MiB in float32

}  // namespace

void token_nats(const at::Tensor& x, const FrozenMatrix& head, const at::Tensor& targets, at::Tensor& nats,
                at::Tensor* gradient) {
  const std::int64_t rows = targets.size(0), chunk = std::max<std::int64_t>(32, kLogits / head.rows);
  const at::Tensor weight = head.expanded();
  for (std::int64_t first = 0; first < rows; first += chunk) {
    const std::int64_t count = std::min(chunk, rows - first);
    const at::Tensor target = targets.narrow(0, first, count).unsqueeze(1);
    at::Tensor logits = at::mm(x.narrow(0, first, count), weight.t()).to(at::kFloat);
    const at::Tensor sums = at::logsumexp(logits, {1}, true);
    nats.narrow(0, first, count).copy_((sums - logits.gather(1, target)).squeeze(1));
    if (!gradient) continue;
    logits.sub_(sums).exp_();  // by now probabilities
    logits.scatter_add_(1, target, at::full_like(target, -1, at::kFloat));
    gradient->narrow(0, first, count)
        .copy_(at::mm(logits.to(head.dtype), weight))
        .div_(static_cast<double>(rows));
  }
}

}  // namespace kpool::library
