#include "apps/kpoolctl_metrics.hpp"
#include "apps/kpoolctl_status.hpp"

#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>
#include <zmq.hpp>

#include "messages/admin.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;

namespace {

/// A daemon that takes one question and gives one answer, or none.
class FakeDaemon {
 public:
  FakeDaemon(const std::string& address, std::optional<std::string> answer)
      : socket_(context_, zmq::socket_type::router) {
    socket_.set(zmq::sockopt::linger, 1000);
    socket_.set(zmq::sockopt::rcvtimeo, 20000);
    socket_.bind(address);
    thread_ = std::thread([this, answer = std::move(answer)] { serve(answer); });
  }
  ~FakeDaemon() { thread_.join(); }
  std::optional<admin::Message> question;

 private:
  void serve(const std::optional<std::string>& answer) {
    zmq::message_t route, body;
    if (!socket_.recv(route) || !socket_.recv(body)) return;
    auto message = admin::decode(Frame::copy({body.data<std::byte>(), body.size()}));
    if (message) question = *std::move(message);
    if (!answer) return;
    socket_.send(route, zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(*answer), zmq::send_flags::none);
  }

  zmq::context_t context_;
  zmq::socket_t socket_;
  std::thread thread_;
};

std::string framed(const admin::Message& message) {
  const Frame frame = admin::encode(message);
  return {reinterpret_cast<const char*>(frame.bytes().data()), frame.bytes().size()};
}

const char* const report = R"({"version":"0.1.0","uptime_seconds":10.0,"base":"m.gguf","stages":{
  "ingestion":{"records_received":120,"records_durable":100,"records_refused":2,"queued_records":3,
    "groups_in_flight":1,"credit_bytes_per_source":4096,
    "sources":[{"source":"KEY","epoch":2,"watermark":99,"received":120,"open_bytes":77,"connected":true}]},
  "routing":{"slots":[{"slot":0,"generation":3,"records":90,"kept":"pinned held"},
    {"slot":1,"generation":0,"records":0}],"births":3,"evictions":1,"merges":7,"joins":5,"without_room":6},
  "training":{"tokens":5000,"busy_seconds":5.0,"rates":[{"slot":0,"learning_rate":0.00074}]},
  "fragility":{"slots":[{"slot":0,"steps":12,"tokens":5000,"loss":2.5,"gain":0.25,"fragility":0.5,"value":0.125,
    "reason":"used last"}],"regret":{"routing":0.0125,"interference":0.25,"eviction":0}},
  "persistence":{"group":7,"commits":4,"trouble":"the disk is full"}}})";

}  // namespace

TEST_CASE("status as text has slots, sources, rates and the store's trouble") {
  const auto json = nlohmann::json::parse(report);
  const std::string text = status_text(json, nullptr);
  INFO(text);
  for (const char* part : {"group 7, 4 commits", "STORE IN TROUBLE: the disk is full", "100 durable", "2 refused",
                           "10.0 records durable, 500.0 tokens trained; trainer busy 50 %", "used last", "2.500",
                           "interference 0.250", "pinned held", "7.4e-04",
                           "births: 3, evictions: 1, merges: 7", "joined a slot: 5", "found no room: 6",
                           "KEY", "99", "4096 bytes"})
    CHECK(text.find(part) != std::string::npos);
  auto later = json;
  later["uptime_seconds"] = 12.0;
  later["stages"]["ingestion"]["records_durable"] = 180;
  CHECK(status_text(later, &json).find("40.0 records durable") != std::string::npos);
}

TEST_CASE("status as text takes any report, however little is in it") {
  for (const char* odd : {"{}", R"({"stages":[]})", R"({"stages":{"routing":{"slots":[1,{"slot":-1}]}}})",
                          R"({"stages":{"ingestion":{"sources":{"a":1}},"fragility":{"slots":"x"}}})"})
    CHECK_FALSE(status_text(nlohmann::json::parse(odd), nullptr).empty());
}

TEST_CASE("status for Prometheus has every number, lists by slot or source, and a metric's lines together") {
  auto json = nlohmann::json::parse(report);
  json["stages"]["training"]["rates"].push_back({{"slot", 1}, {"learning_rate", 0.5}});
  json["stages"]["ingestion"]["sources"][0]["source"] = "a\"b\\";
  const std::string text = metrics_text(json);
  INFO(text);
  for (const char* part : {"# TYPE kpool_uptime_seconds untyped\nkpool_uptime_seconds 10.0\n",
                           "kpool_fragility_regret_interference 0.25\n",
                           "kpool_fragility_slots_gain{slot=\"0\"} 0.25\n",
                           "kpool_persistence_trouble 1\n",
                           "# TYPE kpool_training_rates_learning_rate untyped\n"
                           "kpool_training_rates_learning_rate{slot=\"0\"} 0.00074\n"
                           "kpool_training_rates_learning_rate{slot=\"1\"} 0.5\n",
                           "kpool_ingestion_sources_connected{source=\"a\\\"b\\\\\"} 1\n"})
    CHECK(text.find(part) != std::string::npos);
  CHECK(text.find("version") == std::string::npos);
  CHECK(text.find("slots_slot") == std::string::npos);
}

TEST_CASE("status asks the daemon over its socket") {
  testing::TemporaryDirectory directory;
  StatusOptions options;
  options.socket = "ipc://" + directory.file("admin.sock");
  options.json = true;
  options.timeout_seconds = 20;
  FakeDaemon daemon(options.socket, framed(admin::StatusReport{report}));
  std::ostringstream out;
  const auto status = show_status(options, out);
  if (!status) FAIL(status.error().message);
  CHECK(nlohmann::json::parse(out.str()) == nlohmann::json::parse(report));
}

TEST_CASE("a snapshot is asked for by its absolute path, and the daemon's refusal is told") {
  testing::TemporaryDirectory directory;
  SnapshotOptions options;
  options.socket = "ipc://" + directory.file("admin.sock");
  options.directory = "copy";
  options.timeout_seconds = 20;
  std::ostringstream out;
  {
    FakeDaemon daemon(options.socket, framed(admin::Reply{}));
    CHECK(take_snapshot(options, out));
    REQUIRE(daemon.question);
    CHECK(std::get<admin::SnapshotRequest>(*daemon.question).directory ==
          (std::filesystem::current_path() / "copy").string());
  }
  FakeDaemon daemon(options.socket, framed(admin::Reply{"the directory exists"}));
  const auto refused = take_snapshot(options, out);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message == "the directory exists");
}

TEST_CASE("a slot is pinned by its number, and what it is now is told") {
  testing::TemporaryDirectory directory;
  ChangeOptions options;
  options.socket = "ipc://" + directory.file("admin.sock");
  options.slot = 3;
  options.what = SlotChange::hold;
  options.timeout_seconds = 20;
  std::ostringstream out;
  {
    FakeDaemon daemon(options.socket, framed(admin::Reply{}));
    CHECK(change_slot(options, out));
    REQUIRE(daemon.question);
    const auto asked = std::get<admin::ChangeRequest>(*daemon.question);
    CHECK((asked.slot == 3 && asked.what == SlotChange::hold));
  }
  CHECK(out.str() == "slot 3 is on hold: it is neither evicted nor merged, and its records are refused\n");
  FakeDaemon daemon(options.socket, framed(admin::Reply{"slot 3 is not in use"}));
  const auto refused = change_slot(options, out);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message == "slot 3 is not in use");
}

TEST_CASE("a daemon that is not there, is silent or talks otherwise is told apart") {
  testing::TemporaryDirectory directory;
  StatusOptions options;
  std::ostringstream out;
  options.socket = "tcp://127.0.0.1";
  CHECK(show_status(options, out).error().fault == Fault::usage);
  options.socket = "ipc://" + directory.file(std::string(200, 'x'));
  CHECK(show_status(options, out).error().fault == Fault::usage);
  options.socket = "ipc://" + directory.file("admin.sock");
  CHECK(show_status(options, out).error().message.find("no daemon listens on " + options.socket) == 0);
  {  // a daemon that was killed leaves its socket's file behind
    const int left = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::strcpy(name.sun_path, directory.file("admin.sock").c_str());
    REQUIRE(::bind(left, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
    ::close(left);
    CHECK(show_status(options, out).error().message.find("Connection refused") != std::string::npos);
    ::unlink(name.sun_path);
  }
  {
    FakeDaemon silent(options.socket, std::nullopt);
    options.timeout_seconds = 0.2;
    const auto status = show_status(options, out);
    REQUIRE_FALSE(status);
    CHECK(status.error().fault == Fault::unavailable);
    CHECK(status.error().message.find("does not answer within 0.20 s") != std::string::npos);
  }
  options.timeout_seconds = 20;
  for (const std::string& answer : {std::string("GET / HTTP/1.1\n"), framed(admin::Reply{}),
                                    framed(admin::StatusReport{"[1]"})}) {
    FakeDaemon odd(options.socket, answer);
    CHECK(show_status(options, out).error().fault == Fault::bad_input);
  }
  CHECK(out.str().empty());
}
