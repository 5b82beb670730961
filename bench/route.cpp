// Replays embeddings through the router.
//   bench_route EMBEDDINGS WIDTH LABELS [key=value...]   raw float32 rows, one label per line
//   bench_route                                          microseconds per record on synthetic data
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/router.hpp"

namespace {

using namespace kpool;

struct Replay {
  std::vector<std::string> labels;
  std::vector<float> rows;
  std::size_t width = 0;
  std::uint64_t barrier_records = 0;
};

bool set_option(RoutingOptions& options, Replay& replay, const std::string& argument) {
  const auto at = argument.find('=');
  if (at == std::string::npos) return false;
  const std::string key = argument.substr(0, at), value = argument.substr(at + 1);
  const auto number = [&] { return static_cast<std::uint32_t>(std::strtoul(value.c_str(), nullptr, 10)); };
  if (key == "slots") options.slots = number();
  else if (key == "covariance") options.covariance = value;
  else if (key == "shrinkage") options.shrinkage = std::strtod(value.c_str(), nullptr);
  else if (key == "false_alarm") options.false_alarm = std::strtod(value.c_str(), nullptr);
  else if (key == "power") options.power = std::strtod(value.c_str(), nullptr);
  else if (key == "batch_records") options.batch_records = number();
  else if (key == "novel_batches") options.novel_batches = number();
  else if (key == "claim_batches") options.claim_batches = number();
  else if (key == "barrier") replay.barrier_records = number();
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

/// Each record of a label is a source "label#source" or the one source 0.
void replay_rows(const Replay& replay, const RoutingOptions& options) {
  const auto router = make_router(options, replay.width);
  std::map<std::string, std::map<std::uint32_t, int>> table;  // label x generation
  std::vector<std::uint64_t> generations(options.slots, 0);
  std::map<std::string, std::uint32_t> sources;
  int births = 0;
  std::string born;
  const auto begin = std::chrono::steady_clock::now();
  std::size_t now = 0;
  const auto take = [&](const std::vector<Decision>& decisions) {
    for (const Decision& decision : decisions) {
      if (const auto* birth = std::get_if<Birth>(&decision)) {
        ++births;
        generations[birth->slot] = birth->generation;
        born += " " + std::to_string(birth->slot) + "@" + std::to_string(now) + "(" + replay.labels[now] + ")";
      } else {
        const auto& assignment = std::get<Assignment>(decision);
        const std::string& label = replay.labels[assignment.ticket];
        ++table[label.substr(0, label.find('#'))][static_cast<std::uint32_t>(generations[assignment.slot])];
      }
    }
  };
  for (; now < replay.labels.size(); ++now) {
    const auto hash = replay.labels[now].find('#');
    const std::string name = hash == std::string::npos ? "" : replay.labels[now].substr(hash);
    const auto source = sources.emplace(name, static_cast<std::uint32_t>(sources.size())).first->second;
    take(router->route(now, {replay.rows.data() + now * replay.width, replay.width}, source));
    if (replay.barrier_records && (now + 1) % replay.barrier_records == 0) take(router->barrier());
  }
  now = replay.labels.size() - 1;
  take(router->barrier());
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  double worst = 1;
  for (const auto& [label, counts] : table) {
    int all = 0, most = 0;
    std::printf("%-14s", label.c_str());
    for (const auto& [generation, count] : counts) {
      std::printf(" %u:%d", generation, count);
      all += count;
      most = std::max(most, count);
    }
    worst = std::min(worst, static_cast<double>(most) / all);
    std::printf("\n");
  }
  std::printf("births %d worst share %.3f us/record %.1f state %zu bytes |%s\n", births, worst,
              took.count() / static_cast<double>(replay.labels.size()), router->save().size(), born.c_str());
}

void measure(std::size_t width, std::uint32_t slots, std::uint32_t batch_records, std::size_t records) {
  RoutingOptions options;
  options.slots = slots;
  options.batch_records = batch_records;
  const auto router = make_router(options, width);
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> pool(1024 * width);
  for (float& value : pool) value = normal(random);
  // `slots` domains one after the other, then all mixed
  const auto begin = std::chrono::steady_clock::now();
  std::vector<float> x(width);
  for (std::size_t i = 0; i < records; ++i) {
    const std::size_t domain = i < records / 2 ? i * 2 * slots / records : i % slots;
    const float* row = pool.data() + (i * 7919 % 1024) * width;
    for (std::size_t j = 0; j < width; ++j) x[j] = row[j] + (j % slots == domain ? 3.0F : 0.0F);
    router->route(i, x);
  }
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  std::printf("width %4zu slots %2u batch %3u: %7.2f us/record (%zu records)\n", width, slots, batch_records,
              took.count() / static_cast<double>(records), records);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) {
    for (const std::uint32_t slots : {1U, 5U, 16U})
      for (const std::uint32_t batch : {4U, 8U, 32U}) {
        measure(16, slots, batch, 1000000);
        measure(384, slots, batch, 20000);
        measure(576, slots, batch, 20000);
      }
    return 0;
  }
  RoutingOptions options;
  Replay replay;
  bool valid = argc >= 4 && load(replay, argv[1], argv[2], argv[3]);
  for (int i = 4; valid && i < argc; ++i) valid = set_option(options, replay, argv[i]);
  if (!valid) {
    std::fprintf(stderr, "usage: bench_route [EMBEDDINGS WIDTH LABELS [key=value...]]\n");
    return 64;
  }
  replay_rows(replay, options);
  return 0;
}
