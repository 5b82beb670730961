// The router on seeded Gaussians: births, purity, false births, claims, evictions, barriers, saved states.
#include "core/router.hpp"

#include <catch2/catch.hpp>

#include <array>
#include <cmath>
#include <map>
#include <random>

#include "core/novelty.hpp"
#include "tests/router_fixture.hpp"

using namespace kpool;
using Domains = kpool::testing::GaussianDomains;
using Bench = kpool::testing::RouterBench;

namespace {

constexpr std::size_t width = kpool::testing::router_width;

}  // namespace

TEST_CASE("domains that come one after the other get one slot each") {
  for (const std::string covariance : {"tied", "diagonal"})
    for (const int barrier_every : {0, 3, 8, 21}) {
      CAPTURE(covariance, barrier_every);
      RoutingOptions options;
      options.covariance = covariance;
      Bench bench(options);
      Domains domains(1);
      for (std::size_t domain = 0; domain < 5; ++domain) bench.send(domains, domain, 300, 0, barrier_every);
      for (std::size_t domain = 0; domain < 5; ++domain) bench.send(domains, domain, 60, 0, barrier_every);
      bench.take(bench.router->barrier());
      CHECK(bench.slot_of.size() == bench.domain_of.size());
      CHECK(bench.births.size() == 5);
      for (std::size_t domain = 0; domain < 5; ++domain) CHECK(bench.purity(domain) > 0.9);
    }
}

TEST_CASE("sources that interleave from the first record on are told apart") {
  Bench bench({});
  Domains domains(2);
  for (int i = 0; i < 1500; ++i)
    for (std::uint32_t source = 0; source < 3; ++source) bench.send(domains, source, 1, source, 50);
  bench.take(bench.router->barrier());
  CHECK(bench.births.size() == 3);
  for (std::size_t domain = 0; domain < 3; ++domain) CHECK(bench.purity(domain) > 0.9);
}

TEST_CASE("known domains may mix within one source") {
  Bench bench({});
  Domains domains(3);
  for (std::size_t domain = 0; domain < 3; ++domain) bench.send(domains, domain, 300);
  for (int i = 0; i < 900; ++i) bench.send(domains, domains.random() % 3, 1);
  CHECK(bench.births.size() == 3);
  for (std::size_t domain = 0; domain < 3; ++domain) CHECK(bench.purity(domain) > 0.95);
}

TEST_CASE("no slot is opened in 10000 batches of one domain") {
  for (const int barrier_every : {0, 13}) {
    Bench bench({});
    Domains domains(4);
    bench.send(domains, 0, 80000, 0, barrier_every);
    CHECK(bench.births.size() == 1);
  }
}

TEST_CASE("a birth stands before its records and names its generation") {
  Bench bench({});
  Domains domains(5);
  bench.send(domains, 0, 200);
  REQUIRE(bench.births.size() == 1);
  CHECK((bench.births[0].slot == 0 && bench.births[0].generation == 1 && !bench.births[0].evicts));
  bench.send(domains, 1, 24);
  REQUIRE(bench.births.size() == 2);
  CHECK((bench.births[1].slot == 1 && bench.births[1].generation == 2 && !bench.births[1].evicts));
  // held back since the first of them, decided with the birth
  CHECK(bench.slot_of.size() == 224);
  const auto opens = std::find_if(bench.verdicts.begin(), bench.verdicts.end(), [](const Verdict& verdict) {
    return verdict.outcome == Verdict::Outcome::opens && verdict.records > 0;
  });
  REQUIRE(opens != bench.verdicts.end());
  CHECK((opens->evidence >= opens->needed && opens->needed == Approx(8)));
  CHECK((opens->nearest == 0 && opens->distance > opens->limit && opens->limit == Approx(0.95)));
  CHECK(opens->records < 24);
  CHECK(bench.slot_of.at(200) == 1);
}

TEST_CASE("in its claim window a new slot takes what is novel to the others") {
  RoutingOptions options;
  options.claim_batches = 3;
  Bench bench(options);
  Domains domains(6);
  bench.send(domains, 0, 304);
  bench.send(domains, 1, 9);  // too few to know what is strange to it
  REQUIRE(bench.births.size() == 2);
  bench.send(domains, 2, 3);
  bench.send(domains, 0, 16);  // known
  for (Ticket ticket = 304; ticket < 316; ++ticket) CHECK(bench.slot_of.at(ticket) == 1);
  int known = 0;
  for (Ticket ticket = 316; ticket < 332; ++ticket) known += bench.slot_of.at(ticket) == 0;
  CHECK(known >= 9);  // the outer fifth of a known domain may be claimed as well
  CHECK(bench.births.size() == 2);
}

TEST_CASE("a domain that begins in the claim window of the one before gets a slot of its own") {
  RoutingOptions options;
  options.claim_batches = 8;
  Bench bench(options);
  Domains domains(6);
  bench.send(domains, 0, 304);
  for (const std::size_t domain : {1, 2, 3, 4}) bench.send(domains, domain, 24);  // fewer than the window's 64
  bench.take(bench.router->barrier());
  CHECK(bench.births.size() == 5);
  for (std::size_t domain = 0; domain < 5; ++domain) CHECK(bench.purity(domain) > 0.9);
}

TEST_CASE("in its claim window a new slot takes what is rare in its domain, though closer to another slot") {
  Bench bench({});
  Domains domains(6);
  for (std::size_t i = 0; i < domains.centres[2].size(); ++i)  // a rare kind of domain 1
    domains.centres[2][i] = 0.6F * domains.centres[0][i] + 0.4F * domains.centres[1][i];
  bench.send(domains, 0, 304);
  bench.send(domains, 1, 24);
  REQUIRE(bench.births.size() == 2);
  CHECK(bench.router->classify(domains.draw(2)) == 0);
  bench.send(domains, 2, 1);
  bench.send(domains, 1, 12);
  CHECK(bench.slot_of.at(328) == 1);
}

TEST_CASE("a stray record in the claim window does not open the new slot's gate to the next domain") {
  for (const unsigned seed : {6U, 7U, 8U, 9U}) {
    Bench bench({});
    Domains domains(seed);
    bench.send(domains, 0, 304);
    bench.send(domains, 1, 22);
    for (std::size_t i = 0; i < domains.centres[2].size(); ++i) {  // as far from domain 1 as a kin of it may be
      domains.centres[2][i] = 1.5F * domains.centres[1][i];
      domains.centres[3][i] = domains.centres[1][i] + (i % 2 ? 1.6F : -1.6F);
    }
    for (int i = 0; i < 3; ++i) bench.send(domains, 2, 1), bench.send(domains, 1, 4);
    bench.send(domains, 3, 60);
    bench.take(bench.router->barrier());
    CHECK(bench.births.size() == 3);
    CHECK(bench.purity(3) > 0.9);
  }
}

TEST_CASE("without a free slot the first of the eviction order goes") {
  RoutingOptions options;
  options.slots = 2;
  Bench bench(options);
  Domains domains(7);
  bench.send(domains, 0, 300);
  bench.send(domains, 1, 300);
  bench.router->set_eviction_order({1, 0});
  bench.send(domains, 2, 300);
  REQUIRE(bench.births.size() == 3);
  CHECK((bench.births[2].slot == 1 && bench.births[2].generation == 3 && bench.births[2].evicts));
  bench.router->set_eviction_order({0, 1});
  bench.send(domains, 3, 300);
  REQUIRE(bench.births.size() == 4);
  CHECK((bench.births[3].slot == 0 && bench.births[3].evicts));
  CHECK(bench.purity(3) > 0.9);
}

TEST_CASE("a barrier decides about every held record") {
  SECTION("a run that is one batch short of confirmed gives a birth") {
    Bench bench({});
    Domains domains(8);
    bench.send(domains, 0, 200);
    bench.send(domains, 1, 5);
    CHECK(bench.births.size() == 1);
    CHECK(bench.slot_of.size() == 200);
    bench.take(bench.router->barrier());
    CHECK(bench.births.size() == 2);
    CHECK(bench.slot_of.size() == 205);
    CHECK(bench.slot_of.at(200) == 1);
  }
  SECTION("a shorter run goes to the best slot and leaves no trace in it") {
    Domains domains(9), same(9);
    Bench bench({}), other({});
    bench.send(domains, 0, 200);
    other.send(same, 0, 200);
    bench.send(domains, 1, 2);
    bench.take(bench.router->barrier());
    CHECK(bench.births.size() == 1);
    CHECK(bench.slot_of.at(201) == 0);
    const std::vector<float> far(width, 40.0F);
    CHECK(bench.router->classify(far) == other.router->classify(far));
    CHECK(bench.router->barrier().empty());
  }
}

TEST_CASE("a query gets the slot it fits, or none") {
  Bench bench({});
  Domains domains(10);
  CHECK_FALSE(bench.router->classify(domains.draw(0)));
  bench.send(domains, 0, 300);
  bench.send(domains, 1, 300);
  int right = 0, none = 0;
  for (int i = 0; i < 200; ++i) {
    right += bench.router->classify(domains.draw(i % 2)) == static_cast<std::uint32_t>(i % 2);
    none += !bench.router->classify(domains.draw(2));
  }
  CHECK(right > 180);
  CHECK(none == 200);
}

TEST_CASE("a saved router continues bit for bit") {
  for (const std::string covariance : {"tied", "diagonal"})
    for (const int cut : {0, 1, 5, 40, 203, 309, 330, 500, 777}) {
      CAPTURE(covariance, cut);
      RoutingOptions options;
      options.covariance = covariance;
      Domains domains(11);
      auto one = make_router(options, width);
      const auto draw = [&](int i) { return domains.draw(i < 300 ? 0 : i < 600 ? 1 : domains.random() % 3); };
      for (int i = 0; i < cut; ++i) one->route(static_cast<Ticket>(i), draw(i), static_cast<std::uint32_t>(i % 2));
      one->set_eviction_order({2, 1});
      one->barrier();
      auto two = make_router(options, width);
      REQUIRE(two->restore(one->save()));
      CHECK(two->save() == one->save());
      for (int i = cut; i < cut + 700; ++i) {
        const auto x = draw(i);
        const auto a = one->route(static_cast<Ticket>(i), x, static_cast<std::uint32_t>(i % 2));
        const auto b = two->route(static_cast<Ticket>(i), x, static_cast<std::uint32_t>(i % 2));
        REQUIRE(a.size() == b.size());
        for (std::size_t k = 0; k < a.size(); ++k) {
          REQUIRE(a[k].index() == b[k].index());
          if (const auto* left = std::get_if<Assignment>(&a[k]))
            REQUIRE(left->slot == std::get<Assignment>(b[k]).slot);
        }
      }
      one->barrier();
      two->barrier();
      CHECK(two->save() == one->save());
    }
}

TEST_CASE("a damaged or foreign state is refused and changes nothing") {
  Bench bench({});
  Domains domains(12);
  bench.send(domains, 0, 100);
  bench.take(bench.router->barrier());
  const std::string saved = bench.router->save();
  auto router = make_router({}, width);
  for (std::size_t position = 0; position < saved.size(); position += 37) {
    std::string damaged = saved;
    damaged[position] ^= 4;
    const Status status = router->restore(damaged);
    REQUIRE_FALSE(status);
    REQUIRE(status.error().fault == Fault::bad_input);
    REQUIRE_FALSE(router->restore(saved.substr(0, position)));
  }
  CHECK_FALSE(router->classify(domains.draw(0)));
  const Status other_width = make_router({}, width + 1)->restore(saved);
  REQUIRE_FALSE(other_width);
  CHECK(other_width.error().fault == Fault::mismatch);
  CHECK(other_width.error().message ==
        "the saved mixture has 5 slots of width 24 (24 dimensions, power 1, tied); this router has 5 slots of width 25 "
        "(25 dimensions, power 1, tied)");
  CHECK(router->restore(saved));
}

TEST_CASE("quantiles agree with tables") {
  CHECK(normal_quantile(0.975) == Approx(1.959963985).epsilon(1e-8));
  CHECK(normal_quantile(0.1) == Approx(-1.281551566).epsilon(1e-8));
}

TEST_CASE("the gate keeps its false alarms on correlated coordinates") {
  // 64 coordinates of very unequal variances: chi-square with 64 degrees is far off.
  std::mt19937_64 random(13);
  std::normal_distribution<double> normal;
  const auto draw = [&] {
    double sum = 0;
    for (int i = 1; i <= 64; ++i) sum += std::pow(normal(random), 2) / i;
    return sum;
  };
  NoveltyGate gate;
  for (int i = 0; i < 3000; ++i) gate.add(draw());
  int beyond = 0;
  for (int i = 0; i < 20000; ++i) {
    const double distance = draw();
    beyond += gate.surprise(distance) > normal_quantile(0.99);
    gate.add(distance);
  }
  CHECK(beyond > 20000 * 0.005);
  CHECK(beyond < 20000 * 0.03);
}
