#include "actors/links.hpp"

#include <charconv>

namespace kpool {

namespace {

constexpr int control_frames_max = 4096;

/// from: none for the receiving side. Inside one process a slot's state, tens of megabytes, waits where it lies: only
/// slot_frames_max of them may. Between processes frames also wait in the kernel, so that bound would not hold.
int frames_max(const Transport& transport, std::optional<StageId> from, StageId to, Lane lane) {
  if (lane == Lane::control) return control_frames_max;
  constexpr int sent_slots_max = 1, received_slots_max = slot_frames_max - sent_slots_max;
  static_assert(received_slots_max >= 2);
  if (transport.kind != "inproc" || to != StageId::persistence) return records_frames_max;
  if (!from) return received_slots_max;
  return from == StageId::training ? sent_slots_max : records_frames_max;
}

void set_options(zmq::socket_t& socket, const Transport& transport, Lane lane, int frames) {
  // What is unsent at the end is resent by the gateways; but a Reset, the last word, should arrive.
  socket.set(zmq::sockopt::linger, lane == Lane::records ? 0 : 300);
  socket.set(zmq::sockopt::sndhwm, frames);
  socket.set(zmq::sockopt::rcvhwm, frames);
  socket.set(zmq::sockopt::reconnect_ivl, 50);
  socket.set(zmq::sockopt::reconnect_ivl_max, 1000);
  if (transport.kind != "tcp") return;
  KPOOL_ASSERT(transport.keys);
  socket.set(zmq::sockopt::tcp_keepalive, 1);
  socket.set(zmq::sockopt::curve_publickey, transport.keys->public_key);
  socket.set(zmq::sockopt::curve_secretkey, transport.keys->secret_key);
}

Result<zmq::socket_t> bind_input(zmq::context_t& context, const Transport& transport, StageId stage, Lane lane) {
  if (!has_edge(stage, lane)) return zmq::socket_t();
  zmq::socket_t socket(context, zmq::socket_type::pull);
  set_options(socket, transport, lane, frames_max(transport, std::nullopt, stage, lane));
  if (transport.kind == "tcp") {
    socket.set(zmq::sockopt::curve_server, true);
    socket.set(zmq::sockopt::zap_domain, "pipeline");
  }
  const std::string where = endpoint(transport, stage, lane);
  try {
    socket.bind(where);
  } catch (const zmq::error_t& error) {
    return Error{Fault::unavailable, std::string(name(stage)) + " cannot listen on " + where + ": " + error.what()};
  }
  return socket;
}

}  // namespace

bool has_edge(StageId to, Lane lane) {
  for (const Edge& edge : edges)
    if (edge.to == to && edge.lane == lane) return true;
  return false;
}

Result<Transport> parse_transport(const std::string& text) {
  Transport transport;
  transport.kind = text.substr(0, text.find(':'));
  const std::string rest = text.size() > transport.kind.size() ? text.substr(transport.kind.size() + 1) : "";
  if (transport.kind == "inproc" && rest.empty()) return transport;
  if (transport.kind == "ipc" && !rest.empty()) {
    transport.directory = rest;
    return transport;
  }
  const auto colon = rest.rfind(':');
  if (transport.kind == "tcp" && colon != std::string::npos && colon > 0) {
    transport.host = rest.substr(0, colon);
    const char* end = rest.data() + rest.size();
    const auto [stop, error] = std::from_chars(rest.data() + colon + 1, end, transport.first_port);
    const int last_port = transport.first_port + 2 * static_cast<int>(stage_count);
    if (error == std::errc() && stop == end && transport.first_port > 0 && last_port < 65536) return transport;
  }
  return Error{Fault::bad_config, "engine.transport is '" + text +
                                      "', but must be inproc, ipc:<directory> or tcp:<host>:<first port>"};
}

std::string endpoint(const Transport& transport, StageId stage, Lane lane) {
  const std::string lane_name = lane == Lane::records ? "records" : "control";
  if (transport.kind == "inproc") return "inproc://kpool." + std::string(name(stage)) + "." + lane_name;
  if (transport.kind == "ipc") return "ipc://" + transport.directory + "/" + name(stage) + "." + lane_name;
  const int port = transport.first_port + 2 * static_cast<int>(stage) + static_cast<int>(lane);
  return "tcp://" + transport.host + ":" + std::to_string(port);
}

Result<Links> bind_links(zmq::context_t& context, const Transport& transport, StageId stage) {
  Links links;
  links.between_processes = transport.kind != "inproc";
  auto records = bind_input(context, transport, stage, Lane::records);
  if (!records) return records.error();
  auto control = bind_input(context, transport, stage, Lane::control);
  if (!control) return control.error();
  links.records = *std::move(records);
  links.control = *std::move(control);
  return links;
}

void connect_links(zmq::context_t& context, const Transport& transport, StageId stage, Links& links) {
  for (const Edge& edge : edges) {
    if (edge.from != stage) continue;
    zmq::socket_t socket(context, zmq::socket_type::push);
    set_options(socket, transport, edge.lane, frames_max(transport, edge.from, edge.to, edge.lane));
    if (transport.kind == "tcp") socket.set(zmq::sockopt::curve_serverkey, transport.keys->public_key);
    socket.connect(endpoint(transport, edge.to, edge.lane));
    links.outputs.emplace(edge.to, std::move(socket));
  }
}

}  // namespace kpool
