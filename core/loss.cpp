#include "core/loss.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/frozen_panels.hpp"
#include "core/library.hpp"

namespace kpool {
namespace {

constexpr std::int64_t kRowsAtOnce = 1024;         ///< of x: bounds the workers' sums for long batches
constexpr std::int64_t kLossRows = 64;              ///< whose logits stay in the first cache
constexpr std::int64_t kRowStep = 32;               ///< tiles have few heights, for each of which oneDNN makes a kernel
constexpr std::int64_t kBlockBytes = 320 << 10;    ///< of the head, taken together: packed both ways it fits the cache

std::int64_t up_to(std::int64_t n, std::int64_t step) { return (n + step - 1) / step * step; }

struct Shape {
  std::int64_t rows, hidden, padded_hidden, vocabulary, block;  ///< block: rows of the head at a time
  bool gradient, expands;
};

template <class T>
Shape shape_of(const FrozenMatrix& head, std::int64_t rows, bool gradient) {
  const std::int64_t fits = kBlockBytes / (head.columns * static_cast<std::int64_t>(sizeof(T))) / kPanel * kPanel;
  return {std::min(up_to(rows, kRowStep), kRowsAtOnce), head.columns, up_to(head.columns, kPanel), head.rows,
          std::clamp<std::int64_t>(fits, kPanel, 256), gradient, !head.panels.defined()};
}

/// One worker's running state and scratch; places in one region of the workspace.
template <class T>
struct Share {
  float *maximum, *sum, *logit;  ///< (rows)
  float* mixed;                  ///< (rows, padded_hidden): sum of weights times the head's rows, but the target's
  T* weights;                    ///< (rows, block): exp(logit - maximum) of the block
  T* forward;                    ///< panels of the block's rows as columns, where the head is quantised
  T* backward;                   ///< panels of the block's columns
  T* expanded;                   ///< (block, hidden) of a quantised head
  T* row;                        ///< (padded_hidden): one row of the head
  float* wide_row;               ///< the same
  float* logits;                 ///< (kLossRows, block)
};

/// Places the parts behind one another and returns their bytes; without a region it measures.
template <class T>
std::size_t place(const Shape& s, std::byte* region, Share<T>& share) {
  std::int64_t used = 0;
  auto next = [&]<class E>(E*& part, std::int64_t count) {
    part = region ? reinterpret_cast<E*>(region + used) : nullptr;
    used += up_to(count * static_cast<std::int64_t>(sizeof(E)), 64);
  };
  for (float** part : {&share.maximum, &share.sum, &share.logit}) next(*part, s.rows);
  next(share.mixed, s.gradient ? s.rows * s.padded_hidden : 0);
  next(share.weights, s.rows * s.block);
  next(share.forward, s.expands ? s.block / kPanel * panel_size<T>(s.hidden) : 0);
  next(share.backward, s.gradient ? s.padded_hidden / kPanel * panel_size<T>(s.block) : 0);
  next(share.expanded, s.expands ? s.block * s.hidden : 0);
  next(share.row, s.padded_hidden);
  next(share.wide_row, s.padded_hidden);
  next(share.logits, kLossRows * s.block);
  return static_cast<std::size_t>(used);
}

template <class T>
class Worker {
 public:
  Worker(const Shape& shape, const T* x, std::int64_t rows, const FrozenMatrix& head, const std::int64_t* targets,
         const Share<T>& share)
      : shape_(shape), x_(x), rows_(rows), head_(head), targets_(targets), share_(share) {
    std::fill(share.maximum, share.maximum + rows, -std::numeric_limits<float>::infinity());
    std::fill(share.sum, share.sum + rows, 0.0f);
    std::fill(share.logit, share.logit + rows, 0.0f);
    if (shape.gradient) std::fill(share.mixed, share.mixed + rows * shape.padded_hidden, 0.0f);
  }

  void take(std::int64_t first) {
    const std::int64_t count = std::min(shape_.block, shape_.vocabulary - first);
    const Packed<T> forward =
        pack_forward(head_, {first / kPanel, (count + kPanel - 1) / kPanel, 0, shape_.hidden}, scratch(share_.forward));
    for (std::int64_t row = 0; row < rows_; row += kLossRows) weigh(forward, row, first, count);
    if (shape_.gradient) mix(first, count);
  }

 private:
  /// Logits of one tile of rows, then their exponentials into weights.
  void weigh(const Packed<T>& forward, std::int64_t row, std::int64_t first, std::int64_t count) {
    const std::int64_t rows = std::min(kLossRows, rows_ - row), block = shape_.block;
    for (std::int64_t c = 0; c < count; c += kPanel)
      multiply(up_to(rows, kRowStep), shape_.hidden, x_ + row * shape_.hidden, shape_.hidden,
               forward.at + c / kPanel * forward.stride, share_.logits + c, block, false);
    for (std::int64_t i = row; i < row + rows; ++i) weigh_row(i, share_.logits + (i - row) * block, first, count);
  }

  void weigh_row(std::int64_t i, const float* logits, std::int64_t first, std::int64_t count) {
    const float highest = simd::kernels().maximum(logits, count);
    if (highest > share_.maximum[i]) {
      const float factor = std::exp(share_.maximum[i] - highest);
      share_.maximum[i] = highest;
      share_.sum[i] *= factor;
      float* mixed = share_.mixed + i * shape_.padded_hidden;
      for (std::int64_t j = 0; shape_.gradient && j < shape_.padded_hidden; ++j) mixed[j] *= factor;
    }
    T* weights = share_.weights + i * shape_.block;
    share_.sum[i] += simd::rows<T>().exponentials(logits, count, share_.maximum[i], 1, weights);
    if (count < shape_.block) std::fill(weights + count, weights + shape_.block, T{});
    const std::int64_t target = targets_[i] - first;
    if (target < 0 || target >= count) return;
    share_.logit[i] = logits[target];
    weights[target] = T{};  // added at the end, where probability - 1 is exact
  }

  void mix(std::int64_t first, std::int64_t count) {
    const std::int64_t hidden = shape_.hidden, stride = shape_.padded_hidden;
    const PanelBlock block{0, stride / kPanel, first, count};
    const Packed<T> backward =
        shape_.expands
            ? pack_block<T>(share_.expanded - first * hidden, hidden, hidden, block, scratch(share_.backward))
            : turn_panels(head_, block, scratch(share_.backward));
    for (std::int64_t row = 0; row < rows_; row += kLossRows)
      for (std::int64_t c = 0; c < hidden; c += kPanel)
        multiply(up_to(std::min(kLossRows, rows_ - row), kRowStep), count, share_.weights + row * shape_.block,
                 shape_.block, backward.at + c / kPanel * backward.stride, share_.mixed + row * stride + c, stride,
                 true);
  }

  PanelScratch<T>& scratch(T* panels) {
    panels_ = {panels, nullptr, share_.expanded, nullptr, nullptr, nullptr};
    return panels_;
  }

  const Shape& shape_;
  const T* x_;
  const std::int64_t rows_;
  const FrozenMatrix& head_;
  const std::int64_t* targets_;
  const Share<T> share_;
  PanelScratch<T> panels_{};
};

/// Results of a row of the chunk out of all workers' shares. scratch: the calling worker's own.
template <class T>
class Merge {
 public:
  Merge(const Shape& shape, const std::vector<Share<T>>& shares, const FrozenMatrix& head, double count)
      : shape_(shape), shares_(shares), head_(head), count_(count) {}

  /// Returns the nats of row i; gradient: (hidden), or null.
  float row(std::int64_t i, std::int64_t target, float* gradient, const Share<T>& scratch) const {
    float maximum = -std::numeric_limits<float>::infinity(), logit = 0;
    double sum = 0;
    for (const auto& share : shares_) {
      maximum = std::max(maximum, share.maximum[i]);
      logit += share.logit[i];  // zero but in the share that has the target
    }
    for (const auto& share : shares_) sum += share.sum[i] * std::exp(static_cast<double>(share.maximum[i]) - maximum);
    const double nats = std::log(sum) + maximum - logit;
    if (gradient) mix(i, target, maximum, sum, std::expm1(-nats), gradient, scratch);
    return static_cast<float>(nats);
  }

 private:
  /// surplus: the target's probability - 1.
  void mix(std::int64_t i, std::int64_t target, float maximum, double sum, double surplus, float* gradient,
           const Share<T>& scratch) const {
    const std::int64_t hidden = shape_.hidden;
    head_.expand(target, 1, 0, hidden, scratch.row, hidden);
    simd::rows<T>().to_float(scratch.row, hidden, scratch.wide_row);
    const auto pull = static_cast<float>(surplus / count_);
    for (std::int64_t j = 0; j < hidden; ++j) gradient[j] = pull * scratch.wide_row[j];
    for (const auto& share : shares_) {
      const double scale = std::exp(static_cast<double>(share.maximum[i]) - maximum) / (sum * count_);
      const auto push = static_cast<float>(scale);
      const float* mixed = share.mixed + i * shape_.padded_hidden;
      for (std::int64_t j = 0; j < hidden; ++j) gradient[j] += push * mixed[j];
    }
  }

  const Shape& shape_;
  const std::vector<Share<T>>& shares_;
  const FrozenMatrix& head_;
  const double count_;
};

template <class T>
void nats_as(const at::Tensor& x, const FrozenMatrix& head, const at::Tensor& targets, float* nats, float* gradient,
             Workspace& workspace) {
  const std::int64_t rows = targets.size(0), hidden = head.columns, threads = at::get_num_threads();
  const Shape shape = shape_of<T>(head, rows, gradient != nullptr);
  Workspace::Frame frame(workspace);
  Share<T> measured;
  const auto bytes = static_cast<std::int64_t>(place<T>(shape, nullptr, measured));
  auto* region = static_cast<std::byte*>(workspace.take({threads, bytes}, at::kByte).data_ptr());
  std::vector<Share<T>> shares(static_cast<std::size_t>(threads));
  for (std::int64_t t = 0; t < threads; ++t) place<T>(shape, region + t * bytes, shares[t]);
  const std::int64_t blocks = (shape.vocabulary + shape.block - 1) / shape.block;
  for (std::int64_t first = 0; first < rows; first += shape.rows) {
    const std::int64_t count = std::min(shape.rows, rows - first);
    const std::int64_t* wanted = targets.const_data_ptr<std::int64_t>() + first;
    at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
      TileScope scope;
      for (std::int64_t t = begin; t < end; ++t) {
        Worker<T> worker(shape, data<T>(x) + first * hidden, count, head, wanted, shares[t]);
        for (std::int64_t b = blocks * t / threads; b < blocks * (t + 1) / threads; ++b) worker.take(b * shape.block);
      }
    });
    const Merge<T> merge(shape, shares, head, static_cast<double>(rows));
    at::parallel_for(0, count, kLossRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        nats[first + i] = merge.row(i, wanted[i], gradient ? gradient + (first + i) * hidden : nullptr,
                                    shares[at::get_thread_num()]);
    });
  }
}

}  // namespace

void token_nats(const at::Tensor& x, const FrozenMatrix& head, const at::Tensor& targets, at::Tensor& nats,
                at::Tensor* gradient, Workspace& workspace) {
  if (workspace.operators() == Operators::library) return library::token_nats(x, head, targets, nats, gradient);
  workspace.enter(Section::loss);
  KPOOL_ASSERT(x.size(0) == up_to(targets.size(0), kRowStep) && x.size(1) == head.columns);
  KPOOL_ASSERT(nats.size(0) == targets.size(0));
  by_type(head.dtype, [&]<class T>(T) {
    nats_as<T>(x, head, targets, data<float>(nats), gradient ? data<float>(*gradient) : nullptr, workspace);
  });
}

std::size_t loss_bytes(const FrozenMatrix& head, std::int64_t rows, bool gradient, int threads) {
  std::size_t bytes = 0;
  by_type(head.dtype, [&]<class T>(T) {
    Share<T> measured;
    bytes = place<T>(shape_of<T>(head, rows, gradient), nullptr, measured);
  });
  return Workspace::size_of({threads, static_cast<std::int64_t>(bytes)}, at::kByte);
}

}  // namespace kpool
