#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "core/library.hpp"

namespace kpool::library {

void bend(const Linear& linear, const at::Tensor& in, at::Tensor& bent) {
  at::mm_out(bent, in, linear.lora->a.t());
  bent.mul_(linear.scale);
}

void project(const Linear& linear, const at::Tensor& in, at::Tensor& bent, at::Tensor& out) {
  const at::Tensor turned = linear.weight.expanded().t();
  if (linear.bias) at::addmm_out(out, *linear.bias, in, turned);
  else at::mm_out(out, in, turned);
  if (!linear.lora) return;
  bend(linear, in, bent);
  out.addmm_(bent, linear.lora->b.t());
}

void project_backward(const Linear& linear, const at::Tensor& bent, const at::Tensor& dout, at::Tensor& dbent,
                      at::Tensor* din, const GradientSink& sink) {
  store_b_gradient(sink.layout, sink.group, at::mm(dout.t(), bent).to(at::kCPU), sink.flat);
  at::mm_out(dbent, dout, linear.lora->b);
  dbent.mul_(linear.scale);
  if (!din) return;
  at::mm_out(*din, dout, linear.weight.expanded());
  din->addmm_(dbent, linear.lora->a);
}

void a_gradient(const at::Tensor& in, const at::Tensor& dbent, const GradientSink& sink) {
  store_a_gradient(sink.layout, sink.group, at::mm(dbent.t(), in).to(at::kCPU), sink.flat);
}

}  // namespace kpool::library
