// What happens to the one connection of a socket, as libzmq's monitor tells it. Owned by the
// GatewayClient beside its socket, used on its thread alone.
#pragma once

#include <optional>
#include <zmq.hpp>

namespace kpool {

enum class ConnectionEvent {
  connected,         ///< the handshake is done: both keys are proven
  disconnected,
  refused,           ///< the other end does not accept our key; libzmq does not try again
  unreachable,       ///< nobody listens there
  handshake_failed,  ///< broken off without a reason: a wrong server key, or no such daemon
};

class ConnectionMonitor {
 public:
  /// Before the socket connects.
  ConnectionMonitor(zmq::context_t& context, zmq::socket_t& watched);
  ~ConnectionMonitor();
  ConnectionMonitor(const ConnectionMonitor&) = delete;
  ConnectionMonitor& operator=(const ConnectionMonitor&) = delete;

  std::optional<ConnectionEvent> next();
  void* handle() { return events_.handle(); }

 private:
  zmq::socket_t& watched_;
  zmq::socket_t events_;
};

}  // namespace kpool
