// The sockets between the stages: one table of edges, one PULL per stage and lane, one PUSH per edge.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "actors/address_lock.hpp"
#include "actors/stage.hpp"
#include "clients/keys.hpp"

namespace kpool {

/// Records run forward and press back; what goes backward (once per group) never waits for records.
enum class Lane : std::uint8_t { records, control };

struct Edge {
  StageId from, to;
  Lane lane;
};

/// The whole topology.
inline constexpr Edge edges[] = {
    {StageId::ingestion, StageId::encoding, Lane::records},
    {StageId::encoding, StageId::routing, Lane::records},
    {StageId::routing, StageId::training, Lane::records},
    {StageId::training, StageId::fragility, Lane::records},
    {StageId::ingestion, StageId::persistence, Lane::records},
    {StageId::encoding, StageId::persistence, Lane::records},
    {StageId::routing, StageId::persistence, Lane::records},
    {StageId::training, StageId::persistence, Lane::records},
    {StageId::fragility, StageId::persistence, Lane::records},
    {StageId::persistence, StageId::ingestion, Lane::control},
    {StageId::persistence, StageId::encoding, Lane::control},
    {StageId::persistence, StageId::routing, Lane::control},
    {StageId::persistence, StageId::training, Lane::control},
    {StageId::persistence, StageId::fragility, Lane::control},
    {StageId::fragility, StageId::routing, Lane::control},
    {StageId::ingestion, StageId::serving, Lane::records},
    {StageId::encoding, StageId::serving, Lane::records},
    {StageId::routing, StageId::serving, Lane::records},
    {StageId::training, StageId::serving, Lane::records},
    {StageId::fragility, StageId::serving, Lane::records},
    {StageId::persistence, StageId::serving, Lane::records},
    {StageId::serving, StageId::persistence, Lane::control},
    {StageId::serving, StageId::routing, Lane::control},
};

/// Slots on their way from training to persistence that libzmq may hold inside one process, both sides together.
inline constexpr int slot_frames_max = 3;
/// Frames of the records lane that a socket may hold otherwise.
inline constexpr int records_frames_max = 8;

/// How stages reach each other: "inproc", "ipc:<directory>" or "tcp:<host>:<first port>" (under
/// CURVE with the daemon's own key pair at both ends).
struct Transport {
  std::string kind = "inproc";
  std::string directory;  ///< ipc
  std::string host;       ///< tcp
  int first_port = 0;     ///< tcp: two ports per stage
  std::optional<KeyPair> keys;
};
Result<Transport> parse_transport(const std::string& text);
bool has_edge(StageId to, Lane lane);
std::string endpoint(const Transport& transport, StageId stage, Lane lane);

/// One stage's sockets. Opened by the thread that builds the pipeline, then moved to the stage's own.
struct Links {
  zmq::socket_t records, control;  ///< PULL; null where no edge leads in
  std::map<StageId, zmq::socket_t> outputs;  ///< PUSH
  std::vector<AddressLock> locks;            ///< of the Unix sockets that are bound here
  bool between_processes = false;            ///< a connection may break and take frames with it
};

/// Binds the inputs. Errors: unavailable, naming the endpoint.
Result<Links> bind_links(zmq::context_t& context, const Transport& transport, StageId stage);
void connect_links(zmq::context_t& context, const Transport& transport, StageId stage, Links& links);

}  // namespace kpool
