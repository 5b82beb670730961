// What both passes of attention on tiles share: who sees whom, the packed keys and values, the scores of one block, and
// the handing out of tasks. Inside core/ only; plain functions and views, valid for one call.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/base.hpp"
#include "core/batch.hpp"
#include "core/gemm.hpp"
#include "core/result.hpp"

namespace kpool::tiles {

/// Blocks of queries and keys begin and end at multiples of this (or at the last row, which is one too), so that the
/// tile products meet few distinct shapes, whatever the lengths of the segments are.
constexpr std::int64_t kGrain = kPanel;

constexpr std::int64_t grain_below(std::int64_t row) { return row / kGrain * kGrain; }
constexpr std::int64_t grains(std::int64_t count) { return (count + kGrain - 1) / kGrain; }

/// Cuts a region into aligned pieces; without a region it adds up what they take.
class Carver {
 public:
  explicit Carver(std::byte* region) : region_(region) {}
  template <class U>
  U* take(std::int64_t count) {
    U* piece = region_ ? reinterpret_cast<U*>(region_ + used_) : nullptr;
    used_ += (static_cast<std::size_t>(count) * sizeof(U) + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }
  std::size_t used() const { return used_; }

 private:
  static constexpr std::size_t kAlignment = 64;  // tiles load a line at a time: half as fast across two
  std::byte* region_;
  std::size_t used_ = 0;
};

/// The heads of one (tokens, (heads + 2 kv_heads) width) tensor.
template <class T>  // const or not
struct Heads {
  T* data;
  std::int64_t tokens, width, heads, kv_heads, group, stride;
  const std::int64_t* starts;  ///< (tokens): first row of each row's segment

  Heads(T* qkv, const Batch& batch, const BaseShape& shape)
      : data(qkv), tokens(static_cast<std::int64_t>(batch.starts.size())), width(shape.head_width), heads(shape.heads),
        kv_heads(shape.kv_heads), group(heads / kv_heads), stride((heads + 2 * kv_heads) * width),
        starts(batch.starts.data()) {
    KPOOL_ASSERT(tokens % kGrain == 0 && width % 2 == 0 && heads % kv_heads == 0);
  }
  T* query(std::int64_t row, std::int64_t head) const { return data + row * stride + head * width; }
  T* key(std::int64_t row, std::int64_t head) const { return query(row, heads + head); }
  T* value(std::int64_t row, std::int64_t head) const { return query(row, heads + kv_heads + head); }
};

/// What queries are multiplied by.
inline float scale_of(const BaseShape& shape) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_width)));
}

/// Rows per block of queries. The heads of a group are stacked in it, which share their keys. brgemm begins late when
/// tiles differ in size from the last ones, so it wants few and large blocks; our own kernel does not, and small blocks
/// waste less on the diagonal.
inline std::int64_t rows_per_block(const BaseShape& shape) {
  constexpr std::int64_t kMost = 128, kStacked = 256;
  if (multiplies_bfloat16()) return kGrain;
  return std::clamp(grain_below(kStacked * shape.kv_heads / shape.heads), kGrain, kMost);
}

/// Queries [row, row_end) of all heads of one group, stacked head by head, against keys [key, key_end).
struct Block {
  std::int64_t kv, row, row_end, key, key_end;
  const std::int64_t* starts;

  std::int64_t rows() const { return row_end - row; }
  std::int64_t keys() const { return key_end - key; }
  /// The keys that a row sees: [seen_from(row), seen_to(row)), empty where the block holds none.
  std::int64_t seen_from(std::int64_t r) const { return std::min(std::max(starts[r], key), seen_to(r)); }
  std::int64_t seen_to(std::int64_t r) const { return std::max(std::min(r + 1, key_end), key); }
};

/// Rows as columns of B, the operand of scores: (kv_heads, tokens / kGrain) panels of depth width.
template <class T>
struct ColumnPanels {
  T* data;
  std::int64_t per_head, size;
  ColumnPanels(Carver& carver, std::int64_t tokens, const BaseShape& shape)
      : per_head(tokens / kGrain), size(panel_size<T>(shape.head_width)) {
    data = carver.take<T>(shape.kv_heads * per_head * size);
  }
  T* panel(std::int64_t head, std::int64_t row) const { return data + (head * per_head + row / kGrain) * size; }
  void pack(const T* rows, std::int64_t stride, std::int64_t width, std::int64_t head, std::int64_t row) const {
    simd::rows<T>().pack_columns(rows, stride, width, kGrain, panel(head, row));
  }
};

/// Rows as rows of B, the operand of weighted sums: (kv_heads, width / kPanel rounded up) panels of depth tokens.
template <class T>
struct RowPanels {
  T* data;
  std::int64_t per_head, depth;
  RowPanels(Carver& carver, std::int64_t tokens, const BaseShape& shape)
      : per_head(grains(shape.head_width)), depth(tokens) {
    data = carver.take<T>(shape.kv_heads * per_head * depth * kPanel);
  }
  T* panel(std::int64_t head, std::int64_t column, std::int64_t row) const {
    return data + ((head * per_head + column / kPanel) * depth + row) * kPanel;
  }
  void pack(const T* rows, std::int64_t stride, std::int64_t width, std::int64_t head, std::int64_t row) const {
    for (std::int64_t column = 0; column < width; column += kPanel)
      simd::rows<T>().pack_rows(rows + column, stride, kGrain, std::min(kPanel, width - column),
                                panel(head, column, row));
  }
};

/// The block's rows of all heads of the group, stacked: out (group rows, width). Rows lie `stride` apart, heads width.
template <class T>
void stack_rows(const Block& block, const T* rows, std::int64_t stride, std::int64_t group, std::int64_t width,
                T* out) {
  const auto bytes = static_cast<std::size_t>(width) * sizeof(T);
  for (std::int64_t i = 0; i < group; ++i)
    for (std::int64_t j = 0; j < block.rows(); ++j, out += width)
      std::memcpy(out, rows + j * stride + i * width, bytes);
}

/// out = a (group rows, width) times the panels of the block's keys, seen or not: (group rows, kPanel) each, with rows
/// `stride` apart; the panels lie `step` apart.
template <class T>
void multiply_rows(const Block& block, const T* a, std::int64_t group, std::int64_t width,
                   const ColumnPanels<T>& panels, float* out, std::int64_t stride, std::int64_t step) {
  for (std::int64_t key = block.key; key < block.key_end; key += kGrain, out += step)
    multiply(group * block.rows(), width, a, width, panels.panel(block.kv, key), out, stride, false);
}

/// out (group rows, width rounded up) (+)= a (group rows, keys) times the block's keys in row panels.
template <class T>
void multiply_keys(const Block& block, const T* a, std::int64_t a_stride, std::int64_t group, std::int64_t width,
                   const RowPanels<T>& panels, float* out, bool add) {
  const std::int64_t stride = grains(width) * kPanel;
  for (std::int64_t column = 0; column < width; column += kPanel)
    multiply(group * block.rows(), block.keys(), a, a_stride, panels.panel(block.kv, column, block.key), out + column,
             stride, add);
}

/// Sets a panel's scores (group rows, kPanel) to minus infinity where the query does not see the key.
inline void hide_unseen(const Block& block, std::int64_t panel, std::int64_t group, float* scores) {
  const Block part{block.kv, block.row, block.row_end, panel, panel + kGrain, block.starts};
  if (part.seen_to(part.row) == part.key_end && part.seen_from(part.row_end - 1) == part.key) return;  // all see all
  for (std::int64_t i = 0; i < group; ++i)
    for (std::int64_t row = part.row; row < part.row_end; ++row, scores += kPanel) {
      const auto from = static_cast<int>(part.seen_from(row) - panel), to = static_cast<int>(part.seen_to(row) - panel);
      for (int c = 0; c < kPanel; ++c)  // without branches: vectors
        scores[c] = (c >= from) & (c < to) ? scores[c] : -std::numeric_limits<float>::infinity();
    }
}

/// Clears what a row of the block's probabilities holds beyond the keys that it sees.
template <class T>
void clear_unseen(const Block& block, std::int64_t from, std::int64_t to, T* p) {
  if (from > block.key) std::memset(p, 0, static_cast<std::size_t>(from - block.key) * sizeof(T));
  if (to < block.key_end) std::memset(p + to - block.key, 0, static_cast<std::size_t>(block.key_end - to) * sizeof(T));
}

/// Calls task(index, worker) once for each index below count, in this order as workers come free.
template <class F>
void run_tasks(std::int64_t count, F task) {
  std::atomic<std::int64_t> next{0};
  at::parallel_for(0, at::get_num_threads(), 1, [&](std::int64_t worker, std::int64_t) {
    TileScope scope;
    for (std::int64_t i = next++; i < count; i = next++) task(i, worker);
  });
}

template <class T>
const T* data(const at::Tensor& x) {
  KPOOL_ASSERT(x.is_contiguous() && x.element_size() == sizeof(T));
  return static_cast<const T*>(x.const_data_ptr());
}
template <class T>
T* mutable_data(at::Tensor& x) {
  KPOOL_ASSERT(x.is_contiguous() && x.element_size() == sizeof(T));
  return static_cast<T*>(x.mutable_data_ptr());
}

template <class F>
auto by_type(at::ScalarType dtype, F f) {
  KPOOL_ASSERT(dtype == at::kFloat || dtype == at::kBFloat16);
  return dtype == at::kFloat ? f(float{}) : f(Bf16{});
}

}  // namespace kpool::tiles
