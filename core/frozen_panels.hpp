// Panels of a frozen matrix for products with it and with its transpose, from the form in which it is kept. Inside
// core/ only; pure but for the worker's scratch.
#pragma once

#include <algorithm>

#include "core/frozen_matrix.hpp"
#include "core/panel_product.hpp"

namespace kpool {

/// W^T: its columns are rows of W.
template <class T>
Packed<T> pack_forward(const FrozenMatrix& weight, const PanelBlock& block, PanelScratch<T>& scratch) {
  const std::int64_t size = panel_size<T>(weight.columns);
  if (weight.panels.defined()) return {data<T>(weight.panels) + block.panel * size + block.begin * kPanel, size};
  const std::int64_t first = block.panel * kPanel, rows = std::min(block.count * kPanel, weight.rows - first);
  const std::int64_t stride = block.depth, step = panel_size<T>(block.depth);
  weight.expand(first, rows, block.begin, block.depth, scratch.expanded, stride);
  for (std::int64_t p = 0; p < block.count; ++p)
    simd::rows<T>().pack_columns(scratch.expanded + p * kPanel * stride, stride, block.depth,
                                 std::min(kPanel, rows - p * kPanel), scratch.panels + p * step);
  return {scratch.panels, step};
}

/// Any matrix with that many columns, a row after the other.
template <class T>
Packed<T> pack_block(const T* from, std::int64_t stride, std::int64_t columns, const PanelBlock& block,
                     PanelScratch<T>& scratch) {
  const std::int64_t step = panel_size<T>(block.depth);
  constexpr std::int64_t kRows = 16;  // of all panels before the next: rows lie far apart
  for (std::int64_t row = 0; row < block.depth; row += kRows)
    for (std::int64_t p = 0; p < block.count; ++p) {
      const std::int64_t column = (block.panel + p) * kPanel, rows = std::min(kRows, block.depth - row);
      const T* at = from + (block.begin + row) * stride + column;
      for (std::int64_t ahead = kRows; ahead < 2 * kRows; ++ahead) __builtin_prefetch(at + ahead * stride);
      simd::rows<T>().pack_rows(at, stride, rows, std::min(kPanel, columns - column),
                                scratch.panels + p * step + panel_size<T>(row));
    }
  return {scratch.panels, step};
}

/// W, of whose transpose the panels are kept: squares of kPanel rows and columns are turned one by one.
template <class T>
Packed<T> turn_panels(const FrozenMatrix& weight, const PanelBlock& block, PanelScratch<T>& scratch) {
  const std::int64_t step = panel_size<T>(block.depth), size = panel_size<T>(weight.columns);
  for (std::int64_t row = 0; row < block.depth; row += kPanel)
    for (std::int64_t p = 0; p < block.count; ++p) {
      const std::int64_t column = (block.panel + p) * kPanel, columns = std::min(kPanel, weight.columns - column);
      const std::int64_t rows = std::min(kPanel, block.depth - row);
      const T* panel = data<T>(weight.panels) + (block.begin + row) / kPanel * size + column * kPanel;
      for (std::int64_t ahead = 0; ahead < kPanel * kPanel; ahead += 64 / std::int64_t{sizeof(T)})
        __builtin_prefetch(panel + size + ahead);  // the next square of this column lies far away
      simd::rows<T>().turn_panel(panel, columns, rows, scratch.panels + p * step + row * kPanel);
    }
  return {scratch.panels, step};
}

/// W.
template <class T>
Packed<T> pack_backward(const FrozenMatrix& weight, const PanelBlock& block, PanelScratch<T>& scratch) {
  if (weight.panels.defined()) return turn_panels<T>(weight, block, scratch);
  // Whole blocks of the file, which may be wider than what is packed.
  const std::int64_t step = weight.column_step(), first = block.panel * kPanel / step * step;
  const std::int64_t last = ((block.panel + block.count) * kPanel + step - 1) / step * step;
  const std::int64_t stride = std::min(weight.columns, last) - first;
  weight.expand(block.begin, block.depth, first, stride, scratch.expanded, stride);
  return pack_block<T>(scratch.expanded - block.begin * stride - first, stride, weight.columns, block, scratch);
}

}  // namespace kpool
