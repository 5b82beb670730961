// Replays embeddings through the router.
//   bench_route EMBEDDINGS WIDTH LABELS [key=value...]   raw float32 rows, one label per line. barrier=N: one every N
//                                                        records; learn=N: rows beyond the first N are queries;
//                                                        together=N: so many in a row of one label as one query
//   bench_route [--json FILE]                            microseconds per record on synthetic data, as JSON lines
// The router takes records one by one, so a batch is so many in a row: route_us is the median over batches of the time
// per record, route_mean_us the mean, which has the renewals of the covariance in it; classify_us is a query's. births:
// slots that the router opened although nothing was new; after one it renews the covariance more often.
#include <cstdio>
#include <map>
#include <random>

#include "bench/common.hpp"
#include "core/router.hpp"

namespace {

using namespace kpool;

struct Replay {
  std::vector<std::string> labels;
  std::vector<float> rows;
  std::size_t width = 0;
  std::uint64_t barrier_records = 0;
  std::size_t learned = SIZE_MAX;
  std::size_t together = 1;
};

bool set_option(RoutingOptions& options, Replay& replay, const std::string& argument) {
  const auto at = argument.find('=');
  if (at == std::string::npos) return false;
  const std::string key = argument.substr(0, at), value = argument.substr(at + 1);
  const auto number = [&] { return static_cast<std::uint32_t>(std::strtoul(value.c_str(), nullptr, 10)); };
  if (key == "slots") options.slots = number();
  else if (key == "covariance") options.covariance = value;
  else if (key == "dimensions") options.dimensions = number();
  else if (key == "join_distance") options.join_distance = std::strtod(value.c_str(), nullptr);
  else if (key == "shrinkage") options.shrinkage = std::strtod(value.c_str(), nullptr);
  else if (key == "false_alarm") options.false_alarm = std::strtod(value.c_str(), nullptr);
  else if (key == "power") options.power = std::strtod(value.c_str(), nullptr);
  else if (key == "batch_records") options.batch_records = number();
  else if (key == "novel_batches") options.novel_batches = number();
  else if (key == "claim_batches") options.claim_batches = number();
  else if (key == "barrier") replay.barrier_records = number();
  else if (key == "learn") replay.learned = number();
  else if (key == "together") replay.together = std::max(1U, number());
  else return false;
  return true;
}

bool load(Replay& replay, const char* embeddings, const char* width, const char* labels) {
  replay.width = std::strtoul(width, nullptr, 10);
  std::ifstream names(labels), file(embeddings, std::ios::binary);
  for (std::string line; std::getline(names, line);) replay.labels.push_back(line);
  replay.rows.resize(replay.labels.size() * replay.width);
  file.read(reinterpret_cast<char*>(replay.rows.data()),
            static_cast<std::streamsize>(replay.rows.size() * sizeof(float)));
  return file.good() && !replay.labels.empty();
}

using Counts = std::map<std::uint64_t, int>;  // generation -> records, 0: none of the slots

void print(const std::string& label, const Counts& counts) {
  std::printf("%-14s", label.c_str());
  for (const auto& [generation, count] : counts)
    std::printf(" %llu:%d", static_cast<unsigned long long>(generation), count);
  std::printf("\n");
}

/// One record as the daemon does; several by the sum of their log posteriors.
std::optional<std::uint32_t> classify(const Router& router, const Replay& replay, std::size_t begin, std::size_t end) {
  const auto row = [&](std::size_t i) {
    return std::span<const float>(replay.rows).subspan(i * replay.width, replay.width);
  };
  if (end - begin == 1) return router.classify(row(begin));
  std::vector<double> sums;
  for (std::size_t i = begin; i < end; ++i) {
    const auto posterior = router.posterior(row(i));
    sums.resize(posterior.size());
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += std::log(std::max(posterior[k], 1e-300));
  }
  if (sums.empty()) return std::nullopt;
  return static_cast<std::uint32_t>(std::max_element(sums.begin(), sums.end()) - sums.begin());
}

/// Each record of a label is a source "label#source" or the one source 0.
void replay_rows(const Replay& replay, const RoutingOptions& options) {
  const auto router = make_router(options, replay.width);
  std::map<std::string, Counts> table;  // label x generation
  std::vector<std::uint64_t> generations(options.slots, 0);
  std::map<std::string, std::uint32_t> sources;
  int births = 0;
  std::string born;
  const double begin = seconds_now();
  std::size_t now = 0;
  const auto take = [&](const std::vector<Decision>& decisions) {
    for (const Decision& decision : decisions) {
      if (const auto* birth = std::get_if<Birth>(&decision)) {
        ++births;
        if (birth->merged_into)
          for (auto& [label, counts] : table) {
            counts[generations[*birth->merged_into]] += counts[generations[birth->slot]];
            counts.erase(generations[birth->slot]);
          }
        generations[birth->slot] = birth->generation;
        born += " " + std::to_string(birth->slot) + "@" + std::to_string(now) + "(" + replay.labels[now] + ")";
      } else if (const auto* assignment = std::get_if<Assignment>(&decision)) {
        const std::string& label = replay.labels[assignment->ticket];
        ++table[label.substr(0, label.find('#'))][generations[assignment->slot]];
      }
    }
  };
  for (; now < std::min(replay.learned, replay.labels.size()); ++now) {
    const auto hash = replay.labels[now].find('#');
    const std::string name = hash == std::string::npos ? "" : replay.labels[now].substr(hash);
    const auto source = sources.emplace(name, static_cast<std::uint32_t>(sources.size())).first->second;
    take(router->route(now, {replay.rows.data() + now * replay.width, replay.width}, source));
    if (replay.barrier_records && (now + 1) % replay.barrier_records == 0) take(router->barrier());
  }
  --now;
  take(router->barrier());
  std::map<std::string, Counts> queries;
  for (std::size_t i = replay.learned; i < replay.labels.size();) {
    const std::string& label = replay.labels[i];
    std::size_t end = i + 1;
    while (end < replay.labels.size() && end - i < replay.together && replay.labels[end] == label) ++end;
    const auto slot = classify(*router, replay, i, end);
    if (end - i == replay.together) ++queries[label][slot ? generations[*slot] : 0];
    i = end;
  }
  const double took_us = 1e6 * (seconds_now() - begin);
  for (const auto& [label, counts] : queries) print("query " + label, counts);
  double worst = 1;
  for (const auto& [label, counts] : table) {
    print(label, counts);
    int all = 0, most = 0;
    for (const auto& [generation, count] : counts) {
      all += count;
      most = std::max(most, count);
    }
    worst = std::min(worst, static_cast<double>(most) / all);
  }
  std::printf("births %d worst share %.3f us/record %.1f state %zu bytes |%s\n", births, worst,
              took_us / static_cast<double>(replay.labels.size()), router->save().size(), born.c_str());
}

/// K well separated domains; a record is its domain's center plus noise.
struct Domains {
  Domains(std::size_t width, std::uint32_t count) : width(width), centers(count * width), x(width) {
    for (float& value : centers) value = normal(random);
  }
  std::span<const float> record(std::size_t domain) {
    for (std::size_t j = 0; j < width; ++j) x[j] = 2 * centers[domain * width + j] + normal(random);
    return x;
  }
  std::size_t width;
  std::mt19937_64 random{1};
  std::normal_distribution<float> normal;
  std::vector<float> centers, x;
};

/// Costs in a pool whose slots are all taken and known for long. Domains change from record to record, which is the
/// dearest order: the statistics of a run of one slot's records are added in one sweep.
void measure_batches(Router& router, Domains& domains, std::uint32_t slots, std::size_t live, std::size_t batch,
                     Results& results) {
  const std::size_t batches = std::max<std::size_t>(20, 1024 / batch);
  std::vector<double> routed, classified;
  double sum = 0;
  std::size_t births = 0;
  Ticket ticket = 1u << 20;
  for (std::size_t i = 0; i < batches; ++i) {
    std::vector<float> rows;
    for (std::size_t j = 0; j < batch; ++j) {
      const auto x = domains.record((i * batch + j) % slots);
      rows.insert(rows.end(), x.begin(), x.end());
    }
    const auto row = [&](std::size_t j) {
      return std::span<const float>(rows).subspan(j * domains.width, domains.width);
    };
    const auto each = [&](const std::function<void(std::size_t)>& work) {
      return 1e6 / static_cast<double>(batch) * seconds([&] { for (std::size_t j = 0; j < batch; ++j) work(j); });
    };
    routed.push_back(each([&](std::size_t j) {
      for (const Decision& decision : router.route(ticket++, row(j))) births += std::holds_alternative<Birth>(decision);
    }));
    sum += routed.back();
    classified.push_back(each([&](std::size_t j) { router.classify(row(j)); }));
  }
  results.add({{"width", domains.width},
               {"slots", slots},
               {"slots_live", live},
               {"batch", batch},
               {"records", batches * batch},
               {"births", births},
               {"route_us", rounded(median(routed), 2)},
               {"route_mean_us", rounded(sum / static_cast<double>(batches), 2)},
               {"classify_us", rounded(median(classified), 2)}});
}

void measure(std::size_t width, std::uint32_t slots, Results& results) {
  constexpr std::size_t records_per_domain = 150, settling = 4096;
  RoutingOptions options;
  options.slots = slots;
  const auto router = make_router(options, width);
  Domains domains(width, slots);
  std::vector<bool> live(slots);
  for (std::size_t i = 0; i < records_per_domain * slots; ++i)
    for (const Decision& decision : router->route(i, domains.record(i / records_per_domain)))
      if (const auto* birth = std::get_if<Birth>(&decision)) live[birth->slot] = true;
  for (std::size_t i = 0; i < settling; ++i) router->route(i, domains.record(i % slots));
  const auto count = static_cast<std::size_t>(std::count(live.begin(), live.end(), true));
  for (const std::size_t batch : {1, 8, 32, 128, 512}) measure_batches(*router, domains, slots, count, batch, results);
}

}  // namespace

int main(int argc, char** argv) {
  Results results(argc, argv);
  if (argc == 1) {
    for (const std::size_t width : {576, 384})
      for (const std::uint32_t slots : {2U, 4U, 6U, 8U, 16U, 64U}) measure(width, slots, results);
    return 0;
  }
  RoutingOptions options;
  Replay replay;
  bool valid = argc >= 4 && load(replay, argv[1], argv[2], argv[3]);
  for (int i = 4; valid && i < argc; ++i) valid = set_option(options, replay, argv[i]);
  if (!valid) {
    std::fprintf(stderr, "usage: bench_route [EMBEDDINGS WIDTH LABELS [key=value...]] [--json FILE]\n");
    return 64;
  }
  replay_rows(replay, options);
  return 0;
}
