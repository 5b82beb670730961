// The router on several sources of one domain, and on queries that fit nothing well.
#include <cmath>

#include "tests/router_fixture.hpp"

using namespace kpool;
using kpool::testing::GaussianDomains;
using kpool::testing::RouterBench;

namespace {

/// Domain 1 as another source of domain 0: its records lie off the center by `distance`, in squared distances of a
/// record's own.
void make_kin(GaussianDomains& domains, double distance) {
  for (std::size_t i = 0; i < kpool::testing::router_width; ++i)
    domains.centres[1][i] =
        domains.centres[0][i] + static_cast<float>(std::sqrt(distance)) * (i % 2 == 0 ? 1.0F : -1.0F);
}

std::size_t births(double join_distance, double distance, int barrier_every) {
  RoutingOptions options;
  options.join_distance = join_distance;
  RouterBench bench(options);
  GaussianDomains domains(21);
  make_kin(domains, distance);
  for (const std::size_t domain : {2, 0, 1, 0, 1}) bench.send(domains, domain, 300, 0, barrier_every);
  bench.take(bench.router->barrier());
  CHECK(bench.slot_of.size() == bench.domain_of.size());
  if (bench.births.size() == 2) CHECK(bench.table[0].begin()->first == bench.table[1].begin()->first);
  return bench.births.size();
}

}  // namespace

TEST_CASE("another source of a known domain trains its slot") {
  for (const int barrier_every : {0, 13}) {
    CAPTURE(barrier_every);
    CHECK(births(1.5, 1.0, barrier_every) == 2);
    CHECK(births(0, 1.0, barrier_every) == 3);    // told apart, and nothing joins
    CHECK(births(1.5, 4.0, barrier_every) == 3);  // too far
  }
}

TEST_CASE("a query abstains beyond the distance that is asked for") {
  const auto none = [](double abstain) {
    RoutingOptions options;
    options.abstain = abstain;
    RouterBench bench(options);
    GaussianDomains domains(22);
    make_kin(domains, 1.0);
    bench.send(domains, 0, 300);
    bench.take(bench.router->barrier());
    int count = 0;
    for (int i = 0; i < 100; ++i) count += !bench.router->classify(domains.draw(1));
    return count;
  };
  CHECK(none(2) > 60);
  CHECK(none(12) == 0);
}
