#include "core/signum.hpp"

#include <catch2/catch.hpp>
#include <vector>

#include "core/threads.hpp"

using kpool::signum_step;

TEST_CASE("signum moves every weight by the learning rate against its momentum's sign", "[signum]") {
  std::vector<float> weights{1, 1, 1}, momentum{0, 0, 0};
  const std::vector<float> gradient{1e-20f, -3, 0};
  signum_step(weights, momentum, gradient, {.learning_rate = 0.125}, 1);
  CHECK(weights == std::vector<float>{0.875f, 1.125f, 1.0f});  // sign(0) = 0: no move
  CHECK(momentum[1] == Approx(-0.3));
  signum_step(weights, momentum, std::vector<float>{-1e-20f, 1, 0}, {.learning_rate = 0.125}, 1);
  CHECK(momentum[1] == Approx(-0.17));
  CHECK(weights[1] == 1.25f);   // the momentum outvotes one gradient
  CHECK(weights[0] == 0.875f + 0.125f * (momentum[0] < 0 ? 1.0f : -1.0f));
}

TEST_CASE("signum's decay is decoupled: it shrinks the weight, not the momentum", "[signum]") {
  std::vector<float> weights{2}, momentum{0};
  signum_step(weights, momentum, std::vector<float>{0}, {.learning_rate = 0.25, .weight_decay = 0.5}, 1);
  CHECK(weights[0] == 1.75f);
  CHECK(momentum[0] == 0);
}

TEST_CASE("a batch's share scales the step and its decay", "[signum]") {
  std::vector<float> weights{2}, momentum{0};
  signum_step(weights, momentum, std::vector<float>{5}, {.learning_rate = 0.25, .weight_decay = 0.5}, 0.5);
  CHECK(weights[0] == 2 * (1 - 0.0625f) - 0.125f);
  CHECK(momentum[0] == Approx(0.5));
}

TEST_CASE("momenta inside the dead zone do not move their weight", "[signum]") {
  std::vector<float> weights{1, 1, 1}, momentum{0, 0, 0};
  const std::vector<float> gradient{0.5f, -0.5f, 20};
  signum_step(weights, momentum, gradient, {.learning_rate = 0.5, .dead_zone = 0.1}, 1);
  CHECK(weights == std::vector<float>{1, 1, 0.5f});
}

TEST_CASE("signum's result does not depend on the number of threads, nor much on the momentum's type", "[signum]") {
  const std::size_t n = 100'003;
  const auto run = [n](std::uint32_t threads, auto zero) {
    kpool::use_threads(threads);
    std::vector<float> weights(n, 1), gradient(n);
    std::vector<decltype(zero)> momentum(n, zero);
    for (int step = 0; step < 3; ++step) {
      for (std::size_t i = 0; i < n; ++i) gradient[i] = static_cast<float>(i * 37 % 101) - 50;
      signum_step(weights, momentum, gradient, {.learning_rate = 0.01, .weight_decay = 0.1}, 0.5);
    }
    return weights;
  };
  const std::vector<float> one = run(1, 0.0f);
  CHECK(one == run(2, 0.0f));
  CHECK(one == run(3, 0.0f));
  CHECK(one == run(2, kpool::simd::Bf16{0}));  // a steady gradient keeps the sign of every momentum
}
