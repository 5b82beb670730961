#include "actors/admin_door.hpp"

#include <sys/stat.h>

namespace kpool {

Result<zmq::socket_t> bind_admin_socket(zmq::context_t& context, const std::string& address) {
  zmq::socket_t socket(context, zmq::socket_type::router);
  socket.set(zmq::sockopt::linger, 200);
  socket.set(zmq::sockopt::maxmsgsize, std::int64_t{1} << 16);
  socket.set(zmq::sockopt::router_mandatory, true);
  const mode_t before = umask(0117);
  try {
    socket.bind(address);
  } catch (const zmq::error_t& error) {
    umask(before);
    return Error{Fault::unavailable, "cannot listen for kpoolctl on admin.socket = '" + address + "': " + error.what() +
                                         " (does the directory exist?)"};
  }
  umask(before);
  return socket;
}

Status AdminDoor::on_readable(Clock::time_point until, Outbox& out) {
  zmq::message_t route, body;
  while (Clock::now() < until && receive_now(socket_, route)) {
    if (!route.more() || !receive_now(socket_, body)) continue;
    bool more = body.more();
    auto message = more ? Result<admin::Message>(Error{Fault::bad_input, "a message has one part"})
                        : admin::decode(Frame::copy({body.data<std::byte>(), body.size()}));
    while (more && receive_now(socket_, body)) more = body.more();
    serving_.on_admin(route.to_string(), std::move(message), out);
  }
  return Done{};
}

bool AdminDoor::send(const std::string& route, const admin::Message& message) {
  return send_now(socket_, zmq::message_t(route.data(), route.size()), zmq::send_flags::sndmore) &&
         send_now(socket_, to_message(admin::encode(message)));
}

}  // namespace kpool
