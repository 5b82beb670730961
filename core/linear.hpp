// A frozen linear and the adapter beside it (LoRA, Hu et al. 2021): y = x W^T + b + scale (x A^T) B^T, forward and
// backward. The frozen matrix has no gradient. Stateless; called on the stage's thread, which splits the
// work over its libtorch kernel threads: each packs panels of the matrix and multiplies them while they are in its
// cache.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <span>

#include "core/frozen_matrix.hpp"
#include "core/int8_matrix.hpp"
#include "core/lora.hpp"
#include "core/workspace.hpp"

namespace kpool {

struct Linear {
  const FrozenMatrix& weight;  ///< (out, in)
  const at::Tensor* bias;      ///< (out) dtype, or null
  const LoraMatrices* lora;    ///< or null
  double scale;                ///< of the adapter
  bool int8 = false;           ///< forward in 8-bit integers but for the adapter's part, where tiles compute
  const Int8Matrix* kept = nullptr;  ///< the same with the weight as it was rounded once, without an adapter; or null
};

/// in: (tokens, in) dtype. Writes out, (tokens, out) dtype, and, where there is an adapter, bent = scale in A^T,
/// (tokens, width) dtype.
void project(const Linear& linear, const at::Tensor& in, at::Tensor& bent, at::Tensor& out, Workspace& workspace);

/// The same for gate and up, and the SwiGLU (Shazeer 2020) of each tile while it is in the cache:
/// gated = silu(gate) up, (tokens, ffn) dtype. gate_up: (tokens, 2 ffn).
void project_gated(const Linear& linear, const at::Tensor& in, at::Tensor& bent, at::Tensor& gate_up,
                   at::Tensor& gated, Workspace& workspace);

/// The adapter's part of that alone: bent.
void bend(const Linear& linear, const at::Tensor& in, at::Tensor& bent, Workspace& workspace);

/// Where the gradient of one group of linears goes, in the flat order of the layout.
struct GradientSink {
  const LoraLayout& layout;
  const LoraGroup& group;
  std::span<float> flat;  ///< (layout.size)
};

/// dout: (tokens, out) dtype. Writes dbent = scale dout B, (tokens, width) dtype, the gradient of B to the sink, and
/// din, (tokens, in) dtype, unless it is null.
void project_backward(const Linear& linear, const at::Tensor& bent, const at::Tensor& dout, at::Tensor& dbent,
                      at::Tensor* din, const GradientSink& sink, Workspace& workspace);

/// The same where the linear's input is a SwiGLU, whose gradient is taken of each tile: writes dgate_up,
/// (tokens, 2 ffn), in place of din, and gated again, (tokens, ffn).
void project_gated_backward(const Linear& linear, const at::Tensor& bent, const at::Tensor& dout, at::Tensor& dbent,
                            const at::Tensor& gate_up, at::Tensor& dgate_up, at::Tensor& gated,
                            const GradientSink& sink, Workspace& workspace);

/// The gradient of A, dbent^T in, to the sink. in: (tokens, in) dtype.
void a_gradient(const at::Tensor& in, const at::Tensor& dbent, const GradientSink& sink, Workspace& workspace);

/// The most that one of these takes of the workspace, in bytes. width: of the adapter (LoraMatrices), or 0.
std::size_t linear_bytes(const FrozenMatrix& weight, std::int64_t width, std::int64_t tokens, int threads);

}  // namespace kpool
