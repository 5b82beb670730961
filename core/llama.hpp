// The Llama decoder over a frozen base: forward, and a hand-written backward that computes only what LoRA needs.
// No autograd: the frozen weights have no gradients and keep no graph. Stateless; called on the stage's thread with
// that stage's workspace.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base.hpp"
#include "core/batch.hpp"
#include "core/int8_matrix.hpp"
#include "core/lora.hpp"
#include "core/workspace.hpp"

namespace kpool {

/// How a training step uses memory: from the top, so many layers keep all that their backward pass needs, so many below
/// compute the wide gate and up product again, and the rest all but what they add to the residual stream.
struct StepPlan {
  std::int64_t store_all = 0, store_narrow = 0, store_inputs = 0;
  std::size_t bytes = 0;  ///< of the workspace, for a step of the tokens that were planned for
};

/// The fastest plan for steps of up to `tokens` tokens within `bytes` (0: without a limit), on so many threads. Where
/// even the leanest does not fit, that one, whose bytes say what it needs.
StepPlan plan_step(const Base::Weights& weights, const LoraLayout& layout, std::int64_t tokens, int threads,
                   std::size_t bytes = 0);

/// What the functions without a gradient take of the workspace. layout: of the adapter, or null.
std::size_t forward_bytes(const Base::Weights& weights, const LoraLayout* layout, std::int64_t tokens, int threads);

/// The hidden states after the first `layers` layers, before the final norm: (tokens with padding, hidden) float32.
/// adapter may be null. kept: without an adapter, those layers as they were rounded to 8-bit integers once; or none.
at::Tensor hidden_states(const Base::Weights& weights, const Batch& batch, std::int64_t layers, const Adapter* adapter,
                         Workspace& workspace, std::span<const Int8Layer> kept = {});

/// Runs the lowest `layers` layers, none of which has an adapter, once for all later passes over the batch. These give
/// the same bits as without.
void run_lower(const Base::Weights& weights, Batch& batch, std::int64_t layers, Workspace& workspace);
/// The same where segments bring their hidden states after the lowest `given` of these layers: the others alone are run
/// up to there. segments: those of the batch, not apart. The same but for the order in which attention adds.
void run_lower(const Base::Weights& weights, Batch& batch, std::span<const Segment> segments, std::int64_t given,
               std::int64_t layers, Workspace& workspace);

/// Logits of every position, (tokens with padding, vocabulary) dtype: for comparisons on short texts.
at::Tensor logits(const Base::Weights& weights, const Batch& batch, const Adapter* adapter, Workspace& workspace);

/// Nats of every counted token, (counted) float32. adapter may be null.
at::Tensor nats(const Base::Weights& weights, const Batch& batch, const Adapter* adapter, Workspace& workspace);

/// The same, and the gradient of its mean by the adapter's parameters. gradient: (layout.size), overwritten.
/// plan: its layers must sum to those that have an adapter.
at::Tensor nats_and_gradient(const Base::Weights& weights, const Batch& batch, const Adapter& adapter,
                             const StepPlan& plan, std::span<float> gradient, Workspace& workspace);

}  // namespace kpool
