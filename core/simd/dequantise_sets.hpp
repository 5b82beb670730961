// The sets of dequantise.hpp that this build has; immutable. dequantise.cpp alone may name one, for it asks the
// processor first.
#pragma once

#include "core/simd/dequantise.hpp"

namespace kpool::simd {

extern const Dequantise plain_dequantise;
#if defined(__x86_64__)
extern const Dequantise avx2_dequantise;
extern const Dequantise avx512_dequantise;
#endif

}  // namespace kpool::simd
