#include "storage/store.hpp"

#include "storage/memory_store.hpp"
#include "storage/rocksdb_store.hpp"

namespace kpool {

Result<std::unique_ptr<Store>> open_store(const std::string& kind, const std::string& path) {
  if (kind == "memory") return make_memory_store();
  if (kind == "rocksdb") return open_rocksdb(path);
  return Error{Fault::bad_config, "store.kind is \"" + kind + "\"; it must be rocksdb or memory"};
}

Result<std::unique_ptr<Store>> open_store_read_only(const std::string& path) { return open_rocksdb_read_only(path); }

}  // namespace kpool
