// The life of one process's actors: waits for all to be ready, watches that none is stuck or dead,
// drains and stops them together. A pipeline fails as a whole; the service manager starts it again.
// Event-based, on CAF's scheduler; speaks to systemd (READY, STATUS, WATCHDOG, STOPPING).
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "actors/protocol.hpp"
#include "core/result.hpp"

namespace kpool {

/// How the process ended: 0, or the first failure.
struct Outcome {
  int exit_code = 0;
  std::string message;
};

struct SupervisorOptions {
  std::chrono::seconds drain_max{5};
  std::function<void(Outcome)> on_end;          ///< called once, when all children are gone
  std::function<void(const char*)> notify;      ///< sd_notify's state text
};

struct SupervisorState {
  static inline const char* name = "supervisor";
  SupervisorOptions options;
  std::map<caf::actor_addr, caf::actor> children;
  std::map<caf::actor_addr, std::string> names;
  std::set<std::string> ready;
  bool started = false;           ///< all children are adopted
  std::set<std::string> silent;   ///< children that have not answered the last ping
  std::uint64_t ping = 0;
  bool stopping = false;
  std::optional<Outcome> outcome;
};

/// Takes (adopt_atom, name, actor) for each child, then (start_atom).
using adopt_atom = caf::atom_constant<caf::atom("adopt")>;
using start_atom = caf::atom_constant<caf::atom("start")>;

caf::behavior supervisor(caf::stateful_actor<SupervisorState>* self, SupervisorOptions options);

}  // namespace kpool
