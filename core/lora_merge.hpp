// Merging two adapters into one of the same rank. Values in, values out; any thread.
#pragma once

#include <span>

#include "core/lora.hpp"

namespace kpool {

/// into becomes the best approximation of rank r, at every place, of share B A of `from` plus (1 - share) B A of `into`
/// (QR of the stacked factors and SVD of the small product). Its A has orthogonal rows of the length that a new A has.
/// from, into: (layout.size). Returns the share of the sum's squared norm that the rank has no room for.
double merge_lora(const LoraLayout& layout, std::span<const float> from, double share, std::span<float> into);

/// Cosine of the two adapters' changes of the base's weights, over all places; 0 where one is no change. a, b:
/// (layout.size).
double lora_agreement(const LoraLayout& layout, std::span<const float> a, std::span<const float> b);

}  // namespace kpool
