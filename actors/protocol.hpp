// The control plane on one page: what the actors of one process say to each other through CAF.
// Records never travel here; they go as Cap'n Proto frames over ZeroMQ (links.hpp).
//
//   who             gets                 answers / does
//   socket actor    (stop_atom)          leaves its loop
//                   (drain_atom)         takes nothing more in; (drained_atom, name) once all is durable
//                   (ping_atom, n)       (pong_atom, name, n): it is not stuck
//   supervisor      (ready_atom, name)   all there: READY to the service manager
//                   (failed_atom, name, exit code, sentence)   stops everything with that error
//                   (drained_atom, name), (pong_atom, name, n)
//                   (drain_atom)         from main on SIGTERM: drains, then stops
#pragma once

#include <caf/all.hpp>

namespace kpool {

using ping_atom = caf::atom_constant<caf::atom("ping")>;
using pong_atom = caf::atom_constant<caf::atom("pong")>;
using stop_atom = caf::atom_constant<caf::atom("stop")>;
using drain_atom = caf::atom_constant<caf::atom("drain")>;
using drained_atom = caf::atom_constant<caf::atom("drained")>;
using ready_atom = caf::atom_constant<caf::atom("ready")>;
using failed_atom = caf::atom_constant<caf::atom("failed")>;
using tick_atom = caf::atom_constant<caf::atom("tick")>;

}  // namespace kpool
