// libtorch's threads wait by spinning unless OMP_WAIT_POLICY says otherwise, and libgomp reads that
// only while it is loaded. On a machine that does anything else, spinning makes a training step ten
// times slower, so the programs that compute start themselves once more with `passive`.
#pragma once

#include <stdlib.h>
#include <unistd.h>

namespace kpool {

/// Call first in main. Returns if the policy is set already (or cannot be).
inline void wait_passively(char** arguments) {
  if (getenv("OMP_WAIT_POLICY")) return;
  setenv("OMP_WAIT_POLICY", "passive", 1);
  execv("/proc/self/exe", arguments);
}

}  // namespace kpool
