#include "core/simd/vector_plain.hpp"
#include "core/simd/set.hpp"  // after the vectors that it is made of

namespace kpool::simd {

constinit const Kernels plain_kernels = kernel_set("plain");  // any processor

}  // namespace kpool::simd
