// Room on the disk: how much is left, and the ballast file that is given up when it runs out.
// RocksDB 7.8.3 aborts the process on ENOSPC, so the store asks here before it writes anything.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/result.hpp"

namespace kpool {

/// Bytes that this process may still write on the file system of `path`.
using FreeSpace = std::function<Result<std::uint64_t>(const std::string& path)>;

/// By statvfs. Errors: io.
Result<std::uint64_t> free_space(const std::string& path);

/// Errors: no_space, naming the path, what is needed and what there is; io.
Status require_space(const FreeSpace& measure, const std::string& path, std::uint64_t needed);

/// Reserves `bytes` of disk in the file `path`; without effect where that fails.
void make_ballast(const std::string& path, std::uint64_t bytes);

}  // namespace kpool
