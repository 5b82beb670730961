// The socket that kpoolctl reaches: a ROUTER on a Unix socket, whose file permissions are the
// authority. Owned by the serving actor's loop.
#pragma once

#include "actors/door.hpp"
#include "actors/serving.hpp"

namespace kpool {

/// The file is readable by owner and group alone. Errors: unavailable, naming the address.
Result<zmq::socket_t> bind_admin_socket(zmq::context_t& context, const std::string& address);

class AdminDoor : public Door {
 public:
  AdminDoor(zmq::socket_t socket, Serving& serving) : socket_(std::move(socket)), serving_(serving) {}
  zmq::socket_ref socket() override { return socket_; }
  Status on_readable(Clock::time_point until, Outbox& out) override;
  bool send(const std::string& route, const admin::Message& message);

 private:
  zmq::socket_t socket_;
  Serving& serving_;
};

}  // namespace kpool
