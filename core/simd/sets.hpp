// The sets that this build has, each a file compiled for its instruction set (CMakeLists.txt); immutable.
// kernels.cpp alone may name one, for it asks the processor first.
#pragma once

#include "core/simd/kernels.hpp"

namespace kpool::simd {

extern const Kernels plain_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avxvnni_kernels;
extern const Kernels avx512vnni_kernels;
extern const Kernels avx512_kernels;

/// AMX beside the set avx512, as Kernels says.
void multiply_amx(const TileProduct& product);
void multiply_int8_amx(const Int8Product& product);
void begin_amx();
void end_amx();
/// Whether the processor has it and the operating system lets this process use it.
bool may_use_amx();
#endif

}  // namespace kpool::simd
