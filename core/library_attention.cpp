#include <ATen/TensorOperators.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

#include "core/library.hpp"

namespace kpool::library {
namespace {

/// Heads [first, first + count) of a (tokens, heads width) tensor: (count, tokens, width).
at::Tensor heads_of(const at::Tensor& x, const BaseShape& shape, std::int64_t first, std::int64_t count) {
  return x.view({x.size(0), -1, shape.head_width}).narrow(1, first, count).transpose(0, 1);
}

/// Heads of qkv, copied: q (kv_heads, group, tokens, width); k, v (kv_heads, tokens, width).
struct Parts {
  Parts(const at::Tensor& qkv, const BaseShape& shape)
      : q(heads_of(qkv, shape, 0, shape.heads).contiguous().view({shape.kv_heads, -1, qkv.size(0), shape.head_width})),
        k(heads_of(qkv, shape, shape.heads, shape.kv_heads).contiguous()),
        v(heads_of(qkv, shape, shape.heads + shape.kv_heads, shape.kv_heads).contiguous()) {}
  at::Tensor q, k, v;
};

/// x: (tokens, heads, width); cos, sin: (tokens, width / 2). sign -1: the transpose.
void turn(at::Tensor x, const at::Tensor& cos, const at::Tensor& sin, double scale, double sign) {
  const std::int64_t half = x.size(2) / 2;
  const at::Tensor c = cos.unsqueeze(1) * scale, s = sin.unsqueeze(1) * (scale * sign);
  const at::Tensor low = x.narrow(2, 0, half).to(at::kFloat), high = x.narrow(2, half, half).to(at::kFloat);
  x.copy_(at::cat({low * c - high * s, high * c + low * s}, 2));
}

void turn_qk(at::Tensor& qkv, const Batch& batch, const BaseShape& shape, double sign) {
  const at::Tensor heads = qkv.view({qkv.size(0), -1, shape.head_width});
  turn(heads.narrow(1, 0, shape.heads), batch.cos, batch.sin, 1 / std::sqrt(static_cast<double>(shape.head_width)),
       sign);
  turn(heads.narrow(1, shape.heads, shape.kv_heads), batch.cos, batch.sin, 1, sign);
}

/// One block's rows of a (kv_heads, group, tokens, width) tensor: (kv_heads, group * rows, width).
at::Tensor rows_of(const at::Tensor& x, const AttentionBlock& block) {
  return x.narrow(2, block.row, block.rows).reshape({x.size(0), -1, x.size(3)});
}

/// (kv_heads, group, tokens, width) seen from a (tokens, heads width) tensor.
at::Tensor grouped(const at::Tensor& x, const BaseShape& shape) {
  return x.view({x.size(0), shape.kv_heads, -1, shape.head_width}).permute({1, 2, 0, 3});
}

/// (kv_heads, group * rows, keys) float32, masked.
at::Tensor scores_of(const Parts& parts, const AttentionBlock& block) {
  at::Tensor scores =
      at::bmm(rows_of(parts.q, block), parts.k.narrow(1, block.key, block.keys).transpose(1, 2)).to(at::kFloat);
  scores.view({scores.size(0), -1, block.rows, block.keys})
      .narrow(3, block.masked, block.keys - block.masked)
      .add_(block.mask);
  return scores;
}

/// One block's part of log_sums, (heads, tokens), for its rows: (kv_heads, group * rows, 1).
at::Tensor log_sums_of(const at::Tensor& log_sums, const BaseShape& shape, const AttentionBlock& block) {
  return log_sums.narrow(1, block.row, block.rows).reshape({shape.kv_heads, -1, 1});
}

}  // namespace

void rotate(at::Tensor& qkv, const Batch& batch, const BaseShape& shape) { turn_qk(qkv, batch, shape, 1); }

void attend(const at::Tensor& qkv, const Batch& batch, const BaseShape& shape, at::Tensor& out, at::Tensor& log_sums) {
  const Parts parts(qkv, shape);
  for (const AttentionBlock& block : batch.blocks) {
    const at::Tensor scores = scores_of(parts, block);
    const at::Tensor sums = at::logsumexp(scores, {2}, true);
    log_sums.narrow(1, block.row, block.rows).copy_(sums.view({shape.heads, block.rows}));
    const at::Tensor p = at::exp(scores - sums).to(qkv.scalar_type());
    const at::Tensor mixed = at::bmm(p, parts.v.narrow(1, block.key, block.keys));
    grouped(out, shape).narrow(2, block.row, block.rows)
        .copy_(mixed.view({shape.kv_heads, -1, block.rows, shape.head_width}));
  }
}

void attend_backward(const at::Tensor& dout, const at::Tensor& out, const at::Tensor& qkv, const at::Tensor& log_sums,
                     const Batch& batch, const BaseShape& shape, at::Tensor& dqkv) {
  const Parts parts(qkv, shape);
  const at::Tensor d = grouped(dout, shape), mean = (d.to(at::kFloat) * grouped(out, shape)).sum(3, true);
  at::Tensor dq = at::empty_like(parts.q);
  at::Tensor dk = at::zeros_like(parts.k, at::kFloat), dv = at::zeros_like(parts.v, at::kFloat);
  for (const AttentionBlock& block : batch.blocks) {
    const at::Tensor k = parts.k.narrow(1, block.key, block.keys), v = parts.v.narrow(1, block.key, block.keys);
    const at::Tensor p = at::exp(scores_of(parts, block) - log_sums_of(log_sums, shape, block));
    const at::Tensor g = rows_of(d, block);
    dv.narrow(1, block.key, block.keys).add_(at::bmm(p.to(g.scalar_type()).transpose(1, 2), g));
    const at::Tensor dp = at::bmm(g, v.transpose(1, 2)).to(at::kFloat);
    const at::Tensor dscores = (p * (dp - rows_of(mean, block))).to(g.scalar_type());
    dq.narrow(2, block.row, block.rows)
        .copy_(at::bmm(dscores, k).view({shape.kv_heads, -1, block.rows, shape.head_width}));
    dk.narrow(1, block.key, block.keys).add_(at::bmm(dscores.transpose(1, 2), rows_of(parts.q, block)));
  }
  at::Tensor heads = dqkv.view({dqkv.size(0), -1, shape.head_width});
  heads.narrow(1, 0, shape.heads).copy_(dq.view({shape.heads, -1, shape.head_width}).transpose(0, 1));
  heads.narrow(1, shape.heads, shape.kv_heads).copy_(dk.transpose(0, 1));
  heads.narrow(1, shape.heads + shape.kv_heads, shape.kv_heads).copy_(dv.transpose(0, 1));
  turn_qk(dqkv, batch, shape, -1);
}

}  // namespace kpool::library
