// The store on disk: RocksDB, one synced WriteBatch per commit, every value under a checksum of its own.
// Owned by the persistence stage, used on its thread alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "storage/disk_space.hpp"
#include "storage/store.hpp"

namespace kpool {

/// Memory that the store takes besides the values of a commit: cache, write buffer, buffers of its files.
inline constexpr std::size_t rocksdb_bytes = 24u << 20;

struct RocksdbOptions {
  /// Kept free on top of what a commit and the compaction after it may write.
  std::uint64_t reserve_bytes = 64u << 20;
  /// A file in the store's directory that is given up at opening when the disk is full, so that recovery
  /// has room to write.
  std::uint64_t ballast_bytes = 32u << 20;
  FreeSpace measure = free_space;
};

Result<std::unique_ptr<Store>> open_rocksdb(const std::string& path, const RocksdbOptions& options = {});
Result<std::unique_ptr<Store>> open_rocksdb_read_only(const std::string& path);

}  // namespace kpool
