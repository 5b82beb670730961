// A daemon's end of the gateway protocol without the daemon: CURVE, an allow-list, watermarks that
// survive its restart, and switches for what can go wrong. Single-threaded: the test calls step().
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <zmq.hpp>

#include "clients/keys.hpp"
#include "messages/gateway.hpp"

namespace kpool::testing {

KeyPair new_key_pair();

class FakeDaemon {
 public:
  FakeDaemon();
  ~FakeDaemon();

  const std::string& endpoint() const { return endpoint_; }
  /// Takes what has arrived and answers it; waits at most a millisecond.
  void step();
  /// Makes everything received durable and acknowledges it.
  void commit();
  /// Leaves and comes back on the same port; what was not durable is gone.
  void restart();
  void stop();
  void start();

  KeyPair keys;
  std::set<std::string> allowed;         ///< public keys; empty: nobody may connect
  bool loses_acks = false;               ///< acknowledgements never leave
  bool commits_at_once = true;           ///< after every message
  std::uint64_t credit_bytes = 1u << 20;
  std::uint32_t credit_records = 100000;
  std::uint32_t record_bytes_max = 65536;
  std::function<std::optional<Refusal>(std::uint64_t seq, const std::string& text)> refuses;
  std::optional<gateway::Refuse> answer_to_hello;  ///< instead of a welcome

  std::map<std::uint64_t, std::string> durable;  ///< of the current epoch
  std::uint64_t epoch = 0, watermark = 0, received = 0;
  std::uint64_t applied_twice = 0, duplicates = 0, hellos = 0, messages = 0, flushes = 0;
  std::uint64_t bytes_in_flight_max = 0;

 private:
  void authenticate();
  void handle(const std::string& route, gateway::Message message);
  void on_hello(const std::string& route, const gateway::Hello& hello);
  void on_data(const std::string& route, gateway::Data& data);
  void send(const std::string& route, const gateway::Message& message);

  zmq::context_t context_{1};
  zmq::socket_t zap_, router_;
  std::string endpoint_, route_;
  std::map<std::uint64_t, std::string> open_;
  std::map<std::uint64_t, Refusal> refused_;
};

}  // namespace kpool::testing
