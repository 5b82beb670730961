#include "clients/send_command.hpp"

#include <catch2/catch.hpp>

#include <atomic>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include "clients/gateway_state.hpp"
#include "clients/progress_report.hpp"
#include "clients/send_job.hpp"
#include "tests/clients_fake_daemon.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;
using kpool::testing::FakeDaemon;
using kpool::testing::TemporaryDirectory;

namespace {

// A daemon on a thread of its own, a gateway's key, and what a run printed.
struct Run {
  TemporaryDirectory directory;
  FakeDaemon daemon;
  SendCommand command;
  std::string out, err;
  std::sig_atomic_t stop = 0;

  Run() {
    auto keys = create_keys(directory.path(), "gateway");
    REQUIRE(keys);
    daemon.allowed = {keys->public_key};
    daemon.credit_bytes = 5000;
    command.to = daemon.endpoint();
    command.server_key = daemon.keys.public_key;
    command.key = directory.file("gateway.key");
    command.progress = "plain";
  }
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(directory.file(name)) << text;
    return directory.file(name);
  }
  int send(std::vector<std::string> paths) {
    command.paths = std::move(paths);
    std::atomic<bool> done = false;
    std::thread server([&] { while (!done) daemon.step(); });
    std::ostringstream out_text, err_text;
    auto* const old_out = std::cout.rdbuf(out_text.rdbuf());
    auto* const old_err = std::cerr.rdbuf(err_text.rdbuf());
    const int code = run_send(command, stop);
    std::cout.rdbuf(old_out);
    std::cerr.rdbuf(old_err);
    done = true;
    server.join();
    out = out_text.str();
    err = err_text.str();
    return code;
  }
  GatewayState state() { return *GatewayStateFile::open(command.key + ".state")->load(); }
};

std::string lines(int from, int to) {
  std::string text;
  for (int i = from; i <= to; ++i) text += "{\"text\":\"record " + std::to_string(i) + "\"}\n";
  return text;
}

}  // namespace

TEST_CASE("a file is sent whole, and sending it again sends nothing") {
  Run run;
  const auto path = run.write("a.jsonl", lines(1, 3000));
  CHECK(run.send({path}) == 0);
  CHECK(run.out.find("sent 3000 = 3000 acknowledged + 0 refused") == 0);
  CHECK(run.daemon.durable.size() == 3000);
  CHECK(run.daemon.durable.at(3000) == "record 3000");
  CHECK((run.state().epoch == 1 && run.state().acked == 3000));
  CHECK(run.send({path}) == 0);
  CHECK(run.out.find("sent 3000 = 3000 acknowledged + 0 refused; of an earlier run: 3000") == 0);
  CHECK(run.daemon.duplicates == 0);
}

TEST_CASE("another input begins another epoch") {
  Run run;
  CHECK(run.send({run.write("a.jsonl", lines(1, 10))}) == 0);
  CHECK(run.send({run.write("b.jsonl", lines(1, 20))}) == 0);
  CHECK(run.daemon.epoch == 2);
  CHECK(run.daemon.durable.size() == 20);
}

TEST_CASE("a gateway that was killed goes on where the daemon stands") {
  Run run;
  const auto path = run.write("a.jsonl", lines(1, 500));
  CHECK(run.send({path}) == 0);
  auto state = run.state();
  {
    auto file = GatewayStateFile::open(run.command.key + ".state");
    state.acked = 120;  // as a kill before the last saves would leave it
    REQUIRE(file->save(state));
  }
  CHECK(run.send({path}) == 0);
  CHECK(run.daemon.durable.size() == 500);
  CHECK(run.daemon.duplicates == 0);
  CHECK(run.daemon.applied_twice == 0);
  CHECK(run.out.find("sent 500 = 500 acknowledged") == 0);
}

TEST_CASE("what is refused or cannot be sent is named by file and line, and the rest goes on") {
  Run run;
  run.daemon.refuses = [](std::uint64_t, const std::string& text) {
    return text.empty() ? std::optional(Refusal::empty) : std::nullopt;
  };
  run.daemon.record_bytes_max = 1000;
  const auto path = run.write("a.jsonl", lines(1, 3) +
                                             "{broken\n{\"text\":\"\"}\n{\"text\":\"" + std::string(2000, 'x') +
                                             "\"}\n" + lines(4, 5));
  CHECK(run.send({path}) == exit_code(Fault::bad_input));
  CHECK(run.err.find(path + ":4: not sent: broken JSON at byte 2 of the line\n") != std::string::npos);
  CHECK(run.err.find(path + ":5: refused: the record is empty\n") != std::string::npos);
  CHECK(run.err.find(path + ":6: refused: the record is longer than the daemon's limit\n") != std::string::npos);
  CHECK(run.out.find("sent 7 = 5 acknowledged + 2 refused; not sent: 1") == 0);
  CHECK(run.daemon.durable.size() == 5);
}

TEST_CASE("an interrupted run says what is open and exits with 75") {
  Run run;
  run.daemon.loses_acks = true;
  run.stop = 1;
  CHECK(run.send({run.write("a.jsonl", lines(1, 10))}) == 75);
  CHECK(run.out.find("interrupted") != std::string::npos);
}

TEST_CASE("another input after one that was not finished is begun with a warning, and none else") {
  const std::string warning = "the former input was not finished (";
  Run run;
  const auto first = run.write("a.jsonl", lines(1, 10)), second = run.write("b.jsonl", lines(1, 20));
  run.daemon.loses_acks = true;
  run.stop = 1;
  CHECK(run.send({first}) == 75);
  CHECK_FALSE(run.state().finished);
  run.daemon.loses_acks = false;
  run.stop = 0;
  CHECK(run.send({second}) == 0);
  CHECK(run.err.find(warning + "0 of its records are settled): if it is sent again after this one, all its records "
                               "are learned again\n") != std::string::npos);
  CHECK(run.state().finished);
  CHECK(run.send({second}) == 0);  // once more: nothing new
  CHECK(run.state().finished);
  CHECK(run.send({first}) == 0);
  CHECK(run.err.find(warning) == std::string::npos);
}

TEST_CASE("an input that was interrupted goes on without a warning") {
  Run run;
  const auto path = run.write("a.jsonl", lines(1, 10));
  run.daemon.loses_acks = true;
  run.stop = 1;
  CHECK(run.send({path}) == 75);
  run.daemon.loses_acks = false;
  run.stop = 0;
  CHECK(run.send({path}) == 0);
  CHECK(run.err.find("not finished") == std::string::npos);
  CHECK(run.state().finished);
}

TEST_CASE("errors before the first record are one sentence and their exit code") {
  Run run;
  CHECK(run.send({run.directory.file("none.jsonl")}) == 66);
  CHECK(run.err ==
        "kpool-gateway: " + run.directory.file("none.jsonl") + ": cannot be read: No such file or directory\n");
  const auto path = run.write("a.jsonl", lines(1, 10));
  run.command.server_key = "nothing";
  CHECK(run.send({path}) == 66);
  run.command.server_key = run.daemon.keys.public_key;
  run.command.to = "nonsense";
  CHECK(run.send({path}) == 64);
  run.command.to = run.daemon.endpoint();
  run.daemon.answer_to_hello = gateway::Refuse{gateway::RefuseReason::regression, "the store went backwards", 0, true};
  CHECK(run.send({path}) == 76);
  CHECK(run.err.find("the store went backwards\n") != std::string::npos);
}

TEST_CASE("progress can be read by a program") {
  Run run;
  run.command.progress = "json";
  CHECK(run.send({run.write("a.jsonl", lines(1, 10))}) == 0);
  CHECK(run.out.find("\"summary\":true,\"sent\":10,\"acknowledged\":10,\"refused\":0,\"open\":0") != std::string::npos);
}

TEST_CASE("progress tells share, rate and the time that is left") {
  ProgressSample sample{10, true, 600, 500, 2, 1, 98, 502, 5000, 0, 20000};
  CHECK(progress_text(sample) == "25 %: 500 acknowledged, 98 open, 3 refused, 50 records/s, 30 s left");
  sample.connected = false;
  sample.bytes_total = 0;
  CHECK(progress_text(sample) == "500 acknowledged, 98 open, 3 refused, 50 records/s (not connected)");
  CHECK(duration_text(59.4) == "59 s");
  CHECK(duration_text(65) == "1 min 05 s");
  CHECK(duration_text(7260) == "2 h 01 min");
}
