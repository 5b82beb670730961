#include "core/batch.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/weights.hpp"

namespace kpool {
namespace {

constexpr std::int64_t kBlock = 128;  ///< queries per block: GEMMs large enough, little wasted above the diagonal

std::size_t padded(std::size_t rows) { return (rows + kBatchPad - 1) / kBatchPad * kBatchPad; }

/// Appends to the tokens and to where the segment of each row begins; padding is a segment of its own.
void pad(std::vector<std::int64_t>& ids, std::vector<std::int64_t>& starts) {
  ids.resize(padded(ids.size()), 0);
  starts.resize(ids.size(), static_cast<std::int64_t>(starts.size()));
}

at::Tensor make_mask(const AttentionBlock& block, const std::vector<std::int64_t>& starts, at::ScalarType dtype) {
  at::Tensor mask = at::zeros({block.rows, block.keys - block.masked}, at::kFloat);
  float* out = mask.mutable_data_ptr<float>();
  for (std::int64_t i = block.row; i < block.row + block.rows; ++i)
    for (std::int64_t j = block.key + block.masked; j < block.key + block.keys; ++j, ++out)
      if (j > i || j < starts[i]) *out = -std::numeric_limits<float>::infinity();
  return mask.to(dtype);
}

std::vector<AttentionBlock> make_blocks(const std::vector<std::int64_t>& starts, at::ScalarType dtype) {
  std::vector<AttentionBlock> blocks;
  const auto tokens = static_cast<std::int64_t>(starts.size());
  for (std::int64_t row = 0; row < tokens; row += kBlock) {
    AttentionBlock block;
    block.row = row;
    block.rows = std::min(kBlock, tokens - row);
    block.key = starts[row] / kBlock * kBlock;
    block.keys = row + block.rows - block.key;
    const bool one_segment = starts[row] == block.key && starts[row + block.rows - 1] == starts[row];
    block.masked = one_segment ? row - block.key : 0;
    block.mask = make_mask(block, starts, dtype);
    blocks.push_back(std::move(block));
  }
  return blocks;
}

void fill_rope(const std::vector<double>& frequencies, const std::vector<std::int64_t>& starts, Batch& batch) {
  const auto half = static_cast<std::int64_t>(frequencies.size()), tokens = static_cast<std::int64_t>(starts.size());
  batch.cos = at::empty({tokens, half}, at::kFloat);
  batch.sin = at::empty({tokens, half}, at::kFloat);
  float* cos = batch.cos.mutable_data_ptr<float>();
  float* sin = batch.sin.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < tokens; ++i)
    for (const double frequency : frequencies) {
      const double angle = static_cast<double>(i - starts[i]) * frequency;
      *cos++ = static_cast<float>(std::cos(angle));
      *sin++ = static_cast<float>(std::sin(angle));
    }
}

at::Tensor to_tensor(const std::vector<std::int64_t>& values) {
  at::Tensor out = at::empty({static_cast<std::int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), out.mutable_data_ptr<std::int64_t>());
  return out;
}

void move(Batch& batch, at::Device device) {
  for (at::Tensor* tensor : {&batch.ids, &batch.rows, &batch.targets, &batch.cos, &batch.sin})
    *tensor = tensor->to(device);
  for (AttentionBlock& block : batch.blocks) block.mask = block.mask.to(device);
}

}  // namespace

Batch make_batch(const Base::Weights& weights, std::span<const Segment> segments, bool apart) {
  Batch batch;
  std::vector<std::int64_t> ids, rows, targets;
  for (const Segment& segment : segments) {
    if (apart) pad(ids, batch.starts);
    const auto first = static_cast<std::int64_t>(ids.size());
    const auto length = static_cast<std::int64_t>(segment.tokens.size());
    const std::size_t before = rows.size();
    for (std::int64_t i = 0; i < length; ++i) {
      KPOOL_ASSERT(segment.tokens[i] >= 0 && segment.tokens[i] < weights.shape.vocabulary);
      if (i >= std::max<std::int64_t>(segment.context, 1)) {
        rows.push_back(static_cast<std::int64_t>(ids.size()) - 1);
        targets.push_back(segment.tokens[i]);
      }
      ids.push_back(segment.tokens[i]);
    }
    batch.starts.resize(ids.size(), first);
    batch.counted_per_segment.push_back(static_cast<std::int64_t>(rows.size() - before));
  }
  KPOOL_ASSERT(!ids.empty());
  batch.tokens = static_cast<std::int64_t>(ids.size());
  batch.counted = static_cast<std::int64_t>(rows.size());
  pad(ids, batch.starts);
  batch.ids = to_tensor(ids);
  batch.rows = to_tensor(rows);
  batch.targets = to_tensor(targets);
  batch.blocks = make_blocks(batch.starts, weights.dtype);
  fill_rope(weights.inverse_frequencies, batch.starts, batch);
  if (!weights.device.is_cpu()) move(batch, weights.device);
  return batch;
}

}  // namespace kpool
