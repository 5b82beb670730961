// How many threads libtorch's kernels use on behalf of the calling thread.
#pragma once

#include <cstdint>

namespace kpool {

/// 0: one per core. Holds for the calling thread until it calls again; costs nothing when unchanged.
void use_threads(std::uint32_t count);
/// Those of the calling thread now.
int thread_count();

}  // namespace kpool
