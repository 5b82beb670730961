// Puts one set together: included last by the .cpp of each, after the vectors of theirs.
#pragma once

#include "core/simd/int8_kernels.hpp"
#include "core/simd/pack_kernels.hpp"
#include "core/simd/row_kernels.hpp"
#include "core/simd/sets.hpp"

namespace kpool::simd {
namespace {

inline float maximum(const float* x, std::int64_t n) {
  const V start = broadcast(-__builtin_inff());
  const Accumulators m = reduce(n, start, [&](std::int64_t i, auto lanes, V& m) __attribute__((always_inline)) {
    m = at_least(inside(load(x + i, lanes), lanes, -__builtin_inff()), m);
  });
  return largest(at_least(at_least(m.a, m.b), at_least(m.c, m.d)));
}

constexpr std::int64_t kAhead = 1024;  // elements: a page, where the processor's own prefetching stops

/// Bound by memory: its three streams are fetched ahead, which takes a quarter off its time. Addresses past the end do
/// no harm.
template <class M>
void signum(float* weights, M* momentum, const float* gradient, std::int64_t n, const SignumFactors& factors) {
  const auto [beta, fresh, keep, eta, dead] = factors;
  // |m| = 0 moves nothing even without a dead zone; a NaN neither.
  const V least = broadcast(dead > 0 ? dead : __FLT_DENORM_MIN__);
  const I sign = (I)broadcast(-0.0f), step = (I)broadcast(eta);
  each(n, [&](std::int64_t i, auto lanes) __attribute__((always_inline)) {
    __builtin_prefetch(weights + i + kAhead, 1);
    __builtin_prefetch(momentum + i + kAhead, 1);
    __builtin_prefetch(gradient + i + kAhead, 0);
    const V next = load(momentum + i, lanes) * beta + load(gradient + i, lanes) * fresh;
    const V move = only_from((V)((I)next & ~sign), least, (V)(((I)next & sign) | step));
    store(momentum + i, next, lanes);
    store(weights + i, load(weights + i, lanes) * keep - move, lanes);
  });
}

/// Zero times a NaN or an infinity is a NaN, which no sum loses.
inline bool finite(const float* x, std::int64_t n) {
  const float nothing = total(reduce(n, V{}, [&](std::int64_t i, auto lanes, V& s) __attribute__((always_inline)) {
    s += load(x + i, lanes) * 0.0f;
  }));
  return nothing == 0;
}

template <class T>
constexpr RowKernels<T> row_kernels() {
  return {norm<T>,         normed<T>,    norm_backward<T>, rotate<T>,        unrotate<T>,     swiglu<T>,
          swiglu_backward<T>, from_float<T>, scaled<T>,     scaled_panels<T>, to_float<T>,     add_to_float<T>,
          take_from_float<T>, dot,        exponentials<T>,  softmax_backward, pack_rows,       pack_columns,
          turn_panel,      transpose,    quantise<T>,      pack_int8<T>};
}

constexpr Kernels kernel_set(const char* name, decltype(Kernels::multiply) multiply = nullptr) {
  return {name, row_kernels<float>(), row_kernels<Bf16>(), maximum, signum<float>, signum<Bf16>, finite,  multiply,
          nullptr, nullptr, multiply_int8, kDotsInt8};
}

}  // namespace
}  // namespace kpool::simd
