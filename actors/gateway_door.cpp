#include "actors/gateway_door.hpp"

namespace kpool {

Result<zmq::socket_t> bind_gateway_socket(zmq::context_t& context, const GatewayConfig& config, const KeyPair& keys) {
  zmq::socket_t socket(context, zmq::socket_type::router);
  socket.set(zmq::sockopt::linger, 200);
  socket.set(zmq::sockopt::rcvhwm, 16);  // per gateway; its credit bounds what it may send
  socket.set(zmq::sockopt::sndhwm, 64);
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(gateway::frame_bytes_max));
  socket.set(zmq::sockopt::router_mandatory, true);
  socket.set(zmq::sockopt::handshake_ivl, 2000);
  socket.set(zmq::sockopt::heartbeat_ivl, 5000);
  socket.set(zmq::sockopt::heartbeat_timeout, 15000);
  socket.set(zmq::sockopt::curve_server, true);
  socket.set(zmq::sockopt::curve_publickey, keys.public_key);
  socket.set(zmq::sockopt::curve_secretkey, keys.secret_key);
  socket.set(zmq::sockopt::zap_domain, "gateway");
  try {
    socket.bind(config.listen);
  } catch (const zmq::error_t& error) {
    return Error{Fault::unavailable,
                 "cannot listen for gateways on gateway.listen = '" + config.listen + "': " + error.what()};
  }
  return socket;
}

Status GatewayDoor::on_readable(Clock::time_point until, Outbox&) {
  zmq::message_t route, body;
  while (Clock::now() < until && receive_now(socket_, route)) {
    if (!route.more() || !receive_now(socket_, body)) continue;
    bool more = body.more();
    // The source's name is the key that the handshake proved, never the routing id, which a client chooses.
    const char* user = body.gets("User-Id");
    auto message = more ? Result<gateway::Message>(Error{Fault::bad_input, "a message has one part"})
                        : gateway::decode(Frame::copy({body.data<std::byte>(), body.size()}));
    const std::string key = user ? user : "";
    wipe(body);
    while (more && receive_now(socket_, body)) more = body.more();
    if (!key.empty()) ingestion_.on_gateway(key, route.to_string(), std::move(message));
  }
  return Done{};
}

bool GatewayDoor::send(const std::string& route, const gateway::Message& message) {
  return send_now(socket_, zmq::message_t(route.data(), route.size()), zmq::send_flags::sndmore) &&
         send_now(socket_, to_message(gateway::encode(message)));
}

}  // namespace kpool
