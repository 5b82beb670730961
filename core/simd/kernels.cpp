#include "core/simd/kernels.hpp"

#include <cstring>

#include "core/simd/sets.hpp"

namespace kpool::simd {
namespace {

KernelSets find_sets() {
  KernelSets found{{&plain_kernels}, 1};
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return found;
  found.sets[found.count++] = &avx2_kernels;
  if (__builtin_cpu_supports("avxvnni")) found.sets[found.count++] = &avxvnni_kernels;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
    found.sets[found.count++] = &avx512vnni_kernels;
    if (!__builtin_cpu_supports("avx512bf16")) return found;
    found.sets[found.count++] = &avx512_kernels;
    static Kernels with_amx = avx512_kernels;
    with_amx.name = "amx";
    with_amx.multiply = multiply_amx;
    with_amx.multiply_int8 = multiply_int8_amx;
    with_amx.begin_tiles = begin_amx;
    with_amx.end_tiles = end_amx;
    if (may_use_amx()) found.sets[found.count++] = &with_amx;
  }
#endif
  return found;
}

const Kernels*& chosen() {
  static const Kernels* set = kernel_sets().sets[kernel_sets().count - 1];
  return set;
}

}  // namespace

KernelSets kernel_sets() {
  static const KernelSets sets = find_sets();
  return sets;
}

bool choose_kernels(const char* name) {
  const KernelSets sets = kernel_sets();
  for (int s = 0; s < sets.count; ++s) {
    if (std::strcmp(sets.sets[s]->name, name) != 0) continue;
    chosen() = sets.sets[s];
    return true;
  }
  return false;
}

const Kernels& kernels() {
  static const Kernels& set = *chosen();
  return set;
}

}  // namespace kpool::simd
