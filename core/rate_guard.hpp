// The learning rate's cliff, predicted for each slot from what a step does to the loss, and the rate that stays under
// it. Along a step of length eta, L(theta - eta s) - L(theta) is about -eta g.s + 1/2 eta^2 s'Hs: it stops helping at
// eta_c = 2 g.s / s'Hs and helps most at half of that. s'Hs is measured with forward passes after the step. The
// mean over random signs, tr(H), which the sharpness probe has, is far too small for it: a step lies along the steepest
// directions (docs/training.md).
#pragma once

#include <cstdint>
#include <functional>

namespace kpool {

enum class RateGuardMode : std::uint8_t {
  off,
  warn,       ///< measures the cliff, changes no step
  automatic,  ///< the rate follows the cliff
};

/// Durable with its slot, as it decides the next steps.
struct RateGuard {
  double rate = 0;   ///< of the slot's next full step; 0: the configured one
  double cliff = 0;  ///< predicted rate at which a step stops helping, mean over steps of its logarithm; 0: unknown
};

/// The share of the predicted cliff that an automatic rate takes.
constexpr double kCliffShare = 0.05;

/// Steps of a new slot, whose cliff falls fast, and then every eighth.
bool cliff_is_due(std::uint64_t step);

/// Where to probe: halfway to the cliff as it is known, else the step itself.
double probe_length(const RateGuard& guard, double eta);

/// eta_c of a step. slope: g.s, what the loss gains per unit of length; change: of the loss on the same tokens after a
/// step of that length, negative where it helped. A parabola through one probe is trusted up to eight times its length,
/// but not where the probe is beyond the cliff itself, as losses level off there: then a nearer one is made. A step
/// that does not descend has its cliff below the probe.
double predict_cliff(double probe, double slope, const std::function<double(double length)>& change);

/// Takes a measurement in and, where it is automatic, sets the rate: at most twice the last one.
void observe(RateGuard& guard, RateGuardMode mode, double rate, double cliff);

}  // namespace kpool
