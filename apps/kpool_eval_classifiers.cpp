#include "apps/kpool_eval_classifiers.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <vector>

#include "core/dense.hpp"

namespace kpool {
namespace {

class Centroids final : public SlotClassifier {
 public:
  Centroids(std::uint32_t slots, std::size_t width) : means_(slots, {0, std::vector<float>(width)}) {}
  void reset(std::uint32_t slot) override { means_[slot] = {0, std::vector<float>(means_[slot].mean.size())}; }
  void learn(std::uint32_t slot, std::span<const float> x) override {
    auto& [records, mean] = means_[slot];
    const float share = 1.0f / static_cast<float>(++records);
    for (std::size_t i = 0; i < x.size(); ++i) mean[i] += share * (x[i] - mean[i]);
  }
  std::optional<std::uint32_t> classify(std::span<const float> x) const override {
    std::optional<std::uint32_t> nearest;
    double least = 0;
    for (std::uint32_t k = 0; k < means_.size(); ++k) {
      if (means_[k].records == 0) continue;
      const double distance = squared_distance(x, means_[k].mean);
      if (nearest && distance >= least) continue;
      nearest = k;
      least = distance;
    }
    return nearest;
  }

 private:
  struct Mean {
    std::uint64_t records = 0;
    std::vector<float> mean;  // (width)
  };
  std::vector<Mean> means_;  // (slots)
};

class LeastSquares final : public SlotClassifier {
 public:
  LeastSquares(std::uint32_t slots, std::size_t width, const LeastSquaresOptions& options)
      : taught_(slots),
        inverse_(at::eye(options.features, at::kDouble).div_(options.ridge)),
        weights_(at::zeros({options.features, slots}, at::kDouble)) {
    const auto shape = {static_cast<std::int64_t>(options.features), static_cast<std::int64_t>(width)};
    projection_ = at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(options.seed), at::kDouble);
  }

  /// Each column solves for its own slot alone, so a zero column is the solution without that slot's labels.
  void reset(std::uint32_t slot) override {
    weights_.select(1, slot).zero_();
    taught_[slot] = false;
  }

  void learn(std::uint32_t slot, std::span<const float> x) override {
    const at::Tensor phi = features(x);
    const at::Tensor direction = at::mv(inverse_, phi);
    const double scale = 1 / (1 + at::dot(phi, direction).item<double>());
    at::Tensor error = at::mv(weights_.t(), phi).neg_();
    error.select(0, slot).add_(1);
    weights_.addr_(direction, error, 1, scale);
    inverse_.addr_(direction, direction, 1, -scale);
    taught_[slot] = true;
  }

  std::optional<std::uint32_t> classify(std::span<const float> x) const override {
    const at::Tensor outputs = at::mv(weights_.t(), features(x));
    const double* values = outputs.const_data_ptr<double>();
    std::optional<std::uint32_t> best;
    for (std::uint32_t k = 0; k < taught_.size(); ++k)
      if (taught_[k] && (!best || values[k] > values[*best])) best = k;
    return best;
  }

 private:
  /// (features). The projection has variance 1, the input length 1: the product's variance is 1.
  at::Tensor features(std::span<const float> x) const {
    at::Tensor input = at::empty({static_cast<std::int64_t>(x.size())}, at::kDouble);
    std::copy(x.begin(), x.end(), input.mutable_data_ptr<double>());
    const double length = input.norm().item<double>();
    if (length > 0) input.div_(length);
    return at::mv(projection_, input).relu_();
  }

  std::vector<bool> taught_;  // (slots)
  at::Tensor projection_;     // (features, width)
  at::Tensor inverse_;        // (features, features) of the Gram matrix with the ridge
  at::Tensor weights_;        // (features, slots)
};

}  // namespace

std::unique_ptr<SlotClassifier> make_centroids(std::uint32_t slots, std::size_t width) {
  return std::make_unique<Centroids>(slots, width);
}

std::unique_ptr<SlotClassifier> make_least_squares(std::uint32_t slots, std::size_t width,
                                                   const LeastSquaresOptions& options) {
  return std::make_unique<LeastSquares>(slots, width, options);
}

}  // namespace kpool
