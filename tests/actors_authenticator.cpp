// Who gets in: real sockets on loopback, with the daemon's own doors and the ZAP handler on a thread.
#include <catch2/catch.hpp>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "actors/authenticator.hpp"
#include "actors/gateway_door.hpp"
#include "actors/links.hpp"

using namespace kpool;

namespace {

KeyPair new_keys() {
  char public_key[41], secret_key[41];
  REQUIRE(zmq_curve_keypair(public_key, secret_key) == 0);
  return {public_key, secret_key};
}

/// Answers libzmq until it goes out of scope.
struct AuthenticatorThread {
  AuthenticatorThread(zmq::context_t& context, Allowed allowed)
      : authenticator(context, std::move(allowed)), wake(eventfd(0, EFD_CLOEXEC)), thread([this] {
          while (!stopped && authenticator.pass(wake)) continue;
        }) {}
  ~AuthenticatorThread() {
    stopped = true;
    eventfd_write(wake, 1);
    thread.join();
    close(wake);
  }
  Authenticator authenticator;
  std::atomic<bool> stopped{false};
  int wake;
  std::thread thread;
};

zmq::socket_t dealer(zmq::context_t& context, const std::string& endpoint, const std::string& server_key,
                     const std::optional<KeyPair>& keys) {
  zmq::socket_t socket(context, zmq::socket_type::dealer);
  socket.set(zmq::sockopt::linger, 0);
  if (keys) {
    socket.set(zmq::sockopt::curve_publickey, keys->public_key);
    socket.set(zmq::sockopt::curve_secretkey, keys->secret_key);
    socket.set(zmq::sockopt::curve_serverkey, server_key);
  }
  socket.connect(endpoint);
  return socket;
}

bool readable(zmq::socket_ref socket, int milliseconds) {
  zmq::pollitem_t item{socket.handle(), 0, ZMQ_POLLIN, 0};
  return zmq::poll(&item, 1, std::chrono::milliseconds(milliseconds)) > 0;
}

}  // namespace

TEST_CASE("a known key gets in and is the source's name; unknown keys and plaintext get nothing") {
  const KeyPair daemon = new_keys(), known = new_keys(), unknown = new_keys();
  zmq::context_t context;
  const AuthenticatorThread authenticator(context, {{{known.public_key, "ward"}}, daemon.public_key});
  GatewayConfig config;
  config.listen = "tcp://127.0.0.1:*";
  auto door = bind_gateway_socket(context, config, daemon);
  REQUIRE(door);
  const std::string endpoint = door->get(zmq::sockopt::last_endpoint);

  auto stranger = dealer(context, endpoint, daemon.public_key, unknown);
  auto plain = dealer(context, endpoint, daemon.public_key, std::nullopt);
  auto own = dealer(context, endpoint, daemon.public_key, daemon);  // the pipeline's key opens no gateway
  auto deceived = dealer(context, endpoint, unknown.public_key, known);  // a wrong server key
  for (auto* socket : {&stranger, &plain, &own, &deceived})
    for (int i = 0; i < 20; ++i) socket->send(zmq::buffer("intrusion", 9), zmq::send_flags::dontwait);
  auto friendly = dealer(context, endpoint, daemon.public_key, known);
  REQUIRE(friendly.send(zmq::buffer("hello", 5)));

  REQUIRE(readable(*door, 5000));
  zmq::message_t route, body;
  REQUIRE(door->recv(route));
  REQUIRE(door->recv(body));
  CHECK(body.to_string() == "hello");
  CHECK(body.gets("User-Id") == known.public_key);
  CHECK_FALSE(readable(*door, 300));  // the others' handshakes are over by now, and nothing came of them
}

TEST_CASE("a message of several parts, or one that is no frame, is answered with its reason") {
  const KeyPair daemon = new_keys(), known = new_keys();
  zmq::context_t context;
  const AuthenticatorThread authenticator(context, {{{known.public_key, "ward"}}, daemon.public_key});
  Config config;
  config.gateway.listen = "tcp://127.0.0.1:*";
  auto bound = bind_gateway_socket(context, config.gateway, daemon);
  REQUIRE(bound);
  const std::string endpoint = bound->get(zmq::sockopt::last_endpoint);
  GatewayDoor* reached = nullptr;
  Ingestion ingestion(config, [&](const std::string& route, const gateway::Message& message) {
    return reached->send(route, message);
  });
  GatewayDoor door(*std::move(bound), ingestion);
  reached = &door;
  auto client = dealer(context, endpoint, daemon.public_key, known);
  client.send(zmq::buffer("one", 3), zmq::send_flags::sndmore);
  client.send(zmq::buffer("two", 3), zmq::send_flags::sndmore);
  client.send(zmq::buffer("three", 5));
  client.send(zmq::buffer("short", 5));

  struct NoOutbox : Outbox {
    void send(StageId, pipeline::Message) override { FAIL("a bad frame went on"); }
  } nowhere;
  std::vector<std::string> details;
  const auto until = Clock::now() + std::chrono::seconds(5);
  while (details.size() < 2 && Clock::now() < until) {
    readable(door.socket(), 20);
    REQUIRE(door.on_readable(Clock::now() + std::chrono::milliseconds(50), nowhere));
    zmq::message_t answer;
    while (receive_now(client, answer)) {
      const auto message = gateway::decode(Frame::copy({answer.data<std::byte>(), answer.size()}));
      REQUIRE(message);
      const auto refuse = std::get<gateway::Refuse>(*message);
      CHECK(refuse.reason == gateway::RefuseReason::bad_frame);
      CHECK_FALSE(refuse.final);
      details.push_back(refuse.detail);
    }
  }
  REQUIRE(details.size() == 2);
  CHECK(details[0] == "a message has one part");
  CHECK_FALSE(details[1].empty());
  CHECK(details[1] != details[0]);
}

TEST_CASE("between stages on tcp only the daemon's own key speaks, not a gateway's") {
  const KeyPair daemon = new_keys(), known = new_keys();
  zmq::context_t context;
  const AuthenticatorThread authenticator(context, {{{known.public_key, "ward"}}, daemon.public_key});
  Transport transport{"tcp", "", "127.0.0.1", 20000 + getpid() % 20000, daemon};
  auto training = bind_links(context, transport, StageId::training);
  auto serving = bind_links(context, transport, StageId::serving);
  if (!training) FAIL(training.error().message);
  Links routing;
  const std::string endpoint = kpool::endpoint(transport, StageId::training, Lane::records);
  zmq::socket_t intruder(context, zmq::socket_type::push);
  intruder.set(zmq::sockopt::linger, 0);
  intruder.set(zmq::sockopt::curve_publickey, known.public_key);
  intruder.set(zmq::sockopt::curve_secretkey, known.secret_key);
  intruder.set(zmq::sockopt::curve_serverkey, daemon.public_key);
  intruder.connect(endpoint);
  intruder.send(zmq::buffer("intrusion", 9), zmq::send_flags::dontwait);
  connect_links(context, transport, StageId::routing, routing);
  REQUIRE(routing.outputs.at(StageId::training).send(zmq::buffer("a frame", 7)));
  REQUIRE(readable(training->records, 5000));
  zmq::message_t message;
  REQUIRE(training->records.recv(message));
  CHECK(message.to_string() == "a frame");
  CHECK_FALSE(readable(training->records, 300));
}
