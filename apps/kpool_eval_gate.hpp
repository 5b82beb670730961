// A trainable softmax gate over the slots, the router of a mixture of experts (Jacobs et al. 1991) trained as a Switch
// layer is (Fedus et al. 2022): one slot per record. Owned by one run, used on its thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace kpool {

struct GateOptions {
  double learning_rate = 0.3;  ///< of plain gradient descent
  double balance = 0;          ///< coefficient of the load-balance loss
  bool sampled = false;        ///< training draws the slot from the gate's probabilities: else it takes the likeliest
  std::uint64_t seed = 0;
};

/// g = softmax(W z / sqrt(width) + b), z the embedding standardised by its running mean and variance.
/// Loss: sum_k g_k L_k + balance K sum_k f_k g_k, where L_k is the record's loss under slot k and f_k the share of the
/// last 64 or so records that trained it, taken as constant (Switch's load-balance loss over a sliding batch).
class SoftmaxGate {
 public:
  SoftmaxGate(std::uint32_t slots, std::size_t width, const GateOptions& options);
  /// Takes a record, x: (width), into the statistics and says which slot it trains.
  std::uint32_t choose(std::span<const float> x);
  /// One step of descent for the record that was chosen for last. losses: (slots) L_k in nats per token. Losses that
  /// are not finite teach nothing.
  void learn(std::span<const double> losses);
  /// The likeliest slot of a query.
  std::uint32_t classify(std::span<const float> x) const;
  /// (slots)
  std::vector<double> probabilities(std::span<const float> x) const;

 private:
  std::vector<double> standardised(std::span<const float> x) const;
  std::vector<double> softmax(std::span<const double> z) const;

  const GateOptions options_;
  std::vector<std::vector<double>> weights_;  // (slots, width)
  std::vector<double> bias_;                  // (slots)
  std::vector<double> shares_;                // (slots) f
  std::uint64_t records_ = 0;
  std::vector<double> mean_, squares_;        // (width) Welford's statistics of the embeddings
  std::mt19937_64 engine_;
  std::vector<double> input_, gate_;          // z / sqrt(width) and g of the last record
};

}  // namespace kpool
