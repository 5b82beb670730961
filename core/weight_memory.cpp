#include "core/weight_memory.hpp"

#include <ATen/ops/from_blob.h>
#include <sys/mman.h>

#include <algorithm>

#include "core/result.hpp"
#include "core/workspace.hpp"

namespace kpool {
namespace {

constexpr std::size_t kRegionBytes = 256 << 20;  // what is not touched of it takes no memory

}  // namespace

struct WeightMemory::Region {
  explicit Region(std::size_t bytes)
      : capacity(bytes), begin(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                    -1, 0)) {
    KPOOL_ASSERT(begin != MAP_FAILED);
    madvise(begin, bytes, MADV_HUGEPAGE);
  }
  ~Region() { munmap(begin, capacity); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  const std::size_t capacity;
  void* const begin;
  std::size_t used = 0;
};

at::Tensor WeightMemory::take(std::initializer_list<std::int64_t> sizes, at::ScalarType dtype) {
  const std::size_t bytes = Workspace::size_of(sizes, dtype);
  if (!region_ || region_->used + bytes > region_->capacity)
    region_ = std::make_shared<Region>(std::max(bytes, kRegionBytes));
  void* at = static_cast<std::byte*>(region_->begin) + region_->used;
  region_->used += bytes;
  return at::from_blob(at, sizes, [region = region_](void*) {}, dtype);
}

}  // namespace kpool
