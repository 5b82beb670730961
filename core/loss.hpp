// Cross-entropy over a large vocabulary, in chunks of rows: never a full (tokens, vocabulary) tensor.
// Stateless; called on the stage's thread.
#pragma once

#include <ATen/core/Tensor.h>

namespace kpool {

/// Negative log-likelihood of each target in nats, (rows) float32; one token's is capped at 87 nats,
/// where a probability underflows. x: (rows, hidden) dtype; head: (vocabulary, hidden) dtype;
/// targets: (rows) int64. gradient, where not null, becomes d(mean of the result)/dx, (rows, hidden) float32.
at::Tensor token_nats(const at::Tensor& x, const at::Tensor& head, const at::Tensor& targets, at::Tensor* gradient);

}  // namespace kpool
