// The decoder's operations in libtorch's operators alone: for devices that the tiles do not run on (CUDA), for
// processors without tiles of the base's precision, and as the reference that the tiles are tested against. Each has
// the contract of its namesake in namespace kpool. Stateless; called on the stage's thread.
#pragma once

#include "core/attention.hpp"
#include "core/linear.hpp"

namespace kpool::library {

void project(const Linear& linear, const at::Tensor& in, at::Tensor& bent, at::Tensor& out);
void bend(const Linear& linear, const at::Tensor& in, at::Tensor& bent);
/// Copies the gradient of one group to the host, as a_gradient does: each waits for the device.
void project_backward(const Linear& linear, const at::Tensor& bent, const at::Tensor& dout, at::Tensor& dbent,
                      at::Tensor* din, const GradientSink& sink);
void a_gradient(const at::Tensor& in, const at::Tensor& dbent, const GradientSink& sink);

void rotate(at::Tensor& qkv, const Batch& batch, const BaseShape& shape);
void attend(const at::Tensor& qkv, const Batch& batch, const BaseShape& shape, at::Tensor& out, at::Tensor& log_sums);
void attend_backward(const at::Tensor& dout, const at::Tensor& out, const at::Tensor& qkv, const at::Tensor& log_sums,
                     const Batch& batch, const BaseShape& shape, at::Tensor& dqkv);

void add_norm(at::Tensor& hidden, const at::Tensor& delta, const at::Tensor& weight, double epsilon,
              at::Tensor& inverse, at::Tensor& out);
void take_norm(at::Tensor& hidden, const at::Tensor& delta, const at::Tensor& weight, const at::Tensor& inverse,
               at::Tensor& out);
void norm_backward(const at::Tensor& dout, const at::Tensor& hidden, const at::Tensor& inverse,
                   const at::Tensor& weight, at::Tensor& gradient, at::Tensor& rounded);
void swiglu(const at::Tensor& gate_up, at::Tensor& out);
void swiglu_backward(const at::Tensor& dout, const at::Tensor& gate_up, at::Tensor& dgate_up, at::Tensor& out);

/// By chunks of rows: never all rows times the vocabulary at once.
void token_nats(const at::Tensor& x, const FrozenMatrix& head, const at::Tensor& targets, at::Tensor& nats,
                at::Tensor* gradient);

}  // namespace kpool::library
