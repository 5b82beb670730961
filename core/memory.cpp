#include "core/memory.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include "core/embedder.hpp"
#include "core/gemm.hpp"
#include "core/int8_matrix.hpp"
#include "core/llama.hpp"
#include "core/lora.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"

namespace kpool {
namespace {

/// Measured: 11 MB for 49,152 tokens and 48,900 merges, some of it in the file's directory and some in the tokenizer.
constexpr std::size_t token_bytes = 240;

/// As packed panels, which are what the dense matrices take at most.
std::size_t expanded_bytes(const FrozenMatrix& matrix) {
  const auto panels = (matrix.rows + kPanel - 1) / kPanel;
  const auto depth = (matrix.columns + 1) / 2 * 2;
  return static_cast<std::size_t>(panels * kPanel * depth) * c10::elementSize(matrix.dtype);
}

std::size_t numbers_of(const Adapter& adapter) {
  std::size_t bytes = 0;
  for (const LoraMatrices& group : adapter.groups) bytes += group.a.nbytes() + group.b.nbytes();
  return bytes;
}

}  // namespace

BaseMemory base_memory(const Base& base) {
  const Base::Weights& weights = base.weights();
  BaseMemory memory;
  std::set<const GgufTensor*> seen;  // a tied head is the embedding
  auto add = [&](const FrozenMatrix& matrix) {
    if (!matrix.defined()) return;
    KPOOL_ASSERT(!matrix.parts.empty());
    if (seen.contains(matrix.parts.front().tensor)) return;
    memory.expanded += expanded_bytes(matrix);
    for (const FrozenPart& part : matrix.parts) {
      seen.insert(part.tensor);
      memory.mapped += part.tensor->data.size();
    }
  };
  add(weights.embedding);
  add(weights.head);
  for (const LayerWeights& layer : weights.layers)
    for (const FrozenMatrix* matrix : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) add(*matrix);
  memory.tokenizer = token_bytes * static_cast<std::size_t>(weights.shape.vocabulary);
  return memory;
}

LearnerMemory learner_memory(const LearnerOptions& options, const Base& base) {
  const Base::Weights& weights = base.weights();
  const LoraLayout layout(weights.shape, options.rank, options.top_layers);
  const auto parameters = static_cast<std::size_t>(layout.size);
  const std::size_t momentum = options.momentum_type == MomentumType::bfloat16 ? sizeof(simd::Bf16) : sizeof(float);
  LearnerMemory memory;
  memory.slot = parameters * (sizeof(float) + momentum);
  const bool probes = options.sharpness_every != 0 || options.rate_guard != RateGuardMode::off;
  memory.scratch = parameters * sizeof(float) * (1 + (probes ? 2 : 0)) + numbers_of(Adapter(layout, weights.dtype, 1));
  if (layout.first_layer > 0) {  // what run_lower keeps for a step
    const std::int64_t rows = options.tokens_per_step + kBatchPad;
    constexpr std::size_t copies = 2;  // where some segments bring theirs, those of the others besides
    memory.scratch += copies * static_cast<std::size_t>(rows * weights.shape.hidden) * sizeof(float);
  }
  use_threads(options.threads);
  const std::size_t forward = forward_bytes(weights, &layout, options.tokens_per_step, thread_count());
  auto of_plan = [&](std::size_t limit) {
    const StepPlan plan = plan_step(weights, layout, options.tokens_per_step, thread_count(), limit);
    return std::max(plan.bytes, forward);
  };
  memory.activations_least = of_plan(1);
  memory.activations_most = of_plan(0);
  return memory;
}

EncoderMemory encoder_memory(const EncoderOptions& options, const Base& base, bool dense) {
  if (options.kind.starts_with("base:")) {
    const std::int64_t longest = std::max<std::int64_t>({options.tokens_max, options.hidden_tokens,
                                                         pack_rows(base.weights())});
    const auto result = static_cast<std::size_t>((longest + kBatchPad) * base.shape().hidden) * sizeof(float);
    EncoderMemory memory{forward_bytes(base.weights(), nullptr, longest, 1) + result};
    const auto loaded = static_cast<std::int64_t>(base.weights().layers.size());
    if (products_of(options, base.weights(), dense) == Products::kept)  // more than there are is refused later
      memory.int8 = int8_layers_bytes(base.weights(), std::min(base_layers(options.kind).value_or(0), loaded));
    return memory;
  }
  std::error_code absent;
  const auto file = std::filesystem::file_size(options.path + "/model.safetensors", absent);
  // In float32, whatever the file holds. A forward pass of 512 tokens takes 60 MB and grows with their square.
  const std::size_t tokens = options.tokens_max;
  return {(absent ? 0 : 2 * static_cast<std::size_t>(file)) + 240 * tokens * tokens};
}

}  // namespace kpool
