// The router on several sources of one domain, and on queries that fit nothing well.
#include <cmath>

#include "core/mixture.hpp"
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

std::size_t births(double join_distance, double distance, int barrier_every, std::uint32_t slots = 5) {
  RoutingOptions options;
  options.slots = slots;
  options.join_distance = join_distance;
  RouterBench bench(options);
  GaussianDomains domains(21);
  make_kin(domains, distance);
  for (const std::size_t domain : {2, 0, 1, 0, 1}) bench.send(domains, domain, 300, 0, barrier_every);
  bench.take(bench.router->barrier());
  CHECK(bench.slot_of.size() == bench.domain_of.size());
  if (bench.births.size() == 2) CHECK(bench.table[0].begin()->first == bench.table[1].begin()->first);
  CHECK(bench.count(Verdict::Outcome::opens) == bench.births.size());
  for (const Verdict& verdict : bench.verdicts)
    if (verdict.outcome == Verdict::Outcome::joins)
      CHECK((verdict.nearest && verdict.distance <= verdict.limit && verdict.evidence >= verdict.needed));
  return bench.births.size();
}

RoutingOptions three_slots(double join_distance, double merge_agreement) {
  RoutingOptions options;
  options.slots = 3;
  options.join_distance = join_distance;
  options.merge_agreement = merge_agreement;
  return options;
}

/// A full pool of three, as it is saved: domain 2, then 0 and its kin 1 in slots of their own.
std::string kin_in_two_of_three(GaussianDomains& domains) {
  make_kin(domains, 1.0);
  RouterBench bench(three_slots(0, 0));
  for (const std::size_t domain : {2, 0, 1}) bench.send(domains, domain, 300);
  bench.take(bench.router->barrier());
  REQUIRE(bench.births.size() == 3);
  return bench.router->save();
}

RouterBench restored(const std::string& pool, double join_distance, double merge_agreement = 0) {
  RouterBench bench(three_slots(join_distance, merge_agreement));
  REQUIRE(bench.router->restore(pool));
  for (std::uint32_t slot = 0; slot < 3; ++slot) bench.generation[slot] = slot + 1;
  return bench;
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

TEST_CASE("where every slot is taken, another source joins from farther") {
  for (const int barrier_every : {0, 13}) {
    CAPTURE(barrier_every);
    CHECK(births(1.5, 1.65, barrier_every, 3) == 3);
    CHECK(births(1.5, 1.65, barrier_every, 2) == 2);
    CHECK(births(1.5, 2.3, barrier_every, 2) > 2);
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

TEST_CASE("two slots of one domain become one before a slot is evicted") {
  GaussianDomains domains(23);
  const std::string before = kin_in_two_of_three(domains);
  for (const double join_distance : {0.0, 1.5}) {
    RouterBench after = restored(before, join_distance);
    after.router->set_eviction_order({0, 1, 2});
    after.send(domains, 3, 100);
    REQUIRE(after.births.size() == 1);
    const Birth& birth = after.births[0];
    CHECK(birth.evicts == (join_distance == 0));
    if (join_distance == 0) {
      CHECK((birth.slot == 0 && !birth.merged_into));
      continue;
    }
    REQUIRE(birth.merged_into);
    CHECK(birth.slot + *birth.merged_into == 3);  // the two that domains 0 and 1 had
    for (const std::size_t domain : {0, 1})
      CHECK(after.router->classify(domains.draw(domain)) == *birth.merged_into);
  }
  for (const std::uint32_t pinned : {1, 2}) {  // of the two that would merge
    RouterBench after = restored(before, 1.5);
    after.router->pin(pinned, true);
    after.router->set_eviction_order({pinned, 0, 1, 2});
    after.send(domains, 3, 100);
    REQUIRE(after.births.size() == 1);
    CHECK((after.births[0].slot == 0 && after.births[0].evicts && !after.births[0].merged_into));
  }
}

TEST_CASE("where their agreement is asked for, two slots become one only if it was measured and suffices") {
  GaussianDomains domains(23);
  const std::string before = kin_in_two_of_three(domains);
  CHECK_FALSE(restored(before, 1.5).router->merge_candidate());
  struct Case { std::optional<double> agreement; std::uint64_t birth; bool merges; };
  for (const Case& said : {Case{std::nullopt, 3, false}, {0.4, 3, false}, {0.5, 3, true}, {0.5, 2, false}}) {
    RouterBench after = restored(before, 1.5, 0.5);
    const auto pair = after.router->merge_candidate();
    REQUIRE(pair);
    CHECK((pair->lesser + pair->greater == 3 && pair->birth == 3));  // the two that domains 0 and 1 had
    if (said.agreement)
      after.router->set_agreement(MergePair{pair->greater, pair->lesser, said.birth, *said.agreement});
    after.send(domains, 3, 100);
    REQUIRE(after.births.size() == 1);
    CHECK(after.births[0].merged_into.has_value() == said.merges);
    CHECK(after.births[0].evicts != said.merges);
    const auto opens = std::find_if(after.verdicts.begin(), after.verdicts.end(),
                                    [](const Verdict& verdict) { return verdict.outcome == Verdict::Outcome::opens; });
    REQUIRE((opens != after.verdicts.end() && opens->merge));
    const auto& merge = opens->merge;
    CHECK((merge->needed == 0.5 && merge->accepted() == said.merges && merge->distance < 1.5));
    CHECK(merge->agreement == (said.birth == 3 ? said.agreement : std::nullopt));
  }
}

TEST_CASE("a merged slot has the statistics of one that saw it all") {
  constexpr std::size_t width = kpool::testing::router_width;
  GaussianDomains domains(24);
  make_kin(domains, 1.0);
  Mixture parts(Covariance::tied, 2, width, 0.1), whole(Covariance::tied, 2, width, 0.1);
  Measured measured;
  const auto absorb = [&](Mixture& mixture, std::uint32_t slot, const std::vector<float>& x) {
    mixture.measure(x, measured);
    mixture.absorb(slot, x, measured);
  };
  parts.open(0);
  parts.open(1);
  whole.open(0);
  for (int i = 0; i < 400; ++i) {
    const auto x = domains.draw(i % 2);
    absorb(parts, i % 4 == 1 ? 1 : 0, x);
    absorb(whole, 0, x);
  }
  const auto pair = parts.closest_pair({false, false});
  REQUIRE(pair);
  CHECK((pair->lesser == 1 && pair->greater == 0));
  CHECK_FALSE(parts.closest_pair({false, true}));
  parts.merge(1, 0);
  CHECK(parts.records(0) == 400);
  for (Mixture* mixture : {&parts, &whole}) mixture->open(1);
  for (int i = 0; i < 64; ++i) {  // until both have renewed their covariance
    const auto x = domains.draw(0);
    for (Mixture* mixture : {&parts, &whole}) absorb(*mixture, 0, x);
  }
  for (int i = 0; i < 20; ++i) {
    const auto x = domains.draw(i % 3);
    Measured other;
    parts.measure(x, measured);
    whole.measure(x, other);
    CHECK(measured.distances[0] == Approx(other.distances[0]).epsilon(1e-3));
  }
}
