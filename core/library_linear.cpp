#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include "core/library.hpp"

namespace kpool::library {

void bend(const Linear& linear, const at::Tensor& in, at::Tensor& bent) {
  bent.copy_(at::mm(in, linear.lora->a.t()) * linear.scale);
}

void project(const Linear& linear, const at::Tensor& in, at::Tensor& bent, at::Tensor& out) {
  const at::Tensor weight = linear.weight.expanded();
  at::Tensor y = at::linear(in, weight, linear.bias ? std::optional(*linear.bias) : std::nullopt);
  if (linear.lora) {
    bend(linear, in, bent);
    y.addmm_(bent, linear.lora->b.t());
  }
  out.copy_(y);
}

void project_backward(const Linear& linear, const at::Tensor& bent, const at::Tensor& dout, at::Tensor& dbent,
                      at::Tensor* din, const GradientSink& sink) {
  store_b_gradient(sink.layout, sink.group, at::mm(dout.t(), bent).to(at::kCPU), sink.flat);
  dbent.copy_(at::mm(dout, linear.lora->b) * linear.scale);
  if (!din) return;
  at::Tensor dx = at::mm(dout, linear.weight.expanded());
  dx.addmm_(dbent, linear.lora->a);
  din->copy_(dx);
}

void a_gradient(const at::Tensor& in, const at::Tensor& dbent, const GradientSink& sink) {
  store_a_gradient(sink.layout, sink.group, at::mm(dbent.t(), in).to(at::kCPU), sink.flat);
}

}  // namespace kpool::library
