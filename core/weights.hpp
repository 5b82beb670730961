// The tensors of a frozen base model, expanded once. Inside core/ only; owned by Base, immutable after
// loading, so any thread may read them. `dtype` below is the compute precision (float32 or bfloat16).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base.hpp"

namespace kpool {

struct LayerWeights {
  at::Tensor attention_norm;  ///< (hidden) float32
  at::Tensor qkv;             ///< ((heads + 2 kv_heads) head_width, hidden) dtype; q, then k, then v
  at::Tensor qkv_bias;        ///< (the same rows) dtype; undefined for llama
  at::Tensor output;          ///< (hidden, heads head_width) dtype
  at::Tensor ffn_norm;        ///< (hidden) float32
  at::Tensor gate_up;         ///< (2 ffn, hidden) dtype; gate, then up
  at::Tensor down;            ///< (hidden, ffn) dtype
};

struct Base::Weights {
  std::shared_ptr<const Gguf> file;
  BaseShape shape;
  at::ScalarType dtype = at::kFloat;
  at::Tensor embedding;   ///< (vocabulary, hidden) dtype
  at::Tensor head;        ///< (vocabulary, hidden) dtype; the embedding itself where tied; undefined in a part
  at::Tensor final_norm;  ///< (hidden) float32; undefined in a part
  std::vector<double> inverse_frequencies;  ///< (head_width / 2) of RoPE, radians per position
  std::vector<LayerWeights> layers;

  /// False where only the first layers were asked for: no head, nothing to train or score.
  bool whole() const { return head.defined(); }
};

}  // namespace kpool
