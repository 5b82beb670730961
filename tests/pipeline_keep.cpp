// Pin and hold through the admin socket of a whole pipeline, and over its restart.
#include "messages/admin.hpp"
#include "tests/running_pool.hpp"

using namespace kpool;
using namespace kpool::testing;

namespace {

admin::Message ask(const PoolDirectory& pool, const admin::Message& request) {
  zmq::context_t context;
  zmq::socket_t socket(context, zmq::socket_type::dealer);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::rcvtimeo, 20000);
  socket.connect(pool.config.admin.socket);
  const Frame frame = admin::encode(request);
  socket.send(zmq::buffer(frame.bytes().data(), frame.bytes().size()), zmq::send_flags::none);
  zmq::message_t answer;
  REQUIRE(socket.recv(answer));
  const auto message = admin::decode(Frame::copy({answer.data<std::byte>(), answer.size()}));
  REQUIRE(message);
  return *message;
}

/// The daemon's error; empty: done.
std::string change(const PoolDirectory& pool, std::uint32_t slot, SlotChange what) {
  return std::get<admin::Reply>(ask(pool, admin::ChangeRequest{slot, what})).error;
}

const std::string signs = "!?;:-+*/()[]{}<>=%&$#@^~_|.,";

}  // namespace

TEST_CASE("a pinned slot outlives a domain that would evict it, also after a restart") {
  PoolDirectory pool;
  pool.config.routing.slots = pool.config.eviction.slots = 2;
  {
    RunningPool running(pool);
    TestGateway gateway(pool);
    gateway.send(domain_texts(letters, 150));
    CHECK(change(pool, 1, SlotChange::pin) == "slot 1 is not in use: status has those that are");
    gateway.send(domain_texts(digits, 150));
    REQUIRE(slot_records(pool.stored()).at(1) > 100);
    CHECK(change(pool, 0, SlotChange::pin).empty());
    CHECK(change(pool, 1, SlotChange::hold).empty());
    CHECK(pool.stored().at("keep/0") == "pinned");  // although no record came since
    CHECK(running.stop().exit_code == 0);
  }
  const Values before = pool.stored();
  RunningPool running(pool);
  TestGateway gateway(pool, 300);
  gateway.send(domain_texts(signs, 60));
  gateway.send(domain_texts(digits, 40));
  const Values after = pool.stored();
  const auto routing = nlohmann::json::parse(after.at("routing"));
  CHECK(routing["births"] == 2);
  CHECK(routing["without_room"] > 0);
  CHECK(after.at("slot/1") == before.at("slot/1"));  // on hold: not a byte
  CHECK(gateway.refused.size() >= 30);
  for (const auto& [seq, reason] : gateway.refused) CHECK(reason == Refusal::held);
  CHECK(watermark(after) == 400);
  CHECK(sum(slot_records(after)) + gateway.refused.size() == 400);

  CHECK(change(pool, 1, SlotChange::release).empty());
  CHECK_FALSE(pool.stored().contains("keep/1"));
  gateway.send(domain_texts(signs, 60));
  const auto last = nlohmann::json::parse(pool.stored().at("routing"));
  CHECK(last["births"] == 3);
  CHECK(last["slots"][0][0] == 1);  // the pinned one is of its first generation
  CHECK(running.stop().exit_code == 0);
}
