// `kpoolctl status` and `kpoolctl snapshot`: what the daemon says of itself, for people and for programs.
#pragma once

#include <chrono>
#include <ostream>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "core/result.hpp"

namespace kpool {

struct StatusOptions {
  std::string socket = "ipc:///run/kpool/admin.sock";
  bool json = false;
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

/// Errors: as ask_daemon; unavailable, with the daemon's sentence.
Status take_snapshot(const SnapshotOptions& options, std::ostream& out);

}  // namespace kpool
