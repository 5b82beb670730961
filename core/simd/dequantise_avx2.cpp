#if defined(__x86_64__)
#include "core/simd/block_kernels.hpp"
#include "core/simd/dequantise_sets.hpp"

namespace kpool::simd {

constinit const Dequantise avx2_dequantise = {"avx2", plain_blocks<float>(), plain_blocks<Bf16>()};  // AVX2 and F16C

}  // namespace kpool::simd
#endif
