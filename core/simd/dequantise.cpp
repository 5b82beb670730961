#include "core/simd/dequantise.hpp"

#include "core/simd/dequantise_sets.hpp"

namespace kpool::simd {
namespace {

DequantiseSets find_sets() {
  DequantiseSets found{{&plain_dequantise}, 1};
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("f16c")) return found;
  found.sets[found.count++] = &avx2_dequantise;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    found.sets[found.count++] = &avx512_dequantise;
#endif
  return found;
}

}  // namespace

DequantiseSets dequantise_sets() {
  static const DequantiseSets sets = find_sets();
  return sets;
}

const Dequantise& dequantise_kernels() {
  static const Dequantise& best = *dequantise_sets().sets[dequantise_sets().count - 1];
  return best;
}

}  // namespace kpool::simd
