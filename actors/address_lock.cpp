#include "actors/address_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace kpool {

Result<AddressLock> AddressLock::take(const std::string& address) {
  constexpr std::string_view scheme = "ipc://";
  if (!address.starts_with(scheme) || address[scheme.size()] == '@') return AddressLock(-1);
  const std::string path = address.substr(scheme.size()) + ".lock";
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0)
    return Error{Fault::unavailable, "cannot listen on " + address + ": '" + path + "' cannot be opened: " +
                                         std::strerror(errno)};
  if (flock(file, LOCK_EX | LOCK_NB) == 0) return AddressLock(file);
  close(file);
  return Error{Fault::unavailable, "cannot listen on " + address + ": another process listens there"};
}

AddressLock::AddressLock(AddressLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}

AddressLock& AddressLock::operator=(AddressLock&& other) noexcept {
  std::swap(file_, other.file_);
  return *this;
}

AddressLock::~AddressLock() {
  if (file_ >= 0) close(file_);
}

}  // namespace kpool
