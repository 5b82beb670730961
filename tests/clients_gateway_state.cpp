#include "clients/gateway_state.hpp"

#include <catch2/catch.hpp>

#include <fstream>

#include "clients/refusal_log.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;
using kpool::testing::TemporaryDirectory;

TEST_CASE("the state survives, and is empty before the first run") {
  TemporaryDirectory directory;
  auto file = GatewayStateFile::open(directory.file("a.state"));
  REQUIRE(file);
  CHECK(file->load()->epoch == 0);
  REQUIRE(file->save({3, "f", 100, 7}));
  REQUIRE(file->save({3, "f", 200, 8}));
  const auto state = file->load();
  REQUIRE(state);
  CHECK((state->epoch == 3 && state->fingerprint == "f" && state->acked == 200 && state->refused == 8));
  CHECK(state->finished);
  REQUIRE(file->save({3, "f", 200, 8, false}));
  CHECK_FALSE(file->load()->finished);
}

TEST_CASE("a state is held by one process at a time") {
  TemporaryDirectory directory;
  auto first = std::make_unique<Result<GatewayStateFile>>(GatewayStateFile::open(directory.file("a.state")));
  REQUIRE(*first);
  auto second = GatewayStateFile::open(directory.file("a.state"));
  REQUIRE_FALSE(second);
  CHECK(second.error().fault == Fault::unavailable);
  first.reset();
  CHECK(GatewayStateFile::open(directory.file("a.state")));
}

TEST_CASE("a damaged state is refused with a way out") {
  TemporaryDirectory directory;
  for (const char* text : {"", "{", "[]", "{\"epoch\":1}",
                           "{\"epoch\":-1,\"acked\":0,\"refused\":0,\"fingerprint\":\"\"}",
                           "{\"epoch\":1,\"acked\":\"x\",\"refused\":0,\"fingerprint\":\"\"}",
                           "{\"epoch\":1,\"acked\":0,\"refused\":0,\"fingerprint\":\"\",\"finished\":1}"}) {
    std::ofstream(directory.file("a.state")) << text;
    auto state = GatewayStateFile::open(directory.file("a.state"))->load();
    REQUIRE_FALSE(state);
    CHECK(state.error().fault == Fault::bad_input);
    CHECK(state.error().message.find("--epoch") != std::string::npos);
  }
}

TEST_CASE("the same input goes on in its epoch, another one begins the next") {
  const GatewayState last{4, "same", 50, 2};
  CHECK(next_run(last, "same", 0).acked == 50);
  CHECK(next_run(last, "same", 0).epoch == 4);
  CHECK(next_run(last, "same", 4).acked == 50);
  const auto other = next_run(last, "other", 0);
  CHECK((other.epoch == 5 && other.acked == 0 && other.refused == 0 && other.fingerprint == "other"));
  CHECK(next_run(last, "", 0).epoch == 5);
  CHECK(next_run(GatewayState{5, "", 10, 0}, "", 0).epoch == 6);  // standard input is never the same
  CHECK(next_run(last, "same", 9).acked == 0);
  CHECK(next_run(GatewayState{}, "same", 0).epoch == 1);
  CHECK(next_run(last, "same", 0).finished);
  CHECK_FALSE(other.finished);
}

TEST_CASE("a refusal finds its place, whether the record was read before or after it") {
  std::vector<std::string> said;
  RefusalLog log(11, [&](const Place& place, const char* why) { said.push_back(std::to_string(place.line) + why); });
  log.refused(12, Refusal::empty);  // of an earlier life
  log.settled(13);
  for (std::uint64_t seq = 11; seq <= 20; ++seq) log.read(seq, {0, seq * 2}, seq * 100);
  log.refused(15, Refusal::not_utf8);
  log.settled(16);
  CHECK(log.settled_bytes() == 1600);
  CHECK(said == std::vector<std::string>{std::string("24") + describe(Refusal::empty),
                                         std::string("30") + describe(Refusal::not_utf8)});
}
