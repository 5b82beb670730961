// A socket to the outside world (gateways, kpoolctl, libzmq's authentication requests), polled by the
// loop of the actor that owns it, on that thread alone.
#pragma once

#include <vector>
#include <zmq.hpp>

#include "actors/stage.hpp"

namespace kpool {

class Door {
 public:
  virtual ~Door() = default;
  virtual zmq::socket_ref socket() = 0;
  /// Handles what has arrived, until nothing is left or the time is up.
  virtual Status on_readable(Clock::time_point until, Outbox& out) = 0;
};

/// Waits until one of them is ready, or the time is over, or a signal comes.
void wait_for(std::vector<zmq::pollitem_t>& items, std::chrono::milliseconds time);
/// Receives one message without waiting; false: none is there. The buffer is the caller's to wipe.
bool receive_now(zmq::socket_ref socket, zmq::message_t& message);
/// Sends one message or nothing, without waiting; false: the peer is gone or its queue is full, the message is kept.
bool send_now(zmq::socket_ref socket, zmq::message_t&& message, zmq::send_flags more = zmq::send_flags::none);
/// Overwrites a received message's bytes: they may be a record's text.
void wipe(zmq::message_t& message);
/// A message that owns the frame and wipes it when libzmq lets go.
zmq::message_t to_message(Frame frame);

}  // namespace kpool
