// One pass over the scores. A task is one key-value head and a strip of queries: it finishes their gradients, and adds
// up apart what the strip gives to keys and values, so that no sum depends on who was first; a last sweep adds the
// strips.
#include "core/attention_tiles_backward.hpp"

#include <vector>

#include "core/attention_blocks.hpp"
#include "core/attention_tiles.hpp"

namespace kpool::tiles {
namespace {

constexpr std::int64_t kKeys = 256;               // the depth of the products that give dq
constexpr std::int64_t kStride = kKeys + kGrain;  // a power of two would put the rows of a tile into one cache set

/// Queries [row, row_end), which see keys from `key` on.
struct Strip {
  std::int64_t row, row_end, key;
  std::int64_t first_panel;  ///< its place among the sums
  std::int64_t work = 0;     ///< pairs of a block of queries and a key
  std::int64_t panels() const { return (row_end - key) / kGrain; }
};

/// Strips per key-value head: the fewest that keep the threads evenly busy.
std::int64_t strips_wanted(std::int64_t kv_heads, std::int64_t threads) {
  for (std::int64_t strips = (threads + kv_heads - 1) / kv_heads;; ++strips) {
    const std::int64_t tasks = strips * kv_heads, rounds = (tasks + threads - 1) / threads;
    if (10 * tasks >= 9 * rounds * threads) return strips;
  }
}

/// Cuts the batch into strips of about the same work, a multiple of `step` rows each; the one with the most first.
std::vector<Strip> make_strips(const std::vector<std::int64_t>& starts, std::int64_t step, std::int64_t wanted) {
  const auto tokens = static_cast<std::int64_t>(starts.size());
  std::vector<std::int64_t> work{0};  // before each block
  for (std::int64_t row = 0; row < tokens; row += step)
    work.push_back(work.back() + std::min(row + step, tokens) - grain_below(starts[row]));
  std::vector<Strip> strips;
  std::int64_t row = 0, panels = 0;
  for (std::int64_t i = 1; i <= wanted && row < tokens; ++i) {
    const std::int64_t target = work.back() * i / wanted;
    auto end = std::upper_bound(work.begin() + row / step + 1, work.end() - 1, target);
    if (end - 1 > work.begin() + row / step && target - *(end - 1) < *end - target) --end;
    if (i == wanted) end = work.end() - 1;
    strips.push_back({row, std::min((end - work.begin()) * step, tokens), grain_below(starts[row]), panels,
                      *end - work[row / step]});
    panels += strips.back().panels();
    row = strips.back().row_end;
  }
  std::stable_sort(strips.begin(), strips.end(), [](auto& a, auto& b) { return a.work > b.work; });
  return strips;
}

/// What one worker needs for one block; `stacked` is group times rows.
template <class T>
struct Scratch {
  T *queries, *douts;               ///< (stacked, width)
  float *scores, *dp;               ///< (kKeys / kPanel, stacked, kPanel)
  T *p, *packed_ds;                 ///< one packed panel of probabilities, and of the gradients of the scores
  T* ds;                            ///< (stacked, kStride): these gradients, all
  T *query_columns, *dout_columns;  ///< (width, column_stride): q and dout, transposed
  float* dq;                        ///< (stacked, width rounded up)
  float *log_sums, *mean;           ///< (stacked): of the exponentials; of dp under p
  float* turned;                    ///< (kGrain, width): dk or dv, transposed back
  std::int64_t column_stride;

  Scratch(Carver& carver, const BaseShape& shape) {
    const std::int64_t stacked = rows_per_block(shape) * shape.heads / shape.kv_heads, width = shape.head_width;
    column_stride = stacked + kGrain;
    for (T** rows : {&queries, &douts}) *rows = carver.take<T>(stacked * width);
    for (float** rows : {&scores, &dp}) *rows = carver.take<float>(stacked * kKeys);
    for (T** panel : {&p, &packed_ds}) *panel = carver.take<T>(panel_size<T>(stacked));
    for (T** columns : {&query_columns, &dout_columns}) *columns = carver.take<T>(width * column_stride);
    ds = carver.take<T>(stacked * kStride);
    dq = carver.take<float>(stacked * grains(width) * kPanel);
    for (float** rows : {&log_sums, &mean}) *rows = carver.take<float>(stacked);
    turned = carver.take<float>(kGrain * width);
  }
};

/// What all workers share.
template <class T>
struct Shared {
  ColumnPanels<T> keys, values;
  RowPanels<T> key_rows;
  float* sums;  ///< (panels of all strips, kv_heads, 2, width, kPanel): dk, then dv, of a strip's keys as columns
  std::int64_t kv_heads, panel;

  Shared(Carver& carver, std::int64_t tokens, std::int64_t sum_panels, const BaseShape& shape)
      : keys(carver, tokens, shape), values(carver, tokens, shape), key_rows(carver, tokens, shape),
        sums(carver.take<float>(sum_panels * shape.kv_heads * 2 * shape.head_width * kPanel)),
        kv_heads(shape.kv_heads), panel(shape.head_width * kPanel) {}
  float* dk(const Strip& strip, std::int64_t kv, std::int64_t key) const {
    return sums + ((strip.first_panel + (key - strip.key) / kGrain) * kv_heads + kv) * 2 * panel;
  }
  float* dv(const Strip& strip, std::int64_t kv, std::int64_t key) const { return dk(strip, kv, key) + panel; }
};

template <class T>
struct Pass {
  const T *dout, *out;  ///< (tokens, heads width)
  Heads<const T> qkv;
  Heads<T> dqkv;
  const float* log_sums;     ///< (heads, tokens)
  const float *cos, *sin;    ///< (tokens, width / 2)
  float scale;
  Shared<T> shared;

  std::int64_t out_stride() const { return qkv.heads * qkv.width; }
  const T* dout_row(std::int64_t row, std::int64_t head) const { return dout + row * out_stride() + head * qkv.width; }
  const T* out_row(std::int64_t row, std::int64_t head) const { return out + row * out_stride() + head * qkv.width; }

  void pack(std::int64_t kv, std::int64_t row) const {
    shared.keys.pack(qkv.key(row, kv), qkv.stride, qkv.width, kv, row);
    shared.values.pack(qkv.value(row, kv), qkv.stride, qkv.width, kv, row);
    shared.key_rows.pack(qkv.key(row, kv), qkv.stride, qkv.width, kv, row);
  }
  void prepare(const Block& block, const Scratch<T>& scratch) const;
  void keys(const Block& block, const Strip& strip, const Scratch<T>& scratch) const;
  void queries(const Strip& strip, std::int64_t kv, std::int64_t row, std::int64_t row_end,
               const Scratch<T>& scratch) const;
  void finish_keys(const std::vector<Strip>& strips, std::int64_t kv, std::int64_t key,
                   const Scratch<T>& scratch) const;
};

/// What depends on the block's queries alone.
template <class T>
void Pass<T>::prepare(const Block& block, const Scratch<T>& scratch) const {
  const simd::RowKernels<T>& kernels = simd::rows<T>();
  const std::int64_t head = block.kv * qkv.group, width = qkv.width, stacked = qkv.group * block.rows();
  stack_rows(block, qkv.query(block.row, head), qkv.stride, qkv.group, width, scratch.queries);
  stack_rows(block, dout_row(block.row, head), out_stride(), qkv.group, width, scratch.douts);
  kernels.transpose(scratch.queries, width, stacked, width, scratch.query_columns, scratch.column_stride);
  kernels.transpose(scratch.douts, width, stacked, width, scratch.dout_columns, scratch.column_stride);
  for (std::int64_t i = 0, stacked_row = 0; i < qkv.group; ++i)
    for (std::int64_t row = block.row; row < block.row_end; ++row, ++stacked_row) {
      scratch.mean[stacked_row] = kernels.dot(scratch.douts + stacked_row * width, out_row(row, head + i), width);
      scratch.log_sums[stacked_row] = log_sums[(head + i) * qkv.tokens + row];
    }
}

/// ds of the block; dk^T += q^T ds and dv^T += dout^T p. The first to come to a panel of keys overwrites it.
template <class T>
void Pass<T>::keys(const Block& block, const Strip& strip, const Scratch<T>& scratch) const {
  const std::int64_t depth = qkv.group * block.rows(), stride = scratch.column_stride, step = depth * kPanel;
  multiply_rows(block, scratch.queries, qkv.group, qkv.width, shared.keys, scratch.scores, kPanel, step);
  multiply_rows(block, scratch.douts, qkv.group, qkv.width, shared.values, scratch.dp, kPanel, step);
  for (std::int64_t key = block.key; key < block.key_end; key += kGrain) {
    const bool add = key < block.row && block.row != strip.row;
    const std::int64_t place = (key - block.key) / kGrain * step;
    hide_unseen(block, key, qkv.group, scratch.scores + place);
    simd::rows<T>().softmax_backward(scratch.scores + place, scratch.dp + place, depth, scratch.log_sums, scratch.mean,
                                     scratch.p, scratch.packed_ds, scratch.ds + key - block.key, kStride);
    multiply(qkv.width, depth, scratch.dout_columns, stride, scratch.p, shared.dv(strip, block.kv, key), kPanel, add);
    multiply(qkv.width, depth, scratch.query_columns, stride, scratch.packed_ds, shared.dk(strip, block.kv, key),
             kPanel, add);
  }
}

/// The queries of one group from row on.
template <class T>
void Pass<T>::queries(const Strip& strip, std::int64_t kv, std::int64_t row, std::int64_t row_end,
                      const Scratch<T>& scratch) const {
  const std::int64_t first = grain_below(qkv.starts[row]), width = qkv.width, half = width / 2;
  prepare({kv, row, row_end, first, first, qkv.starts}, scratch);
  for (std::int64_t key = first; key < row_end; key += kKeys) {
    const Block block{kv, row, row_end, key, std::min(key + kKeys, row_end), qkv.starts};
    keys(block, strip, scratch);
    multiply_keys(block, scratch.ds, kStride, qkv.group, width, shared.key_rows, scratch.dq, key != first);
  }
  const float* dq = scratch.dq;
  for (std::int64_t i = 0; i < qkv.group; ++i)
    for (std::int64_t at = row; at < row_end; ++at, dq += grains(width) * kPanel)
      simd::rows<T>().unrotate(dq, cos + at * half, sin + at * half, half, scale, dqkv.query(at, kv * qkv.group + i));
}

/// dk and dv of kGrain keys, from the sums of the strips that see them.
template <class T>
void Pass<T>::finish_keys(const std::vector<Strip>& strips, std::int64_t kv, std::int64_t key,
                          const Scratch<T>& scratch) const {
  float* sum = nullptr;
  for (const Strip& strip : strips) {
    if (key < strip.key || key >= strip.row_end) continue;
    float* part = shared.dk(strip, kv, key);
    if (sum) simd::rows<float>().add_to_float(part, 2 * shared.panel, sum);
    else sum = part;
  }
  const std::int64_t width = qkv.width, half = width / 2;
  const auto turn = simd::rows<float>().transpose;
  turn(sum, kPanel, width, kPanel, scratch.turned, width);
  for (std::int64_t i = 0; i < kGrain; ++i)
    simd::rows<T>().unrotate(scratch.turned + i * width, cos + (key + i) * half, sin + (key + i) * half, half, 1,
                             dqkv.key(key + i, kv));
  turn(sum + shared.panel, kPanel, width, kPanel, scratch.turned, width);
  for (std::int64_t i = 0; i < kGrain; ++i)
    simd::rows<T>().from_float(scratch.turned + i * width, width, dqkv.value(key + i, kv));
}

template <class T>
std::size_t shared_bytes(const BaseShape& shape, std::int64_t tokens, std::int64_t sum_panels) {
  Carver carver(nullptr);
  Shared<T>(carver, tokens, sum_panels, shape);
  return carver.used();
}

template <class T>
std::size_t scratch_bytes(const BaseShape& shape) {
  Carver carver(nullptr);
  Scratch<T>(carver, shape);
  return carver.used();
}

template <class T>
void attend_backward(const at::Tensor& dout, const at::Tensor& out, const at::Tensor& qkv, const at::Tensor& log_sums,
                     const Batch& batch, const BaseShape& shape, at::Tensor& dqkv, Workspace& workspace) {
  const auto tokens = static_cast<std::int64_t>(batch.starts.size());
  const std::int64_t step = rows_per_block(shape);
  const std::int64_t wanted = strips_wanted(shape.kv_heads, at::get_num_threads());
  const std::vector<Strip> strips = make_strips(batch.starts, step, wanted);
  const Workspace::Frame frame(workspace);
  std::int64_t sum_panels = 0;
  for (const Strip& strip : strips) sum_panels += strip.panels();
  const auto per_worker = static_cast<std::int64_t>(scratch_bytes<T>(shape));
  at::Tensor all = workspace.take({static_cast<std::int64_t>(shared_bytes<T>(shape, tokens, sum_panels))}, at::kByte);
  at::Tensor scratch = workspace.take({at::get_num_threads(), per_worker}, at::kByte);
  Carver carver(reinterpret_cast<std::byte*>(all.mutable_data_ptr()));
  const Pass<T> pass{data<T>(dout), data<T>(out), Heads<const T>(data<T>(qkv), batch, shape),
                     Heads<T>(mutable_data<T>(dqkv), batch, shape), data<float>(log_sums), data<float>(batch.cos),
                     data<float>(batch.sin), scale_of(shape), Shared<T>(carver, tokens, sum_panels, shape)};
  auto scratch_of = [&](std::int64_t worker) {
    Carver own(reinterpret_cast<std::byte*>(scratch.mutable_data_ptr()) + worker * per_worker);
    return Scratch<T>(own, shape);
  };
  const std::int64_t panels = shape.kv_heads * tokens / kGrain;
  at::parallel_for(0, panels, 4, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) pass.pack(i % shape.kv_heads, i / shape.kv_heads * kGrain);
  });
  run_tasks(static_cast<std::int64_t>(strips.size()) * shape.kv_heads, [&](std::int64_t task, std::int64_t worker) {
    const Strip& strip = strips[task / shape.kv_heads];
    for (std::int64_t row = strip.row; row < strip.row_end; row += step)
      pass.queries(strip, task % shape.kv_heads, row, std::min(row + step, strip.row_end), scratch_of(worker));
  });
  run_tasks(panels, [&](std::int64_t i, std::int64_t worker) {
    pass.finish_keys(strips, i % shape.kv_heads, i / shape.kv_heads * kGrain, scratch_of(worker));
  });
}

}  // namespace

void attend_backward(const at::Tensor& dout, const at::Tensor& out, const at::Tensor& qkv, const at::Tensor& log_sums,
                     const Batch& batch, const BaseShape& shape, at::Tensor& dqkv, Workspace& workspace) {
  by_type(qkv.scalar_type(), [&]<class T>(T) {
    attend_backward<T>(dout, out, qkv, log_sums, batch, shape, dqkv, workspace);
  });
}

std::size_t attention_backward_bytes(const BaseShape& shape, std::int64_t tokens, at::ScalarType dtype, int threads) {
  return by_type(dtype, [&]<class T>(T) {
    const std::int64_t sum_panels = strips_wanted(shape.kv_heads, threads) * tokens / kGrain;
    const auto shared = static_cast<std::int64_t>(shared_bytes<T>(shape, tokens, sum_panels));
    const auto scratch = static_cast<std::int64_t>(scratch_bytes<T>(shape));
    return Workspace::size_of({shared}, at::kByte) + Workspace::size_of({threads, scratch}, at::kByte);
  });
}

}  // namespace kpool::tiles
