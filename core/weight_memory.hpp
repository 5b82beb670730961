// Memory for the matrices of a base: huge pages, since every step reads all of them, and with small ones it would wait
// for the processor's page tables. Owned by whoever loads the base, on one thread; what it gave outlives it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <initializer_list>
#include <memory>

namespace kpool {

class WeightMemory {
 public:
  /// Uninitialised, on the CPU; begins at a cache line.
  at::Tensor take(std::initializer_list<std::int64_t> sizes, at::ScalarType dtype);

 private:
  struct Region;
  std::shared_ptr<Region> region_;  ///< that is being filled; its tensors share it
};

}  // namespace kpool
