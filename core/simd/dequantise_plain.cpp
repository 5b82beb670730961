#include "core/simd/block_kernels.hpp"
#include "core/simd/dequantise_sets.hpp"

namespace kpool::simd {

constinit const Dequantise plain_dequantise = {"plain", plain_blocks<float>(), plain_blocks<Bf16>()};

}  // namespace kpool::simd
