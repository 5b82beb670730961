// Causal self-attention with grouped key-value heads over a packed batch, forward and backward; no row sees another
// record. Stateless; called on the stage's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

#include "core/base.hpp"
#include "core/batch.hpp"
#include "core/workspace.hpp"

namespace kpool {

/// Rotates q and k of qkv in place (RoPE), q also times 1 / sqrt(head_width).
/// qkv: (tokens, (heads + 2 kv_heads) head_width) dtype.
void rotate(at::Tensor& qkv, const Batch& batch, const BaseShape& shape, Workspace& workspace);

/// qkv: rotated. Writes out, (tokens, heads head_width) dtype, and log_sums, (heads, tokens) float32: the logarithm of
/// each query's sum of exponentials.
void attend(const at::Tensor& qkv, const Batch& batch, const BaseShape& shape, at::Tensor& out, at::Tensor& log_sums,
            Workspace& workspace);

/// dout, out: (tokens, heads head_width) dtype. Writes dqkv, the gradient of the projection's output before rotation.
void attend_backward(const at::Tensor& dout, const at::Tensor& out, const at::Tensor& qkv, const at::Tensor& log_sums,
                     const Batch& batch, const BaseShape& shape, at::Tensor& dqkv, Workspace& workspace);

/// The most that one of these takes of the workspace, in bytes.
std::size_t attention_bytes(const BaseShape& shape, std::int64_t tokens, at::ScalarType dtype, int threads);

}  // namespace kpool
