// Causal self-attention with grouped key-value heads over a packed batch, on tiles: neither pass holds more scores than
// those of one block of queries and keys, and neither computes a block that no query sees. Stateless; called on the
// stage's thread, runs on that thread's libtorch threads. dtype is float32, or bfloat16 where multiplies_bfloat16().
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

#include "core/base.hpp"
#include "core/batch.hpp"
#include "core/workspace.hpp"

namespace kpool::tiles {

/// Rotates q and k of qkv in place (RoPE), q also times 1 / sqrt(head_width).
/// qkv: (tokens, (heads + 2 kv_heads) head_width) dtype, contiguous; q, then k, then v.
void rotate(at::Tensor& qkv, const Batch& batch, const BaseShape& shape);

/// qkv: rotated. out: (tokens, heads head_width) dtype. log_sums: (heads, tokens) float32, the logarithm of each
/// query's sum of exponentials. Both are overwritten.
void attend(const at::Tensor& qkv, const Batch& batch, const BaseShape& shape, at::Tensor& out, at::Tensor& log_sums,
            Workspace& workspace);

/// dout, out: (tokens, heads head_width) dtype; qkv: rotated; log_sums as attend left them.
/// dqkv: (tokens, (heads + 2 kv_heads) head_width) dtype, overwritten: the gradient before the rotation.
/// The same bytes in every run with the same number of threads.
void attend_backward(const at::Tensor& dout, const at::Tensor& out, const at::Tensor& qkv, const at::Tensor& log_sums,
                     const Batch& batch, const BaseShape& shape, at::Tensor& dqkv, Workspace& workspace);

/// The most that attend or attend_backward take of the workspace.
std::size_t attention_bytes(const BaseShape& shape, std::int64_t tokens, at::ScalarType dtype, int threads);

}  // namespace kpool::tiles
