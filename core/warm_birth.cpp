#include "core/warm_birth.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/llama.hpp"

namespace kpool {
namespace {

/// How many standard errors the mean of per-token differences lies above zero.
double certainty(const at::Tensor& differences) {
  const double deviation = differences.std().item<double>();
  const double mean = differences.mean().item<double>();
  return deviation > 0 ? mean / deviation * std::sqrt(static_cast<double>(differences.size(0))) : 0;
}

}  // namespace

void start_from(const LoraLayout& layout, std::span<const float> from, double share, std::span<float> out) {
  std::copy(from.begin(), from.end(), out.begin());
  for (const LoraPlace& place : layout.places)
    for (float& b : out.subspan(static_cast<std::size_t>(place.b), static_cast<std::size_t>(place.out * layout.rank)))
      b *= static_cast<float>(share);
}

std::optional<WarmStart> find_warm_start(const Base::Weights& weights, const Batch& batch,
                                         std::span<const std::span<const float>> candidates, Adapter& scratch,
                                         Workspace& workspace) {
  constexpr double clearly = 3;
  const LoraLayout& layout = *scratch.layout;
  const at::Tensor base = nats(weights, batch, nullptr, workspace).clone();
  std::vector<float> start(static_cast<std::size_t>(layout.size));
  std::optional<WarmStart> best;
  for (std::uint32_t k = 0; k < candidates.size(); ++k) {
    if (candidates[k].empty()) continue;
    for (const double share : {1.0, 0.5, 0.25}) {
      start_from(layout, candidates[k], share, start);
      scratch.load(start);
      const at::Tensor gains = base.sub(nats(weights, batch, &scratch, workspace));
      const double gain = gains.mean(at::kDouble).item<double>();
      if (gain > (best ? best->gain : 0) && certainty(gains) >= clearly) best = WarmStart{k, share, gain};
    }
  }
  return best;
}

}  // namespace kpool
