// The elementwise passes of a decoder over whole tensors. Stateless; called on the stage's thread, each splits its rows
// over that thread's libtorch kernel threads. `dtype` is float32 or bfloat16; tensors are contiguous.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/workspace.hpp"

namespace kpool {

/// hidden += delta (if defined); inverse = 1 / root mean square of each row; out = hidden inverse weight.
/// hidden: (tokens, hidden) float32; delta, out: the same, dtype; weight: (hidden) float32; inverse: (tokens) float32.
void add_norm(at::Tensor& hidden, const at::Tensor& delta, const at::Tensor& weight, double epsilon,
              at::Tensor& inverse, at::Tensor& out, Workspace& workspace);

/// The way back: hidden -= delta (if defined), out = what add_norm gave before that delta was added.
void take_norm(at::Tensor& hidden, const at::Tensor& delta, const at::Tensor& weight, const at::Tensor& inverse,
               at::Tensor& out, Workspace& workspace);

/// Adds to gradient, (tokens, hidden) float32, what came through the norm of hidden; rounded: gradient in dtype.
void norm_backward(const at::Tensor& dout, const at::Tensor& hidden, const at::Tensor& inverse,
                   const at::Tensor& weight, at::Tensor& gradient, at::Tensor& rounded, Workspace& workspace);

/// out = silu(gate) up. gate_up: (tokens, 2 ffn) dtype; out: (tokens, ffn).
void swiglu(const at::Tensor& gate_up, at::Tensor& out, Workspace& workspace);

/// dgate_up from dout, and out again. dout, out: (tokens, ffn) dtype; gate_up, dgate_up: (tokens, 2 ffn).
void swiglu_backward(const at::Tensor& dout, const at::Tensor& gate_up, at::Tensor& dgate_up, at::Tensor& out,
                     Workspace& workspace);

}  // namespace kpool
