#include "core/rate_guard.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "core/learner.hpp"
#include "core/safetensors.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

using namespace kpool;

namespace {

std::shared_ptr<const Base> tiny_base(const std::string& forward = "full") {
  kpool::testing::TemporaryDirectory directory;
  kpool::testing::write_tiny_model({}, directory.file("tiny.gguf"));
  auto base = Base::load({.path = directory.file("tiny.gguf"), .precision = "float32", .forward = forward});
  REQUIRE(base);
  return *base;
}

LearnerOptions options(double rate, RateGuardMode mode) {
  LearnerOptions options;
  options.slots = 1;
  options.rank = 4;
  options.alpha = 8;
  options.learning_rate = rate;
  options.rate_guard = mode;
  options.tokens_per_step = 64;
  options.gain_every = options.sharpness_every = 0;
  options.threads = 1;
  return options;
}

Sample sample(std::uint64_t seq) {
  Sample sample{{0, seq}};
  for (std::size_t i = 0; i < 64; ++i) sample.tokens.push_back(static_cast<std::int32_t>((seq + i) % 7) + 97);
  return sample;
}

struct Course {
  std::vector<StepReport> reports;
  std::string blob;
};

/// Trains a new slot, from `interrupted_at` on in another learner.
Course train(const LearnerOptions& options, std::uint64_t steps, std::uint64_t interrupted_at = 0) {
  const auto base = tiny_base();
  auto learner = make_learner(options, base);
  learner->open({0, 1});
  Course course;
  for (std::uint64_t i = 1; i <= steps; ++i) {
    for (auto& report : learner->learn(0, sample(i))) course.reports.push_back(std::move(report));
    if (i != interrupted_at) continue;
    const std::string blob = learner->save(0);
    learner = make_learner(options, base);
    REQUIRE(learner->restore(0, blob));
    CHECK(learner->save(0) == blob);
  }
  REQUIRE(course.reports.size() == steps);
  course.blob = learner->save(0);
  return course;
}

/// The same 23 steps, then one with other options on the same tokens twice: what it measured, and how much it changed
/// their loss, nats per token.
std::pair<StepReport, double> next_step(const LearnerOptions& next) {
  const std::string blob = train(options(3e-3, RateGuardMode::off), 23).blob;
  const auto learner = make_learner(next, tiny_base());
  REQUIRE(learner->restore(0, blob));
  const auto report = learner->learn(0, sample(24)).at(0);
  return {report, learner->learn(0, sample(24)).at(0).loss - report.loss};
}

}  // namespace

TEST_CASE("the cliff of a parabola is found from any probe") {
  const double slope = 3, curvature = 400;  // cliff: 0.015
  const auto change = [&](double length) { return -slope * length + 0.5 * curvature * length * length; };
  for (const double probe : {1e-6, 1e-4, 0.002, 0.015, 0.1, 2.0})
    CHECK(predict_cliff(probe, slope, change) == Approx(0.015));
}

TEST_CASE("where there is no descent the cliff is below the probe, where there is no end it is far above") {
  int probes = 0;
  const auto never = [&](double) { return ++probes, 0.0; };
  CHECK(predict_cliff(0.08, 0, never) == Approx(0.01));
  CHECK(predict_cliff(0.08, -1, never) == Approx(0.01));
  CHECK(predict_cliff(0.08, std::nan(""), never) == Approx(0.01));
  CHECK(probes == 0);
  const double endless = predict_cliff(0.01, 1, [&](double length) { return ++probes, -2 * length; });
  CHECK(endless > 1);
  CHECK(std::isfinite(endless));
  CHECK(probes < 10);
  const double wall = predict_cliff(1, 1, [](double length) {
    return length > 0.01 ? std::numeric_limits<double>::infinity() : -length + 200 * length * length;
  });
  CHECK(wall == Approx(0.005));
}

TEST_CASE("a rate follows the cliff's mean, and at most doubles") {
  RateGuard guard;
  observe(guard, RateGuardMode::warn, 0.5, 0.01);
  CHECK((guard.cliff == 0.01 && guard.rate == 0));
  observe(guard, RateGuardMode::automatic, 0.5, 0.01);
  CHECK(guard.rate == Approx(kCliffShare * 0.01));
  observe(guard, RateGuardMode::automatic, 1e-6, 0.01);
  CHECK(guard.rate == 2e-6);
  const double before = guard.cliff;
  observe(guard, RateGuardMode::automatic, 1, 16 * before);
  CHECK(guard.cliff > before * 1.1);
  CHECK(guard.cliff < before * 16 / 1.1);
  observe(guard, RateGuardMode::automatic, 1, before * before / guard.cliff);
  CHECK(guard.rate == Approx(kCliffShare * guard.cliff));
}

TEST_CASE("a step shorter than the predicted cliff lowers the loss on its tokens, a longer one raises it") {
  const double rate = GENERATE(1e-4, 1e-2, 1.0);
  const auto report = next_step(options(rate, RateGuardMode::warn)).first;
  CHECK(report.rate == rate);
  REQUIRE(report.cliff);
  CHECK(next_step(options(*report.cliff / 2, RateGuardMode::off)).second < 0);
  CHECK(next_step(options(*report.cliff * 2, RateGuardMode::off)).second > 0);
}

TEST_CASE("a forward pass in 8-bit integers leaves sharpness as it is and moves the cliff little") {
  std::vector<StepReport> reports;
  for (const char* forward : {"full", "int8"}) {
    LearnerOptions guarded = options(0.001, RateGuardMode::warn);
    guarded.sharpness_every = 1;
    const auto learner = make_learner(guarded, tiny_base(forward));
    learner->open({0, 1});
    reports.push_back(learner->learn(0, sample(1)).at(0));
  }
  CHECK(reports[0].loss != reports[1].loss);
  REQUIRE(reports[0].sharpness);
  CHECK(reports[0].sharpness == reports[1].sharpness);  // of the same weights, both measured in full
  CHECK(*reports[1].cliff == Approx(*reports[0].cliff).epsilon(0.1));
}

TEST_CASE("the mean curvature over random signs would put the cliff many times too far away") {
  auto settings = options(1e-3, RateGuardMode::warn);
  settings.sharpness_every = 1;
  const auto [report, change] = next_step(settings);
  REQUIRE((report.cliff && report.sharpness));
  const double share = report.rate / *report.cliff, descent = -change / (1 - share);  // the rate times g.s
  INFO("cliff " << *report.cliff << ", sharpness " << *report.sharpness << ", descent " << descent);
  CHECK(share < 1);
  CHECK(descent / std::max(*report.sharpness, 1e-9) * report.rate > 5 * *report.cliff);
}

TEST_CASE("a guard that warns changes no weight") {
  auto tensors = [](const std::string& blob) {
    auto contents = parse_safetensors(blob);
    REQUIRE(contents);
    contents->metadata.erase("cliff");
    return write_safetensors(*contents);
  };
  const auto off = train(options(3e-3, RateGuardMode::off), 12), warn = train(options(3e-3, RateGuardMode::warn), 12);
  CHECK(off.blob != warn.blob);  // the cliff is there
  CHECK(tensors(off.blob) == tensors(warn.blob));
  CHECK_FALSE(off.reports.back().cliff);
}

TEST_CASE("an automatic rate gets away from starts that are far too high or low") {
  constexpr std::uint64_t steps = 64;
  const double high = 0.3, low = 1e-6;
  const auto wild = train(options(high, RateGuardMode::off), steps);
  const auto timid = train(options(low, RateGuardMode::off), steps);
  const auto from_high = train(options(high, RateGuardMode::automatic), steps);
  const auto from_low = train(options(low, RateGuardMode::automatic), steps);
  for (const auto* course : {&from_high, &from_low}) {
    CHECK(course->reports.back().loss < wild.reports.back().loss - 0.3);
    CHECK(course->reports.back().loss < timid.reports.back().loss - 0.3);
    for (const StepReport& report : course->reports)
      if (report.cliff) CHECK(report.rate <= 1.001 * kCliffShare * *report.cliff);
  }
  CHECK(from_high.reports.front().rate < high / 10);
}

TEST_CASE("an interrupted guarded run goes on with the same bytes") {
  const auto mode = GENERATE(RateGuardMode::warn, RateGuardMode::automatic);
  const auto whole = train(options(1e-4, mode), 12);
  for (const std::uint64_t at : {3, 9}) {
    const auto parts = train(options(1e-4, mode), 12, at);
    CHECK(parts.blob == whole.blob);
    CHECK(parts.reports.back().rate == whole.reports.back().rate);
  }
}

TEST_CASE("a slot's guard is refused where it is damaged, and forgotten where it is off") {
  const auto course = train(options(1e-3, RateGuardMode::automatic), 2);
  auto contents = parse_safetensors(course.blob);
  REQUIRE(contents);
  const auto off = make_learner(options(1e-3, RateGuardMode::off), tiny_base());
  REQUIRE(off->restore(0, course.blob));
  CHECK(parse_safetensors(off->save(0))->metadata.count("cliff") == 0);
  for (const char* damage : {"-1", "0", "nan", "inf", "1x", ""}) {
    contents->metadata.at("rate") = damage;
    const auto status = off->restore(0, write_safetensors(*contents));
    REQUIRE_FALSE(status);
    CHECK(status.error().fault == Fault::bad_input);
  }
}
