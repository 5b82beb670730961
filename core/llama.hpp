// The Llama decoder over a frozen base: forward, and a hand-written backward that computes only what
// LoRA needs. No autograd: the frozen weights have no gradients and keep no graph. Stateless; called
// on the stage's thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "core/base.hpp"
#include "core/batch.hpp"
#include "core/lora.hpp"

namespace kpool {

/// The hidden states after the first `layers` layers, before the final norm: (tokens with padding,
/// hidden) float32. adapter may be null.
at::Tensor hidden_states(const Base::Weights& weights, const Batch& batch, std::int64_t layers, const Adapter* adapter);

/// Logits of every position, (tokens with padding, vocabulary) dtype: for comparisons on short texts.
at::Tensor logits(const Base::Weights& weights, const Batch& batch, const Adapter* adapter);

/// Nats of every counted token, (counted) float32. adapter may be null.
at::Tensor nats(const Base::Weights& weights, const Batch& batch, const Adapter* adapter);

/// The same, and the gradient of its mean by the adapter's parameters. gradient: (layout.size), overwritten.
at::Tensor nats_and_gradient(const Base::Weights& weights, const Batch& batch, const Adapter& adapter,
                             std::span<float> gradient);

}  // namespace kpool
