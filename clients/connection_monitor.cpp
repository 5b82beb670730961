#include "clients/connection_monitor.hpp"

#include <cstdint>
#include <cstring>
#include <string>

namespace kpool {

ConnectionMonitor::ConnectionMonitor(zmq::context_t& context, zmq::socket_t& watched)
    : watched_(watched), events_(context, zmq::socket_type::pair) {
  const std::string endpoint =
      "inproc://monitor-" + std::to_string(reinterpret_cast<std::uintptr_t>(watched.handle()));
  constexpr int wanted = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                         ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                         ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED;
  if (zmq_socket_monitor(watched.handle(), endpoint.c_str(), wanted) != 0) throw zmq::error_t();
  events_.set(zmq::sockopt::linger, 0);
  events_.connect(endpoint);
}

ConnectionMonitor::~ConnectionMonitor() {
  if (watched_.handle() != nullptr) zmq_socket_monitor(watched_.handle(), nullptr, 0);
}

std::optional<ConnectionEvent> ConnectionMonitor::next() {
  for (;;) {
    zmq::message_t event, address;
    if (!events_.recv(event, zmq::recv_flags::dontwait)) return std::nullopt;
    if (event.more()) (void)events_.recv(address, zmq::recv_flags::dontwait);
    std::uint16_t kind = 0;
    if (event.size() < sizeof kind) continue;
    std::memcpy(&kind, event.data(), sizeof kind);
    switch (kind) {
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: return ConnectionEvent::connected;
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: return ConnectionEvent::refused;
      case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL: return ConnectionEvent::handshake_failed;
      case ZMQ_EVENT_CLOSED: return ConnectionEvent::unreachable;  // of an attempt, before any handshake
      case ZMQ_EVENT_DISCONNECTED: return ConnectionEvent::disconnected;
      default: continue;
    }
  }
}

}  // namespace kpool
