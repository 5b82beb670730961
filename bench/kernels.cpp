// Every kernel of core/simd in every set that this processor runs: nanoseconds for 1000 elements, GB/s, and how many
// times as fast as the set `plain`; then a Signum step of 2.44 M weights on one and two threads.
// Medians of rounds in which the sets take turns; Signum's best as well, for two threads want two idle cores.
#include <algorithm>
#include <cstdio>

#include "bench/common.hpp"
#include "core/signum.hpp"
#include "core/threads.hpp"
#include "tests/kernel_cases.hpp"

using namespace kpool;

namespace {

constexpr int kRounds = 15;

double seconds_each(const std::function<void()>& run, int times) {
  return seconds([&] { for (int i = 0; i < times; ++i) run(); }) / times;
}

void compare_sets() {
  const simd::KernelSets sets = simd::kernel_sets();
  std::vector<std::vector<testing::KernelCase>> cases;
  std::printf("%-22s", "ns/1000 (GB/s, ratio)");
  for (int s = 0; s < sets.count; ++s) {
    cases.push_back(testing::kernel_cases(*sets.sets[s]));
    std::printf("%26s", sets.sets[s]->name);
  }
  std::printf("\n");
  for (std::size_t c = 0; c < cases[0].size(); ++c) {
    std::vector<std::vector<double>> times(cases.size());
    for (int round = 0; round < kRounds; ++round) {
      for (std::size_t s = 0; s < cases.size(); ++s) {
        const int repeats = 1 + static_cast<int>(200'000 / cases[s][c].elements);
        times[s].push_back(seconds_each(cases[s][c].run, repeats));
      }
    }
    std::printf("%-22s", cases[0][c].name.c_str());
    for (std::size_t s = 0; s < cases.size(); ++s) {
      const auto& [name, elements, bytes, run] = cases[s][c];
      const double time = median(times[s]);
      std::printf("%9.1f (%5.1f, %5.2f x)", time * 1e12 / static_cast<double>(elements),
                  static_cast<double>(bytes) / time * 1e-9, median(times[0]) / time);
    }
    std::printf("\n");
  }
}

template <class M>
void signum(const char* type, M zero) {
  const std::size_t count = 2'440'000;
  std::vector<float> weights(count, 1), gradient(count);
  std::vector<M> momentum(count, zero);
  for (std::size_t i = 0; i < count; ++i) gradient[i] = static_cast<float>(i % 97) - 48;
  for (const std::uint32_t threads : {1u, 2u}) {
    use_threads(threads);
    std::vector<double> times;
    for (int round = 0; round < 2 * kRounds; ++round) {
      times.push_back(seconds([&] { signum_step(weights, momentum, gradient, {}, 1); }));
    }
    std::printf("signum_step %s, %zu weights, %u thread(s): %.2f ms, best %.2f ms\n", type, count, threads,
                median(times) * 1e3, *std::min_element(times.begin(), times.end()) * 1e3);
  }
}

}  // namespace

int main() {
  compare_sets();
  signum("float32", 0.0f);
  signum("bfloat16", simd::Bf16{0});
}
