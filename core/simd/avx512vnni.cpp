#if defined(__x86_64__)
#include "core/simd/quantise_avx512.hpp"
#include "core/simd/set.hpp"  // after the vectors that it is made of

namespace kpool::simd {

constinit const Kernels avx512vnni_kernels = kernel_set("avx512vnni");  // AVX-512 with BW, DQ, VL and VNNI

}  // namespace kpool::simd
#endif
