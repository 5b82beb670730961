// The GEMM limit of a training step: every product of a step with a frozen matrix, forward (x W^T) and backward
// (dy W), as libtorch's plain at::mm computes it alone, into memory that is there already. As many different
// matrices as the model has layers take turns, since none of them is in the cache in a step either.
// Used by bench_train on its one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base.hpp"

namespace kpool {

class FrozenProducts {
 public:
  FrozenProducts(const Base& base, std::int64_t tokens);
  /// {"model_shapes_seconds": all products of one step, "model_shapes_cpu_seconds": their processor time,
  /// "single_shape_flops": rate of (tokens, 576, 1536), "each": milliseconds}. Medians over a few calls of each, the
  /// processor time a mean.
  nlohmann::json measure();
  /// Of the frozen matrices, a tied one counted once: 134.5 million for SmolLM2-135M.
  std::int64_t parameters() const { return parameters_; }

 private:
  struct Linear {
    std::string name;
    std::int64_t forward, backward;   ///< products of one step
    std::vector<at::Tensor> weights;  ///< (out, in) each
    at::Tensor in, out;               ///< (tokens, in), (tokens, out)
  };
  void add(std::string name, std::int64_t out, std::int64_t in, std::int64_t forward, std::int64_t backward);
  struct Times {
    double wall = 0, processor = 0;  ///< seconds
  };
  Times time(const Linear& linear, bool forward);

  const std::int64_t tokens_;
  const at::ScalarType dtype_;
  std::int64_t parameters_ = 0;
  std::vector<Linear> linears_;
  Linear single_;
};

}  // namespace kpool
