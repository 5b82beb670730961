// A gateway's end of the protocol (docs/protocol.md): holds every record until the daemon has
// acknowledged or refused it, resends what is open after a lost connection or a restart of the
// daemon, and stays within the daemon's credit. Owned and used by one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "clients/keys.hpp"
#include "core/result.hpp"
#include "messages/gateway.hpp"

namespace kpool {

struct GatewayClientOptions {
  std::string endpoint = "tcp://127.0.0.1:7447";
  std::string server_public_key;
  KeyPair keys;
  std::uint64_t epoch = 1;                   ///< of the source's numbering; grows with every new input
  std::uint64_t last_acked = 0;              ///< known from an earlier life of this gateway
  std::uint64_t hold_bytes_max = 16u << 20;  ///< records held here
  std::chrono::milliseconds silence{3000};   ///< without an answer for so long: connect anew
};

struct GatewayProgress {
  bool connected = false;                         ///< welcomed in this connection
  std::uint64_t offered = 0, acknowledged = 0, refused = 0;  ///< records; acknowledged counts no refused ones
  std::uint64_t resent = 0, reconnects = 0;
  std::string trouble;  ///< one sentence while the daemon cannot be reached or does not go on, or empty
};

class GatewayClient {
 public:
  using OnRefused = std::function<void(std::uint64_t seq, Refusal reason)>;
  static Result<std::unique_ptr<GatewayClient>> open(GatewayClientOptions options, OnRefused on_refused);
  virtual ~GatewayClient() = default;
  /// The lowest seq that the daemon still wants, known once connected: a replayable input skips what is before.
  virtual std::uint64_t resume_at() const = 0;
  /// Takes record number seq = 1, 2, 3...; false: full, the record is left as it is, poll first. A seq already
  /// acknowledged is taken and dropped.
  virtual bool offer(std::uint64_t seq, gateway::OutgoingRecord&& record) = 0;
  /// The input ends here for now: asks for a commit of what was offered.
  virtual void flush() = 0;
  /// Sends, receives, resends, for at most `wait`. Errors (final): denied, mismatch (regression), bad_input (version).
  virtual Status poll(std::chrono::milliseconds wait) = 0;
  virtual bool idle() const = 0;  ///< all that was offered is acknowledged or refused
  virtual std::uint64_t acked_up_to() const = 0;
  virtual const GatewayProgress& progress() const = 0;
};

}  // namespace kpool
