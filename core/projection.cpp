#include "core/projection.hpp"

#include <cmath>
#include <numeric>
#include <random>

#include "core/dense.hpp"
#include "core/result.hpp"

namespace kpool {

Projection::Projection(std::size_t width, std::size_t wanted)
    : width_(width), dimensions_(dimensions(width, wanted)) {
  if (dimensions_ == width_) return;
  std::mt19937_64 random(width_);  // fixed by the standard, unlike its distributions
  basis_ = odd_basis(width_);
  const double power_of_two = static_cast<double>(width_) / std::sqrt(static_cast<double>(basis_.size()));
  const auto scale = static_cast<float>(1 / std::sqrt(power_of_two));
  signs_.resize(width_);
  for (float& sign : signs_) sign = random() >> 63 ? scale : -scale;
  chosen_.resize(width_);
  std::iota(chosen_.begin(), chosen_.end(), 0U);
  for (std::size_t i = 0; i < dimensions_; ++i) std::swap(chosen_[i], chosen_[i + random() % (width_ - i)]);
  chosen_.resize(dimensions_);
}

std::vector<float> Projection::operator()(std::span<const float> x) const {
  KPOOL_ASSERT(x.size() == width_);
  if (signs_.empty()) return {x.begin(), x.end()};
  std::vector<float> values(width_);
  for (std::size_t i = 0; i < width_; ++i) values[i] = signs_[i] * x[i];
  mix(values, basis_);
  std::vector<float> y(dimensions_);
  for (std::size_t i = 0; i < dimensions_; ++i) y[i] = values[chosen_[i]];
  return y;
}

}  // namespace kpool
