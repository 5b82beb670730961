#if defined(__x86_64__)
#include "core/simd/vector_avx2.hpp"
#include "core/simd/set.hpp"  // after the vectors that it is made of

namespace kpool::simd {

constinit const Kernels avxvnni_kernels = kernel_set("avxvnni");  // AVX2, FMA and AVX-VNNI

}  // namespace kpool::simd
#endif
