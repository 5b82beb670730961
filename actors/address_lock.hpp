// libzmq takes over the path of a Unix socket from whoever listens there. A lock file beside the path
// says that it is taken, for as long as the process lives.
// Owned by who listens; any thread.
#pragma once

#include <string>

#include "core/result.hpp"

namespace kpool {

class AddressLock {
 public:
  /// address: a ZeroMQ endpoint; only ipc://PATH is locked, as PATH.lock. Errors: unavailable, naming
  /// the address.
  static Result<AddressLock> take(const std::string& address);
  AddressLock(AddressLock&& other) noexcept;
  AddressLock& operator=(AddressLock&& other) noexcept;
  ~AddressLock();

 private:
  explicit AddressLock(int file) : file_(file) {}
  int file_;  ///< -1: nothing to lock
};

}  // namespace kpool
