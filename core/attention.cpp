#include "core/attention.hpp"

#include <ATen/ops/_softmax.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "core/kernels.hpp"

namespace kpool {
namespace {

/// The q, k and v columns of a fused (tokens, (heads + 2 kv) width) tensor, each (tokens, n, width).
struct Parts {
  at::Tensor q, k, v;
};
Parts split(const at::Tensor& qkv, const BaseShape& shape) {
  const std::int64_t tokens = qkv.size(0), width = shape.head_width;
  const at::Tensor heads = qkv.view({tokens, -1, width});
  return {heads.narrow(1, 0, shape.heads), heads.narrow(1, shape.heads, shape.kv_heads),
          heads.narrow(1, shape.heads + shape.kv_heads, shape.kv_heads)};
}

float scale_of(const BaseShape& shape) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_width)));
}

/// Rows of one block, (kv_heads, group * rows, head_width), out of (kv_heads, group, tokens, head_width).
at::Tensor query_rows(const at::Tensor& q, const AttentionBlock& block) {
  return q.narrow(2, block.row, block.rows).reshape({q.size(0), q.size(1) * block.rows, q.size(3)});
}

/// A (tokens, heads * width) tensor's rows of one block, seen as (kv_heads, group, rows, width).
at::Tensor output_rows(const at::Tensor& x, const AttentionBlock& block, const at::Tensor& q) {
  return x.narrow(0, block.row, block.rows).view({block.rows, q.size(0), q.size(1), q.size(3)}).permute({1, 2, 0, 3});
}

at::Tensor probabilities_of(const at::Tensor& q, const at::Tensor& k, const AttentionBlock& block) {
  at::Tensor scores = at::bmm(q, k.narrow(1, block.key, block.keys).transpose(1, 2));
  scores.view({q.size(0), -1, block.rows, block.keys})
      .narrow(3, block.masked, block.keys - block.masked)
      .add_(block.mask);
  return at::_softmax(scores, -1, false);
}

}  // namespace

at::Tensor attend(const at::Tensor& qkv, const Batch& batch, const BaseShape& shape, AttentionTape* tape) {
  const std::int64_t tokens = qkv.size(0), width = shape.head_width;
  const Parts parts = split(qkv, shape);
  AttentionTape local;
  AttentionTape& kept = tape ? *tape : local;
  kept.q = rope(parts.q, batch.cos, batch.sin, scale_of(shape)).view({shape.kv_heads, -1, tokens, width});
  kept.k = rope(parts.k, batch.cos, batch.sin, 1);
  kept.v = parts.v.transpose(0, 1).contiguous();
  at::Tensor out = at::empty({tokens, shape.heads * width}, qkv.scalar_type());
  for (const AttentionBlock& block : batch.blocks) {
    const at::Tensor p = probabilities_of(query_rows(kept.q, block), kept.k, block);
    const at::Tensor mixed = at::bmm(p, kept.v.narrow(1, block.key, block.keys));
    output_rows(out, block, kept.q).copy_(mixed.view({shape.kv_heads, -1, block.rows, width}));
    if (tape) tape->probabilities.push_back(p);
  }
  return out;
}

at::Tensor attend_backward(const at::Tensor& dout, const Batch& batch, const BaseShape& shape,
                           const AttentionTape& tape) {
  const std::int64_t tokens = dout.size(0), width = shape.head_width;
  at::Tensor dq = at::empty({shape.kv_heads, shape.heads / shape.kv_heads, tokens, width}, at::kFloat);
  at::Tensor dk = at::zeros({shape.kv_heads, tokens, width}, at::kFloat);
  at::Tensor dv = at::zeros({shape.kv_heads, tokens, width}, at::kFloat);
  for (std::size_t i = 0; i < batch.blocks.size(); ++i) {
    const AttentionBlock& block = batch.blocks[i];
    const at::Tensor& p = tape.probabilities[i];
    const at::Tensor d = output_rows(dout, block, tape.q).reshape({shape.kv_heads, -1, width});
    const at::Tensor k = tape.k.narrow(1, block.key, block.keys), v = tape.v.narrow(1, block.key, block.keys);
    dv.narrow(1, block.key, block.keys).add_(at::bmm(p.transpose(1, 2), d));
    const at::Tensor dscores = at::_softmax_backward_data(at::bmm(d, v.transpose(1, 2)), p, -1, p.scalar_type());
    dq.narrow(2, block.row, block.rows).copy_(at::bmm(dscores, k).view({shape.kv_heads, -1, block.rows, width}));
    dk.narrow(1, block.key, block.keys).add_(at::bmm(dscores.transpose(1, 2), query_rows(tape.q, block)));
  }
  at::Tensor dqkv = at::empty({tokens, (shape.heads + 2 * shape.kv_heads) * width}, dout.scalar_type());
  const Parts parts = split(dqkv, shape);
  rope_backward(dq.view({shape.heads, tokens, width}), batch.cos, batch.sin, scale_of(shape), parts.q);
  rope_backward(dk, batch.cos, batch.sin, 1, parts.k);
  at::Tensor dv_columns = parts.v;
  dv_columns.copy_(dv.transpose(0, 1));
  return dqkv;
}

}  // namespace kpool
