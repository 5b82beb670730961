#include "actors/door.hpp"

#include <string.h>

namespace kpool {

void wait_for(std::vector<zmq::pollitem_t>& items, std::chrono::milliseconds time) {
  try {
    zmq::poll(items, time);
  } catch (const zmq::error_t& error) {
    if (error.num() != EINTR) throw;  // a stop and continue interrupts, too
  }
}

bool receive_now(zmq::socket_ref socket, zmq::message_t& message) {
  return socket.recv(message, zmq::recv_flags::dontwait).has_value();
}

bool send_now(zmq::socket_ref socket, zmq::message_t&& message, zmq::send_flags more) {
  try {
    return socket.send(message, zmq::send_flags::dontwait | more).has_value();
  } catch (const zmq::error_t& error) {
    if (error.num() == EHOSTUNREACH) return false;
    throw;
  }
}

void wipe(zmq::message_t& message) { explicit_bzero(message.data(), message.size()); }

zmq::message_t to_message(Frame frame) {
  auto* owned = new Frame(std::move(frame));
  auto bytes = owned->bytes();
  return zmq::message_t(bytes.data(), bytes.size(),
                        [](void*, void* hint) { delete static_cast<Frame*>(hint); }, owned);
}

}  // namespace kpool
