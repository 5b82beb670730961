// The socket that gateways reach: a ROUTER under CURVE. Owned by the ingestion actor's loop.
#pragma once

#include "actors/door.hpp"
#include "actors/ingestion.hpp"
#include "clients/keys.hpp"

namespace kpool {

/// Under CURVE with the ZAP domain "gateway". Errors: unavailable, naming the address.
Result<zmq::socket_t> bind_gateway_socket(zmq::context_t& context, const GatewayConfig& config, const KeyPair& keys);

class GatewayDoor : public Door {
 public:
  GatewayDoor(zmq::socket_t socket, Ingestion& ingestion) : socket_(std::move(socket)), ingestion_(ingestion) {}
  zmq::socket_ref socket() override { return socket_; }
  Status on_readable(Clock::time_point until, Outbox& out) override;
  bool send(const std::string& route, const gateway::Message& message);

 private:
  zmq::socket_t socket_;
  Ingestion& ingestion_;
};

}  // namespace kpool
