// bench_pipeline [RECORDS] [--json FILE]: small records through the whole pipeline around a stub model: real gateway
// client, CURVE over TCP, all six stages and their sockets, real RocksDB with a commit every second. The daemon is a
// process of its own, so that its memory can be watched.
// First single records through the idle pipeline: from the encoder to the learner (encoding to routing to training: two
// hops, with the routing of the record), and from the gateway until it holds the acknowledgement (eight hops, CURVE
// twice, one synced commit). Then RECORDS as fast as they go: records/s, and the daemon's resident memory at each
// tenth of the way. A line of JSON each, to FILE as well.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include <spdlog/spdlog.h>

#include "bench/common.hpp"
#include "bench/stub_model.hpp"
#include "clients/gateway_client.hpp"
#include "storage/store.hpp"

namespace {

using namespace kpool;
using namespace std::chrono_literals;

constexpr std::size_t width = 16;
constexpr std::uint32_t commit_ms = 1000;
constexpr std::uint64_t warm_up = 200, timed = 1000;  // records through the idle pipeline

Config bench_config(const std::string& directory) {
  Config config;
  config.gateway.listen = "tcp://127.0.0.1:" + std::to_string(20000 + getpid() % 20000);
  config.admin.socket = "ipc://" + directory + "/admin.sock";
  config.store.path = directory + "/store";
  config.engine.journal.clear();
  config.gateway.sources_max = 1;
  config.gateway.credit_bytes = 64u << 20;
  config.gateway.credit_records = 1u << 20;
  config.commit.bytes = 64u << 20;
  config.commit.records_max = 1u << 20;
  config.commit.max_wait_ms = commit_ms;
  return config;
}

[[noreturn]] void daemon(const Config& config, const Keys& keys, Stamps stamps) {
  spdlog::set_level(spdlog::level::warn);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  int code = 0;
  {
    zmq::context_t context;
    auto parts = stub_parts(width, config.routing.slots, config.store.path, stamps);
    auto loops = build_pipeline(context, config, keys, std::move(parts));
    if (!loops) {
      std::fprintf(stderr, "%s\n", loops.error().message.c_str());
      _exit(1);
    }
    Running running(*std::move(loops), [](const char*) {}, [] { kill(getpid(), SIGTERM); });
    int signal = 0;
    sigwait(&signals, &signal);
    running.stop();
    code = running.wait().exit_code;
  }
  _exit(code);
}

long resident_kib(pid_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  long size = 0, resident = 0;
  statm >> size >> resident;
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/// About 50 bytes, of one of five domains in turns of 2,000.
gateway::OutgoingRecord record(std::uint64_t seq) {
  return {std::string(1, static_cast<char>('a' + seq / 2000 % 5)) + " record " + std::to_string(seq * 2654435761u) +
              " of a stream of small records", 0};
}

std::int64_t nanoseconds_now() { return std::chrono::steady_clock::now().time_since_epoch() / 1ns; }

/// Quantiles, per hop.
nlohmann::ordered_json microseconds(std::vector<std::int64_t> nanoseconds, double hops) {
  std::sort(nanoseconds.begin(), nanoseconds.end());
  nlohmann::ordered_json quantiles;
  for (const auto& [name, share] : {std::pair{"p1", 0.01}, {"p10", 0.1}, {"p25", 0.25}, {"median", 0.5}, {"p75", 0.75},
                                    {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"p999", 0.999}}) {
    const auto at = static_cast<std::size_t>(share * static_cast<double>(nanoseconds.size() - 1));
    quantiles[name] = rounded(1e-3 * static_cast<double>(nanoseconds[at]) / hops, 2);
  }
  return quantiles;
}

/// One record at a time through the idle pipeline, each with its own commit. Empty where the client fails.
nlohmann::ordered_json measure_latency(GatewayClient& client, const Stamps& stamps) {
  std::vector<std::int64_t> hops, ends;
  for (std::uint64_t seq = 1; seq <= warm_up + timed; ++seq) {
    const std::int64_t start = nanoseconds_now();
    if (!client.offer(seq, record(seq))) return {};
    client.flush();
    while (!client.idle())
      if (auto polled = client.poll(10ms); !polled) {
        std::fprintf(stderr, "%s\n", polled.error().message.c_str());
        return {};
      }
    if (seq <= warm_up) continue;
    ends.push_back(nanoseconds_now() - start);
    hops.push_back(stamps.learned[seq] - stamps.encoded[seq]);
  }
  return {{"what", "latency"},
          {"records", timed},
          {"hop_us", microseconds(std::move(hops), 2)},
          {"end_to_end_us", microseconds(ends, 1)},
          {"end_to_end_per_hop_us", microseconds(ends, 8)}};
}

/// As fast as they go. Empty where one is lost.
nlohmann::ordered_json measure_rate(GatewayClient& client, std::uint64_t count, pid_t pid) {
  const double begin = seconds_now();
  const std::uint64_t first = client.acked_up_to() + 1, last = client.acked_up_to() + count;
  std::uint64_t seq = first, next_print = first - 1 + count / 10;
  bool flushed = false;
  while (!flushed || !client.idle()) {
    while (seq <= last && client.offer(seq, record(seq))) ++seq;
    if (seq > last && !flushed) {
      client.flush();
      flushed = true;
    }
    if (auto polled = client.poll(10ms); !polled) {
      std::fprintf(stderr, "%s\n", polled.error().message.c_str());
      return {};
    }
    while (count >= 10 && next_print <= client.acked_up_to()) {
      std::printf("%9lu acknowledged, daemon %6ld KiB resident\n", client.acked_up_to(), resident_kib(pid));
      next_print += count / 10;
    }
  }
  const double spent = seconds_now() - begin;
  const auto& progress = client.progress();
  std::printf("%lu records in %.2f s; acknowledged %lu, refused %lu, resent %lu\n", count, spent,
              progress.acknowledged, progress.refused, progress.resent);
  if (progress.acknowledged + progress.refused != last) return {};
  return {{"what", "rate"},
          {"records", count},
          {"commit_ms", commit_ms},
          {"records_per_second", rounded(static_cast<double>(count) / spent, 0)},
          {"resident_kib", resident_kib(pid)}};
}

/// What the store says was learned: the records of all slots' counters.
void print_store(const Config& config) {
  auto store = open_store_read_only(config.store.path);
  if (!store) return;
  auto values = (*store)->load();
  if (!values) return;
  std::printf("store: group %s", (*values)["group"].c_str());
  for (const auto& [key, value] : *values)
    if (key.starts_with("source/") || key == "routing") std::printf("; %s %s", key.c_str(), value.c_str());
  std::printf("\n");
}

/// Shared with the child that becomes the daemon.
Stamps shared_stamps() {
  constexpr std::size_t count = warm_up + timed + 1;
  constexpr std::size_t bytes = 2 * count * sizeof(std::int64_t);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::exit(1);
  auto* stamps = static_cast<std::int64_t*>(memory);
  return {{stamps, count}, {stamps + count, count}};
}

int measure(GatewayClient& client, std::uint64_t count, pid_t pid, const Stamps& stamps, Results& results) {
  const auto latency = measure_latency(client, stamps);
  if (latency.empty()) return 1;
  results.add(latency);
  const auto rate = measure_rate(client, count, pid);
  if (rate.empty()) return 1;
  results.add(rate);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Results results(argc, argv);
  const std::uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  if (argc > 2 || count == 0) {
    std::fprintf(stderr, "usage: bench_pipeline [RECORDS] [--json FILE]\n");
    return 64;
  }
  char pattern[] = "/tmp/kpool-bench-XXXXXX";
  const std::string directory = mkdtemp(pattern);
  const auto daemon_keys = create_keys(directory, "daemon");
  const auto gateway_keys = create_keys(directory, "gateway");
  if (!daemon_keys || !gateway_keys) return 1;
  const Config config = bench_config(directory);
  const Stamps stamps = shared_stamps();
  const pid_t pid = fork();
  if (pid == 0) daemon(config, {*daemon_keys, {{gateway_keys->public_key, "bench"}}}, stamps);
  GatewayClientOptions options;
  options.endpoint = config.gateway.listen;
  options.server_public_key = daemon_keys->public_key;
  options.keys = *gateway_keys;
  options.hold_bytes_max = 256u << 20;
  int code = 1;
  if (auto client = GatewayClient::open(options, {})) code = measure(**client, count, pid, stamps, results);
  kill(pid, SIGTERM);
  int status = 0;
  waitpid(pid, &status, 0);
  print_store(config);
  std::filesystem::remove_all(directory);
  return code != 0 ? code : WEXITSTATUS(status);
}
