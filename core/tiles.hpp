// Between tensors and the raw kernels: element types and pointers. Inside core/ only.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/result.hpp"
#include "core/simd/kernels.hpp"

namespace kpool {

/// f(float{}) or f(simd::Bf16{}), by the tensors' type.
template <class F>
void by_type(at::ScalarType dtype, F f) {
  KPOOL_ASSERT(dtype == at::kFloat || dtype == at::kBFloat16);
  if (dtype == at::kFloat) f(float{});
  else f(simd::Bf16{});
}

template <class T>
const T* data(const at::Tensor& tensor) {
  KPOOL_ASSERT(tensor.is_contiguous() && static_cast<std::size_t>(tensor.element_size()) == sizeof(T));
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* data(at::Tensor& tensor) {
  KPOOL_ASSERT(tensor.is_contiguous() && static_cast<std::size_t>(tensor.element_size()) == sizeof(T));
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace kpool
