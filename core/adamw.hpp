// AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), to compare Signum with; the daemon never runs it. Stateless;
// the arrays belong to the caller. Runs on the caller's libtorch kernel threads; the result does not depend on their
// number.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace kpool {

struct AdamWOptions {
  double learning_rate = 1e-3;
  double weight_decay = 0;  ///< lambda, decoupled
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
};

/// Running means of the gradient and of its square, each of the weights' length.
struct AdamWMoments {
  explicit AdamWMoments(std::size_t size = 0) : first(size), second(size) {}
  std::vector<float> first, second;
  std::uint64_t steps = 0;  ///< that they have seen
};

/// m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g g;  in step t
/// w = (1 - eta lambda) w - eta (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon), where eta is the learning
/// rate times `share`, the batch's share of a full one.
void adamw_step(std::span<float> weights, AdamWMoments& moments, std::span<const float> gradient,
                const AdamWOptions& options, double share);

}  // namespace kpool
