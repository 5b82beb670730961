// bench_pipeline [RECORDS]: small records through the whole pipeline around a stub model: real gateway
// client, CURVE over TCP, all six stages and their sockets, real RocksDB with a commit every second.
// The daemon is a process of its own, so that its memory can be watched. Prints records/s and the
// daemon's resident memory at each tenth of the way.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <spdlog/spdlog.h>

#include "bench/stub_model.hpp"
#include "clients/gateway_client.hpp"
#include "storage/store.hpp"

namespace {

using namespace kpool;
using namespace std::chrono_literals;

constexpr std::size_t width = 16;

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
  config.commit.max_wait_ms = 1000;
  return config;
}

[[noreturn]] void daemon(const Config& config, const Keys& keys) {
  spdlog::set_level(spdlog::level::warn);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  int code = 0;
  {
    zmq::context_t context;
    auto loops = build_pipeline(context, config, keys, stub_parts(width, config.routing.slots, config.store.path));
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

int stream(GatewayClient& client, std::uint64_t count, pid_t pid) {
  const auto begin = std::chrono::steady_clock::now();
  std::uint64_t seq = 1, next_print = count / 10;
  bool flushed = false;
  while (!flushed || !client.idle()) {
    while (seq <= count && client.offer(seq, record(seq))) ++seq;
    if (seq > count && !flushed) {
      client.flush();
      flushed = true;
    }
    if (auto polled = client.poll(10ms); !polled) {
      std::fprintf(stderr, "%s\n", polled.error().message.c_str());
      return 1;
    }
    while (next_print <= client.acked_up_to()) {
      std::printf("%9lu acknowledged, daemon %6ld KiB resident\n", client.acked_up_to(), resident_kib(pid));
      next_print += count / 10;
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const auto& progress = client.progress();
  std::printf("%lu records in %.2f s: %.0f records/s; acknowledged %lu, refused %lu, resent %lu\n", count, seconds,
              count / seconds, progress.acknowledged, progress.refused, progress.resent);
  return progress.acknowledged + progress.refused == count ? 0 : 1;
}

}  // namespace

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

int main(int argc, char** argv) {
  const std::uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  char pattern[] = "/tmp/kpool-bench-XXXXXX";
  const std::string directory = mkdtemp(pattern);
  const auto daemon_keys = create_keys(directory, "daemon");
  const auto gateway_keys = create_keys(directory, "gateway");
  if (!daemon_keys || !gateway_keys) return 1;
  const Config config = bench_config(directory);
  const pid_t pid = fork();
  if (pid == 0) daemon(config, {*daemon_keys, {{gateway_keys->public_key, "bench"}}});
  GatewayClientOptions options;
  options.endpoint = config.gateway.listen;
  options.server_public_key = daemon_keys->public_key;
  options.keys = *gateway_keys;
  options.hold_bytes_max = 256u << 20;
  int code = 1;
  if (auto client = GatewayClient::open(options, {})) code = stream(**client, count, pid);
  kill(pid, SIGTERM);
  int status = 0;
  waitpid(pid, &status, 0);
  print_store(config);
  std::filesystem::remove_all(directory);
  return code != 0 ? code : WEXITSTATUS(status);
}
