// What a gateway with a valid key may do wrong to the running daemon: each is answered, costs its
// sender nothing else, and the daemon goes on for all.
#include <random>

#include "actors/door.hpp"
#include "tests/running_pool.hpp"

using namespace kpool;
using namespace kpool::testing;
using gateway::RefuseReason;

namespace {

/// A gateway's socket without a gateway's manners.
struct RawGateway {
  explicit RawGateway(const PoolDirectory& pool) : socket(context, zmq::socket_type::dealer) {
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::curve_publickey, pool.rude.public_key);
    socket.set(zmq::sockopt::curve_secretkey, pool.rude.secret_key);
    socket.set(zmq::sockopt::curve_serverkey, pool.daemon.public_key);
    socket.connect(pool.config.gateway.listen);
  }
  void say(const gateway::Message& message) {
    const Frame frame = gateway::encode(message);
    bytes({reinterpret_cast<const char*>(frame.bytes().data()), frame.bytes().size()});
  }
  void bytes(const std::string& text) { REQUIRE(socket.send(zmq::buffer(text))); }
  gateway::Message answer() {
    zmq::pollitem_t item{socket.handle(), 0, ZMQ_POLLIN, 0};
    REQUIRE(zmq::poll(&item, 1, std::chrono::seconds(20)) == 1);
    zmq::message_t message;
    REQUIRE(socket.recv(message));
    auto decoded = gateway::decode(Frame::copy({message.data<std::byte>(), message.size()}));
    REQUIRE(decoded);
    return *std::move(decoded);
  }
  gateway::Refuse refusal(RefuseReason reason) {
    const auto message = answer();
    REQUIRE(std::holds_alternative<gateway::Refuse>(message));
    const auto refuse = std::get<gateway::Refuse>(message);
    CHECK(refuse.reason == reason);
    CHECK_FALSE(refuse.detail.empty());
    return refuse;
  }
  /// A hello that the daemon may still be too young for.
  gateway::Welcome welcome() {
    while (true) {
      say(gateway::Hello{gateway::protocol_version, 1, 0, 1});
      const auto message = answer();
      if (auto* welcome = std::get_if<gateway::Welcome>(&message)) return *welcome;
      REQUIRE(std::get<gateway::Refuse>(message).reason == RefuseReason::starting);
    }
  }

  zmq::context_t context;
  zmq::socket_t socket;
};

}  // namespace

TEST_CASE("wrong versions, gaps, and frames that are none are answered, and the same connection goes on") {
  PoolDirectory pool;
  RunningPool running(pool);
  RawGateway raw(pool);
  raw.welcome();
  raw.say(gateway::Hello{9, 1, 0, 1});
  CHECK(raw.refusal(RefuseReason::version).final);
  raw.say(gateway::Data{1, 3, {{"ahead", 0}}});
  CHECK(raw.refusal(RefuseReason::gap).expected_seq == 1);
  raw.bytes("");
  CHECK_FALSE(raw.refusal(RefuseReason::bad_frame).final);
  raw.bytes("12345");
  raw.refusal(RefuseReason::bad_frame);
  raw.bytes(std::string(64, '\xff'));
  raw.refusal(RefuseReason::bad_frame);
  REQUIRE(raw.socket.send(zmq::buffer("two", 3), zmq::send_flags::sndmore));
  raw.bytes("parts");
  CHECK(raw.refusal(RefuseReason::bad_frame).detail == "a message has one part");
  raw.say(gateway::Data{1, 1, {{"a good record", 0}, {"another one", 0}}});
  raw.say(gateway::Flush{1, 2});
  CHECK(std::get<gateway::Ack>(raw.answer()).up_to == 2);
  CHECK(running.stop().exit_code == 0);
  CHECK(sum(slot_records(pool.stored())) == 2);
}

TEST_CASE("thousands of damaged frames of one gateway take nothing from another") {
  PoolDirectory pool;
  RunningPool running(pool);
  {
    RawGateway raw(pool);
    raw.welcome();
    const Frame frame = gateway::encode(gateway::Data{1, 9, {{std::string(300, 'x'), 7}, {"y", 0}}});
    const std::string whole(reinterpret_cast<const char*>(frame.bytes().data()), frame.bytes().size());
    std::mt19937 random(5);
    zmq::message_t ignored;
    for (int i = 0; i < 3000; ++i) {
      std::string damaged = whole;
      for (int k = 0; k < 4; ++k) damaged[random() % 64] = static_cast<char>(random());
      damaged.resize(random() % 4 == 0 ? random() % damaged.size() : damaged.size());
      raw.bytes(damaged);
      while (raw.socket.recv(ignored, zmq::recv_flags::dontwait)) continue;
    }
    raw.bytes(std::string(gateway::frame_bytes_max + 8, '\0'));  // libzmq ends the connection
  }
  TestGateway gateway(pool);
  const auto texts = domain_texts(letters, 60);
  gateway.send(texts);
  CHECK(gateway.client->progress().acknowledged == 60);
  CHECK(running.stop().exit_code == 0);
}
