// The tensors of a frozen base model, dense or left quantised in its file. Inside core/ only; owned by Base, immutable
// after loading, so any thread may read them. `dtype` below is the compute precision (float32 or bfloat16).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base.hpp"
#include "core/frozen_matrix.hpp"
#include "core/workspace.hpp"

namespace kpool {

struct LayerWeights {
  at::Tensor attention_norm;  ///< (hidden) float32
  FrozenMatrix qkv;           ///< ((heads + 2 kv_heads) head_width, hidden); q, then k, then v
  at::Tensor qkv_bias;        ///< (the same rows) dtype; undefined for llama
  FrozenMatrix output;        ///< (hidden, heads head_width)
  at::Tensor ffn_norm;        ///< (hidden) float32
  FrozenMatrix gate_up;       ///< (2 ffn, hidden); gate, then up
  FrozenMatrix down;          ///< (hidden, ffn)
};

struct Base::Weights {
  std::shared_ptr<const Gguf> file;
  BaseShape shape;
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  Operators operators = Operators::tiles;  ///< library: matrices are dense
  bool prefers_int8 = false;  ///< products are faster in 8-bit integers, and no precision forbids them
  bool int8_forward = false;  ///< training's forward pass takes them (BaseOptions::forward)
  FrozenMatrix embedding;  ///< (vocabulary, hidden)
  FrozenMatrix head;       ///< (vocabulary, hidden); the embedding itself where tied; undefined in a part
  at::Tensor final_norm;   ///< (hidden) float32; undefined in a part
  std::vector<double> inverse_frequencies;  ///< (head_width / 2) of RoPE, radians per position
  std::vector<LayerWeights> layers;

  /// False where only the first layers were asked for: no head, nothing to train or score.
  bool whole() const { return head.defined(); }
};

/// Where and by whose operators these weights are computed with.
inline Workspace make_workspace(const Base::Weights& weights) { return Workspace(weights.operators, weights.device); }

}  // namespace kpool
