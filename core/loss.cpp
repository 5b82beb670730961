#include "core/loss.hpp"

#include <ATen/ops/_softmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace kpool {
namespace {

constexpr std::int64_t kChunk = 256;        ///< rows of logits that exist at a time
constexpr std::int64_t kPad = 32;           ///< chunks are padded to this, so that oneDNN meets few shapes
constexpr double kSmallest = 1.17549435e-38;  ///< of a normal float32 and bfloat16

/// Rows [first, first + count), padded with zeros.
at::Tensor padded_rows(const at::Tensor& x, std::int64_t first, std::int64_t count) {
  const std::int64_t padded = (count + kPad - 1) / kPad * kPad;
  if (padded == count) return x.narrow(0, first, count);
  at::Tensor out = at::zeros({padded, x.size(1)}, x.scalar_type());
  out.narrow(0, 0, count).copy_(x.narrow(0, first, count));
  return out;
}

}  // namespace

at::Tensor token_nats(const at::Tensor& x, const at::Tensor& head, const at::Tensor& targets, at::Tensor* gradient) {
  const std::int64_t rows = x.size(0);
  at::Tensor nats = at::empty({rows}, at::kFloat);
  if (gradient) *gradient = at::empty({rows, x.size(1)}, at::kFloat);
  for (std::int64_t first = 0; first < rows; first += kChunk) {
    const std::int64_t count = std::min(kChunk, rows - first);
    const at::Tensor target = targets.narrow(0, first, count).unsqueeze(1);
    at::Tensor p = at::_softmax(at::mm(padded_rows(x, first, count), head.t()), -1, false);  // (count, vocabulary)
    at::Tensor counted = p.narrow(0, 0, count);
    const at::Tensor likelihood = counted.gather(1, target);
    nats.narrow(0, first, count).copy_(likelihood.to(at::kFloat).clamp_min(kSmallest).log().neg().squeeze(1));
    if (!gradient) continue;
    counted.scatter_(1, target, likelihood.sub(1));
    gradient->narrow(0, first, count).copy_(at::mm(p, head).narrow(0, 0, count));
  }
  if (gradient && rows > 0) gradient->div_(static_cast<double>(rows));
  return nats;
}

}  // namespace kpool
