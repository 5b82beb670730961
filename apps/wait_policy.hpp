// libtorch's threads wait for each other by spinning, for milliseconds unless OMP_WAIT_POLICY or GOMP_SPINCOUNT say
// otherwise, and libgomp reads these only while it is loaded. A step has a thousand short parallel loops. Without any
// spinning it took 1.4 times as long on a quiet machine; with the default it took ten times as long on one that does
// anything else. A short spin is best on both, so the programs that compute start themselves once more with it.
#pragma once

#include <stdlib.h>
#include <unistd.h>

namespace kpool {

/// Call first in main. Returns if the environment says already how to wait (or cannot be changed).
inline void wait_briefly(char** arguments) {
  if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
  setenv("GOMP_SPINCOUNT", "20000", 1);
  char path[4096];  // not the link itself: a process is called after the path that it was started by
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length < 0) return;
  path[length] = '\0';
  execv(path, arguments);
}

}  // namespace kpool
