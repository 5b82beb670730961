// Each kernel of a set on the sizes of a small decoder (width 576, feed-forward 1536, heads of 64, 512 tokens),
// for bench/kernels.cpp to time and tests/kernel_instructions.cpp to count. The data is made once and lives in the
// cache of the second level; one thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/simd/kernels.hpp"

namespace kpool::testing {

struct KernelCase {
  std::string name;       ///< kernel.type, as norm.bf16
  std::int64_t elements;  ///< that one run handles
  std::int64_t bytes;     ///< that one run reads and writes
  std::function<void()> run;
};

std::vector<KernelCase> kernel_cases(const simd::Kernels& set);

}  // namespace kpool::testing
