#include "core/kernels.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <c10/util/BFloat16.h>

#include <cmath>

#include "core/result.hpp"

namespace kpool {
namespace {

constexpr std::int64_t kRowsPerTask = 16;

template <class F>
void by_type(at::ScalarType dtype, F f) {
  KPOOL_ASSERT(dtype == at::kFloat || dtype == at::kBFloat16);
  if (dtype == at::kFloat) f(float{});
  else f(c10::BFloat16{});
}

template <class T>
void norm_rows(const float* hidden, const T* delta, const float* weight, double epsilon, std::int64_t width,
               std::int64_t first, std::int64_t last, float* sum, float* inverse, T* out) {
  for (std::int64_t i = first; i < last; ++i) {
    const float* h = hidden + i * width;
    float* s = sum + i * width;
    T* o = out + i * width;
    float squares = 0;
    if (delta) {
      const T* d = delta + i * width;
#pragma omp simd reduction(+ : squares)
      for (std::int64_t j = 0; j < width; ++j) {
        s[j] = h[j] + static_cast<float>(d[j]);
        squares += s[j] * s[j];
      }
    } else {
#pragma omp simd reduction(+ : squares)
      for (std::int64_t j = 0; j < width; ++j) squares += h[j] * h[j];
    }
    const double mean = static_cast<double>(squares) / static_cast<double>(width);
    inverse[i] = static_cast<float>(1.0 / std::sqrt(mean + epsilon));
    const float scale = inverse[i];
    const float* in = delta ? s : h;
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) o[j] = static_cast<T>(in[j] * scale * weight[j]);
  }
}

template <class T>
void norm_rows_backward(const T* dout, const float* hidden, const float* inverse, const float* weight,
                        std::int64_t width, std::int64_t first, std::int64_t last, float* gradient) {
  for (std::int64_t i = first; i < last; ++i) {
    const T* d = dout + i * width;
    const float* h = hidden + i * width;
    float* g = gradient + i * width;
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (std::int64_t j = 0; j < width; ++j) dot += static_cast<float>(d[j]) * weight[j] * h[j];
    const float scale = inverse[i];
    const float along = dot * scale * scale * scale / static_cast<float>(width);
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) g[j] += static_cast<float>(d[j]) * weight[j] * scale - along * h[j];
  }
}

}  // namespace

Normed rms_norm(const at::Tensor& hidden, const at::Tensor& delta, const at::Tensor& weight, double epsilon,
                at::ScalarType dtype) {
  KPOOL_ASSERT(hidden.is_contiguous() && (!delta.defined() || (delta.is_contiguous() && delta.scalar_type() == dtype)));
  const std::int64_t tokens = hidden.size(0), width = hidden.size(1);
  Normed normed{delta.defined() ? at::empty_like(hidden) : hidden, at::empty({tokens}, at::kFloat),
                at::empty({tokens, width}, dtype)};
  const float* in = hidden.const_data_ptr<float>();
  const float* w = weight.const_data_ptr<float>();
  float* sum = delta.defined() ? normed.hidden.mutable_data_ptr<float>() : nullptr;
  float* inverse = normed.inverse.mutable_data_ptr<float>();
  by_type(dtype, [&]<class T>(T) {
    const T* d = delta.defined() ? delta.const_data_ptr<T>() : nullptr;
    T* out = normed.out.mutable_data_ptr<T>();
    at::parallel_for(0, tokens, kRowsPerTask, [&](std::int64_t first, std::int64_t last) {
      norm_rows<T>(in, d, w, epsilon, width, first, last, sum, inverse, out);
    });
  });
  return normed;
}

void rms_norm_backward(const at::Tensor& dout, const Normed& normed, const at::Tensor& weight, at::Tensor& gradient) {
  KPOOL_ASSERT(dout.is_contiguous() && gradient.is_contiguous());
  const std::int64_t tokens = dout.size(0), width = dout.size(1);
  const float* h = normed.hidden.const_data_ptr<float>();
  const float* inverse = normed.inverse.const_data_ptr<float>();
  const float* w = weight.const_data_ptr<float>();
  float* g = gradient.mutable_data_ptr<float>();
  by_type(dout.scalar_type(), [&]<class T>(T) {
    const T* d = dout.const_data_ptr<T>();
    at::parallel_for(0, tokens, kRowsPerTask, [&](std::int64_t first, std::int64_t last) {
      norm_rows_backward<T>(d, h, inverse, w, width, first, last, g);
    });
  });
}

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, float scale) {
  const std::int64_t tokens = x.size(0), heads = x.size(1), stride = x.stride(0);
  const std::int64_t width = x.size(2), half = width / 2;
  KPOOL_ASSERT(x.stride(2) == 1 && x.stride(1) == width);
  at::Tensor out = at::empty({heads, tokens, width}, x.scalar_type());
  const float* c = cos.const_data_ptr<float>();
  const float* s = sin.const_data_ptr<float>();
  by_type(x.scalar_type(), [&]<class T>(T) {
    const T* in = x.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, tokens, kRowsPerTask, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t t = first; t < last; ++t)
        for (std::int64_t n = 0; n < heads; ++n) {
          const T* a = in + t * stride + n * width;
          T* o = to + (n * tokens + t) * width;
#pragma omp simd
          for (std::int64_t j = 0; j < half; ++j) {
            const float cj = c[t * half + j] * scale, sj = s[t * half + j] * scale;
            const float low = static_cast<float>(a[j]), high = static_cast<float>(a[j + half]);
            o[j] = static_cast<T>(low * cj - high * sj);
            o[j + half] = static_cast<T>(high * cj + low * sj);
          }
        }
    });
  });
  return out;
}

void rope_backward(const at::Tensor& dy, const at::Tensor& cos, const at::Tensor& sin, float scale, at::Tensor dx) {
  const std::int64_t tokens = dx.size(0), heads = dx.size(1), stride = dx.stride(0);
  const std::int64_t width = dx.size(2), half = width / 2;
  KPOOL_ASSERT(dx.stride(2) == 1 && dx.stride(1) == width && dy.is_contiguous() && dy.scalar_type() == at::kFloat);
  const float* c = cos.const_data_ptr<float>();
  const float* s = sin.const_data_ptr<float>();
  const float* in = dy.const_data_ptr<float>();
  by_type(dx.scalar_type(), [&]<class T>(T) {
    T* to = dx.mutable_data_ptr<T>();
    at::parallel_for(0, tokens, kRowsPerTask, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t t = first; t < last; ++t)
        for (std::int64_t n = 0; n < heads; ++n) {
          const float* d = in + (n * tokens + t) * width;
          T* o = to + t * stride + n * width;
#pragma omp simd
          for (std::int64_t j = 0; j < half; ++j) {
            const float cj = c[t * half + j] * scale, sj = s[t * half + j] * scale;
            o[j] = static_cast<T>(d[j] * cj + d[j + half] * sj);
            o[j + half] = static_cast<T>(d[j + half] * cj - d[j] * sj);
          }
        }
    });
  });
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  const std::int64_t ffn = gate_up.size(1) / 2;
  return at::silu(gate_up.narrow(1, 0, ffn)).mul_(gate_up.narrow(1, ffn, ffn));
}

at::Tensor swiglu_backward(const at::Tensor& dout, const at::Tensor& gate_up) {
  const std::int64_t ffn = gate_up.size(1) / 2;
  const at::Tensor gate = gate_up.narrow(1, 0, ffn), up = gate_up.narrow(1, ffn, ffn);
  at::Tensor gradient = at::empty_like(gate_up);
  at::Tensor dgate = gradient.narrow(1, 0, ffn), dup = gradient.narrow(1, ffn, ffn);
  at::mul_out(dup, dout, at::silu(gate));
  at::silu_backward_out(dgate, at::mul(dout, up), gate);
  return gradient;
}

}  // namespace kpool
