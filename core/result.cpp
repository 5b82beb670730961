#include "core/result.hpp"

#include <cstdio>
#include <cstdlib>

namespace kpool {

int exit_code(Fault fault) {
  switch (fault) {
    case Fault::usage: return 64;
    case Fault::bad_input: return 65;
    case Fault::missing: return 66;
    case Fault::unavailable: return 69;
    case Fault::internal: return 70;
    case Fault::no_space: return 73;
    case Fault::io: return 74;
    case Fault::again: return 75;
    case Fault::mismatch: return 76;
    case Fault::denied: return 77;
    case Fault::bad_config: return 78;
  }
  return 70;
}

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "kpool: %s:%d: broken invariant: %s\n", file, line, expression);
  std::abort();
}

}  // namespace kpool
