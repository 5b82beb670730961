#include "core/attention_tiles.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "core/attention_blocks.hpp"
#include "core/attention_tiles_backward.hpp"

namespace kpool::tiles {
namespace {

constexpr std::int64_t kKeys = 512;              // keys between two looks at the maximum
constexpr std::int64_t kStride = kKeys + kGrain;  // a power of two would put the rows of a tile into one cache set
constexpr std::int64_t kRowsPerTask = 32;

/// What one worker needs for one block; `stacked` is group times rows.
template <class T>
struct Scratch {
  T* queries;              ///< (stacked, width)
  float* scores;           ///< (stacked, kStride)
  T* p;                    ///< (stacked, kStride): exponentials
  float* mixed;            ///< (stacked, width rounded up): sum of p v
  float *maximum, *total;  ///< (stacked): of the scores so far; of the exponentials so far
  std::int64_t stacked;

  Scratch(Carver& carver, const BaseShape& shape) : stacked(rows_per_block(shape) * shape.heads / shape.kv_heads) {
    queries = carver.take<T>(stacked * shape.head_width);
    scores = carver.take<float>(stacked * kStride);
    p = carver.take<T>(stacked * kStride);
    mixed = carver.take<float>(stacked * grains(shape.head_width) * kPanel);
    maximum = carver.take<float>(stacked);
    total = carver.take<float>(stacked);
  }
};

template <class T>
struct Panels {
  ColumnPanels<T> keys;
  RowPanels<T> values;
  Panels(Carver& carver, std::int64_t tokens, const BaseShape& shape)
      : keys(carver, tokens, shape), values(carver, tokens, shape) {}
};

template <class T>
std::size_t panel_bytes(const BaseShape& shape, std::int64_t tokens) {
  Carver carver(nullptr);
  Panels<T>(carver, tokens, shape);
  return carver.used();
}

template <class T>
std::size_t scratch_bytes(const BaseShape& shape) {
  Carver carver(nullptr);
  Scratch<T>(carver, shape);
  return carver.used();
}

/// Turns one row's scores into exponentials under the maximum so far, and brings what was summed under an older one
/// down to it. i: the row among the stacked.
template <class T>
void exponentiate(const Block& block, std::int64_t row, std::int64_t i, std::int64_t width, const Scratch<T>& scratch) {
  const std::int64_t from = block.seen_from(row), to = block.seen_to(row);
  T* p = scratch.p + i * kStride;
  clear_unseen(block, from, to, p);
  if (from == to) return;
  const float* scores = scratch.scores + i * kStride + from - block.key;
  const float before = scratch.maximum[i], maximum = std::max(before, simd::kernels().maximum(scores, to - from));
  const float sum = simd::rows<T>().exponentials(scores, to - from, maximum, 1, p + from - block.key);
  const float kept = maximum == before ? 1 : std::exp(before - maximum);
  scratch.maximum[i] = maximum;
  scratch.total[i] = scratch.total[i] * kept + sum;
  if (kept == 1 || before == -std::numeric_limits<float>::infinity()) return;  // nothing to bring down
  float* mixed = scratch.mixed + i * grains(width) * kPanel;
  simd::rows<float>().scaled(mixed, width, kept, mixed);
}

/// The heads of one group, from row on.
template <class T>
void attend_rows(const Heads<const T>& heads, const Panels<T>& panels, std::int64_t kv, std::int64_t row,
                 std::int64_t row_end, const Scratch<T>& scratch, T* out, float* log_sums) {
  const std::int64_t width = heads.width, group = heads.group, rows = row_end - row;
  const std::int64_t first = grain_below(heads.starts[row]);
  std::fill(scratch.maximum, scratch.maximum + scratch.stacked, -std::numeric_limits<float>::infinity());
  std::fill(scratch.total, scratch.total + scratch.stacked, 0.0f);
  stack_rows({kv, row, row_end, first, first, heads.starts}, heads.query(row, kv * group), heads.stride, group, width,
             scratch.queries);
  for (std::int64_t key = first; key < row_end; key += kKeys) {
    const Block block{kv, row, row_end, key, std::min(key + kKeys, row_end), heads.starts};
    multiply_rows(block, scratch.queries, group, width, panels.keys, scratch.scores, kStride, kPanel);
    for (std::int64_t i = 0; i < group * rows; i += rows)
      for (std::int64_t j = 0; j < rows; ++j) exponentiate(block, row + j, i + j, width, scratch);
    multiply_keys(block, scratch.p, kStride, group, width, panels.values, scratch.mixed, key != first);
  }
  for (std::int64_t i = 0; i < group; ++i)
    for (std::int64_t j = 0; j < rows; ++j) {
      const std::int64_t head = kv * group + i, stacked = i * rows + j;
      simd::rows<T>().scaled(scratch.mixed + stacked * grains(width) * kPanel, width, 1 / scratch.total[stacked],
                             out + ((row + j) * heads.heads + head) * width);
      log_sums[head * heads.tokens + row + j] = scratch.maximum[stacked] + std::log(scratch.total[stacked]);
    }
}

/// The first rows of the blocks, those with the most keys first.
std::vector<std::int64_t> rows_by_work(const std::vector<std::int64_t>& starts, std::int64_t step) {
  std::vector<std::int64_t> rows;
  for (std::int64_t row = 0; row < static_cast<std::int64_t>(starts.size()); row += step) rows.push_back(row);
  std::stable_sort(rows.begin(), rows.end(), [&](auto a, auto b) { return a - starts[a] > b - starts[b]; });
  return rows;
}

template <class T>
void attend(const at::Tensor& qkv, const Batch& batch, const BaseShape& shape, at::Tensor& out, at::Tensor& log_sums,
            Workspace& workspace) {
  const Heads<const T> heads(data<T>(qkv), batch, shape);
  KPOOL_ASSERT(qkv.numel() == heads.tokens * heads.stride && log_sums.numel() == heads.heads * heads.tokens);
  KPOOL_ASSERT(out.numel() == heads.tokens * heads.heads * heads.width);
  const Workspace::Frame frame(workspace);
  const auto per_worker = static_cast<std::int64_t>(scratch_bytes<T>(shape));
  at::Tensor packed = workspace.take({static_cast<std::int64_t>(panel_bytes<T>(shape, heads.tokens))}, at::kByte);
  at::Tensor scratch = workspace.take({at::get_num_threads(), per_worker}, at::kByte);
  auto* scratch_data = reinterpret_cast<std::byte*>(scratch.mutable_data_ptr());
  Carver carver(reinterpret_cast<std::byte*>(packed.mutable_data_ptr()));
  const Panels<T> panels(carver, heads.tokens, shape);
  at::parallel_for(0, heads.kv_heads * heads.tokens / kGrain, 4, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t kv = i % heads.kv_heads, row = i / heads.kv_heads * kGrain;
      panels.keys.pack(heads.key(row, kv), heads.stride, heads.width, kv, row);
      panels.values.pack(heads.value(row, kv), heads.stride, heads.width, kv, row);
    }
  });
  const std::int64_t step = rows_per_block(shape);
  const std::vector<std::int64_t> rows = rows_by_work(batch.starts, step);
  T* to = mutable_data<T>(out);
  float* sums = mutable_data<float>(log_sums);
  run_tasks(static_cast<std::int64_t>(rows.size()) * heads.kv_heads, [&](std::int64_t task, std::int64_t worker) {
    Carver own(scratch_data + worker * per_worker);
    const std::int64_t row = rows[task / heads.kv_heads], row_end = std::min(row + step, heads.tokens);
    attend_rows<T>(heads, panels, task % heads.kv_heads, row, row_end, Scratch<T>(own, shape), to, sums);
  });
}

template <class T>
void rotate(at::Tensor& qkv, const Batch& batch, const BaseShape& shape) {
  const Heads<T> heads(mutable_data<T>(qkv), batch, shape);
  const float* cos = data<float>(batch.cos);
  const float* sin = data<float>(batch.sin);
  const std::int64_t half = heads.width / 2;
  const float scale = scale_of(shape);
  at::parallel_for(0, heads.tokens, kRowsPerTask, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row)
      for (std::int64_t head = 0; head < heads.heads + heads.kv_heads; ++head)
        simd::rows<T>().rotate(heads.query(row, head), cos + row * half, sin + row * half, half,
                               head < heads.heads ? scale : 1);
  });
}

}  // namespace

void rotate(at::Tensor& qkv, const Batch& batch, const BaseShape& shape) {
  by_type(qkv.scalar_type(), [&]<class T>(T) { rotate<T>(qkv, batch, shape); });
}

void attend(const at::Tensor& qkv, const Batch& batch, const BaseShape& shape, at::Tensor& out, at::Tensor& log_sums,
            Workspace& workspace) {
  by_type(qkv.scalar_type(), [&]<class T>(T) { attend<T>(qkv, batch, shape, out, log_sums, workspace); });
}

std::size_t attention_bytes(const BaseShape& shape, std::int64_t tokens, at::ScalarType dtype, int threads) {
  return by_type(dtype, [&]<class T>(T) {
    const auto panels = static_cast<std::int64_t>(panel_bytes<T>(shape, tokens));
    const auto scratch = static_cast<std::int64_t>(scratch_bytes<T>(shape));
    const std::size_t forward =
        Workspace::size_of({panels}, at::kByte) + Workspace::size_of({threads, scratch}, at::kByte);
    return std::max(forward, attention_backward_bytes(shape, tokens, dtype, threads));
  });
}

}  // namespace kpool::tiles
