#include "core/ledger.hpp"

#include <catch2/catch.hpp>

using namespace kpool;

namespace {

StepReport step(std::uint32_t slot, double loss, std::optional<double> gain = {}, std::optional<Rival> rival = {}) {
  StepReport report{.slot = slot, .tokens = 512, .loss = loss, .gain = gain};
  report.rival = rival;
  return report;
}

}  // namespace

TEST_CASE("a rival that predicts a slot's records better is regret of routing, one that does not is none") {
  RegretLedger ledger(3, 1000);
  for (int i = 0; i < 40; ++i) {
    ledger.on_step(step(0, 3.0, {}, Rival{1, 2.6}));
    ledger.on_step(step(1, 2.0, {}, Rival{0, 2.9}));
  }
  CHECK(ledger.of_slot(0).routing == Approx(0.4));
  CHECK(ledger.of_slot(1).routing == 0);
  CHECK(ledger.of_pool().routing == Approx(0.2).epsilon(0.02));  // half of the steps
  ledger.on_birth({1, 9, true});                                  // the rival is another now
  CHECK(ledger.of_slot(0).routing == 0);
}

TEST_CASE("a gain that falls below its best is interference") {
  RegretLedger ledger(2, 1000);
  for (int i = 0; i < 30; ++i) ledger.on_step(step(0, 2, 0.5));
  CHECK(ledger.of_slot(0).interference == Approx(0).margin(1e-9));
  for (int i = 0; i < 30; ++i) ledger.on_step(step(0, 2.2, 0.3));
  CHECK(ledger.of_slot(0).interference == Approx(0.2).epsilon(0.02));
  for (int i = 0; i < 60; ++i) ledger.on_step(step(0, 1.8, 0.7));
  CHECK(ledger.of_slot(0).interference == Approx(0).margin(1e-3));
}

TEST_CASE("what is evicted is missed as often as it was used, less and less") {
  RegretLedger ledger(2, 100);
  for (int i = 0; i < 1000; ++i) ledger.on_step(step(i % 4 == 0 ? 0 : 1, 2, 0.8));
  ledger.on_birth({0, 3, true});
  const double missed = ledger.of_pool().eviction;
  CHECK(missed == Approx(0.25 * 0.8).epsilon(0.05));
  for (int i = 0; i < 100; ++i) ledger.on_step(step(1, 2, 0.8));
  CHECK(ledger.of_pool().eviction == Approx(missed / 2));
  ledger.on_birth({0, 4, false});  // a free slot
  CHECK(ledger.of_pool().eviction == Approx(missed / 2));
}

TEST_CASE("the ledger survives a restart, and refuses what is not its own") {
  RegretLedger ledger(2, 100), other(2, 100), wider(3, 100);
  for (int i = 0; i < 20; ++i) ledger.on_step(step(0, 3, 0.5, Rival{1, 2.5}));
  ledger.on_birth({0, 5, true});
  ledger.on_step(step(1, 3, 0.1, Rival{0, 2.7}));
  REQUIRE(other.restore(ledger.save()));
  CHECK(other.save() == ledger.save());
  CHECK(other.of_pool().eviction == ledger.of_pool().eviction);
  CHECK(wider.restore(ledger.save()).error().fault == Fault::mismatch);
  CHECK(other.restore("kpool").error().fault == Fault::bad_input);
}
