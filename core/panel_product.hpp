// A product whose right operand is packed panel by panel while the left one streams through the caches: the loop around
// core/gemm.hpp that linears, their gradients and the loss share. Inside core/ only; called on the stage's thread,
// splits the work over its libtorch kernel threads.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstddef>

#include "core/gemm.hpp"
#include "core/tiles.hpp"
#include "core/workspace.hpp"

namespace kpool {

constexpr std::int64_t kGroupBytes = 320 << 10;  ///< panels that are packed together, to stay in the second cache
constexpr std::int64_t kLeftBytes = 640 << 10;   ///< and the left operand's rows that they are multiplied with

/// Rows of the left operand that a tile has.
inline std::int64_t tile_rows(std::int64_t depth, std::size_t element) {
  const auto bytes = depth * static_cast<std::int64_t>(element);
  return std::clamp<std::int64_t>(kLeftBytes / std::max<std::int64_t>(bytes, 1) / 32 * 32, 32, 512);
}

/// Panels that are packed together, so that the other operand is read once for all of them.
inline std::int64_t group_panels(std::int64_t depth, std::size_t element) {
  const auto bytes = depth * kPanel * static_cast<std::int64_t>(element);
  return std::clamp<std::int64_t>(kGroupBytes / std::max<std::int64_t>(bytes, 1), 1, 8);
}

inline std::int64_t panels_of(std::int64_t columns) { return (columns + kPanel - 1) / kPanel; }

/// Scratch of one worker.
template <class T>
struct PanelScratch {
  T* panels;     ///< of a group
  T* extra;      ///< the adapter's panels beside them
  T* expanded;   ///< a block of a quantised matrix
  std::int64_t expanded_at = -1;  ///< which one lies there, if any
  float* sums;   ///< (tile_rows, kPanel)
};

struct ScratchSizes {
  std::int64_t panels, extra, expanded, sums;  ///< elements
  std::size_t bytes(std::size_t element) const {
    auto round = [](std::size_t n) { return (n + 63) / 64 * 64; };
    return round(panels * element) + round(extra * element) + round(expanded * element) + round(sums * sizeof(float));
  }
};

/// expanded: elements of a block of a quantised matrix that pack wants to expand first.
template <class T>
ScratchSizes scratch_sizes(std::int64_t depth, std::int64_t width, std::int64_t expanded) {
  const std::int64_t group = group_panels(depth, sizeof(T));
  return {group * panel_size<T>(depth), group * panel_size<T>(width), expanded, tile_rows(depth, sizeof(T)) * kPanel};
}

template <class T>
PanelScratch<T> scratch_at(std::byte* at, const ScratchSizes& sizes) {
  auto next = [&](std::int64_t count, std::size_t element) {
    std::byte* here = at;
    at += (static_cast<std::size_t>(count) * element + 63) / 64 * 64;
    return here;
  };
  PanelScratch<T> scratch{};
  scratch.panels = reinterpret_cast<T*>(next(sizes.panels, sizeof(T)));
  scratch.extra = reinterpret_cast<T*>(next(sizes.extra, sizeof(T)));
  scratch.expanded = reinterpret_cast<T*>(next(sizes.expanded, sizeof(T)));
  scratch.sums = reinterpret_cast<float*>(next(sizes.sums, sizeof(float)));
  return scratch;
}

/// One product out = a B + a2 B2 whose B is packed panel by panel.
template <class T>
struct PanelProduct {
  std::int64_t rows, depth, columns;
  const T* a;
  std::int64_t a_stride;
  const T* a2 = nullptr;  ///< the adapter's part, or null
  std::int64_t depth2 = 0, a2_stride = 0;
};

/// Calls pack(first panel, count, scratch) for each group of panels, and put(row, rows, first column, columns, sums)
/// for each finished tile of it, sums: (rows, kPanel); splits the panels, and if these are few the rows, over the
/// threads.
template <class T, class Pack, class Put>
void multiply_panels(const PanelProduct<T>& product, std::int64_t expanded, Workspace& workspace, Pack pack, Put put) {
  const std::int64_t panels = panels_of(product.columns), threads = at::get_num_threads();
  const std::int64_t most = tile_rows(product.depth, sizeof(T)), blocks = (product.rows + 31) / 32;
  const std::int64_t parts = std::min(blocks, std::max<std::int64_t>(1, 2 * threads / panels));
  const std::int64_t part_rows = (blocks + parts - 1) / parts * 32;
  const std::int64_t group = group_panels(product.depth, sizeof(T));
  const ScratchSizes sizes = scratch_sizes<T>(product.depth, product.depth2, expanded);
  Workspace::Frame frame(workspace);
  const auto bytes = static_cast<std::int64_t>(sizes.bytes(sizeof(T)));
  auto* region = static_cast<std::byte*>(workspace.take({threads, bytes}, at::kByte).data_ptr());
  at::parallel_for(0, parts * panels, 1, [&](std::int64_t begin, std::int64_t end) {
    TileScope scope;
    PanelScratch<T> scratch = scratch_at<T>(region + at::get_thread_num() * bytes, sizes);
    for (std::int64_t at = begin; at < end;) {
      const std::int64_t part = at / panels, panel = at % panels;
      const std::int64_t count = std::min({group, end - at, panels - panel});
      pack(panel, count, scratch);
      const std::int64_t last = std::min(product.rows, (part + 1) * part_rows);
      for (std::int64_t row = part * part_rows; row < last; row += most) {
        const std::int64_t rows = std::min(most, last - row);
        for (std::int64_t p = 0; p < count; ++p) {
          multiply(rows, product.depth, product.a + row * product.a_stride, product.a_stride,
                   scratch.panels + p * panel_size<T>(product.depth), scratch.sums, kPanel, false);
          if (product.a2)
            multiply(rows, product.depth2, product.a2 + row * product.a2_stride, product.a2_stride,
                     scratch.extra + p * panel_size<T>(product.depth2), scratch.sums, kPanel, true);
          const std::int64_t column = (panel + p) * kPanel;
          put(row, rows, column, std::min(kPanel, product.columns - column), scratch.sums);
        }
      }
      at += count;
    }
  });
}

/// What multiply_panels takes of the workspace, in bytes.
template <class T>
std::size_t panel_bytes(std::int64_t depth, std::int64_t depth2, std::int64_t expanded, int threads) {
  return Workspace::size_of({threads, static_cast<std::int64_t>(
                                          scratch_sizes<T>(depth, depth2, expanded).bytes(sizeof(T)))}, at::kByte);
}

}  // namespace kpool
