// What the daemon asks of the operating system about itself. Called once in main, before any thread.
#pragma once

#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace kpool {

/// No core file, which would hold records; as many descriptors as are allowed, since each connection costs one, also
/// one whose key is not allowed; files and sockets for the daemon's own user.
inline void set_process_limits() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0);
  rlimit descriptors{};
  if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
  }
  umask(0077);
}

/// Few arenas, and large blocks (slots, frames, activations) mapped one by one and given back when they are freed. Left
/// alone, glibc raises that bound to the largest block ever freed and keeps such blocks in an arena per thread.
inline void set_allocator_limits() {
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 4 << 20);
  mallopt(M_ARENA_MAX, 4);
}

}  // namespace kpool
