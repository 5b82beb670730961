// Every stage in a process of its own, over ipc: the built kpoold, as a service manager would run it.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "tests/pipeline_fixture.hpp"

using namespace kpool;
using namespace kpool::testing;

namespace {

/// One process, killed when it goes out of scope.
class Process {
 public:
  Process(std::vector<std::string> command, const std::string& log) {
    std::vector<char*> arguments;
    for (std::string& each : command) arguments.push_back(each.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    REQUIRE(posix_spawn(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, 0)), status_(other.status_) {}
  Process& operator=(Process&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(status_, other.status_);
    return *this;
  }
  ~Process() {
    if (!status_) signal(SIGKILL);
    if (!status_ && pid_ != 0) waitpid(pid_, nullptr, 0);
  }
  void signal(int number) {
    if (pid_ != 0 && !status_) kill(pid_, number);
  }
  /// As ps and the journal show it.
  std::string name() const {
    std::string name;
    std::ifstream("/proc/" + std::to_string(pid_) + "/comm") >> name;
    return name;
  }
  /// The exit code once it has ended; negative: the signal.
  std::optional<int> ended() {
    int status = 0;
    if (!status_ && waitpid(pid_, &status, WNOHANG) == pid_)
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return status_;
  }

 private:
  pid_t pid_ = 0;
  std::optional<int> status_;
};

const std::vector<std::string> stages = {"serving", "persistence", "fragility", "training",
                                         "routing", "encoding",    "ingestion"};

void write_config(const PoolDirectory& pool) {
  const Config& c = pool.config;
  std::ofstream(pool.directory.file("kpoold.toml"))
      << "base.path = '" << c.base.path << "'\nencoder.kind = '" << c.encoder.kind << "'\nrouting.slots = "
      << c.routing.slots << "\nlora.layers = " << c.lora.layers << "\nlora.rank = " << c.lora.rank
      << "\ntrain.tokens_per_step = " << c.train.tokens_per_step
      << "\ntrain.threads = 1\ncommit.bytes = " << c.commit.bytes
      << "\ngateway.listen = '" << c.gateway.listen << "'\ngateway.secret_key_file = '" << c.gateway.secret_key_file
      << "'\ngateway.authorized_keys_file = '" << c.gateway.authorized_keys_file << "'\ngateway.sources_max = 2\n"
      << "store.path = '" << c.store.path << "'\nadmin.socket = '" << c.admin.socket << "'\nengine.journal = '"
      << c.engine.journal << "'\nengine.deterministic = true\n";
  std::ofstream(c.gateway.authorized_keys_file) << "ward " << pool.gateway.public_key << "\n";
}

/// The stages' processes, started again as a service manager does when they ask for it.
struct Processes {
  explicit Processes(const PoolDirectory& pool) : pool(pool) {
    write_config(pool);
    for (const auto& stage : stages) start(stage);
  }
  void start(const std::string& stage) {
    running.erase(stage);
    running.emplace(stage, Process({std::string(KPOOL_BINARY_DIR) + "/kpoold", "--config",
                                    pool.directory.file("kpoold.toml"), "--stages", stage, "--set",
                                    "engine.transport=ipc:" + pool.directory.path()},
                                   pool.directory.file("log")));
  }
  /// Starts again what has left to start anew; anything else that ends fails the test.
  void keep_up() {
    for (const auto& stage : stages) {
      const auto code = running.at(stage).ended();
      if (!code) continue;
      INFO(stage << " ended with " << *code << "\n" << log());
      REQUIRE(*code == exit_code(Fault::again));
      ++left[stage];
      start(stage);
    }
  }
  void kill_and_restart(const std::string& stage) {
    running.at(stage).signal(SIGKILL);
    while (!running.at(stage).ended()) usleep(1000);
    CHECK(running.at(stage).ended() == -SIGKILL);
    start(stage);
  }
  void stop() {
    for (auto& [stage, process] : running) CHECK(process.name() == "kpoold");
    for (auto& [stage, process] : running) process.signal(SIGUSR2);  // wakes the main, and must not end its waiting
    for (auto& [stage, process] : running) process.signal(SIGTERM);
    for (auto& [stage, process] : running) {
      while (!process.ended()) usleep(1000);
      INFO(stage << "\n" << log());
      CHECK(process.ended() == 0);
    }
  }
  std::string log() const {
    std::ifstream in(pool.directory.file("log"));
    return {std::istreambuf_iterator<char>(in), {}};
  }

  const PoolDirectory& pool;
  std::map<std::string, Process> running;
  std::map<std::string, int> left;  ///< stage -> how often it left with the code that asks for a restart
};

std::vector<std::string> two_domains() {
  auto texts = domain_texts("abcdefghijklmnopqrstuvwxyz the of and", 100);
  for (const auto& text : domain_texts("0123456789 0987654321 1122334455", 100)) texts.push_back(text);
  return texts;
}

void must_be_equal(const Values& found, const Values& expected) {
  for (const auto& [key, value] : expected) {
    INFO(key);
    CHECK((found.contains(key) && found.at(key) == value));
  }
  CHECK(found.size() == expected.size());
}

/// The state that one undisturbed process leaves.
Values state_of_one_process(const PoolDirectory& pool, const std::vector<std::string>& texts) {
  write_config(pool);
  Process all({std::string(KPOOL_BINARY_DIR) + "/kpoold", "--config", pool.directory.file("kpoold.toml")},
              pool.directory.file("log"));
  TestGateway(pool).send(texts);
  all.signal(SIGTERM);
  while (!all.ended()) usleep(1000);
  CHECK(all.ended() == 0);
  return pool.stored();
}

}  // namespace

TEST_CASE("stages in processes of their own leave the same bytes as one process, whichever of them is killed") {
  PoolDirectory together, apart;
  apart.gateway = together.gateway;  // one source, whose key is part of the state
  together.config.lora.layers = apart.config.lora.layers = 1;  // the encoder's layer runs for training as well
  const auto texts = two_domains();
  const Values expected = state_of_one_process(together, texts);

  Processes processes(apart);
  TestGateway gateway(apart);
  std::size_t offered = 0;
  const auto offer_quarter = [&] {  // a few groups, so that every kill finds work
    const auto begin = texts.begin() + static_cast<std::ptrdiff_t>(offered);
    offered += texts.size() / 4;
    gateway.offer({begin, texts.begin() + static_cast<std::ptrdiff_t>(offered)});
  };
  for (const std::string victim : {"training", "persistence", "ingestion"}) {
    const std::size_t earlier = offered;
    offer_quarter();
    gateway.poll_until([&] {  // a stage that is killed before it has joined would disturb nobody
      processes.keep_up();
      return gateway.client->acked_up_to() > earlier;
    });
    processes.left.clear();
    processes.kill_and_restart(victim);
    gateway.poll_until([&] {  // the others that have a share of the state leave, and come again
      processes.keep_up();
      return processes.left.size() >= 4;
    });
    CHECK_FALSE(processes.left.contains("serving"));
  }
  offer_quarter();
  gateway.client->flush();
  gateway.poll_until([&] {
    processes.keep_up();
    return gateway.client->idle();
  });
  CHECK(gateway.client->progress().acknowledged == texts.size());
  processes.stop();
  CHECK(processes.log().find("encoding base:1: these layers have no adapter") != std::string::npos);
  must_be_equal(apart.stored(), expected);
}
