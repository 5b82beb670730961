// Causal self-attention with grouped key-value heads over a packed batch, forward and backward, as
// plain batched GEMMs per block of queries. Stateless; called on the stage's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "core/base.hpp"
#include "core/batch.hpp"

namespace kpool {

/// What the backward pass needs again; group = heads / kv_heads.
struct AttentionTape {
  at::Tensor q;  ///< (kv_heads, group, tokens, head_width) dtype, rotated and scaled by 1 / sqrt(head_width)
  at::Tensor k;  ///< (kv_heads, tokens, head_width) dtype, rotated
  at::Tensor v;  ///< (kv_heads, tokens, head_width) dtype
  std::vector<at::Tensor> probabilities;  ///< per block: (kv_heads, group * rows, keys) dtype
};

/// qkv: (tokens, (heads + 2 kv_heads) head_width) dtype. Returns (tokens, heads head_width).
/// tape may be null.
at::Tensor attend(const at::Tensor& qkv, const Batch& batch, const BaseShape& shape, AttentionTape* tape);

/// dout: (tokens, heads head_width) dtype. Returns the gradient of qkv.
at::Tensor attend_backward(const at::Tensor& dout, const Batch& batch, const BaseShape& shape,
                           const AttentionTape& tape);

}  // namespace kpool
