#include "core/llama.hpp"

#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>

#include <vector>

#include "core/attention.hpp"
#include "core/kernels.hpp"
#include "core/loss.hpp"
#include "core/weights.hpp"

namespace kpool {
namespace {

/// A frozen linear and the adapter's part of it, if any.
struct Linear {
  const at::Tensor weight;   ///< (out, in) dtype
  const at::Tensor& bias;    ///< (out) dtype or undefined
  const LoraMatrices* lora;
  double scale;
};

/// The linears of one layer.
struct Linears {
  Linears(const LayerWeights& layer, std::size_t index, const Adapter* adapter)
      : qkv{layer.qkv.expanded(), layer.qkv_bias, lora(adapter, index, 0), scale(adapter)},
        output{layer.output.expanded(), none, lora(adapter, index, 1), scale(adapter)},
        gate_up{layer.gate_up.expanded(), none, lora(adapter, index, 2), scale(adapter)},
        down{layer.down.expanded(), none, lora(adapter, index, 3), scale(adapter)} {}
  static const LoraMatrices* lora(const Adapter* adapter, std::size_t layer, std::size_t i) {
    return adapter ? &adapter->groups[4 * layer + i] : nullptr;
  }
  static double scale(const Adapter* adapter) { return adapter ? adapter->scale : 0; }
  at::Tensor none;
  Linear qkv, output, gate_up, down;
};

struct LinearTape {
  at::Tensor in;    ///< (tokens, in) dtype
  at::Tensor bent;  ///< (tokens, count rank) dtype: scale A x
};

struct LayerTape {
  Normed attention_norm, ffn_norm;
  LinearTape qkv, output, gate_up, down;
  AttentionTape attention;
  at::Tensor gated;  ///< (tokens, 2 ffn) dtype: before SwiGLU
};

struct Tape {
  std::vector<LayerTape> layers;
};

at::Tensor forward(const Linear& linear, const at::Tensor& in, LinearTape* tape) {
  at::Tensor out = at::linear(in, linear.weight, linear.bias.defined() ? std::optional(linear.bias) : std::nullopt);
  if (!linear.lora) return out;
  const at::Tensor bent = at::mm(in, linear.lora->a.t()).mul_(linear.scale);
  out.addmm_(bent, linear.lora->b.t());
  if (tape) *tape = {in, bent};
  return out;
}

/// Where the flat gradient of one group goes.
struct GradientSink {
  const LoraLayout& layout;
  std::span<float> flat;
  void store(std::size_t group, const at::Tensor& da, const at::Tensor& db) {
    store_gradient(layout, layout.groups[group], da, db, flat);
  }
};

/// Stores the gradients of A and B; returns the gradient of the input, unless it is not wanted.
at::Tensor backward(const Linear& linear, const LinearTape& tape, const at::Tensor& dout, GradientSink& sink,
                    std::size_t group, bool want_input = true) {
  const at::Tensor db = at::mm(dout.t(), tape.bent);
  const at::Tensor dbent = at::mm(dout, linear.lora->b).mul_(linear.scale);
  sink.store(group, at::mm(dbent.t(), tape.in), db);
  if (!want_input) return {};
  at::Tensor din = at::mm(dout, linear.weight);
  din.addmm_(dbent, linear.lora->a);
  return din;
}

/// The residual stream between layers: hidden + delta, where delta (dtype) is added by the next norm.
struct Stream {
  at::Tensor hidden;  ///< (tokens, hidden) float32
  at::Tensor delta;   ///< (tokens, hidden) dtype, or undefined
  at::Tensor sum() const { return delta.defined() ? hidden.add(delta) : hidden; }
};

Stream run_layers(const Base::Weights& weights, const Batch& batch, std::int64_t layers, const Adapter* adapter,
                  Tape* tape) {
  KPOOL_ASSERT(layers <= static_cast<std::int64_t>(weights.layers.size()));
  Stream stream{gather_rows(weights.embedding, batch.ids), {}};
  for (std::int64_t i = 0; i < layers; ++i) {
    const LayerWeights& layer = weights.layers[i];
    const Linears linears(layer, i, adapter);
    LayerTape* kept = tape ? &tape->layers.emplace_back() : nullptr;
    const double epsilon = weights.shape.rms_epsilon;
    const Normed first = rms_norm(stream.hidden, stream.delta, layer.attention_norm, epsilon, weights.dtype);
    const at::Tensor qkv = forward(linears.qkv, first.out, kept ? &kept->qkv : nullptr);
    const at::Tensor mixed = attend(qkv, batch, weights.shape, kept ? &kept->attention : nullptr);
    const at::Tensor attended = forward(linears.output, mixed, kept ? &kept->output : nullptr);
    const Normed second = rms_norm(first.hidden, attended, layer.ffn_norm, epsilon, weights.dtype);
    const at::Tensor gated = forward(linears.gate_up, second.out, kept ? &kept->gate_up : nullptr);
    stream = {second.hidden, forward(linears.down, swiglu(gated), kept ? &kept->down : nullptr)};
    if (kept) {
      kept->attention_norm = first;
      kept->ffn_norm = second;
      kept->gated = gated;
    }
  }
  return stream;
}

/// Backward through one layer. gradient: (tokens, hidden) float32 of the layer's output, becomes that
/// of its input.
void layer_backward(const Base::Weights& weights, const Batch& batch, std::size_t i, const Adapter& adapter,
                    const LayerTape& tape, at::Tensor& gradient, GradientSink& sink) {
  const LayerWeights& layer = weights.layers[i];
  const Linears linears(layer, i, &adapter);
  const at::Tensor dact = backward(linears.down, tape.down, gradient.to(weights.dtype), sink, 4 * i + 3);
  const at::Tensor dgated = swiglu_backward(dact, tape.gated);
  const at::Tensor dsecond = backward(linears.gate_up, tape.gate_up, dgated, sink, 4 * i + 2);
  rms_norm_backward(dsecond, tape.ffn_norm, layer.ffn_norm, gradient);
  const at::Tensor dmixed = backward(linears.output, tape.output, gradient.to(weights.dtype), sink, 4 * i + 1);
  const at::Tensor dqkv = attend_backward(dmixed, batch, weights.shape, tape.attention);
  const bool more = i > 0;  // nothing below the first layer learns
  const at::Tensor dfirst = backward(linears.qkv, tape.qkv, dqkv, sink, 4 * i, more);
  if (more) rms_norm_backward(dfirst, tape.attention_norm, layer.attention_norm, gradient);
}

Normed final_norm(const Base::Weights& weights, const at::Tensor& hidden) {
  return rms_norm(hidden, {}, weights.final_norm, weights.shape.rms_epsilon, weights.dtype);
}

std::int64_t all_layers(const Base::Weights& weights) {
  KPOOL_ASSERT(weights.whole());
  return static_cast<std::int64_t>(weights.layers.size());
}

}  // namespace

at::Tensor hidden_states(const Base::Weights& weights, const Batch& batch, std::int64_t layers,
                         const Adapter* adapter) {
  return run_layers(weights, batch, layers, adapter, nullptr).sum();
}

at::Tensor logits(const Base::Weights& weights, const Batch& batch, const Adapter* adapter) {
  const at::Tensor hidden = run_layers(weights, batch, all_layers(weights), adapter, nullptr).sum();
  return at::mm(final_norm(weights, hidden).out, weights.head.expanded().t());
}

at::Tensor nats(const Base::Weights& weights, const Batch& batch, const Adapter* adapter) {
  const at::Tensor hidden = run_layers(weights, batch, all_layers(weights), adapter, nullptr).sum();
  return token_nats(final_norm(weights, hidden.index_select(0, batch.rows)).out, weights.head.expanded(), batch.targets,
                    nullptr);
}

at::Tensor nats_and_gradient(const Base::Weights& weights, const Batch& batch, const Adapter& adapter,
                             std::span<float> gradient) {
  KPOOL_ASSERT(static_cast<std::int64_t>(gradient.size()) == adapter.layout->size);
  Tape tape;
  tape.layers.reserve(weights.layers.size());
  at::Tensor hidden = run_layers(weights, batch, all_layers(weights), &adapter, &tape).sum();
  const Normed last = final_norm(weights, hidden.index_select(0, batch.rows));
  at::Tensor dlast;
  const at::Tensor result = token_nats(last.out, weights.head.expanded(), batch.targets, &dlast);
  at::Tensor dcounted = at::zeros_like(dlast);
  rms_norm_backward(dlast, last, weights.final_norm, dcounted);
  at::Tensor dhidden = at::zeros_like(hidden);
  dhidden.index_copy_(0, batch.rows, dcounted);
  hidden.reset();
  GradientSink sink{*adapter.layout, gradient};
  for (std::size_t i = weights.layers.size(); i-- > 0;) {
    layer_backward(weights, batch, i, adapter, tape.layers[i], dhidden, sink);
    tape.layers.pop_back();
  }
  return result;
}

}  // namespace kpool
