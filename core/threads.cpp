#include "core/threads.hpp"

#include <ATen/Parallel.h>

#ifndef _OPENMP
#error "core/ is compiled with OpenMP (-fopenmp): without it at::parallel_for, a template, runs serially"
#endif

namespace kpool {

void use_threads(std::uint32_t count) {
  const auto wanted = count != 0 ? static_cast<int>(count) : at::intraop_default_num_threads();
  if (at::get_num_threads() != wanted) at::set_num_threads(wanted);
}

int thread_count() { return at::get_num_threads(); }

}  // namespace kpool
