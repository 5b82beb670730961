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

// A worker's share of the second cache: rows of the left operand, the panels that they are multiplied with, and their
// sums, each about half a megabyte.
constexpr std::int64_t kTileRows = 512;
constexpr std::int64_t kGroupPanels = 9;
constexpr std::int64_t kPanelStride = kTileRows * kPanel;  ///< from one panel's sums to the next's

/// The depth that is packed at a time, a multiple of the file's widest blocks, or all of it: what is deeper is added up
/// chunk by chunk. Our own kernel reads panels that exceed the first cache as fast as others; brgemm does not.
template <class T>
std::int64_t chunk_depth(std::int64_t depth) {
  const std::int64_t chunk = (sizeof(T) == sizeof(float) ? 1024 : 3072) / static_cast<std::int64_t>(sizeof(T));
  return depth <= chunk + chunk / 2 ? depth : chunk;
}

inline std::int64_t panels_of(std::int64_t columns) { return (columns + kPanel - 1) / kPanel; }

/// Scratch of one worker.
template <class T>
struct PanelScratch {
  T* panels;             ///< of a group
  T* extra;              ///< the adapter's panels beside them
  T* expanded;           ///< a block of a quantised matrix
  float* sums;           ///< (panels of a group, kTileRows, kPanel)
  std::uint8_t* int8;    ///< the group's panels in 8-bit integers, panel_size<std::uint8_t> of a chunk each
  float* steps;          ///< (panels of a group, groups of a chunk, kPanel)
};

struct ScratchSizes {
  std::int64_t panels, extra, expanded, sums, int8 = 0, steps = 0;  ///< elements
  std::size_t bytes(std::size_t element) const {
    auto round = [](std::size_t n) { return (n + 63) / 64 * 64; };
    return round(panels * element) + round(extra * element) + round(expanded * element) + round(sums * sizeof(float)) +
           round(int8) + round(steps * sizeof(float));
  }
};

/// Rows of a block that are packed before they become 8-bit integers: the widest blocks of the file, and whole groups.
constexpr std::int64_t kInt8Packed = 256;
static_assert(kInt8Packed % kInt8Group == 0);

inline std::int64_t int8_groups(std::int64_t depth) { return (depth + kInt8Group - 1) / kInt8Group; }

/// expanded: elements of a block of a quantised matrix that pack wants to expand first.
template <class T>
ScratchSizes scratch_sizes(std::int64_t depth, std::int64_t width, std::int64_t expanded, bool int8) {
  const std::int64_t chunk = int8 ? chunk_depth<std::uint8_t>(depth) : chunk_depth<T>(depth);
  ScratchSizes sizes{kGroupPanels * panel_size<T>(int8 ? kInt8Packed : chunk), kGroupPanels * panel_size<T>(width),
                     expanded, kGroupPanels * kTileRows * kPanel};
  if (!int8) return sizes;
  sizes.int8 = kGroupPanels * panel_size<std::uint8_t>(chunk);
  sizes.steps = kGroupPanels * int8_groups(chunk) * kPanel;
  return sizes;
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
  scratch.int8 = reinterpret_cast<std::uint8_t*>(next(sizes.int8, 1));
  scratch.steps = reinterpret_cast<float*>(next(sizes.steps, sizeof(float)));
  return scratch;
}

/// Rows in 8-bit integers (simd::RowKernels::quantise), and, where it is kept, what they are multiplied with.
struct Int8Rows {
  const std::int8_t* values;  ///< (rows, stride)
  std::int64_t stride;
  const float* steps;           ///< (rows, groups)
  const std::int32_t* offsets;  ///< the same
  std::int64_t groups, group;   ///< how many, of so many elements
  const std::uint8_t* panels = nullptr;  ///< of an Int8Matrix, whose group is the whole depth; null: B is packed anew
  const float* panel_steps = nullptr;
};

/// One product a B + a2 B2 whose B is packed panel by panel.
template <class T>
struct PanelProduct {
  std::int64_t rows, depth, columns;
  const T* a;
  std::int64_t a_stride;
  const T* a2 = nullptr;  ///< the adapter's part, or null
  std::int64_t depth2 = 0, a2_stride = 0;
  T* out = nullptr;  ///< where factor times the result goes, or null: put has the sums
  std::int64_t out_stride = 0;
  float factor = 1;
  const T* bias = nullptr;  ///< (columns), added to each row
  std::int64_t pair = 0;    ///< panel `pair + i` is computed with panel i; 0: each by itself
  const Int8Rows* int8 = nullptr;  ///< a, for a product a B in 8-bit integers, or null
};

/// What of B is packed: `count` panels from `panel` on, rows [begin, begin + depth) of each.
struct PanelBlock {
  std::int64_t panel, count, begin, depth;
};

/// Where the panels of a block lie, one after the other.
template <class T>
struct Packed {
  const T* at;
  std::int64_t stride;
};

/// Columns of panel p of the block that the result has.
template <class T>
std::int64_t columns_of(const PanelProduct<T>& product, const PanelBlock& block, std::int64_t p) {
  return std::min(kPanel, product.columns - (block.panel + p) * kPanel);
}

/// How many of the block's panels, from the first on, our own kernel rounds and writes: whole ones and half ones.
template <class T>
std::int64_t rounded_panels(const PanelProduct<T>& product, const PanelBlock& block) {
  if (sizeof(T) != sizeof(Bf16) || !product.out) return 0;
  const std::int64_t last = columns_of(product, block, block.count - 1);
  return last == kPanel || (2 * last == kPanel && !product.int8) ? block.count : block.count - 1;
}

/// Packs a block and turns it into 8-bit integers, kInt8Packed rows of it at a time.
template <class T, class Pack>
void pack_int8(PanelBlock block, PanelScratch<T>& scratch, Pack pack) {
  const std::int64_t size = panel_size<std::uint8_t>(block.depth), steps = int8_groups(block.depth) * kPanel;
  const std::int64_t first = block.begin, end = first + block.depth;
  for (; block.begin < end; block.begin += kInt8Packed) {
    block.depth = std::min(kInt8Packed, end - block.begin);
    const Packed<T> packed = pack(block, scratch);
    const std::int64_t done = block.begin - first;
    for (std::int64_t p = 0; p < block.count; ++p)
      simd::rows<T>().pack_int8(packed.at + p * packed.stride, block.depth, kInt8Group,
                                scratch.int8 + p * size + done * kPanel,
                                scratch.steps + p * steps + done / kInt8Group * kPanel);
  }
}

/// What of our own kernel's product comes after its sums: the adapter's part, rounding, the place of the result.
template <class T>
simd::TileProduct rest_of(const PanelProduct<T>& product, const PanelBlock& block, std::int64_t p, std::int64_t row,
                          std::int64_t rows, const PanelScratch<T>& scratch) {
  simd::TileProduct rest{.rows = rows};
  if (product.a2) {
    rest.depth2 = product.depth2;
    rest.a2 = product.a2 + row * product.a2_stride;
    rest.a2_stride = product.a2_stride;
    rest.panel2 = scratch.extra + p * panel_size<T>(product.depth2);
  }
  rest.out = product.out + row * product.out_stride + (block.panel + p) * kPanel;
  rest.out_stride = product.out_stride;
  rest.factor = product.factor;
  return rest;
}

/// multiply_chunk in 8-bit integers.
template <class T>
void multiply_int8(const PanelProduct<T>& product, const PanelBlock& block, std::int64_t p, std::int64_t row,
                   std::int64_t rows, const PanelScratch<T>& scratch, bool rounds) {
  const Int8Rows& a = *product.int8;
  const std::int64_t group = block.begin / a.group, size = panel_size<std::uint8_t>(block.depth);
  simd::Int8Product tile{rows, block.depth, a.values + row * a.stride + block.begin, a.stride,
                         a.steps + row * a.groups + group, a.offsets + row * a.groups + group, a.groups,
                         a.panels ? a.panels + (block.panel + p) * size : scratch.int8 + p * size,
                         a.panels ? a.panel_steps + (block.panel + p) * kPanel
                                  : scratch.steps + p * int8_groups(block.depth) * kPanel,
                         scratch.sums + p * kPanelStride, kPanel, block.begin > 0 || product.bias, a.group};
  simd::TileProduct rest;
  if constexpr (sizeof(T) == sizeof(Bf16))
    if (rounds) {
      tile.rest = &(rest = rest_of(product, block, p, row, rows, scratch));
      if (a.panels) rest.next = tile.panel + size;
    }
  simd::kernels().multiply_int8(tile);
}

/// Adds a chunk of the depth to a panel's sums; the last chunk is rounded to the result if `rounds` says so.
template <class T>
void multiply_chunk(const PanelProduct<T>& product, const PanelBlock& block, std::int64_t p, std::int64_t row,
                    std::int64_t rows, const Packed<T>& packed, const PanelScratch<T>& scratch, bool rounds) {
  rounds = rounds && block.begin + block.depth == product.depth;
  if (product.int8) return multiply_int8(product, block, p, row, rows, scratch, rounds);
  const T* panel = packed.at + p * packed.stride;
  const T* a = product.a + row * product.a_stride + block.begin;
  float* sums = scratch.sums + p * kPanelStride;
  const bool add = block.begin > 0 || product.bias;
  if constexpr (sizeof(T) == sizeof(Bf16)) {
    simd::TileProduct tile{.rows = rows};
    if (rounds) tile = rest_of(product, block, p, row, rows, scratch);
    tile.depth = (block.depth + 1) / 2 * 2;
    tile.a = a;
    tile.a_stride = product.a_stride;
    tile.panel = panel;
    tile.sums = sums;
    tile.sums_stride = kPanel;
    tile.add = add;
    if (2 * columns_of(product, block, p) <= kPanel) tile.columns = kPanel / 2;
    tile.next = panel + packed.stride;
    simd::kernels().multiply(tile);
  } else {
    multiply(rows, block.depth, a, product.a_stride, panel, sums, kPanel, add);
  }
}

/// Multiplies one group of panels with rows [first, last).
template <class T, class Pack, class Put>
void multiply_group(const PanelProduct<T>& product, PanelBlock block, std::int64_t first, std::int64_t last,
                    PanelScratch<T>& scratch, Pack pack, Put put) {
  const std::int64_t column = block.panel * kPanel;
  const bool kept = product.int8 && product.int8->panels;
  std::int64_t chunk = product.int8 ? chunk_depth<std::uint8_t>(product.depth) : chunk_depth<T>(product.depth);
  if (kept) chunk = product.depth;
  const std::int64_t columns = std::min(block.count * kPanel, product.columns - column);
  const std::int64_t rounded = rounded_panels(product, block);
  Packed<T> packed{};
  for (std::int64_t row = first; row < last; row += kTileRows) {
    const std::int64_t rows = std::min(kTileRows, last - row);
    for (std::int64_t p = 0; product.bias && p < block.count; ++p)
      for (std::int64_t i = 0; i < rows; ++i)
        simd::rows<T>().to_float(product.bias + column + p * kPanel, columns_of(product, block, p),
                                 scratch.sums + p * kPanelStride + i * kPanel);
    for (block.begin = 0; block.begin < product.depth; block.begin += chunk) {
      block.depth = std::min(chunk, product.depth - block.begin);
      const bool packs = !kept && (row == first || chunk < product.depth);
      if (packs && product.int8) pack_int8(block, scratch, pack);
      else if (packs) packed = pack(block, scratch);
      for (std::int64_t p = 0; p < block.count; ++p)
        multiply_chunk(product, block, p, row, rows, packed, scratch, p < rounded);
    }
    for (std::int64_t p = rounded; product.a2 && p < block.count; ++p)
      multiply(rows, product.depth2, product.a2 + row * product.a2_stride, product.a2_stride,
               scratch.extra + p * panel_size<T>(product.depth2), scratch.sums + p * kPanelStride, kPanel, true);
    const std::int64_t done = rounded * kPanel;
    if (!product.out)
      put(row, rows, column, columns, scratch.sums);
    else if (done < columns)
      simd::rows<T>().scaled_panels(scratch.sums + rounded * kPanelStride, kPanelStride, rows, columns - done,
                                    product.factor, product.out + row * product.out_stride + column + done,
                                    product.out_stride);
  }
}

/// Calls pack(block, scratch), which returns a Packed, for blocks of B that are not kept, and put(row, rows, first
/// column, columns, sums) for each finished tile of the result: with sums, panels of (rows, kPanel), kPanelStride
/// apart, where these have no other place to go, else when the tile, and the one that it is paired with, have just been
/// written. Splits the panels, and if these are few the rows, over the threads.
template <class T, class Pack, class Put>
void multiply_panels(const PanelProduct<T>& product, std::int64_t expanded, Workspace& workspace, Pack pack, Put put) {
  const std::int64_t panels = product.pair ? product.pair : panels_of(product.columns), threads = at::get_num_threads();
  const std::int64_t strips = (product.rows + 31) / 32;
  const std::int64_t parts = std::min(strips, std::max<std::int64_t>(1, 2 * threads / panels));
  const std::int64_t part_rows = (strips + parts - 1) / parts * 32;
  const ScratchSizes sizes = scratch_sizes<T>(product.depth, product.depth2, expanded, product.int8);
  Workspace::Frame frame(workspace);
  const auto bytes = static_cast<std::int64_t>(sizes.bytes(sizeof(T)));
  auto* region = static_cast<std::byte*>(workspace.take({threads, bytes}, at::kByte).data_ptr());
  at::parallel_for(0, parts * panels, 1, [&](std::int64_t begin, std::int64_t end) {
    TileScope scope;
    PanelScratch<T> scratch = scratch_at<T>(region + at::get_thread_num() * bytes, sizes);
    for (std::int64_t at = begin; at < end;) {
      const std::int64_t part = at / panels, panel = at % panels, left = std::min(end - at, panels - panel);
      const std::int64_t groups = (left + kGroupPanels - 1) / kGroupPanels, count = (left + groups - 1) / groups;
      const std::int64_t first = part * part_rows, last = std::min(product.rows, first + part_rows);
      multiply_group(product, {panel, count, 0, 0}, first, last, scratch, pack, put);
      if (product.pair) multiply_group(product, {product.pair + panel, count, 0, 0}, first, last, scratch, pack, put);
      if (product.out)
        put(first, last - first, panel * kPanel, std::min(count * kPanel, product.columns - panel * kPanel), nullptr);
      at += count;
    }
  });
}

/// What multiply_panels takes of the workspace, in bytes.
template <class T>
std::size_t panel_bytes(std::int64_t depth, std::int64_t depth2, std::int64_t expanded, int threads,
                        bool int8 = false) {
  const std::size_t bytes = scratch_sizes<T>(depth, depth2, expanded, int8).bytes(sizeof(T));
  return Workspace::size_of({threads, static_cast<std::int64_t>(bytes)}, at::kByte);
}

}  // namespace kpool
