#include "storage/memory_store.hpp"

namespace kpool {
namespace {

class MemoryStore final : public Store {
 public:
  Result<Values> load() const override { return values_; }

  using Store::commit;
  Status commit(Values&& puts, const std::vector<std::string>& deletes) override {
    for (const auto& key : deletes) values_.erase(key);
    for (auto& [key, value] : puts) values_.insert_or_assign(key, std::move(value));
    puts.clear();
    return Done{};
  }

  Status snapshot(const std::string& directory) const override {
    return Error{Fault::unavailable, "the memory store cannot be copied to " + directory + ": use store.kind rocksdb"};
  }

 private:
  Values values_;
};

}  // namespace

std::unique_ptr<Store> make_memory_store() { return std::make_unique<MemoryStore>(); }

}  // namespace kpool
