#include "core/kernels.hpp"

#include <ATen/Parallel.h>

#include "core/library.hpp"
#include "core/tiles.hpp"

namespace kpool {
namespace {

constexpr std::int64_t kRowsPerTask = 16;

template <class F>
void each_row(std::int64_t rows, F f) {
  at::parallel_for(0, rows, kRowsPerTask, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) f(i);
  });
}

}  // namespace

void add_norm(at::Tensor& hidden, const at::Tensor& delta, const at::Tensor& weight, double epsilon,
              at::Tensor& inverse, at::Tensor& out, Workspace& workspace) {
  if (workspace.operators() == Operators::library)
    return library::add_norm(hidden, delta, weight, epsilon, inverse, out);
  workspace.enter(Section::elementwise);
  by_type(out.scalar_type(), [&]<class T>(T) {
    const std::int64_t width = hidden.size(1);
    float* h = data<float>(hidden);
    const T* d = delta.defined() ? data<T>(delta) : nullptr;
    const float* w = data<float>(weight);
    float* inv = data<float>(inverse);
    T* o = data<T>(out);
    each_row(hidden.size(0), [&](std::int64_t i) {
      float* row = h + i * width;
      inv[i] = simd::rows<T>().norm(row, d ? d + i * width : nullptr, w, epsilon, width, row, o + i * width);
    });
  });
}

void take_norm(at::Tensor& hidden, const at::Tensor& delta, const at::Tensor& weight, const at::Tensor& inverse,
               at::Tensor& out, Workspace& workspace) {
  if (workspace.operators() == Operators::library) return library::take_norm(hidden, delta, weight, inverse, out);
  workspace.enter(Section::elementwise);
  by_type(out.scalar_type(), [&]<class T>(T) {
    const std::int64_t width = hidden.size(1);
    float* h = data<float>(hidden);
    const T* d = delta.defined() ? data<T>(delta) : nullptr;
    const float *w = data<float>(weight), *inv = data<float>(inverse);
    T* o = data<T>(out);
    each_row(hidden.size(0), [&](std::int64_t i) {
      float* row = h + i * width;
      if (d) simd::rows<T>().take_from_float(d + i * width, width, row);
      simd::rows<T>().normed(row, inv[i], w, width, o + i * width);
    });
  });
}

void norm_backward(const at::Tensor& dout, const at::Tensor& hidden, const at::Tensor& inverse,
                   const at::Tensor& weight, at::Tensor& gradient, at::Tensor& rounded, Workspace& workspace) {
  if (workspace.operators() == Operators::library)
    return library::norm_backward(dout, hidden, inverse, weight, gradient, rounded);
  workspace.enter(Section::elementwise);
  by_type(dout.scalar_type(), [&]<class T>(T) {
    const std::int64_t width = hidden.size(1);
    const T* d = data<T>(dout);
    const float *h = data<float>(hidden), *inv = data<float>(inverse), *w = data<float>(weight);
    float* g = data<float>(gradient);
    T* r = data<T>(rounded);
    each_row(hidden.size(0), [&](std::int64_t i) {
      const std::int64_t at = i * width;
      simd::rows<T>().norm_backward(d + at, h + at, inv[i], w, width, g + at);
      simd::rows<T>().from_float(g + at, width, r + at);
    });
  });
}

void swiglu(const at::Tensor& gate_up, at::Tensor& out, Workspace& workspace) {
  if (workspace.operators() == Operators::library) return library::swiglu(gate_up, out);
  workspace.enter(Section::elementwise);
  by_type(out.scalar_type(), [&]<class T>(T) {
    const std::int64_t ffn = out.size(1);
    const T* in = data<T>(gate_up);
    T* o = data<T>(out);
    each_row(out.size(0), [&](std::int64_t i) {
      const T* gate = in + i * 2 * ffn;
      simd::rows<T>().swiglu(gate, gate + ffn, ffn, o + i * ffn);
    });
  });
}

void swiglu_backward(const at::Tensor& dout, const at::Tensor& gate_up, at::Tensor& dgate_up, at::Tensor& out,
                     Workspace& workspace) {
  if (workspace.operators() == Operators::library) return library::swiglu_backward(dout, gate_up, dgate_up, out);
  workspace.enter(Section::elementwise);
  by_type(out.scalar_type(), [&]<class T>(T) {
    const std::int64_t ffn = out.size(1);
    const T *d = data<T>(dout), *in = data<T>(gate_up);
    T *din = data<T>(dgate_up), *o = data<T>(out);
    each_row(out.size(0), [&](std::int64_t i) {
      const T* gate = in + i * 2 * ffn;
      T* dgate = din + i * 2 * ffn;
      simd::rows<T>().swiglu_backward(d + i * ffn, gate, gate + ffn, ffn, dgate, dgate + ffn, o + i * ffn);
    });
  });
}

}  // namespace kpool
