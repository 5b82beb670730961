// What a gateway must remember between two runs: the epoch of its numbering and how far it was
// acknowledged. One small JSON file beside the key, replaced whole; one process at a time holds it.
#pragma once

#include <cstdint>
#include <string>

#include "core/result.hpp"

namespace kpool {

struct GatewayState {
  std::uint64_t epoch = 0;   ///< 0: no run yet
  std::string fingerprint;   ///< of that epoch's input; empty: standard input
  std::uint64_t acked = 0;   ///< records of the epoch up to here are acknowledged or refused
  std::uint64_t refused = 0; ///< of those
  bool finished = true;      ///< the input was read to its end and all of it is settled
};

class GatewayStateFile {
 public:
  /// Locks the file. Errors: unavailable (another process holds it), denied, io.
  static Result<GatewayStateFile> open(const std::string& path);
  GatewayStateFile(GatewayStateFile&& other) noexcept;
  GatewayStateFile& operator=(GatewayStateFile&&) = delete;
  ~GatewayStateFile();

  /// Errors: bad_input (damaged).
  Result<GatewayState> load() const;
  /// Durable when it returns. Errors: io, no_space.
  Status save(const GatewayState& state) const;

 private:
  GatewayStateFile(int lock, std::string path) : lock_(lock), path_(std::move(path)) {}
  int lock_;
  std::string path_;
};

/// The state with which a run begins: the same input goes on in its epoch, another one begins the next.
/// forced_epoch: 0, or the epoch that the user wants.
GatewayState next_run(const GatewayState& last, const std::string& fingerprint, std::uint64_t forced_epoch);

}  // namespace kpool
