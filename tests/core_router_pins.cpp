// Pinned slots: neither evicted nor merged; and what a new domain does where all are, or where none is ever evicted.
#include <catch2/catch.hpp>

#include "tests/router_fixture.hpp"

using namespace kpool;
using Domains = kpool::testing::GaussianDomains;
using Bench = kpool::testing::RouterBench;

namespace {

/// Two slots, taken by domains 0 and 1.
struct Fixture {
  explicit Fixture(const std::string& covariance = "tied", bool evicts = true) {
    options.slots = 2;
    options.covariance = covariance;
    options.evicts = evicts;
    bench.emplace(options);
    bench->send(domains, 0, 300);
    bench->send(domains, 1, 300);
    REQUIRE(bench->births.size() == 2);
  }
  RoutingOptions options;
  std::optional<Bench> bench;
  Domains domains{7};
};

}  // namespace

TEST_CASE("a pinned slot is passed over when one is evicted") {
  for (const bool ordered : {true, false}) {
    Fixture fixture;
    Bench& bench = *fixture.bench;
    if (ordered) bench.router->set_eviction_order({0, 1});
    bench.router->pin(0, true);
    bench.send(fixture.domains, 2, 300);
    REQUIRE(bench.births.size() == 3);
    CHECK((bench.births[2].slot == 1 && bench.births[2].evicts));
    bench.router->pin(0, false);
    bench.router->pin(1, true);
    bench.send(fixture.domains, 3, 300);
    REQUIRE(bench.births.size() == 4);
    CHECK(bench.births[3].slot == 0);
  }
}

TEST_CASE("where every slot is pinned a new domain shares them without a trace, and gets one that becomes free") {
  for (const std::string covariance : {"tied", "diagonal"}) {
    CAPTURE(covariance);
    Fixture fixture(covariance);
    Bench& bench = *fixture.bench;
    for (const std::uint32_t slot : {0, 1}) bench.router->pin(slot, true);
    bench.send(fixture.domains, 2, 300, 0, 50);
    bench.take(bench.router->barrier());
    CHECK(bench.births.size() == 2);
    CHECK(bench.count(Verdict::Outcome::no_room) > 3);
    CHECK(bench.slot_of.size() == 900);  // every record trains a slot
    for (const std::size_t domain : {0, 1}) {
      const auto slot = bench.slot_of.at(domain * 300 + 200);
      CHECK(bench.router->classify(fixture.domains.draw(domain)) == slot);
    }
    bench.router->pin(1, false);
    bench.send(fixture.domains, 2, 300);
    REQUIRE(bench.births.size() == 3);
    CHECK(bench.births[2].slot == 1);
  }
}

TEST_CASE("without eviction a new domain shares the slots, whatever order they stand in") {
  Fixture fixture("tied", false);
  Bench& bench = *fixture.bench;
  bench.router->set_eviction_order({0, 1});
  bench.send(fixture.domains, 2, 300);
  bench.take(bench.router->barrier());
  CHECK(bench.births.size() == 2);
  CHECK(bench.count(Verdict::Outcome::no_room) > 3);
  CHECK(bench.slot_of.size() == 900);
  for (const std::size_t domain : {0, 1})
    CHECK(bench.router->classify(fixture.domains.draw(domain)) == bench.slot_of.at(domain * 300 + 200));
}
