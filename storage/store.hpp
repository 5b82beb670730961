// The durable state of the pool: one flat map of named values that changes only by whole commits.
// Owned by the persistence stage, used on its thread alone.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/result.hpp"

namespace kpool {

/// Keys: "identity", "group", "source/<n>", "mixture", "slot/<k>", "fragility", "regret", "refusals/<n>", "keep/<k>".
using Values = std::map<std::string, std::string>;

class Store {
 public:
  virtual ~Store() = default;
  /// Everything of the last commit. Errors: bad_input (a value fails its checksum), io.
  virtual Result<Values> load() const = 0;
  /// Writes all puts and removes all deletes in one synced batch: all of it is durable, or none. Takes the values
  /// out of `puts`, so that they do not lie in memory twice, except with no_space. No key may be in both.
  /// Errors: no_space (nothing was written; the same commit may be tried again), io (the store must be
  /// reopened: never retried), denied (opened for reading only).
  virtual Status commit(Values&& puts, const std::vector<std::string>& deletes) = 0;
  Status commit(const Values& puts, const std::vector<std::string>& deletes) { return commit(Values(puts), deletes); }
  /// A consistent copy of the last commit in a new directory, which appears whole or not at all.
  /// Errors: io, no_space, unavailable (memory store, opened for reading only, or the directory exists).
  virtual Status snapshot(const std::string& directory) const = 0;
};

/// kind: "rocksdb" or "memory". path: the store's directory (created if absent).
/// Errors: bad_config, io, unavailable (another process holds it), bad_input (damaged), no_space.
Result<std::unique_ptr<Store>> open_store(const std::string& kind, const std::string& path);

/// Opens a store, also one that the daemon holds, or a snapshot, without the right to write: what was
/// committed when it was opened. Errors as open_store, missing.
Result<std::unique_ptr<Store>> open_store_read_only(const std::string& path);

}  // namespace kpool
