// Runs every kernel of every set once for kernel_instructions.py, which counts instructions under callgrind: one dump
// for each, named <set>/<kernel>.<type>. Prints the compiler, then each of those names and its elements.
#include <cstdio>

#include "tests/kernel_cases.hpp"
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else  // built where there is no valgrind: then nothing counts either
#define CALLGRIND_ZERO_STATS
#define CALLGRIND_DUMP_STATS_AT(name) (void)(name)
#endif

int main() {
#ifdef __clang__
  std::printf("clang %d\n", __clang_major__);
#else
  std::printf("g++ %d\n", __GNUC__);
#endif
  const kpool::simd::KernelSets sets = kpool::simd::kernel_sets();
  for (int s = 0; s < sets.count; ++s) {
    for (const auto& kernel : kpool::testing::kernel_cases(*sets.sets[s])) {
      const std::string name = std::string(sets.sets[s]->name) + "/" + kernel.name;
      kernel.run();  // binds what is bound at the first call
      CALLGRIND_ZERO_STATS;
      kernel.run();
      CALLGRIND_DUMP_STATS_AT(name.c_str());
      std::printf("%s %lld\n", name.c_str(), static_cast<long long>(kernel.elements));
    }
  }
}
