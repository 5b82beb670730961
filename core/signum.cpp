#include "core/signum.hpp"

#include <ATen/Parallel.h>

#include "core/result.hpp"

namespace kpool {
namespace {

constexpr std::int64_t kGrain = 16384;  // weights that are worth a thread: about 5 microseconds

template <class M, class Kernel>
void step(std::span<float> weights, std::span<M> momentum, std::span<const float> gradient,
          const SignumOptions& options, double share, Kernel kernel) {
  KPOOL_ASSERT(weights.size() == momentum.size() && weights.size() == gradient.size());
  KPOOL_ASSERT(share > 0 && share <= 1);
  const simd::SignumFactors factors{
      .beta = static_cast<float>(options.momentum),
      .fresh = static_cast<float>(1.0 - options.momentum),
      .keep = static_cast<float>(1.0 - options.learning_rate * share * options.weight_decay),
      .eta = static_cast<float>(options.learning_rate * share),
      .dead = static_cast<float>(options.dead_zone)};
  at::parallel_for(0, static_cast<std::int64_t>(weights.size()), kGrain, [&](std::int64_t from, std::int64_t to) {
    kernel(weights.data() + from, momentum.data() + from, gradient.data() + from, to - from, factors);
  });
}

}  // namespace

void signum_step(std::span<float> weights, std::span<float> momentum, std::span<const float> gradient,
                 const SignumOptions& options, double share) {
  step(weights, momentum, gradient, options, share, simd::kernels().signum);
}

void signum_step(std::span<float> weights, std::span<simd::Bf16> momentum, std::span<const float> gradient,
                 const SignumOptions& options, double share) {
  step(weights, momentum, gradient, options, share, simd::kernels().signum_bf16);
}

}  // namespace kpool
