// One layer of the decoder, forward and backward, in the memory of a workspace. Inside core/ only (core/llama.cpp);
// lives for one pass, on the stage's thread.
#pragma once

#include <span>

#include "core/batch.hpp"
#include "core/linear.hpp"
#include "core/lora.hpp"
#include "core/weights.hpp"
#include "core/workspace.hpp"

namespace kpool {

/// What a layer keeps for its backward pass; each contains the one before.
enum class Keep { nothing, inputs, narrow, all };

struct LayerTape {
  Keep keep = Keep::nothing;
  // inputs
  at::Tensor attention_inverse, ffn_inverse;  ///< (tokens) float32: of the two norms
  at::Tensor attended, down;                  ///< (tokens, hidden) dtype: what the layer adds to the residual stream
  // narrow
  at::Tensor qkv;       ///< (tokens, (heads + 2 kv_heads) head_width) dtype, rotated
  at::Tensor mixed;     ///< (tokens, heads head_width) dtype
  at::Tensor log_sums;  ///< (heads, tokens) float32
  at::Tensor bent[4];   ///< (tokens, width) dtype: of the four linears, where the layer has an adapter
  // all
  at::Tensor gate_up;  ///< (tokens, 2 ffn) dtype
};

class Decoder {
 public:
  /// adapter may be null. kept: without an adapter, the layers to run as they were rounded once; or none.
  Decoder(const Base::Weights& weights, const Batch& batch, const Adapter* adapter, Workspace& workspace,
          std::span<const Int8Layer> kept = {});

  /// The residual stream; what the last layer added (delta) is not in it yet. (tokens, hidden) float32.
  at::Tensor hidden;
  at::Tensor delta;  ///< (tokens, hidden) dtype, or undefined

  /// Takes memory that outlives the layer, as far as tape.keep asks for it.
  void take_kept(LayerTape& tape);
  /// All of it, for passes that keep nothing and use one tape for every layer.
  void take_all(LayerTape& tape);
  void forward(std::int64_t layer, LayerTape& tape);
  /// gradient: (tokens, hidden) float32 of the layer's output, becomes that of its input; rounded is the same in
  /// dtype. `hidden` is the layer's output, and becomes its input. flat: the adapter's gradient.
  void backward(std::int64_t layer, const LayerTape& tape, at::Tensor& gradient, at::Tensor& rounded,
                std::span<float> flat);

 private:
  struct Linears;
  void take_inputs(LayerTape& tape);
  void take_narrow(LayerTape& tape);
  void take_wide(LayerTape& tape);
  Linears linears(std::int64_t layer) const;
  GradientSink sink(std::int64_t layer, std::size_t linear, std::span<float> flat) const;
  const LoraGroup* group(std::int64_t layer, std::size_t linear) const;
  void attention(const Linears& linears, LayerTape& tape);
  void recompute(std::int64_t layer, const Linears& linears, LayerTape& work);
  void ffn_backward(std::int64_t layer, const Linears& linears, const LayerTape& work, at::Tensor& gradient,
                    at::Tensor& rounded, std::span<float> flat);
  void attention_backward(std::int64_t layer, const Linears& linears, const LayerTape& work, at::Tensor& gradient,
                          at::Tensor& rounded, std::span<float> flat);
  at::Tensor take(std::int64_t columns) { return workspace_.take({tokens_, columns}, weights_.dtype); }

  const Base::Weights& weights_;
  const Batch& batch_;
  const Adapter* const adapter_;
  Workspace& workspace_;
  const std::int64_t tokens_;
  const std::span<const Int8Layer> kept_;
  at::Tensor normed_;  // (tokens, hidden) dtype: input of the linears at hand
};

/// Bytes of the workspace that a layer keeps, that forward and backward take beyond that, and that a Decoder takes
/// itself.
struct LayerBytes {
  std::size_t inputs = 0, narrow = 0, all = 0;  ///< each contains the one before
  std::size_t forward = 0, backward = 0;        ///< backward: the most, when everything is computed again
  std::size_t own = 0;
};
/// layout: null without an adapter.
LayerBytes layer_bytes(const Base::Weights& weights, const LoraLayout* layout, std::int64_t tokens, int threads);

}  // namespace kpool
