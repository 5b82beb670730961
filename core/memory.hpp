// What a model's parts take of memory, foreseen from its file before anything is expanded. Pure; any thread.
#pragma once

#include <cstddef>

#include "core/base.hpp"
#include "core/encoder.hpp"
#include "core/learner.hpp"

namespace kpool {

struct BaseMemory {
  std::size_t expanded = 0;   ///< of the matrices, in the compute precision
  std::size_t mapped = 0;     ///< of the same as they lie in the file
  std::size_t tokenizer = 0;  ///< of the vocabulary and merges, in the file's directory and in the tokenizer
};
/// base: loaded as quantised, which expands nothing.
BaseMemory base_memory(const Base& base);

struct LearnerMemory {
  std::size_t slot = 0;     ///< of one slot's weights and momentum
  std::size_t scratch = 0;  ///< the gradient, the adapter in compute precision, two vectors that measure,
                            ///< with lora.layers the hidden states below the lowest adapter
  std::size_t activations_least = 0, activations_most = 0;  ///< of a step's workspace: the leanest and the fastest
};
/// base: whole.
LearnerMemory learner_memory(const LearnerOptions& options, const Base& base);

struct EncoderMemory {
  std::size_t work = 0;  ///< its workspace, and a sentence encoder's weights
  std::size_t int8 = 0;  ///< the base's layers in 8-bit integers, where it keeps them
};
/// base: its layers, loaded as quantised; dense: whether they will be.
EncoderMemory encoder_memory(const EncoderOptions& options, const Base& base, bool dense);

}  // namespace kpool
