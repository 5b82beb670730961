#include "core/decoder.hpp"

#include <algorithm>

#include "core/attention.hpp"
#include "core/kernels.hpp"

namespace kpool {

struct Decoder::Linears {
  Linear qkv, output, gate_up, down;
};

namespace {

constexpr std::size_t kQkv = 0, kOutput = 1, kGateUp = 2, kDown = 3;

}  // namespace

Decoder::Decoder(const Base::Weights& weights, const Batch& batch, const Adapter* adapter, Workspace& workspace,
                 std::span<const Int8Layer> kept)
    : weights_(weights), batch_(batch), adapter_(adapter), workspace_(workspace), tokens_(batch.ids.size(0)),
      kept_(kept) {
  KPOOL_ASSERT(kept.empty() || !adapter);
  hidden = workspace.take({tokens_, weights.shape.hidden}, at::kFloat);
  KPOOL_ASSERT(!adapter || batch.lower_layers <= adapter->layout->first_layer);
  hidden.copy_(batch.lower.defined() ? batch.lower : gather_rows(weights.embedding, batch.ids));
  normed_ = take(weights.shape.hidden);
}

const LoraGroup* Decoder::group(std::int64_t layer, std::size_t linear) const {
  if (!adapter_ || layer < adapter_->layout->first_layer) return nullptr;
  return &adapter_->layout->groups[4 * static_cast<std::size_t>(layer - adapter_->layout->first_layer) + linear];
}

Decoder::Linears Decoder::linears(std::int64_t layer) const {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  const Int8Layer* kept = kept_.empty() ? nullptr : &kept_[static_cast<std::size_t>(layer)];
  auto of = [&](const FrozenMatrix& matrix, const Int8Matrix Int8Layer::*rounded, const at::Tensor* bias,
                std::size_t linear) {
    const LoraGroup* at = group(layer, linear);
    const LoraMatrices* lora = at ? &adapter_->groups[static_cast<std::size_t>(at - adapter_->layout->groups.data())]
                                  : nullptr;
    return Linear{matrix, bias, lora, adapter_ ? adapter_->scale : 0, batch_.int8, kept ? &(kept->*rounded) : nullptr};
  };
  return {of(w.qkv, &Int8Layer::qkv, w.qkv_bias.defined() ? &w.qkv_bias : nullptr, kQkv),
          of(w.output, &Int8Layer::output, nullptr, kOutput), of(w.gate_up, &Int8Layer::gate_up, nullptr, kGateUp),
          of(w.down, &Int8Layer::down, nullptr, kDown)};
}

GradientSink Decoder::sink(std::int64_t layer, std::size_t linear, std::span<float> flat) const {
  return {*adapter_->layout, *group(layer, linear), flat};
}

void Decoder::take_inputs(LayerTape& tape) {
  tape.attention_inverse = workspace_.take({tokens_}, at::kFloat);
  tape.ffn_inverse = workspace_.take({tokens_}, at::kFloat);
  tape.attended = take(weights_.shape.hidden);
  tape.down = take(weights_.shape.hidden);
}

void Decoder::take_narrow(LayerTape& tape) {
  const BaseShape& shape = weights_.shape;
  tape.qkv = take((shape.heads + 2 * shape.kv_heads) * shape.head_width);
  tape.mixed = take(shape.heads * shape.head_width);
  tape.log_sums = workspace_.take({shape.heads, tokens_}, at::kFloat);
  if (!adapter_) return;
  for (std::size_t i = 0; i < 4; ++i) tape.bent[i] = take(adapter_->layout->width(adapter_->layout->groups[i]));
}

void Decoder::take_wide(LayerTape& tape) { tape.gate_up = take(2 * weights_.shape.ffn); }

void Decoder::take_kept(LayerTape& tape) {
  if (tape.keep >= Keep::inputs) take_inputs(tape);
  if (tape.keep >= Keep::narrow) take_narrow(tape);
  if (tape.keep >= Keep::all) take_wide(tape);
}

void Decoder::take_all(LayerTape& tape) {
  take_inputs(tape);
  take_narrow(tape);
  take_wide(tape);
}

/// From the normed input to the heads' outputs.
void Decoder::attention(const Linears& linears, LayerTape& tape) {
  project(linears.qkv, normed_, tape.bent[kQkv], tape.qkv, workspace_);
  rotate(tape.qkv, batch_, weights_.shape, workspace_);
  attend(tape.qkv, batch_, weights_.shape, tape.mixed, tape.log_sums, workspace_);
}

void Decoder::forward(std::int64_t layer, LayerTape& tape) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  const double epsilon = weights_.shape.rms_epsilon;
  const Linears at = linears(layer);
  Workspace::Frame frame(workspace_);
  LayerTape work = tape;
  if (!work.qkv.defined()) take_narrow(work);
  if (!work.gate_up.defined()) take_wide(work);
  add_norm(hidden, delta, w.attention_norm, epsilon, work.attention_inverse, normed_, workspace_);
  attention(at, work);
  project(at.output, work.mixed, work.bent[kOutput], work.attended, workspace_);
  add_norm(hidden, work.attended, w.ffn_norm, epsilon, work.ffn_inverse, normed_, workspace_);
  at::Tensor gated = take(weights_.shape.ffn);
  project_gated(at.gate_up, normed_, work.bent[kGateUp], work.gate_up, gated, workspace_);
  project(at.down, gated, work.bent[kDown], work.down, workspace_);
  delta = work.down;
}

/// Undoes the FFN's addition, and computes what the tape has not kept. Leaves the FFN's input in normed_.
void Decoder::recompute(std::int64_t layer, const Linears& at, LayerTape& work) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  take_norm(hidden, work.down, w.ffn_norm, work.ffn_inverse, normed_, workspace_);
  const bool narrow = work.keep < Keep::narrow;
  if (narrow) {
    take_narrow(work);
    take_norm(hidden, work.attended, w.attention_norm, work.attention_inverse, normed_, workspace_);
    attention(at, work);
    bend(at.output, work.mixed, work.bent[kOutput], workspace_);
    add_norm(hidden, work.attended, w.ffn_norm, weights_.shape.rms_epsilon, work.ffn_inverse, normed_, workspace_);
  }
  if (work.keep >= Keep::all) return;
  take_wide(work);
  project(at.gate_up, normed_, work.bent[kGateUp], work.gate_up, workspace_);
  if (!narrow) return;
  Workspace::Frame frame(workspace_);
  at::Tensor gated = take(weights_.shape.ffn);
  swiglu(work.gate_up, gated, workspace_);
  bend(at.down, gated, work.bent[kDown], workspace_);
}

void Decoder::ffn_backward(std::int64_t layer, const Linears& at, const LayerTape& work, at::Tensor& gradient,
                           at::Tensor& rounded, std::span<float> flat) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  Workspace::Frame frame(workspace_);
  at::Tensor gated = take(weights_.shape.ffn);
  at::Tensor dgate_up = take(2 * weights_.shape.ffn), dnormed = take(weights_.shape.hidden);
  at::Tensor dbent_down = take(work.bent[kDown].size(1)), dbent = take(work.bent[kGateUp].size(1));
  project_gated_backward(at.down, work.bent[kDown], rounded, dbent_down, work.gate_up, dgate_up, gated,
                         sink(layer, kDown, flat), workspace_);
  a_gradient(gated, dbent_down, sink(layer, kDown, flat), workspace_);
  project_backward(at.gate_up, work.bent[kGateUp], dgate_up, dbent, &dnormed, sink(layer, kGateUp, flat), workspace_);
  a_gradient(normed_, dbent, sink(layer, kGateUp, flat), workspace_);
  norm_backward(dnormed, hidden, work.ffn_inverse, w.ffn_norm, gradient, rounded, workspace_);
}

void Decoder::attention_backward(std::int64_t layer, const Linears& at, const LayerTape& work, at::Tensor& gradient,
                                 at::Tensor& rounded, std::span<float> flat) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  Workspace::Frame frame(workspace_);
  take_norm(hidden, work.attended, w.attention_norm, work.attention_inverse, normed_, workspace_);
  at::Tensor dmixed = take(work.mixed.size(1)), dqkv = take(work.qkv.size(1)), dnormed = take(weights_.shape.hidden);
  at::Tensor dbent_output = take(work.bent[kOutput].size(1)), dbent = take(work.bent[kQkv].size(1));
  project_backward(at.output, work.bent[kOutput], rounded, dbent_output, &dmixed, sink(layer, kOutput, flat),
                   workspace_);
  a_gradient(work.mixed, dbent_output, sink(layer, kOutput, flat), workspace_);
  attend_backward(dmixed, work.mixed, work.qkv, work.log_sums, batch_, weights_.shape, dqkv, workspace_);
  const bool more = layer > adapter_->layout->first_layer;  // nothing below the lowest adapter learns
  project_backward(at.qkv, work.bent[kQkv], dqkv, dbent, more ? &dnormed : nullptr, sink(layer, kQkv, flat),
                   workspace_);
  a_gradient(normed_, dbent, sink(layer, kQkv, flat), workspace_);
  if (more) norm_backward(dnormed, hidden, work.attention_inverse, w.attention_norm, gradient, rounded, workspace_);
}

void Decoder::backward(std::int64_t layer, const LayerTape& tape, at::Tensor& gradient, at::Tensor& rounded,
                       std::span<float> flat) {
  const Linears at = linears(layer);
  Workspace::Frame frame(workspace_);
  LayerTape work = tape;
  recompute(layer, at, work);
  ffn_backward(layer, at, work, gradient, rounded, flat);
  attention_backward(layer, at, work, gradient, rounded, flat);
}

LayerBytes layer_bytes(const Base::Weights& weights, const LoraLayout* layout, std::int64_t tokens, int threads) {
  const BaseShape& shape = weights.shape;
  const std::int64_t qkv = (shape.heads + 2 * shape.kv_heads) * shape.head_width, q = shape.heads * shape.head_width;
  auto rows = [&](std::int64_t columns) { return Workspace::size_of({tokens, columns}, weights.dtype); };
  std::int64_t widths[4] = {};
  for (std::size_t i = 0; layout && i < 4; ++i) widths[i] = layout->width(layout->groups[i]);
  std::size_t bent = 0;
  for (const std::int64_t width : widths) bent += rows(width);
  std::size_t inner = attention_bytes(shape, tokens, weights.dtype, threads);
  if (!weights.layers.empty()) {
    const LayerWeights& w = weights.layers[0];
    const FrozenMatrix* matrices[] = {&w.qkv, &w.output, &w.gate_up, &w.down};
    for (std::size_t i = 0; i < 4; ++i) inner = std::max(inner, linear_bytes(*matrices[i], widths[i], tokens, threads));
  }
  LayerBytes bytes;
  bytes.own = Workspace::size_of({tokens, shape.hidden}, at::kFloat) + rows(shape.hidden);
  bytes.inputs = 2 * Workspace::size_of({tokens}, at::kFloat) + 2 * rows(shape.hidden);
  bytes.narrow = bytes.inputs + rows(qkv) + rows(q) + Workspace::size_of({shape.heads, tokens}, at::kFloat) + bent;
  bytes.all = bytes.narrow + rows(2 * shape.ffn);
  bytes.forward = bytes.all - bytes.inputs + rows(shape.ffn) + inner;
  const std::size_t ffn = 3 * rows(shape.ffn) + rows(shape.hidden);
  const std::size_t attention = rows(q) + rows(qkv) + rows(shape.hidden);
  bytes.backward = bytes.all - bytes.inputs + std::max(ffn, attention) + bent + inner;
  return bytes;
}

}  // namespace kpool
