// Signum: sign descent with momentum (Bernstein et al. 2018, arXiv 1802.04434), decoupled decay.
// Stateless; the arrays belong to the caller. Runs on the caller's libtorch kernel threads; the result does not
// depend on their number.
#pragma once

#include <cstdint>
#include <span>

#include "core/simd/kernels.hpp"

namespace kpool {

/// How a momentum lies in memory and in a stored slot.
enum class MomentumType : std::uint8_t { float32, bfloat16 };

struct SignumOptions {
  double learning_rate = 1e-3;  ///< every weight moves by exactly so much, or stays
  double momentum = 0.9;        ///< beta
  double weight_decay = 0;      ///< lambda
  double dead_zone = 0;         ///< |momentum| below this counts as zero
};

/// m = beta m + (1 - beta) g;  w = (1 - eta lambda) w - eta sign(m), where sign(0) = 0 and eta is the
/// learning rate times `share`, the batch's share of a full one. All spans have one length. A momentum in bfloat16
/// halves the optimiser's state; the sign is taken before it is rounded.
void signum_step(std::span<float> weights, std::span<float> momentum, std::span<const float> gradient,
                 const SignumOptions& options, double share);
void signum_step(std::span<float> weights, std::span<simd::Bf16> momentum, std::span<const float> gradient,
                 const SignumOptions& options, double share);

}  // namespace kpool
