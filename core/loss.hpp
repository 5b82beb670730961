// Cross-entropy over a large vocabulary without its logits: like flash attention (Dao et al. 2022, arXiv 2205.14135)
// with the head's rows as keys and values. Each worker passes over its share of the vocabulary once, with a running
// maximum and sum per row, and adds up exp(logit) times the head's row, which is what the gradient needs.
// Stateless; called on the stage's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

#include "core/frozen_matrix.hpp"
#include "core/workspace.hpp"

namespace kpool {

/// nats: negative log-likelihood of each target, (rows) float32. x: (rows, padded to a multiple of 32; hidden) of the
/// head's dtype; targets: (rows) int64. gradient, where not null, becomes d(mean of nats)/dx, (rows, hidden) float32.
void token_nats(const at::Tensor& x, const FrozenMatrix& head, const at::Tensor& targets, at::Tensor& nats,
                at::Tensor* gradient, Workspace& workspace);

/// The most that it takes of the workspace, in bytes.
std::size_t loss_bytes(const FrozenMatrix& head, std::int64_t rows, bool gradient, int threads);

}  // namespace kpool
