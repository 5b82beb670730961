// How well a base, with or without an adapter, predicts texts: nats per record. Owned by whoever
// evaluates (kpoolctl, serving, tests), used on one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/base.hpp"
#include "core/record.hpp"
#include "core/result.hpp"

namespace kpool {

struct Score {
  double nats = 0;           ///< summed over the counted tokens
  std::uint64_t tokens = 0;  ///< that were predicted: all but the first, or the completion where there is a prompt
};

struct ScoreOptions {
  std::uint32_t tokens_per_forward = 1024;  ///< records are packed up to this; longer ones are cut
  std::uint32_t threads = 0;                ///< of the calling thread's libtorch kernels; 0: one per core
};

class Scorer {
 public:
  virtual ~Scorer() = default;
  virtual void use_base() = 0;
  /// A slot's blob or a PEFT adapter_model.safetensors. scale: alpha / rank; where it is not given, the
  /// blob's own metadata must say it. Linears that the file leaves out stay as in the base.
  /// Errors: bad_input (damaged, unknown tensors), mismatch (shapes or base of another model). After an
  /// error the former adapter stays in use.
  virtual Status use_adapter(std::string_view safetensors, std::optional<double> scale) = 0;
  /// One score per sample, in order.
  virtual std::vector<Score> score(std::span<const Sample> samples) = 0;
};

/// base: whole, with its head.
std::unique_ptr<Scorer> make_scorer(const ScoreOptions& options, std::shared_ptr<const Base> base);

}  // namespace kpool
