#include "core/llama.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/decoder.hpp"
#include "core/kernels.hpp"
#include "core/loss.hpp"

namespace kpool {
namespace {

/// Rows whose loss counts are padded as tokens are.
std::int64_t padded(std::int64_t rows) { return (rows + kBatchPad - 1) / kBatchPad * kBatchPad; }

std::int64_t all_layers(const Base::Weights& weights) {
  KPOOL_ASSERT(weights.whole());
  return static_cast<std::int64_t>(weights.layers.size());
}

/// Runs the layers up to so many without keeping anything; the last one's delta is left to add.
void run(Decoder& decoder, const Batch& batch, std::int64_t layers) {
  KPOOL_ASSERT(batch.lower_layers <= layers);
  LayerTape tape;
  decoder.take_all(tape);
  for (std::int64_t i = batch.lower_layers; i < layers; ++i) decoder.forward(i, tape);
}

/// The final norm, and the loss of the rows that count.
struct Head {
  Head(const Base::Weights& weights, const Batch& batch, Workspace& workspace)
      : weights(weights), batch(batch), workspace(workspace),
        inverse(workspace.take({batch.ids.size(0)}, at::kFloat)),
        normed(workspace.take({batch.ids.size(0), weights.shape.hidden}, weights.dtype)) {}

  at::Tensor forward(Decoder& decoder, at::Tensor* gradient) {
    add_norm(decoder.hidden, decoder.delta, weights.final_norm, weights.shape.rms_epsilon, inverse, normed, workspace);
    Workspace::Frame frame(workspace);
    at::Tensor counted = workspace.take({padded(batch.counted), weights.shape.hidden}, weights.dtype);
    counted.narrow(0, batch.counted, counted.size(0) - batch.counted).zero_();
    counted.narrow(0, 0, batch.counted).copy_(normed.index_select(0, batch.rows));
    at::Tensor nats = at::empty({batch.counted}, at::TensorOptions(at::kFloat).device(counted.device()));
    token_nats(counted, weights.head, batch.targets, nats, gradient, workspace);
    return nats;
  }

  /// gradient: (counted, hidden) float32 of the counted rows' norm; to: (tokens, hidden) float32, rounded in dtype.
  void backward(Decoder& decoder, const at::Tensor& gradient, at::Tensor& to, at::Tensor& rounded) {
    normed.zero_();  // free by now: becomes the gradient of all rows
    normed.index_copy_(0, batch.rows, gradient.to(weights.dtype));
    to.zero_();
    norm_backward(normed, decoder.hidden, inverse, weights.final_norm, to, rounded, workspace);
  }

  const Base::Weights& weights;
  const Batch& batch;
  Workspace& workspace;
  at::Tensor inverse, normed;
};

/// What Head takes of the workspace while a pass lasts, and while it computes the loss.
struct HeadBytes {
  std::size_t kept, scratch;
};
HeadBytes head_bytes(const Base::Weights& weights, std::int64_t tokens, bool gradient, int threads) {
  const std::size_t row = Workspace::size_of({tokens, weights.shape.hidden}, weights.dtype);
  return {Workspace::size_of({tokens}, at::kFloat) + row,
          weights.whole() ? row + loss_bytes(weights.head, tokens, gradient, threads) : 0};
}

/// What a step takes beyond what its layers keep.
std::size_t step_bytes(const Base::Weights& weights, const LayerBytes& layer, std::int64_t tokens, int threads) {
  const std::size_t floats = Workspace::size_of({tokens, weights.shape.hidden}, at::kFloat);
  const std::size_t rounded = Workspace::size_of({tokens, weights.shape.hidden}, weights.dtype);
  const HeadBytes head = head_bytes(weights, tokens, true, threads);
  return layer.own + floats + rounded + head.kept +
         std::max({layer.forward + layer.inputs, layer.backward, floats + head.scratch});
}

std::vector<LayerTape> take_tapes(Decoder& decoder, const StepPlan& plan, std::int64_t layers) {
  std::vector<LayerTape> tapes(static_cast<std::size_t>(layers));
  for (std::int64_t i = 0; i < layers; ++i) {
    const std::int64_t from_top = layers - 1 - i;
    tapes[i].keep = from_top < plan.store_all                       ? Keep::all
                    : from_top < plan.store_all + plan.store_narrow ? Keep::narrow
                                                                    : Keep::inputs;
    decoder.take_kept(tapes[i]);
  }
  return tapes;
}

}  // namespace

StepPlan plan_step(const Base::Weights& weights, const LoraLayout& layout, std::int64_t tokens, int threads,
                   std::size_t bytes) {
  tokens = padded(tokens);
  const LayerBytes layer = layer_bytes(weights, &layout, tokens, threads);
  const std::int64_t layers = all_layers(weights) - layout.first_layer;
  StepPlan plan{layers, 0, 0, step_bytes(weights, layer, tokens, threads)};
  plan.bytes += static_cast<std::size_t>(layers) * layer.all;
  if (bytes == 0) return plan;
  for (; plan.bytes > bytes && plan.store_all > 0; plan.bytes -= layer.all - layer.narrow)
    --plan.store_all, ++plan.store_narrow;
  for (; plan.bytes > bytes && plan.store_narrow > 0; plan.bytes -= layer.narrow - layer.inputs)
    --plan.store_narrow, ++plan.store_inputs;
  return plan;
}

std::size_t forward_bytes(const Base::Weights& weights, const LoraLayout* layout, std::int64_t tokens, int threads) {
  tokens = padded(tokens);
  const LayerBytes layer = layer_bytes(weights, layout, tokens, threads);
  const HeadBytes head = head_bytes(weights, tokens, false, threads);
  return layer.own + std::max(layer.inputs + layer.forward, head.kept + head.scratch);
}

at::Tensor hidden_states(const Base::Weights& weights, const Batch& batch, std::int64_t layers, const Adapter* adapter,
                         Workspace& workspace, std::span<const Int8Layer> kept) {
  KPOOL_ASSERT(layers <= static_cast<std::int64_t>(weights.layers.size()));
  KPOOL_ASSERT(kept.empty() || layers <= static_cast<std::int64_t>(kept.size()));
  workspace.reserve(forward_bytes(weights, adapter ? adapter->layout : nullptr, batch.tokens, at::get_num_threads()));
  Workspace::Frame frame(workspace);
  Decoder decoder(weights, batch, adapter, workspace, kept);
  run(decoder, batch, layers);
  return decoder.delta.defined() ? decoder.hidden.add(decoder.delta) : decoder.hidden.clone();
}

void run_lower(const Base::Weights& weights, Batch& batch, std::int64_t layers, Workspace& workspace) {
  batch.lower = hidden_states(weights, batch, layers, nullptr, workspace);
  batch.lower_layers = layers;
}

void run_lower(const Base::Weights& weights, Batch& batch, std::span<const Segment> segments, std::int64_t given,
               std::int64_t layers, Workspace& workspace) {
  std::vector<Segment> others;
  for (const Segment& segment : segments)
    if (segment.hidden.empty()) others.push_back(segment);
  if (others.size() == segments.size()) return run_lower(weights, batch, layers, workspace);
  at::Tensor computed;
  if (!others.empty()) {
    Batch batch_of_others = make_batch(weights, others);
    batch_of_others.int8 = batch.int8;
    computed = hidden_states(weights, batch_of_others, given, nullptr, workspace);
  }
  const std::int64_t width = weights.shape.hidden;
  // Padding is of no consequence, but must stay finite.
  batch.lower = at::ones({batch.ids.size(0), width}, at::TensorOptions(at::kFloat).device(batch.ids.device()));
  std::int64_t row = 0, other = 0;
  for (const Segment& segment : segments) {
    const auto length = static_cast<std::int64_t>(segment.tokens.size());
    KPOOL_ASSERT(segment.hidden.empty() || static_cast<std::int64_t>(segment.hidden.size()) == length * width);
    at::Tensor rows = batch.lower.narrow(0, row, length);
    row += length;
    if (segment.hidden.empty()) rows.copy_(computed.narrow(0, std::exchange(other, other + length), length));
    else rows.copy_(at::from_blob(const_cast<float*>(segment.hidden.data()), {length, width}, at::kFloat));
  }
  batch.lower_layers = given;
  computed.reset();
  if (layers > given) run_lower(weights, batch, layers, workspace);
}

at::Tensor logits(const Base::Weights& weights, const Batch& batch, const Adapter* adapter, Workspace& workspace) {
  at::Tensor hidden = hidden_states(weights, batch, all_layers(weights), adapter, workspace);
  at::Tensor inverse = at::empty({hidden.size(0)}, hidden.options());
  at::Tensor normed = at::empty(hidden.sizes(), hidden.options().dtype(weights.dtype));
  add_norm(hidden, {}, weights.final_norm, weights.shape.rms_epsilon, inverse, normed, workspace);
  return at::mm(normed, weights.head.expanded().t());
}

at::Tensor nats(const Base::Weights& weights, const Batch& batch, const Adapter* adapter, Workspace& workspace) {
  workspace.reserve(forward_bytes(weights, adapter ? adapter->layout : nullptr, batch.tokens, at::get_num_threads()));
  Workspace::Frame frame(workspace);
  Decoder decoder(weights, batch, adapter, workspace);
  {
    Workspace::Frame layers(workspace);
    run(decoder, batch, all_layers(weights));
    if (decoder.delta.defined()) decoder.hidden.add_(decoder.delta);
    decoder.delta.reset();
  }
  return Head(weights, batch, workspace).forward(decoder, nullptr);
}

at::Tensor nats_and_gradient(const Base::Weights& weights, const Batch& batch, const Adapter& adapter,
                             const StepPlan& plan, std::span<float> gradient, Workspace& workspace) {
  const std::int64_t lowest = adapter.layout->first_layer, layers = all_layers(weights) - lowest;
  KPOOL_ASSERT(static_cast<std::int64_t>(gradient.size()) == adapter.layout->size);
  KPOOL_ASSERT(plan.store_all + plan.store_narrow + plan.store_inputs == layers);
  workspace.reserve(plan.bytes);
  Workspace::Frame frame(workspace);
  Decoder decoder(weights, batch, &adapter, workspace);
  Head head(weights, batch, workspace);
  at::Tensor dhidden = workspace.take({batch.ids.size(0), weights.shape.hidden}, at::kFloat);
  at::Tensor rounded = workspace.take({batch.ids.size(0), weights.shape.hidden}, weights.dtype);
  std::vector<LayerTape> tapes = take_tapes(decoder, plan, layers);
  {
    Workspace::Frame below(workspace);
    run(decoder, batch, lowest);
    if (decoder.delta.defined()) decoder.hidden.add_(decoder.delta);
    decoder.delta.reset();
  }
  for (std::int64_t i = 0; i < layers; ++i) decoder.forward(lowest + i, tapes[i]);
  at::Tensor result;
  {
    Workspace::Frame loss(workspace);
    at::Tensor dcounted = workspace.take({batch.counted, weights.shape.hidden}, at::kFloat);
    result = head.forward(decoder, &dcounted);
    head.backward(decoder, dcounted, dhidden, rounded);
  }
  for (std::int64_t i = layers; i-- > 0;) decoder.backward(lowest + i, tapes[i], dhidden, rounded, gradient);
  return result;
}

}  // namespace kpool
