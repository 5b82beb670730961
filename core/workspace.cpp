#include "core/workspace.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/accumulate.h>
#include <sys/mman.h>

#include <algorithm>

#include "core/result.hpp"

namespace kpool {
namespace {

constexpr std::size_t kAlignment = 64;  // of a cache line and of the widest vector

}  // namespace

Workspace::~Workspace() {
  if (begin_) munmap(begin_, capacity_);
}

void Workspace::reserve(std::size_t bytes) {
  KPOOL_ASSERT(used_ == 0);
  if (bytes <= capacity_ || !device_.is_cpu()) return;
  if (begin_) munmap(begin_, capacity_);
  void* region = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  KPOOL_ASSERT(region != MAP_FAILED);
  madvise(region, bytes, MADV_HUGEPAGE);  // a step touches all of it again and again
  begin_ = static_cast<std::byte*>(region);
  capacity_ = bytes;
}

std::size_t Workspace::size_of(std::initializer_list<std::int64_t> sizes, at::ScalarType dtype) {
  const auto bytes = static_cast<std::size_t>(c10::multiply_integers(sizes)) * c10::elementSize(dtype);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

at::Tensor Workspace::take(std::initializer_list<std::int64_t> sizes, at::ScalarType dtype) {
  if (!device_.is_cpu()) return at::empty(sizes, at::TensorOptions(device_).dtype(dtype));
  const std::size_t bytes = size_of(sizes, dtype);
  KPOOL_ASSERT(used_ + bytes <= capacity_);
  at::Tensor out = at::from_blob(begin_ + used_, sizes, dtype);
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  return out;
}

}  // namespace kpool
