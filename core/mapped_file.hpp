// A whole file mapped read-only. Owned by whoever opened it; unmapped with it. Any thread may read it. A file
// that is truncated while it is mapped ends the process with SIGBUS: model files are replaced, not rewritten.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "core/result.hpp"

namespace kpool {

class MappedFile {
 public:
  /// Errors: missing (absent or not a regular file), io. An empty file is an empty span.
  static Result<std::unique_ptr<const MappedFile>> open(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return bytes_; }
  /// Gives the pages of [begin, end) back to the page cache: they no longer count as this process's memory, and are
  /// mapped again when they are read.
  void release(std::size_t begin, std::size_t end) const;

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

}  // namespace kpool
