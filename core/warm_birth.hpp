// Warm births: where a new slot starts from one that knows something of its domain. Slots that are isolated forget
// nothing, but a fresh one also inherits nothing. Stateless; called on the learner's thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "core/batch.hpp"
#include "core/learner.hpp"
#include "core/lora.hpp"
#include "core/workspace.hpp"

namespace kpool {

/// Tries a whole, a half and a quarter of each candidate on the batch, forward alone, and takes what predicts it best,
/// if that is better than the base by three standard errors of a token's difference. A slot that has learned its own
/// domain well overshoots on another one; a part of its change may still help.
/// candidates: by slot, (layout.size) each; empty for slots that are none. scratch: an adapter to compute with.
std::optional<WarmStart> find_warm_start(const Base::Weights& weights, const Batch& batch,
                                         std::span<const std::span<const float>> candidates, Adapter& scratch,
                                         Workspace& workspace);

/// out = the start. from: the slot's parameters. Both (layout.size).
void start_from(const LoraLayout& layout, std::span<const float> from, double share, std::span<float> out);

}  // namespace kpool
