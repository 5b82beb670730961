// The elementwise passes of a decoder that libtorch's operators would take many sweeps for. Called on
// the stage's thread; each splits its rows over that thread's libtorch kernel threads. `dtype` is
// float32 or bfloat16; sums are float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace kpool {

struct Normed {
  at::Tensor hidden;   ///< (tokens, hidden) float32: the sum that was normed
  at::Tensor inverse;  ///< (tokens) float32: 1 / root mean square
  at::Tensor out;      ///< (tokens, hidden) dtype
};

/// RMSNorm of hidden + delta; delta may be undefined. hidden: (tokens, hidden) float32;
/// delta: the same, dtype; weight: (hidden) float32.
Normed rms_norm(const at::Tensor& hidden, const at::Tensor& delta, const at::Tensor& weight, double epsilon,
                at::ScalarType dtype);

/// Adds the gradient that came through the norm to gradient, (tokens, hidden) float32.
/// dout: (tokens, hidden), float32 or dtype.
void rms_norm_backward(const at::Tensor& dout, const Normed& normed, const at::Tensor& weight, at::Tensor& gradient);

/// Rotates x, a view (tokens, heads, width) whose last two dimensions are contiguous, by the angles in
/// cos and sin, (tokens, width / 2), times `scale`. Returns (heads, tokens, width).
at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, float scale);

/// The transpose of rope: dy (heads, tokens, width) float32 or dtype, into dx, a view like x.
void rope_backward(const at::Tensor& dy, const at::Tensor& cos, const at::Tensor& sin, float scale, at::Tensor dx);

/// silu(gate) * up. gate_up: (tokens, 2 ffn) dtype; returns (tokens, ffn).
at::Tensor swiglu(const at::Tensor& gate_up);

/// dout: (tokens, ffn) dtype; returns the gradient of gate_up, (tokens, 2 ffn).
at::Tensor swiglu_backward(const at::Tensor& dout, const at::Tensor& gate_up);

}  // namespace kpool
