// What the storage tests share: a directory of their own, seeded noise, stores that must open.
#pragma once

#include <catch2/catch.hpp>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <string>

#include "storage/rocksdb_store.hpp"
#include "storage/store.hpp"

namespace kpool::testing {

namespace fs = std::filesystem;

struct Directory {
  Directory() {
    std::string pattern = (fs::temp_directory_path() / "kpool-store-XXXXXX").string();
    root = ::mkdtemp(pattern.data());
  }
  ~Directory() { fs::remove_all(root); }
  std::string operator/(const char* name) const { return (root / name).string(); }
  fs::path root;
};

inline std::string noise(std::size_t bytes, unsigned seed) {
  std::mt19937 random(seed);
  std::string text(bytes, '\0');
  for (char& octet : text) octet = static_cast<char>(random());
  return text;
}

inline std::unique_ptr<Store> opened(const std::string& path, const RocksdbOptions& options = {}) {
  auto store = open_rocksdb(path, options);
  if (!store) FAIL(store.error().message);
  return *std::move(store);
}

inline Values loaded(const Store& store) {
  auto values = store.load();
  if (!values) FAIL(values.error().message);
  return *std::move(values);
}

inline void must_commit(Store& store, const Values& puts, const std::vector<std::string>& deletes = {}) {
  const Status status = store.commit(puts, deletes);
  if (!status) FAIL(status.error().message);
}

}  // namespace kpool::testing
