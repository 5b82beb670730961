// A router on seeded Gaussians, with a record of what it decided.
#pragma once

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "core/router.hpp"

namespace kpool::testing {

constexpr std::size_t router_width = 24;

/// Domains with centres far apart and coordinates that are correlated within.
struct GaussianDomains {
  explicit GaussianDomains(unsigned seed) : random(seed) {
    for (auto& centre : centres)
      for (float& value : centre) value = 6 * normal(random);
  }
  std::vector<float> draw(std::size_t domain) {
    std::vector<float> x(router_width);
    const float shared = normal(random);
    for (std::size_t i = 0; i < router_width; ++i) x[i] = centres[domain][i] + normal(random) + shared;
    return x;
  }
  std::mt19937_64 random;
  std::normal_distribution<float> normal;
  std::array<std::array<float, router_width>, 8> centres{};
};

/// A router with what it decided: per record its slot and generation.
struct RouterBench {
  explicit RouterBench(const RoutingOptions& options) : router(make_router(options, router_width)) {}
  void take(const std::vector<Decision>& decisions) {
    for (const Decision& decision : decisions) {
      if (const auto* birth = std::get_if<Birth>(&decision)) {
        births.push_back(*birth);
        generation[birth->slot] = birth->generation;
      } else if (const auto* verdict = std::get_if<Verdict>(&decision)) {
        verdicts.push_back(*verdict);
      } else {
        const auto& assignment = std::get<Assignment>(decision);
        REQUIRE(generation.count(assignment.slot) == 1);
        REQUIRE(slot_of.emplace(assignment.ticket, assignment.slot).second);
        ++table[domain_of.at(assignment.ticket)][generation[assignment.slot]];
      }
    }
  }
  void send(GaussianDomains& domains, std::size_t domain, int count, std::uint32_t source = 0, int barrier_every = 0) {
    for (int i = 0; i < count; ++i) {
      domain_of.push_back(domain);
      take(router->route(domain_of.size() - 1, domains.draw(domain), source));
      if (barrier_every && domain_of.size() % static_cast<std::size_t>(barrier_every) == 0) take(router->barrier());
    }
  }
  double purity(std::size_t domain) {
    int all = 0, most = 0;
    for (const auto& [_, count] : table[domain]) all += count, most = std::max(most, count);
    return static_cast<double>(most) / all;
  }
  std::size_t count(Verdict::Outcome outcome) const {
    return static_cast<std::size_t>(std::count_if(
        verdicts.begin(), verdicts.end(), [&](const Verdict& verdict) { return verdict.outcome == outcome; }));
  }
  std::unique_ptr<Router> router;
  std::vector<Birth> births;
  std::vector<Verdict> verdicts;
  std::map<std::uint32_t, std::uint64_t> generation;
  std::map<std::size_t, std::map<std::uint64_t, int>> table;  // domain x generation
  std::vector<std::size_t> domain_of;
  std::map<Ticket, std::uint32_t> slot_of;
};

}  // namespace kpool::testing
