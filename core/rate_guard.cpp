#include "core/rate_guard.hpp"

#include <algorithm>
#include <cmath>

#include "core/result.hpp"

namespace kpool {
namespace {

constexpr double reach = 8;      // of one measurement, either way
constexpr double memory = 0.25;  // share of the newest measurement
constexpr int probes_max = 8;
constexpr std::uint64_t interval = 8;

}  // namespace

bool cliff_is_due(std::uint64_t step) { return step <= interval || step % interval == 0; }

double probe_length(const RateGuard& guard, double eta) { return guard.cliff > 0 ? guard.cliff / 2 : eta; }

double predict_cliff(double probe, double slope, const std::function<double(double length)>& change) {
  KPOOL_ASSERT(probe > 0);
  if (!(slope > 0)) return probe / reach;
  double cliff = probe;
  for (int i = 0; i < probes_max; ++i, probe = cliff / 2) {
    const double changed = change(probe), bend = changed + probe * slope;  // bend: 1/2 length^2 s'Hs
    const double lengths = std::isfinite(changed) ? (bend > 0 ? probe * slope / bend : reach) : 0;
    cliff = probe * std::clamp(lengths, 1 / reach, reach);
    if (changed <= 0 && lengths < reach) break;
  }
  return cliff;
}

void observe(RateGuard& guard, RateGuardMode mode, double rate, double cliff) {
  KPOOL_ASSERT(rate > 0 && cliff > 0);
  guard.cliff = guard.cliff > 0 ? guard.cliff * std::pow(cliff / guard.cliff, memory) : cliff;
  if (mode == RateGuardMode::automatic) guard.rate = std::min(kCliffShare * guard.cliff, 2 * rate);
}

}  // namespace kpool
