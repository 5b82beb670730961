#include "core/adamw.hpp"

#include <ATen/Parallel.h>

#include <cmath>

#include "core/result.hpp"

namespace kpool {

void adamw_step(std::span<float> weights, AdamWMoments& moments, std::span<const float> gradient,
                const AdamWOptions& options, double share) {
  KPOOL_ASSERT(weights.size() == gradient.size() && weights.size() == moments.first.size());
  KPOOL_ASSERT(share > 0 && share <= 1);
  constexpr std::int64_t grain = 16384;
  const auto t = static_cast<double>(++moments.steps);
  const double eta = options.learning_rate * share;
  const auto beta1 = static_cast<float>(options.beta1), fresh1 = static_cast<float>(1 - options.beta1);
  const auto beta2 = static_cast<float>(options.beta2), fresh2 = static_cast<float>(1 - options.beta2);
  const auto keep = static_cast<float>(1 - eta * options.weight_decay);
  const auto scale1 = static_cast<float>(eta / (1 - std::pow(options.beta1, t)));
  const auto scale2 = static_cast<float>(1 / (1 - std::pow(options.beta2, t)));
  const auto epsilon = static_cast<float>(options.epsilon);
  at::parallel_for(0, static_cast<std::int64_t>(weights.size()), grain, [&](std::int64_t from, std::int64_t to) {
    for (auto i = static_cast<std::size_t>(from); i < static_cast<std::size_t>(to); ++i) {
      const float g = gradient[i];
      float &m = moments.first[i], &v = moments.second[i];
      m = beta1 * m + fresh1 * g;
      v = beta2 * v + fresh2 * g * g;
      weights[i] = keep * weights[i] - scale1 * m / (std::sqrt(scale2 * v) + epsilon);
    }
  });
}

}  // namespace kpool
