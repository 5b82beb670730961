// What a socket actor runs: one pass after the other on the actor's own thread.
#pragma once

#include "core/result.hpp"

namespace kpool {

class Loop {
 public:
  virtual ~Loop() = default;
  virtual const char* name() const = 0;
  /// Called once, first.
  virtual Status open() { return Done{}; }
  /// Waits until something is to be done (or wake_fd is readable), then does some of it. An error
  /// ends the process.
  virtual Status pass(int wake_fd) = 0;
  /// True once it takes part; never false again.
  virtual bool running() const { return true; }
  virtual void drain() {}
  virtual bool drained() const { return true; }
};

}  // namespace kpool
