#if defined(__x86_64__)
#include "core/simd/vector_avx2.hpp"
#include "core/simd/set.hpp"  // after the vectors that it is made of

namespace kpool::simd {

constinit const Kernels avx2_kernels = kernel_set("avx2");  // AVX2 and FMA

}  // namespace kpool::simd
#endif
