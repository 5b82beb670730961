// The row kernels of a set, with T = float or Bf16; RowKernels in kernels.hpp says what each computes.
// Included after one of the vector_*.hpp, and compiled once for each set.
#pragma once

#include "core/simd/loops.hpp"

namespace kpool::simd {
namespace {

template <class T>
void normed(const float* sum, float inverse, const float* weight, std::int64_t width, T* out) {
  each(width, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    store(out + i, load(sum + i, lanes) * inverse * load(weight + i, lanes), lanes);
  });
}

template <class T>
float norm(const float* hidden, const T* delta, const float* weight, double epsilon, std::int64_t width, float* sum,
           T* out) {
  Accumulators squares;
  if (delta) {
    squares = reduce(width, V{}, [&](std::int64_t i, auto lanes, V& s) __attribute__((always_inline)) {
      const V x = load(hidden + i, lanes) + load(delta + i, lanes);
      store(sum + i, x, lanes);
      s += x * x;
    });
  } else {
    squares = reduce(width, V{}, [&](std::int64_t i, auto lanes, V& s) __attribute__((always_inline)) {
      const V x = load(hidden + i, lanes);
      s += x * x;
    });
  }
  const auto inverse = float(1 / __builtin_sqrt(double(total(squares)) / double(width) + epsilon));
  normed(delta ? sum : hidden, inverse, weight, width, out);
  return inverse;
}

/// With g = dout weight: gradient += inverse g - sum inverse^3 mean(g sum).
template <class T>
void norm_backward(const T* dout, const float* sum, float inverse, const float* weight, std::int64_t width,
                   float* gradient) {
  const float along = total(reduce(width, V{}, [&](std::int64_t i, auto lanes, V& s) __attribute__((always_inline)) {
    s += load(dout + i, lanes) * load(weight + i, lanes) * load(sum + i, lanes);
  }));
  const float back = inverse * inverse * inverse * along / float(width);
  each(width, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    const V straight = load(dout + i, lanes) * load(weight + i, lanes) * inverse;
    store(gradient + i, load(gradient + i, lanes) + straight - load(sum + i, lanes) * back, lanes);
  });
}

template <class T>
void rotate(T* x, const float* cos, const float* sin, std::int64_t half, float scale) {
  each(half, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    const V a = load(x + i, lanes), b = load(x + half + i, lanes), c = load(cos + i, lanes), s = load(sin + i, lanes);
    store(x + i, (a * c - b * s) * scale, lanes);
    store(x + half + i, (b * c + a * s) * scale, lanes);
  });
}

template <class T>
void unrotate(const float* dy, const float* cos, const float* sin, std::int64_t half, float scale, T* dx) {
  each(half, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    const V a = load(dy + i, lanes), b = load(dy + half + i, lanes), c = load(cos + i, lanes), s = load(sin + i, lanes);
    store(dx + i, (a * c + b * s) * scale, lanes);
    store(dx + half + i, (b * c - a * s) * scale, lanes);
  });
}

template <class T>
void swiglu(const T* gate, const T* up, std::int64_t n, T* out) {
  each(n, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    const V g = load(gate + i, lanes);
    store(out + i, g * sigmoid<T>(g) * load(up + i, lanes), lanes);
  });
}

template <class T>
void swiglu_backward(const T* dout, const T* gate, const T* up, std::int64_t n, T* dgate, T* dup, T* out) {
  each(n, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    const V d = load(dout + i, lanes), g = load(gate + i, lanes), u = load(up + i, lanes);
    const V s = sigmoid<T>(g), silu = g * s;
    store(dgate + i, d * u * (s + silu * (1.0f - s)), lanes);
    store(dup + i, d * silu, lanes);
    store(out + i, silu * u, lanes);
  });
}

template <class T>
void from_float(const float* in, std::int64_t n, T* out) {
  each(n, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    store(out + i, load(in + i, lanes), lanes);
  });
}

template <class T>
void scaled(const float* in, std::int64_t n, float factor, T* out) {
  each(n, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    store(out + i, load(in + i, lanes) * factor, lanes);
  });
}

template <class T>
void scaled_panels(const float* in, std::int64_t panel_stride, std::int64_t rows, std::int64_t columns, float factor,
                   T* out, std::int64_t out_stride) {
  for (std::int64_t r = 0; r < rows; ++r, in += kPanel, out += out_stride) {
    const float* panel = in;
    for (std::int64_t c = 0; c < columns; c += kPanel, panel += panel_stride) {
      each(columns - c < kPanel ? columns - c : kPanel, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
        store(out + c + i, load(panel + i, lanes) * factor, lanes);
      });
    }
  }
}

template <class T>
void to_float(const T* in, std::int64_t n, float* out) {
  each(n, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    store(out + i, load(in + i, lanes), lanes);
  });
}

template <class T>
void add_to_float(const T* in, std::int64_t n, float* sum) {
  each(n, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    store(sum + i, load(sum + i, lanes) + load(in + i, lanes), lanes);
  });
}

template <class T>
void take_from_float(const T* in, std::int64_t n, float* sum) {
  each(n, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    store(sum + i, load(sum + i, lanes) - load(in + i, lanes), lanes);
  });
}

inline float dot(const float* a, const float* b, std::int64_t n) {
  return total(reduce(n, V{}, [&](std::int64_t i, auto lanes, V& s) __attribute__((always_inline)) {
    s += load(a + i, lanes) * load(b + i, lanes);
  }));
}

inline float dot(const Bf16* a, const Bf16* b, std::int64_t n) {
  V even{}, odd{};
  std::int64_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
    even = dot_pairs(a + i, b + i, even);
    odd = dot_pairs(a + i + 2 * kWidth, b + i + 2 * kWidth, odd);
  }
  each(n - i, [&](std::int64_t k, auto lanes) __attribute__((always_inline)) {
    even += load(a + i + k, lanes) * load(b + i + k, lanes);
  });
  return total(even + odd);
}

template <class T>
float exponentials(const float* x, std::int64_t n, float shift, float factor, T* out) {
  V sum{};
  each(n, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    const V p = exponential<T>(load(x + i, lanes), shift) * factor;
    store(out + i, p, lanes);
    sum += inside(p, lanes);
  });
  return total(sum);
}

/// One vector of two rows.
template <class T>
struct TwoRows {
  V p[2], dx[2];
};
template <class T>
KPOOL_INLINE TwoRows<T> softmax_backward_pair(const float* x, const float* dp, const float* shift, const float* mean) {
  TwoRows<T> out;
  for (int k = 0; k < 2; ++k) {
    out.p[k] = exponential<T>(load(x + k * kPanel, Full{}), shift[k]);
    out.dx[k] = out.p[k] * (load(dp + k * kPanel, Full{}) - mean[k]);
  }
  return out;
}

inline void softmax_backward(const float* x, const float* dp, std::int64_t rows, const float* shift, const float* mean,
                             float* p, float* packed_dx, float* dx, std::int64_t stride) {
  for (std::int64_t i = 0; i < rows; i += 2) {
    for (std::int64_t c = 0; c < kPanel; c += kWidth) {
      const std::int64_t place = i * kPanel + c;
      const TwoRows<float> two = softmax_backward_pair<float>(x + place, dp + place, shift + i, mean + i);
      for (int k = 0; k < 2; ++k) {
        store(p + place + k * kPanel, two.p[k], Full{});
        store(packed_dx + place + k * kPanel, two.dx[k], Full{});
        store(dx + (i + k) * stride + c, two.dx[k], Full{});
      }
    }
  }
}

inline void softmax_backward(const float* x, const float* dp, std::int64_t rows, const float* shift, const float* mean,
                             Bf16* p, Bf16* packed_dx, Bf16* dx, std::int64_t stride) {
  for (std::int64_t i = 0; i < rows; i += 2) {
    for (std::int64_t c = 0; c < kPanel; c += kWidth) {
      const std::int64_t place = i * kPanel + c;
      const TwoRows<Bf16> two = softmax_backward_pair<Bf16>(x + place, dp + place, shift + i, mean + i);
      store_pairs(p + i * kPanel + 2 * c, two.p[0], two.p[1]);
      store_pairs(packed_dx + i * kPanel + 2 * c, two.dx[0], two.dx[1]);
      store(dx + i * stride + c, two.dx[0], Full{});
      store(dx + (i + 1) * stride + c, two.dx[1], Full{});
    }
  }
}

}  // namespace
}  // namespace kpool::simd
