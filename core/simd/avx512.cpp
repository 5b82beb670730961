#if defined(__x86_64__)
#include "core/simd/quantise_avx512.hpp"
#include "core/simd/tile_product_avx512.hpp"
#include "core/simd/set.hpp"  // after the vectors that it is made of

namespace kpool::simd {

constinit const Kernels avx512_kernels = kernel_set("avx512", multiply_tile);  // AVX-512 with BW, DQ, VL, BF16 and VNNI

}  // namespace kpool::simd
#endif
