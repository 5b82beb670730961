// The sets that this build has, each a file compiled for its instruction set (CMakeLists.txt); immutable.
// kernels.cpp alone may name one, for it asks the processor first.
#pragma once

#include "core/simd/kernels.hpp"

namespace kpool::simd {

extern const Kernels plain_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avxvnni_kernels;
extern const Kernels avx512_kernels;
#endif

}  // namespace kpool::simd
