#include "actors/authenticator.hpp"

#include <array>

#include <spdlog/spdlog.h>

namespace kpool {

Authenticator::Authenticator(zmq::context_t& context, Allowed allowed)
    : requests_(context, zmq::socket_type::rep), allowed_(std::move(allowed)) {
  requests_.set(zmq::sockopt::linger, 0);
  requests_.bind("inproc://zeromq.zap.01");
}

Status Authenticator::pass(int wake_fd) {
  std::vector<zmq::pollitem_t> items{{requests_.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, wake_fd, ZMQ_POLLIN, 0}};
  wait_for(items, std::chrono::milliseconds(-1));
  zmq::message_t part;
  while (receive_now(requests_, part)) {
    std::vector<zmq::message_t> request;
    bool more = part.more();
    request.push_back(std::move(part));
    while (more && receive_now(requests_, part)) {
      more = part.more();
      request.push_back(std::move(part));
    }
    answer(std::move(request));
  }
  return Done{};
}

bool Authenticator::allows(std::string_view domain, const std::string& key) const {
  if (domain == "gateway") return allowed_.gateways.contains(key);
  return domain == "pipeline" && !key.empty() && key == allowed_.pipeline;
}

/// Request: version, id, domain, address, identity, mechanism, credentials (for CURVE: 32 bytes).
void Authenticator::answer(std::vector<zmq::message_t> request) {
  std::string key;
  if (request.size() == 7 && request[5].to_string_view() == "CURVE" && request[6].size() == 32) {
    char text[41];
    zmq_z85_encode(text, request[6].data<std::uint8_t>(), 32);
    key = text;
  }
  const bool allowed = !key.empty() && allows(request[2].to_string_view(), key);
  if (!allowed)
    spdlog::warn("a peer at {} was turned away: key {} is not authorized",
                 request.size() > 3 ? request[3].to_string() : "?", key.empty() ? "(none)" : key);
  const std::string id = request.size() > 1 ? request[1].to_string() : "";
  const std::array<std::string, 6> reply = {"1.0", id, allowed ? "200" : "400", allowed ? "OK" : "not authorized",
                                            allowed ? key : "", ""};
  for (std::size_t i = 0; i < reply.size(); ++i) {
    const bool last = i + 1 == reply.size();
    send_now(requests_, zmq::message_t(reply[i]), last ? zmq::send_flags::none : zmq::send_flags::sndmore);
  }
}

}  // namespace kpool
