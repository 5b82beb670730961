// `kpoolctl status`, `snapshot`, `pin` and `hold`: what the daemon says of itself, for people and for programs, and
// what it does for them.
#pragma once

#include <chrono>
#include <ostream>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "core/result.hpp"
#include "messages/slot_change.hpp"

namespace kpool {

struct StatusOptions {
  std::string socket = "ipc:///run/kpool/admin.sock";
  bool json = false;
  bool metrics = false;      ///< for Prometheus
  double watch_seconds = 0;  ///< 0: once
  double timeout_seconds = 5;
};

/// Errors: as ask_daemon.
Status show_status(const StatusOptions& options, std::ostream& out);

/// A report as tables. before, where not null: an earlier report, from which the rates are taken; else
/// they are means since the start. Fields that are absent are shown as "-".
std::string status_text(const nlohmann::json& report, const nlohmann::json* before);

struct SnapshotOptions {
  std::string socket = "ipc:///run/kpool/admin.sock";
  std::string directory;
  double timeout_seconds = 600;
};

struct ChangeOptions {
  std::string socket = "ipc:///run/kpool/admin.sock";
  std::uint32_t slot = 0;
  SlotChange what = SlotChange::pin;
  double timeout_seconds = 60;
};

/// Once it is durable, says what the slot is now. Errors: as take_snapshot.
Status change_slot(const ChangeOptions& options, std::ostream& out);

/// Errors: as ask_daemon; unavailable, with the daemon's sentence.
Status take_snapshot(const SnapshotOptions& options, std::ostream& out);

}  // namespace kpool
