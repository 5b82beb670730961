#include "storage/disk_space.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace kpool {

Result<std::uint64_t> free_space(const std::string& path) {
  struct statvfs file_system{};
  if (statvfs(path.c_str(), &file_system) != 0)
    return Error{Fault::io, "cannot ask for the free space of " + path + ": " + std::strerror(errno)};
  return std::uint64_t{file_system.f_bavail} * file_system.f_frsize;
}

Status require_space(const FreeSpace& measure, const std::string& path, std::uint64_t needed) {
  const Result<std::uint64_t> left = measure(path);
  if (!left) return left.error();
  if (*left >= needed) return Done{};
  constexpr std::uint64_t mib = 1 << 20;
  return Error{Fault::no_space, "the disk under " + path + " has " + std::to_string(*left / mib) +
                                    " MiB left; a commit needs " + std::to_string((needed + mib - 1) / mib) +
                                    " MiB, so nothing was written"};
}

void make_ballast(const std::string& path, std::uint64_t bytes) {
  const int file = ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) return;
  const bool reserved = ::posix_fallocate(file, 0, static_cast<off_t>(bytes)) == 0;
  ::close(file);
  if (!reserved) ::unlink(path.c_str());
}

}  // namespace kpool
