// The router's posterior over slots: a distribution, and one that is right as often as it says.
#include <catch2/catch.hpp>

#include <cmath>
#include <numeric>

#include "tests/router_fixture.hpp"

using namespace kpool;
using Domains = kpool::testing::GaussianDomains;
using Bench = kpool::testing::RouterBench;

namespace {

constexpr std::size_t width = kpool::testing::router_width;

/// Two domains whose records overlap, all coordinates of a record scaled alike: by 1, or by Student's t with 6 degrees
/// of freedom, so that the tails are heavy and coordinates depend on each other without being correlated.
struct Overlapping {
  explicit Overlapping(bool heavy) : heavy(heavy) {}
  std::vector<float> draw(std::size_t domain) {
    double chi_square = 0;
    for (int i = 0; i < 6; ++i) chi_square += std::pow(normal(random), 2);
    const float scale = heavy ? static_cast<float>(std::sqrt(4 / chi_square)) : 1;  // of unit variance
    std::vector<float> x(width);
    for (float& value : x) value = scale * normal(random);
    x[0] += domain == 0 ? 0 : heavy ? 5.0f : 3.2f;
    return x;
  }
  const bool heavy;
  std::mt19937_64 random{5};
  std::normal_distribution<float> normal;
};

}  // namespace

TEST_CASE("a posterior is a distribution over the slots in use") {
  Bench bench({});
  Domains domains(3);
  CHECK(bench.router->posterior(domains.draw(0)).empty());
  bench.send(domains, 0, 4);
  CHECK(bench.router->posterior(domains.draw(0)) == std::vector<double>{1, 0, 0, 0, 0});
  for (const std::size_t domain : {0, 1, 2}) bench.send(domains, domain, 300);
  for (const std::size_t domain : {0, 1, 2, 3}) {
    const auto x = domains.draw(domain);
    const auto posterior = bench.router->posterior(x);
    REQUIRE(posterior.size() == 5);
    CHECK(std::accumulate(posterior.begin(), posterior.end(), 0.0) == Approx(1));
    CHECK((posterior[3] == 0 && posterior[4] == 0));
    if (domain < 3) CHECK(posterior[*bench.router->classify(x)] > 0.99);
  }
}

TEST_CASE("a posterior is right as often as it says, and careful where tails are heavy") {
  for (const bool heavy : {false, true}) {
    CAPTURE(heavy);
    RoutingOptions options;
    options.join_distance = 0;
    Bench bench(options);
    Overlapping domains(heavy);
    for (const std::size_t domain : {0, 1})
      for (int i = 0; i < 1500; ++i) {
        bench.domain_of.push_back(domain);
        bench.take(bench.router->route(bench.domain_of.size() - 1, domains.draw(domain)));
      }
    REQUIRE(bench.births.size() == 2);
    double confidence = 0, right = 0;
    constexpr int records = 4000;
    for (int i = 0; i < records; ++i) {
      const std::size_t domain = i % 2;
      const auto posterior = bench.router->posterior(domains.draw(domain));
      confidence += std::max(posterior[0], posterior[1]);
      right += posterior[domain] > 0.5;
    }
    CHECK(right / records > 0.9);
    if (heavy) CHECK(confidence / records < 0.95);  // by the plain densities 0.994, where 0.986 are right
    else CHECK(confidence / records == Approx(right / records).margin(0.02));
  }
}
