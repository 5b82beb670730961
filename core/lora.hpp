// LoRA (Hu et al. 2021) on all seven linears of every layer: y = W x + scale B (A x). The parameters
// of one adapter are one flat float32 array, so that the optimiser is one sweep; a layout says where
// each matrix lies. Plain data; owned by its stage, used on its thread alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base.hpp"

namespace kpool {

/// A (rank, in) and B (out, rank) of one linear, as offsets into the flat array.
struct LoraPlace {
  std::string module;  ///< PEFT's name without prefix: layers.0.self_attn.q_proj
  std::int64_t in = 0, out = 0, a = 0, b = 0;
};

/// Linears that share their input: consecutive places, whose A matrices lie one after the other.
struct LoraGroup {
  std::size_t first = 0, count = 0;  ///< into places
  std::int64_t in = 0, out = 0, a = 0;
};

struct LoraLayout {
  /// top_layers: only so many of the last layers have an adapter (0: all).
  LoraLayout(const BaseShape& shape, std::int64_t rank, std::int64_t top_layers = 0);
  std::int64_t rank;
  std::int64_t first_layer = 0;  ///< the lowest that has an adapter
  std::int64_t size = 0;         ///< floats
  std::vector<LoraPlace> places;
  std::vector<LoraGroup> groups;  ///< four per layer from first_layer on: qkv, output, gate_up, down
  /// Columns of the group's bent input (LoraMatrices).
  std::int64_t width(const LoraGroup& group) const;
};

/// Draws A as PEFT does, kaiming_uniform(a = sqrt 5), from a counter-based generator keyed by seed,
/// generation and place; sets B to zero. out: (layout.size)
void draw_lora(const LoraLayout& layout, std::uint64_t seed, std::uint64_t generation, std::span<float> out);

/// Fills out with +1 and -1, each with probability one half, keyed by seed and the two numbers.
void draw_signs(std::uint64_t seed, std::uint64_t generation, std::uint64_t step, std::span<float> out);

/// One group in compute precision. width: count rank, rounded up to whole tiles; what is beyond is zero.
struct LoraMatrices {
  at::Tensor a;  ///< (width, in) dtype
  at::Tensor b;  ///< (out, width) dtype, block-diagonal
};

/// An adapter ready to compute with: copies of the flat parameters in the base's precision.
struct Adapter {
  Adapter(const LoraLayout& layout, at::ScalarType dtype, double scale, at::Device device = at::kCPU);
  void load(std::span<const float> flat);
  const LoraLayout* layout;
  double scale;  ///< alpha / rank
  std::vector<LoraMatrices> groups;
};

/// Writes the gradients of one group into the flat gradient. da: (width, in); db: (out, width); on the CPU.
void store_a_gradient(const LoraLayout& layout, const LoraGroup& group, const at::Tensor& da, std::span<float> flat);
void store_b_gradient(const LoraLayout& layout, const LoraGroup& group, const at::Tensor& db, std::span<float> flat);

}  // namespace kpool
