#include "apps/kpool_eval_gate.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kpool {
namespace {

constexpr double balance_window = 64;  // records

double uniform(std::mt19937_64& engine) { return static_cast<double>(engine() >> 11) * 0x1p-53; }

std::uint32_t likeliest(const std::vector<double>& gate) {
  return static_cast<std::uint32_t>(std::max_element(gate.begin(), gate.end()) - gate.begin());
}

std::uint32_t draw(const std::vector<double>& gate, std::mt19937_64& engine) {
  double left = uniform(engine);
  for (std::uint32_t k = 0; k + 1 < gate.size(); ++k)
    if ((left -= gate[k]) < 0) return k;
  return static_cast<std::uint32_t>(gate.size() - 1);
}

double dot(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

}  // namespace

SoftmaxGate::SoftmaxGate(std::uint32_t slots, std::size_t width, const GateOptions& options)
    : options_(options),
      weights_(slots, std::vector<double>(width)),
      bias_(slots),
      shares_(slots, 1.0 / slots),
      mean_(width),
      squares_(width),
      engine_(options.seed) {
  // A linear layer's usual start, U(-1, 1) / sqrt(width), with the root drawn into the input.
  for (auto& row : weights_)
    for (double& weight : row) weight = 2 * uniform(engine_) - 1;
}

std::uint32_t SoftmaxGate::choose(std::span<const float> x) {
  ++records_;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double before = x[i] - mean_[i];
    mean_[i] += before / static_cast<double>(records_);
    squares_[i] += before * (x[i] - mean_[i]);
  }
  input_ = standardised(x);
  gate_ = softmax(input_);
  const std::uint32_t chosen = options_.sampled ? draw(gate_, engine_) : likeliest(gate_);
  for (std::uint32_t k = 0; k < shares_.size(); ++k) shares_[k] += ((k == chosen) - shares_[k]) / balance_window;
  return chosen;
}

void SoftmaxGate::learn(std::span<const double> losses) {
  if (!std::all_of(losses.begin(), losses.end(), [](double loss) { return std::isfinite(loss); })) return;
  const double expected = dot(gate_, losses), load = dot(gate_, shares_);
  const double balance = options_.balance * static_cast<double>(gate_.size());
  for (std::size_t k = 0; k < gate_.size(); ++k) {
    const double gradient = gate_[k] * (losses[k] - expected + balance * (shares_[k] - load));
    for (std::size_t i = 0; i < input_.size(); ++i) weights_[k][i] -= options_.learning_rate * gradient * input_[i];
    bias_[k] -= options_.learning_rate * gradient;
  }
}

std::uint32_t SoftmaxGate::classify(std::span<const float> x) const { return likeliest(probabilities(x)); }

std::vector<double> SoftmaxGate::probabilities(std::span<const float> x) const { return softmax(standardised(x)); }

std::vector<double> SoftmaxGate::standardised(std::span<const float> x) const {
  std::vector<double> z(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double deviation = std::sqrt(squares_[i] / static_cast<double>(records_));
    if (deviation > 0) z[i] = (x[i] - mean_[i]) / (deviation * std::sqrt(static_cast<double>(x.size())));
  }
  return z;
}

std::vector<double> SoftmaxGate::softmax(std::span<const double> z) const {
  std::vector<double> gate(weights_.size());
  for (std::size_t k = 0; k < gate.size(); ++k) gate[k] = bias_[k] + dot(weights_[k], z);
  const double most = *std::max_element(gate.begin(), gate.end());
  for (double& value : gate) value = std::exp(value - most);
  const double sum = std::accumulate(gate.begin(), gate.end(), 0.0);
  for (double& value : gate) value /= sum;
  return gate;
}

}  // namespace kpool
