// ZAP (ZeroMQ RFC 27): libzmq asks it about every CURVE handshake of this process. Without it libzmq
// lets any key in, so it is bound before any other socket, and the process ends if it ends.
// Owned by one actor of its own, on its thread alone.
#pragma once

#include <map>
#include <string>

#include "actors/door.hpp"
#include "actors/loop.hpp"

namespace kpool {

struct Allowed {
  std::map<std::string, std::string> gateways;  ///< public key (Z85) -> name; domain "gateway"
  std::string pipeline;                         ///< the daemon's own public key; domain "pipeline"
};

class Authenticator : public Loop {
 public:
  /// Binds inproc://zeromq.zap.01.
  Authenticator(zmq::context_t& context, Allowed allowed);
  const char* name() const override { return "authenticator"; }
  Status pass(int wake_fd) override;

 private:
  void answer(std::vector<zmq::message_t> request);
  bool allows(std::string_view domain, const std::string& key) const;

  zmq::socket_t requests_;
  const Allowed allowed_;
};

}  // namespace kpool
