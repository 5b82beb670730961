#include "actors/pipeline.hpp"

#include <algorithm>
#include <filesystem>
#include <future>

#include <nlohmann/json.hpp>

#include "actors/admin_door.hpp"
#include "actors/authenticator.hpp"
#include "actors/fragility_stage.hpp"
#include "actors/gateway_door.hpp"
#include "actors/ingestion.hpp"
#include "actors/routing.hpp"
#include "actors/serving.hpp"
#include "actors/socket_actor.hpp"
#include "actors/stage_loop.hpp"

namespace kpool {

namespace {

// Sinks before sources: whoever connects finds its peer bound.
constexpr StageId build_order[] = {StageId::serving,  StageId::persistence, StageId::fragility, StageId::training,
                                   StageId::routing,  StageId::encoding,    StageId::ingestion};

/// What is needed to seat one stage in this process.
struct Site {
  zmq::context_t& context;
  const Config& config;
  const Keys& keys;
  const Parts& parts;
  Transport transport;
};

struct Seat {
  std::unique_ptr<Stage> stage;
  std::vector<std::unique_ptr<Door>> doors;
};

Result<Seat> seat_ingestion(const Site& site) {
  auto socket = bind_gateway_socket(site.context, site.config.gateway, site.keys.daemon);
  if (!socket) return socket.error();
  // Door and stage know each other: the stage answers through a pointer that is set once both are there.
  auto door = std::make_shared<GatewayDoor*>(nullptr);
  auto stage = std::make_unique<Ingestion>(site.config, [door](const std::string& route, const gateway::Message& told) {
    return (*door)->send(route, told);
  });
  auto made = std::make_unique<GatewayDoor>(*std::move(socket), *stage);
  *door = made.get();
  Seat seat;
  seat.stage = std::move(stage);
  seat.doors.push_back(std::move(made));
  return seat;
}

std::string about(const Site& site) {
  const Config& config = site.config;
  return nlohmann::json{{"version", KPOOL_VERSION},
                        {"base", config.base.path},
                        {"encoder", config.encoder.kind},
                        {"slots", config.routing.slots},
                        {"rank", config.lora.rank},
                        {"deterministic", config.engine.deterministic},
                        {"store", config.store.path}}.dump();
}

Result<Seat> seat_serving(const Site& site) {
  auto socket = bind_admin_socket(site.context, site.config.admin.socket);
  if (!socket) return socket.error();
  auto door = std::make_shared<AdminDoor*>(nullptr);
  auto stage = std::make_unique<Serving>(about(site), [door](const std::string& route, const admin::Message& message) {
    return (*door)->send(route, message);
  });
  auto made = std::make_unique<AdminDoor>(*std::move(socket), *stage);
  *door = made.get();
  Seat seat;
  seat.stage = std::move(stage);
  seat.doors.push_back(std::move(made));
  return seat;
}

JournalPlace journal(const Site& site, StageId id, const std::string& identity) {
  const std::string& path = site.config.engine.journal;
  if (path.empty()) return {};
  std::error_code none;
  return {path + "." + name(id), std::filesystem::absolute(site.config.store.path, none).string() + "\n" + identity};
}

std::string routing_identity(const Site& site) {
  const RoutingOptions& routing = site.config.routing;
  return site.parts.encoder_identity + ", " + std::to_string(routing.slots) + " slots, " + routing.covariance +
         " covariance";
}

Result<Seat> seat(const Site& site, StageId id) {
  Seat seat;
  switch (id) {
    case StageId::ingestion: return seat_ingestion(site);
    case StageId::serving: return seat_serving(site);
    case StageId::encoding:
      seat.stage = std::make_unique<Encoding>(site.parts.encoder, site.parts.encoder_identity,
                                              journal(site, id, site.parts.encoder_identity));
      break;
    case StageId::routing:
      seat.stage = std::make_unique<Routing>(
          make_router(site.config.routing, site.parts.embedding_width),
          RoutingStageOptions{site.config.routing.slots, site.config.engine.deterministic}, routing_identity(site));
      break;
    case StageId::training:
      seat.stage = std::make_unique<Training>(site.parts.learner, site.parts.learner_identity,
                                              journal(site, id, site.parts.learner_identity));
      break;
    case StageId::fragility:
      seat.stage = std::make_unique<FragilityStage>(site.config.eviction);
      break;
    case StageId::persistence: seat.stage = std::make_unique<Persistence>(site.parts.store); break;
  }
  return seat;
}

/// Before any socket of the stage is bound: a second daemon must not take over the first one's paths.
Result<std::vector<AddressLock>> lock_addresses(const Site& site, StageId id) {
  std::vector<std::string> addresses;
  for (Lane lane : {Lane::records, Lane::control})
    if (has_edge(id, lane)) addresses.push_back(endpoint(site.transport, id, lane));
  if (id == StageId::ingestion) addresses.push_back(site.config.gateway.listen);
  if (id == StageId::serving) addresses.push_back(site.config.admin.socket);
  std::vector<AddressLock> locks;
  for (const std::string& address : addresses) {
    auto lock = AddressLock::take(address);
    if (!lock) return lock.error();
    locks.push_back(*std::move(lock));
  }
  return locks;
}

}  // namespace

bool has_stage(const Config& config, StageId id) {
  const auto& stages = config.engine.stages;
  return stages.empty() || std::find(stages.begin(), stages.end(), name(id)) != stages.end();
}

Result<std::vector<std::unique_ptr<Loop>>> build_pipeline(zmq::context_t& context, const Config& config,
                                                          const Keys& keys, const Parts& parts) {
  auto transport = parse_transport(config.engine.transport);
  if (!transport) return transport.error();
  if (transport->kind == "tcp") transport->keys = keys.daemon;
  std::vector<std::unique_ptr<Loop>> loops;
  loops.push_back(std::make_unique<Authenticator>(context, Allowed{keys.gateways, keys.daemon.public_key}));
  const Site site{context, config, keys, parts, *transport};
  for (StageId id : build_order) {
    if (!has_stage(config, id)) continue;
    auto locks = lock_addresses(site, id);
    if (!locks) return locks.error();
    auto links = bind_links(context, site.transport, id);
    if (!links) return links.error();
    links->locks = *std::move(locks);
    auto seated = seat(site, id);
    if (!seated) return seated.error();
    connect_links(context, site.transport, id, *links);
    loops.push_back(std::make_unique<StageLoop>(std::move(seated->stage), *std::move(links), std::move(seated->doors)));
  }
  return loops;
}

struct Running::System {
  caf::actor_system_config config;
  std::unique_ptr<caf::actor_system> actors;
  caf::actor supervisor;
  std::promise<Outcome> outcome;
};

Running::Running(std::vector<std::unique_ptr<Loop>> loops, std::function<void(const char*)> notify,
                 std::function<void()> ended)
    : system_(std::make_unique<System>()) {
  // Records travel on threads of their own: one scheduler thread is enough, and idle costs nothing.
  system_->config.set("scheduler.policy", caf::atom("sharing"));
  system_->config.set("scheduler.max-threads", 1);
  system_->actors = std::make_unique<caf::actor_system>(system_->config);
  SupervisorOptions options;
  options.notify = std::move(notify);
  options.on_end = [this, ended = std::move(ended)](Outcome outcome) {
    system_->outcome.set_value(std::move(outcome));
    ended();
  };
  system_->supervisor = system_->actors->spawn(supervisor, std::move(options));
  for (auto& loop : loops) {
    const std::string name = loop->name();
    auto child = system_->actors->spawn<SocketActor, caf::detached>(std::move(loop), system_->supervisor);
    caf::anon_send(system_->supervisor, adopt_atom::value, name, child);
  }
  caf::anon_send(system_->supervisor, start_atom::value);
}

Running::~Running() = default;

void Running::stop() { caf::anon_send(system_->supervisor, drain_atom::value); }

Outcome Running::wait() {
  Outcome outcome = system_->outcome.get_future().get();
  system_->supervisor = nullptr;
  system_->actors.reset();
  return outcome;
}

}  // namespace kpool
