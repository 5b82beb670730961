// A matrix of the frozen base: dense in the compute precision, or left quantised in the mapped file and expanded a
// block at a time where a product needs it. Immutable after loading; any thread may read it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/gguf.hpp"

namespace kpool {

/// Rows of one GGUF tensor inside a FrozenMatrix.
struct FrozenPart {
  const GgufTensor* tensor = nullptr;  ///< in the mapped file
  /// Width of a head whose rows GGUF stores in pairs (llama's q and k); RoPE by rotate-half, and PEFT, want half after
  /// half. 0: rows are in order.
  std::int64_t paired_width = 0;
};

/// (rows, columns); y = x W^T maps columns to rows.
struct FrozenMatrix {
  std::int64_t rows = 0, columns = 0;
  at::ScalarType dtype = at::kFloat;
  std::vector<FrozenPart> parts;  ///< quantised: one below the other; else empty
  at::Tensor dense;               ///< (rows, columns) dtype, for libtorch's operators; or undefined
  /// The same for tiles: its rows as packed panels (core/gemm.hpp) of kPanel rows each, dtype; or undefined. A product
  /// with W^T reads them as they lie, one with W packs blocks of them anew.
  at::Tensor panels;
  /// Whether tiles multiply with W itself, which input gradients need, in 8-bit integers (docs/training.md).
  bool int8_gradients = false;

  bool defined() const { return rows > 0; }
  /// What is expanded must begin and end at a multiple of this many columns (or at the last): the blocks of the file.
  std::int64_t column_step() const;
  /// Writes rows [row, row + row_count) of columns [column, column + column_count) to out, with the stride in elements.
  /// out has the matrix's dtype. Not where dense. Any thread, no allocation.
  void expand(std::int64_t row, std::int64_t row_count, std::int64_t column, std::int64_t column_count, void* out,
              std::int64_t stride) const;
  /// The whole, dense: `dense` itself where it is defined. For comparisons, and for devices that multiply nothing else.
  at::Tensor expanded() const;
  /// What `panels` of it would be.
  at::Tensor packed() const;
};

/// Rows of the matrix (an embedding) as float32. ids: (count) int64 on the CPU. Returns (count, columns).
at::Tensor gather_rows(const FrozenMatrix& matrix, const at::Tensor& ids);

}  // namespace kpool
