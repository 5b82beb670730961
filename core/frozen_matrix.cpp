#include "core/frozen_matrix.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

#include <algorithm>

#include "core/gemm.hpp"
#include "core/quantisation.hpp"
#include "core/tiles.hpp"

namespace kpool {
namespace {

BlockLayout layout_of(const GgufTensor& tensor) { return *block_layout(static_cast<std::uint32_t>(tensor.type)); }

/// The row of the file that holds this row of the part.
std::int64_t file_row(const FrozenPart& part, std::int64_t row) {
  if (part.paired_width == 0) return row;
  const std::int64_t half = part.paired_width / 2, in_head = row % part.paired_width;
  return row - in_head + in_head % half * 2 + in_head / half;
}

template <class T>
void expand_rows(const FrozenMatrix& matrix, std::int64_t row, std::int64_t row_count, std::int64_t column,
                 std::int64_t column_count, T* out, std::int64_t stride) {
  std::int64_t above = 0;  // rows of the parts before this one
  for (const FrozenPart& part : matrix.parts) {
    const std::int64_t below = above + part.tensor->shape[0];
    const BlockLayout layout = layout_of(*part.tensor);
    const std::int64_t row_bytes = matrix.columns / layout.elements * layout.bytes;
    const auto* first = reinterpret_cast<const std::uint8_t*>(part.tensor->data.data()) +
                        column / layout.elements * layout.bytes;
    const simd::Expand<T> expand_blocks = expansion_of<T>(part.tensor->type);
    for (std::int64_t i = std::max(row, above); i < std::min(row + row_count, below); ++i)
      expand_blocks(first + file_row(part, i - above) * row_bytes, column_count / layout.elements,
                    out + (i - row) * stride);
    above = below;
  }
}

template <class T>
void unpack_rows(const FrozenMatrix& matrix, std::int64_t row, std::int64_t row_count, std::int64_t column,
                 std::int64_t column_count, T* out, std::int64_t stride) {
  constexpr std::int64_t pair = panel_size<T>(1) / kPanel;  // elements along the depth that lie together
  for (std::int64_t i = row; i < row + row_count; ++i, out += stride) {
    const T* from = data<T>(matrix.panels) + i / kPanel * panel_size<T>(matrix.columns) + i % kPanel * pair;
    for (std::int64_t j = 0; j < column_count; ++j) {
      const std::int64_t at = column + j;
      out[j] = from[at / pair * pair * kPanel + at % pair];
    }
  }
}

}  // namespace

at::Tensor FrozenMatrix::packed() const {
  at::Tensor out;
  by_type(dtype, [&]<class T>(T) {
    const std::int64_t count = (rows + kPanel - 1) / kPanel, size = panel_size<T>(columns);
    out = at::empty({count, size}, dtype);
    T* to = data<T>(out);
    at::parallel_for(0, count, 1, [&](std::int64_t first, std::int64_t end) {
      std::vector<T> block(static_cast<std::size_t>(kPanel * columns));
      for (std::int64_t p = first; p < end; ++p) {
        const std::int64_t here = std::min(kPanel, rows - p * kPanel);
        expand(p * kPanel, here, 0, columns, block.data(), columns);
        simd::rows<T>().pack_columns(block.data(), columns, columns, here, to + p * size);
      }
    });
  });
  return out;
}

std::int64_t FrozenMatrix::column_step() const {
  std::int64_t step = 1;
  for (const FrozenPart& part : parts) step = std::max(step, layout_of(*part.tensor).elements);
  return step;
}

void FrozenMatrix::expand(std::int64_t row, std::int64_t row_count, std::int64_t column, std::int64_t column_count,
                          void* out, std::int64_t stride) const {
  const std::int64_t end = column + column_count, step = column_step();
  KPOOL_ASSERT((!parts.empty() || panels.defined()) && row >= 0 && row_count >= 0 && row + row_count <= rows);
  KPOOL_ASSERT(column >= 0 && column_count >= 0 && end <= columns && column % step == 0);
  KPOOL_ASSERT((end == columns || end % step == 0) && stride >= column_count);
  by_type(dtype, [&]<class T>(T) {
    if (panels.defined()) unpack_rows(*this, row, row_count, column, column_count, static_cast<T*>(out), stride);
    else expand_rows(*this, row, row_count, column, column_count, static_cast<T*>(out), stride);
  });
}

at::Tensor FrozenMatrix::expanded() const {
  if (dense.defined() || !defined()) return dense;
  at::Tensor out = at::empty({rows, columns}, dtype);
  auto* data = static_cast<std::byte*>(out.mutable_data_ptr());
  const auto row_bytes = static_cast<std::int64_t>(columns * out.element_size());
  at::parallel_for(0, rows, 64, [&](std::int64_t first, std::int64_t end) {
    expand(first, end - first, 0, columns, data + first * row_bytes, columns);
  });
  return out;
}

at::Tensor gather_rows(const FrozenMatrix& matrix, const at::Tensor& ids) {
  if (matrix.dense.defined()) return matrix.dense.index_select(0, ids).to(at::kFloat);
  const std::int64_t count = ids.size(0), columns = matrix.columns;
  at::Tensor out = at::empty({count, columns}, at::kFloat);
  float* to = out.mutable_data_ptr<float>();
  const auto* id = ids.const_data_ptr<std::int64_t>();
  by_type(matrix.dtype, [&]<class T>(T) {
    at::parallel_for(0, count, 16, [&](std::int64_t first, std::int64_t end) {
      std::vector<T> row(static_cast<std::size_t>(columns));
      for (std::int64_t i = first; i < end; ++i) {
        matrix.expand(id[i], 1, 0, columns, row.data(), columns);
        simd::rows<T>().to_float(row.data(), columns, to + i * columns);
      }
    });
  });
  return out;
}

}  // namespace kpool
