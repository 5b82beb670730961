// The decoder's operations in libtorch's operators alone: for devices that the tiles do not run on (CUDA), and as the
// reference that the tiles are tested against. Each has the contract of its namesake in namespace kpool.
// Stateless; called on the stage's thread.
#pragma once

#include "core/attention.hpp"
#include "core/linear.hpp"

namespace kpool::library {

void rotate(at::Tensor& qkv, const Batch& batch, const BaseShape& shape);
void attend(const at::Tensor& qkv, const Batch& batch, const BaseShape& shape, at::Tensor& out, at::Tensor& log_sums);
void attend_backward(const at::Tensor& dout, const at::Tensor& out, const at::Tensor& qkv, const at::Tensor& log_sums,
                     const Batch& batch, const BaseShape& shape, at::Tensor& dqkv);

}  // namespace kpool::library
