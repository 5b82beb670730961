#include "core/signum.hpp"

#include <cstddef>

#include "core/result.hpp"

namespace kpool {

void signum_step(std::span<float> weights, std::span<float> momentum, std::span<const float> gradient,
                 const SignumOptions& options, double share) {
  KPOOL_ASSERT(weights.size() == momentum.size() && weights.size() == gradient.size());
  KPOOL_ASSERT(share > 0 && share <= 1);
  const auto eta = static_cast<float>(options.learning_rate * share);
  const auto keep = static_cast<float>(1.0 - options.learning_rate * share * options.weight_decay);
  const auto beta = static_cast<float>(options.momentum), fresh = static_cast<float>(1.0 - options.momentum);
  const auto dead = static_cast<float>(options.dead_zone);
  float* w = weights.data();
  float* m = momentum.data();
  const float* g = gradient.data();
#pragma omp simd
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float next = beta * m[i] + fresh * g[i];
    const float up = next > 0 && next >= dead ? eta : 0.0f, down = next < 0 && -next >= dead ? eta : 0.0f;
    m[i] = next;
    w[i] = keep * w[i] - up + down;
  }
}

}  // namespace kpool
