// Samples packed into one sequence: token ids, positions that restart per segment, the blocks that
// attention works in, and the rows whose next token counts. Plain data, built per step, one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "core/base.hpp"

namespace kpool {

/// One contiguous text inside the packed sequence.
struct Segment {
  std::span<const std::int32_t> tokens;
  std::int64_t context = 1;  ///< so many leading tokens are not predicted (at least the first)
  std::span<const float> hidden = {};  ///< (tokens, hidden) after the lowest layers, where known already (run_lower)
};

/// Queries [row, row + rows) of the packed sequence against keys [key, key + keys). Attention in such
/// bands has GEMMs of a few fixed shapes, whatever the lengths of the segments are.
struct AttentionBlock {
  std::int64_t row = 0, rows = 0, key = 0, keys = 0;
  std::int64_t masked = 0;  ///< the mask covers only keys from this column on
  at::Tensor mask;          ///< (rows, keys - masked) dtype: 0 where the key is visible, else minus infinity
};

struct Batch {
  at::Tensor ids;   ///< (tokens) int64, padded to a multiple of 32
  at::Tensor cos;   ///< (tokens, head_width / 2) float32
  at::Tensor sin;   ///< (tokens, head_width / 2) float32
  std::vector<AttentionBlock> blocks;
  std::vector<std::int64_t> starts;  ///< (tokens, padded): the first row of each row's segment; padding is one segment
  at::Tensor rows;     ///< (counted) int64: rows whose next token is predicted
  at::Tensor targets;  ///< (counted) int64: that next token
  std::vector<std::int64_t> counted_per_segment;
  at::Tensor lower;  ///< (tokens, padded, hidden) float32: hidden states after the lowest lower_layers layers, which no
                     ///< adapter changes; passes over the batch begin there. Undefined: with the embedding
  std::int64_t lower_layers = 0;
  bool int8 = false;           ///< passes over the batch take the forward products of the layers in 8-bit integers
  std::int64_t tokens = 0;   ///< before padding
  std::int64_t counted = 0;
};

/// Rows are padded to a multiple of this.
constexpr std::int64_t kBatchPad = 32;

/// Every token must be below the vocabulary's size. apart: each segment is padded by itself, so that its rows meet the
/// same tiles whatever lies before it, in products and, where these have blocks of kBatchPad rows, in attention; wider
/// blocks see rows of other segments with a weight of zero.
Batch make_batch(const Base::Weights& weights, std::span<const Segment> segments, bool apart = false);

}  // namespace kpool
