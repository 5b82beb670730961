#include "config/load.hpp"

#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "config/schema.hpp"

using namespace kpool;
namespace fs = std::filesystem;

namespace {

// A directory of configuration files that is gone with the test.
class Files {
 public:
  Files() {
    char name[] = "/tmp/kpool_config_XXXXXX";
    directory_ = ::mkdtemp(name);
  }
  ~Files() { fs::remove_all(directory_); }
  std::string write(const std::string& name, const std::string& text) {
    const fs::path path = directory_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path.string();
  }

 private:
  fs::path directory_;
};

Config loaded(const std::string& text) {
  Files files;
  auto result = load_config({files.write("a.toml", text)}, {}, {});
  INFO((result ? "" : result.error().message));
  REQUIRE(result);
  return result->config;
}

std::string error_of(const std::string& text) {
  Files files;
  const std::string path = files.write("a.toml", text);
  auto result = load_config({path}, {}, {});
  REQUIRE_FALSE(result);
  CHECK(result.error().fault == Fault::bad_config);
  std::string message = result.error().message;
  REQUIRE(message.starts_with(path));
  return message.substr(path.size());
}

std::string error_of_override(const std::string& argument) {
  auto result = load_config({}, {}, {argument});
  REQUIRE_FALSE(result);
  CHECK(result.error().fault == Fault::bad_config);
  return result.error().message;
}

// A value of the key's type that is allowed and is not its default.
std::string other_value(const ConfigKey& key) {
  const Config defaults;
  const std::string now = config_value_toml(defaults, key);
  if (key.name == "engine.transport") return "tcp:127.0.0.1:7500";
  if (key.name == "engine.stages") return "training,routing";
  if (key.name == "encoder.kind") return "base:9";
  if (key.name == "gateway.listen") return "tcp://127.0.0.1:7999";
  if (key.name == "admin.socket") return "ipc:///tmp/x.sock";
  if (key.name == "commit.bytes") return "4096";
  if (key.name == "gateway.credit_bytes") return "9000000";
  for (const auto* share : {"routing.shrinkage", "routing.false_alarm", "routing.power"})
    if (key.name == share) return "0.25";
  if (now == "true" || now == "false") return now == "true" ? "false" : "true";
  for (const auto choice : key.choices) {
    if (now != "\"" + std::string(choice) + "\"") return std::string(choice);
  }
  if (key.max != 0) return now == std::to_string(static_cast<int>(key.max)) ? "1" : key.max >= 32 ? "32.0" : "0.5";
  return "/some/path";
}

std::string trimmed(const ConfigKey& key, std::string value) {
  const bool whole = config_type(key).starts_with("whole");
  return whole && value.ends_with(".0") ? value.substr(0, value.size() - 2) : value;
}

}  // namespace

TEST_CASE("without any layer the defaults hold, and are valid") {
  auto result = load_config({}, {}, {});
  REQUIRE(result);
  CHECK(result->config.routing.slots == 5);
  CHECK(result->config.gateway.listen == "tcp://127.0.0.1:7447");
  CHECK(result->origins.empty());
}

TEST_CASE("every key is read from a file, the environment and the command line, and is told apart") {
  for (const auto& key : config_keys()) {
    CAPTURE(key.name);
    const std::string value = trimmed(key, other_value(key));
    std::vector<std::string> extra;
    if (key.name == "engine.stages") extra = {"engine.transport=ipc:/run/kpool"};
    if (key.name == "gateway.record_bytes_max") extra = {"gateway.sources_max=1"};
    Config expected;
    REQUIRE(set_config_text(expected, key, value));
    const std::string toml = config_value_toml(expected, key);
    REQUIRE(toml != config_value_toml(Config{}, key));

    Files files;
    const auto dot = key.name.find('.');
    const std::string path = files.write("a.toml", "[" + std::string(key.name.substr(0, dot)) + "]\n" +
                                                       std::string(key.name.substr(dot + 1)) + " = " + toml + "\n");
    auto from_file = load_config({path}, {}, extra);
    INFO((from_file ? "" : from_file.error().message));
    REQUIRE(from_file);
    CHECK(config_value_toml(from_file->config, key) == toml);
    CHECK(from_file->origins.at(std::string(key.name)) == path + ":2:1");

    const std::string variable = environment_name(key);
    auto from_environment = load_config({}, {{variable, value}}, extra);
    REQUIRE(from_environment);
    CHECK(config_value_toml(from_environment->config, key) == toml);
    CHECK(from_environment->origins.at(std::string(key.name)) == "environment variable " + variable);

    auto arguments = extra;
    arguments.push_back(std::string(key.name) + "=" + value);
    auto from_command_line = load_config({}, {}, arguments);
    REQUIRE(from_command_line);
    CHECK(config_value_toml(from_command_line->config, key) == toml);
    CHECK(from_command_line->origins.at(std::string(key.name)) == "command line");
    CHECK_FALSE(key.help.empty());
  }
}

TEST_CASE("numbers outside of their range are refused, at both ends") {
  for (const auto& key : config_keys()) {
    if (key.max == 0) continue;
    CAPTURE(key.name);
    Config config;
    CHECK_FALSE(set_config_value(config, key, key.max * 2 + 1));
    CHECK_FALSE(set_config_value(config, key, static_cast<std::int64_t>(key.max) * 2 + 1));
    CHECK_FALSE(set_config_value(config, key, std::int64_t{-1}));
    CHECK_FALSE(set_config_value(config, key, std::nan("")));
    CHECK(config_value_toml(config, key) == config_value_toml(Config{}, key));
  }
}

TEST_CASE("a later layer goes above an earlier one") {
  Files files;
  const std::string main =
      files.write("kpoold.toml", "[routing]\nslots = 6\n[lora]\nrank = 2\n[log]\nlevel = \"debug\"\n");
  files.write("conf.d/20.toml", "[routing]\nslots = 8\n");
  files.write("conf.d/10.toml", "[routing]\nslots = 7\n[lora]\nrank = 3\n");
  files.write("conf.d/ignored.txt", "not TOML");
  auto names = config_files(main);
  REQUIRE(names);
  REQUIRE(names->size() == 3);
  auto result = load_config(*names, {{"KPOOL_LORA__RANK", "4"}}, {"log.level=error"});
  REQUIRE(result);
  CHECK(result->config.routing.slots == 8);
  CHECK(result->config.eviction.slots == 8);
  CHECK(result->config.routing.evicts);
  CHECK(result->config.lora.rank == 4);
  CHECK(result->config.log.level == "error");
}

TEST_CASE("a learning rate is a number or auto, wherever it stands") {
  CHECK(Config{}.train.learning_rate == 5e-4);
  CHECK_FALSE(loaded("[train]\nlearning_rate = 'auto'\n").train.learning_rate);
  CHECK_FALSE(load_config({}, {{"KPOOL_TRAIN__LEARNING_RATE", "auto"}}, {})->config.train.learning_rate);
  CHECK(load_config({}, {{"KPOOL_TRAIN__LEARNING_RATE", "auto"}}, {"train.learning_rate=1e-3"})
            ->config.train.learning_rate == 1e-3);
  CHECK(error_of("[train]\nlearning_rate = 'fast'\n") ==
        ":2:1: train.learning_rate must be a number from 0 to 1, or auto");
  CHECK(error_of_override("train.learning_rate=fast") ==
        "command line: train.learning_rate must be a number from 0 to 1, or auto, not \"fast\"");
  const auto torn = load_config({}, {}, {"train.learning_rate=auto", "train.rate_guard=warn"});
  REQUIRE_FALSE(torn);
  CHECK(torn.error().message.find("train.learning_rate = \"auto\" (command line) lets the guard") == 0);
  CHECK(error_of_override("train.momentum=auto") ==
        "command line: train.momentum must be a number from 0 to 0.9999, not \"auto\"");
}

TEST_CASE("a pool that never evicts tells its router") {
  Files files;
  auto result = load_config({files.write("kpoold.toml", "[eviction]\npolicy = \"none\"\n")}, {}, {});
  REQUIRE(result);
  CHECK_FALSE(result->config.routing.evicts);
}

TEST_CASE("an unknown key is an error that names its place and its nearest relative") {
  CHECK(error_of("[routing]\nslotss = 5\n") == ":2:1: unknown key \"routing.slotss\"; did you mean \"routing.slots\"?");
  CHECK(error_of("\n  [trane]\n  threads = 5\n") ==
        ":3:3: unknown key \"trane.threads\"; did you mean \"train.threads\"?");
  CHECK(error_of("[x]\nqqqqqqqqqqqq = 5\n") == ":2:1: unknown key \"x.qqqqqqqqqqqq\"");
  CHECK(error_of_override("log.levle=info") ==
        "command line: unknown key \"log.levle\"; did you mean \"log.level\"?");
  auto result = load_config({}, {{"KPOOL_ROUTING__SLOT", "5"}}, {});
  REQUIRE_FALSE(result);
  CHECK(result.error().message ==
        "environment variable KPOOL_ROUTING__SLOT: unknown key \"routing.slot\"; did you mean \"routing.slots\"?");
}

TEST_CASE("a wrong type or value is an error that says what is right") {
  CHECK(error_of("[routing]\nslots = \"five\"\n") == ":2:1: routing.slots must be a whole number from 1 to 1024");
  CHECK(error_of("[routing]\nslots = 2.5\n") == ":2:1: routing.slots must be a whole number from 1 to 1024");
  CHECK(error_of("[routing]\nslots = 0\n") == ":2:1: routing.slots must be a whole number from 1 to 1024, not 0");
  CHECK(error_of("[train]\nmomentum = 1\n") == ":2:1: train.momentum must be a number from 0 to 0.9999, not 1");
  CHECK(error_of("[eviction]\npolicy = \"fifo\"\n") ==
        ":2:1: eviction.policy must be one of count, lru, random, gain, score, none, not \"fifo\"");
  CHECK(error_of("[engine]\ndeterministic = 1\n") ==
        ":2:1: engine.deterministic must be a truth value (true or false)");
  CHECK(error_of("[engine]\nstages = [1]\n") == ":2:1: engine.stages must be a list of texts");
  CHECK(error_of("[engine]\nstages = [\"trainer\"]\n").find("must be one of ingestion, encoding") != std::string::npos);
  CHECK(error_of("slots = 5\n").find(":1:1: \"slots\" stands outside of a section") == 0);
  CHECK(error_of_override("routing.slots=5x") ==
        "command line: routing.slots must be a whole number from 1 to 1024, not \"5x\"");
  CHECK(error_of_override("routing.slots") ==
        "command line: \"routing.slots\" is not of the form section.key=value");
}

TEST_CASE("broken TOML is an error with its place") {
  CHECK(error_of("[routing\nslots = 5\n").starts_with(":1:9: "));
  CHECK(error_of("[a]\nb = 1\nb = 2\n").starts_with(":3:"));
  CHECK(error_of("[log]\nlevel = \"\xff\"\n").starts_with(":2:"));
}

TEST_CASE("an unreadable configuration is named") {
  auto result = load_config({"/nonexistent/kpoold.toml"}, {}, {});
  REQUIRE_FALSE(result);
  CHECK(result.error().fault == Fault::missing);
  CHECK(result.error().message.find("/nonexistent/kpoold.toml: ") == 0);
  auto directory = load_config({"/tmp"}, {}, {});
  REQUIRE_FALSE(directory);
  CHECK(directory.error().message.find("/tmp: ") == 0);
  Files files;
  auto huge = load_config({files.write("a.toml", std::string(2 << 20, '#'))}, {}, {});
  REQUIRE_FALSE(huge);
  CHECK(huge.error().message.find("longer than 1 MiB") != std::string::npos);
  auto empty = load_config({files.write("b.toml", "")}, {}, {});
  CHECK(empty);
}

TEST_CASE("the syntax of endpoints and kinds is checked") {
  for (const char* good : {"engine.transport=ipc:/run/kpool", "engine.transport=tcp:host:7500", "encoder.kind=base:0",
                           "gateway.listen=tcp://*:7447", "gateway.listen=tcp://[::1]:*", "gateway.listen=ipc:///x"}) {
    CAPTURE(good);
    CHECK(load_config({}, {}, {good}));
  }
  for (const char* bad : {"engine.transport=tcp", "engine.transport=tcp:host", "engine.transport=tcp:host:99999",
                          "engine.transport=ipc:relative", "engine.transport=udp:x:1", "encoder.kind=base",
                          "encoder.kind=base:x", "encoder.kind=bert", "gateway.listen=7447", "gateway.listen=tcp://h",
                          "gateway.listen=tcp://:1", "gateway.listen=http://h:1", "admin.socket=/run/x"}) {
    CAPTURE(bad);
    CHECK_FALSE(load_config({}, {}, {bad}));
  }
  CHECK_FALSE(load_config({}, {}, {"admin.socket=ipc://" + std::string(108, 'x')}));
}

TEST_CASE("keys that contradict each other are refused") {
  CHECK(error_of_override("commit.bytes=4000000").find("gateway.credit_bytes = 8388608 (default)") == 0);
  CHECK(error_of_override("gateway.credit_bytes=2000000").find("at least twice gateway.record_bytes_max") !=
        std::string::npos);
  CHECK(error_of_override("gateway.sources_max=1000").find("at least four times commit.bytes") != std::string::npos);
  CHECK(error_of_override("encoder.kind=minilm").find("needs encoder.path") != std::string::npos);
  CHECK(error_of_override("engine.stages=training").find("needs an engine.transport") != std::string::npos);
  const auto short_credit = load_config({}, {}, {"engine.deterministic=true", "gateway.credit_records=9"});
  REQUIRE_FALSE(short_credit);
  CHECK(short_credit.error().message.find("gateway.credit_records = 9") == 0);
  CHECK(load_config({}, {}, {"gateway.credit_records=9"}));
  CHECK(loaded("[gateway]\ncredit_bytes = 131072\nsources_max = 1\n[commit]\nbytes = 32768").commit.bytes == 32768);
}

TEST_CASE("only variables that name a key are taken from the environment") {
  const char* environment[] = {"HOME=/root", "KPOOL_DEPS=/x", "KPOOL_ROUTING__SLOTS=3", "KPOOL_LOG__LEVEL=a=b",
                               nullptr};
  const auto found = config_environment(environment);
  CHECK(found == std::map<std::string, std::string>{{"KPOOL_ROUTING__SLOTS", "3"}, {"KPOOL_LOG__LEVEL", "a=b"}});
}

TEST_CASE("the dump is a configuration that loads to the same values, with each one's origin") {
  auto result = load_config({}, {{"KPOOL_LORA__RANK", "4"}},
                            {"store.path=/a \"quoted\" \\ path", "train.momentum=0.5", "engine.transport=ipc:/x",
                             "engine.stages=training,routing", "train.learning_rate=auto"});
  REQUIRE(result);
  const std::string dump = dump_config(*result);
  CHECK(dump.find("rank = 4  # environment variable KPOOL_LORA__RANK\n") != std::string::npos);
  CHECK(dump.find("alpha = 64.0  # default\n") != std::string::npos);
  Files files;
  auto again = load_config({files.write("a.toml", dump)}, {}, {});
  INFO((again ? "" : again.error().message));
  REQUIRE(again);
  for (const auto& key : config_keys()) {
    CHECK(config_value_toml(again->config, key) == config_value_toml(result->config, key));
  }
}
