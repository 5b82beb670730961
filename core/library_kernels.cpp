#include <ATen/TensorOperators.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>

#include "core/library.hpp"

namespace kpool::library {
namespace {

at::Tensor wide(const at::Tensor& x) { return x.to(at::kFloat); }

/// The halves of a (tokens, 2 ffn) tensor in float32.
struct Halves {
  explicit Halves(const at::Tensor& gate_up)
      : gate(wide(gate_up.narrow(1, 0, gate_up.size(1) / 2))),
        up(wide(gate_up.narrow(1, gate_up.size(1) / 2, gate_up.size(1) / 2))) {}
  at::Tensor gate, up;
};

}  // namespace

void add_norm(at::Tensor& hidden, const at::Tensor& delta, const at::Tensor& weight, double epsilon,
              at::Tensor& inverse, at::Tensor& out) {
  if (delta.defined()) hidden.add_(delta);
  inverse.copy_(at::rsqrt((hidden * hidden).mean(1) + epsilon));
  out.copy_(hidden * inverse.unsqueeze(1) * weight);
}

void take_norm(at::Tensor& hidden, const at::Tensor& delta, const at::Tensor& weight, const at::Tensor& inverse,
               at::Tensor& out) {
  if (delta.defined()) hidden.sub_(delta);
  out.copy_(hidden * inverse.unsqueeze(1) * weight);
}

void norm_backward(const at::Tensor& dout, const at::Tensor& hidden, const at::Tensor& inverse,
                   const at::Tensor& weight, at::Tensor& gradient, at::Tensor& rounded) {
  const at::Tensor scaled = wide(dout) * weight, scale = inverse.unsqueeze(1);
  const at::Tensor along = (scaled * hidden).mean(1, true) * scale * scale * scale;
  gradient.add_(scaled * scale - along * hidden);
  rounded.copy_(gradient);
}

void swiglu(const at::Tensor& gate_up, at::Tensor& out) {
  const Halves in(gate_up);
  out.copy_(at::silu(in.gate) * in.up);
}

void swiglu_backward(const at::Tensor& dout, const at::Tensor& gate_up, at::Tensor& dgate_up, at::Tensor& out) {
  const Halves in(gate_up);
  const std::int64_t ffn = out.size(1);
  const at::Tensor d = wide(dout), s = at::sigmoid(in.gate), silu = in.gate * s;
  dgate_up.narrow(1, 0, ffn).copy_(d * in.up * (s + silu * (1 - s)));
  dgate_up.narrow(1, ffn, ffn).copy_(d * silu);
  out.copy_(silu * in.up);
}

}  // namespace kpool::library
