#include "core/threads.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <thread>

namespace kpool {

void use_threads(std::uint32_t count) {
  const auto wanted = static_cast<int>(count != 0 ? count : std::max(1u, std::thread::hardware_concurrency()));
  if (at::get_num_threads() != wanted) at::set_num_threads(wanted);
}

}  // namespace kpool
