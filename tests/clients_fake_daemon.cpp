#include "tests/clients_fake_daemon.hpp"

#include <zmq.h>

#include <array>
#include <optional>

namespace kpool::testing {

KeyPair new_key_pair() {
  char public_key[41], secret_key[41];
  KPOOL_ASSERT(zmq_curve_keypair(public_key, secret_key) == 0);
  return {public_key, secret_key};
}

FakeDaemon::FakeDaemon() : keys(new_key_pair()), zap_(context_, zmq::socket_type::router) {
  zap_.bind("inproc://zeromq.zap.01");
  endpoint_ = "tcp://127.0.0.1:*";
  start();
}

FakeDaemon::~FakeDaemon() {
  stop();
  zap_.close();
}

void FakeDaemon::start() {
  router_ = zmq::socket_t(context_, zmq::socket_type::router);
  router_.set(zmq::sockopt::linger, 0);
  router_.set(zmq::sockopt::curve_server, true);
  router_.set(zmq::sockopt::curve_secretkey, keys.secret_key);
  router_.set(zmq::sockopt::zap_domain, "kpool");
  router_.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(gateway::frame_bytes_max));
  router_.bind(endpoint_);
  endpoint_ = router_.get(zmq::sockopt::last_endpoint);
}

void FakeDaemon::stop() {
  if (router_.handle() != nullptr) router_.close();
  open_.clear();
  received = watermark;
  route_.clear();
}

void FakeDaemon::restart() {
  stop();
  // libzmq frees the port in its own thread, a moment after close.
  for (;;) {
    try {
      return start();
    } catch (const zmq::error_t& error) {
      if (error.num() != EADDRINUSE) throw;
    }
  }
}

void FakeDaemon::authenticate() {
  for (;;) {
    std::vector<std::string> parts;
    zmq::message_t part;
    while (zap_.recv(part, zmq::recv_flags::dontwait)) {
      parts.push_back(part.to_string());
      if (!part.more()) break;
    }
    if (parts.size() < 9) return;  // route, empty, version, request, domain, address, identity, mechanism, key
    char key[41];
    zmq_z85_encode(key, reinterpret_cast<const std::uint8_t*>(parts[8].data()), 32);
    const bool good = allowed.count(key) != 0;
    const std::array<std::string, 8> reply = {
        parts[0], "", "1.0", parts[3], good ? "200" : "400", "", good ? key : "", ""};
    for (std::size_t i = 0; i < reply.size(); ++i) {
      zap_.send(zmq::buffer(reply[i]), i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }
}

void FakeDaemon::step() {
  zmq::pollitem_t items[] = {{zap_.handle(), 0, ZMQ_POLLIN, 0}, {router_.handle(), 0, ZMQ_POLLIN, 0}};
  zmq::poll(items, router_.handle() == nullptr ? 1 : 2, std::chrono::milliseconds(1));
  authenticate();
  if (router_.handle() == nullptr) return;
  zmq::message_t route, body;
  while (router_.recv(route, zmq::recv_flags::dontwait)) {
    if (!router_.recv(body, zmq::recv_flags::dontwait)) return;
    ++messages;
    auto message = gateway::decode(Frame::copy({body.data<std::byte>(), body.size()}));
    KPOOL_ASSERT(message);
    handle(route.to_string(), std::move(*message));
  }
}

void FakeDaemon::handle(const std::string& route, gateway::Message message) {
  if (auto* hello = std::get_if<gateway::Hello>(&message)) return on_hello(route, *hello);
  if (route != route_) return send(route, gateway::Refuse{gateway::RefuseReason::no_hello, "say hello first"});
  if (auto* data = std::get_if<gateway::Data>(&message)) on_data(route, *data);
  flushes += std::holds_alternative<gateway::Flush>(message);
  if (std::holds_alternative<gateway::Ping>(message)) {
    return send(route, gateway::Ack{epoch, watermark, {}, credit_bytes, credit_records});
  }
  if (commits_at_once) commit();
}

void FakeDaemon::on_hello(const std::string& route, const gateway::Hello& hello) {
  ++hellos;
  if (answer_to_hello) return send(route, *answer_to_hello);
  if (hello.epoch != epoch) {
    epoch = hello.epoch;
    watermark = received = 0;
    durable.clear();
    open_.clear();
    refused_.clear();
  }
  route_ = route;
  gateway::Welcome welcome{1, epoch, watermark, credit_bytes, credit_records, record_bytes_max, {}};
  for (const auto& [seq, reason] : refused_) {
    if (seq > hello.last_acked && seq <= watermark) welcome.refused.push_back({seq, reason});
  }
  send(route, welcome);
}

void FakeDaemon::on_data(const std::string& route, gateway::Data& data) {
  if (data.epoch != epoch) return send(route, gateway::Refuse{gateway::RefuseReason::stale_epoch, "old", 0, true});
  if (data.first_seq > received + 1) {
    return send(route, gateway::Refuse{gateway::RefuseReason::gap, "a gap", received + 1, false});
  }
  for (std::size_t i = 0; i < data.records.size(); ++i) {
    const std::uint64_t seq = data.first_seq + i;
    if (seq <= received) {
      ++duplicates;
      continue;
    }
    received = seq;
    open_[seq] = std::move(data.records[i].text);
  }
  std::uint64_t bytes = 0;
  for (const auto& [seq, text] : open_) bytes += text.size();
  bytes_in_flight_max = std::max(bytes_in_flight_max, bytes);
}

void FakeDaemon::commit() {
  std::vector<gateway::RefusedSeq> refused;
  for (auto& [seq, text] : open_) {
    std::optional<Refusal> refusal;
    if (text.size() > record_bytes_max) refusal = Refusal::too_long;
    else if (refuses) refusal = refuses(seq, text);
    if (refusal) {
      refused.push_back({seq, *refusal});
      refused_[seq] = *refusal;
    } else {
      applied_twice += !durable.emplace(seq, std::move(text)).second;
    }
  }
  open_.clear();
  watermark = received;
  if (!loses_acks && !route_.empty()) {
    send(route_, gateway::Ack{epoch, watermark, std::move(refused), credit_bytes, credit_records});
  }
}

void FakeDaemon::send(const std::string& route, const gateway::Message& message) {
  const Frame frame = gateway::encode(message);
  router_.send(zmq::buffer(route), zmq::send_flags::sndmore);
  router_.send(zmq::buffer(frame.bytes().data(), frame.bytes().size()), zmq::send_flags::none);
}

}  // namespace kpool::testing
