#include "apps/kpoolctl_status.hpp"

#include <unistd.h>

#include <filesystem>
#include <optional>
#include <thread>

#include <nlohmann/json.hpp>

#include "apps/kpoolctl_daemon.hpp"

namespace kpool {
namespace {

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

Result<nlohmann::json> ask_status(const StatusOptions& options) {
  auto answer = ask_daemon(options.socket, admin::StatusRequest{}, milliseconds(options.timeout_seconds));
  if (!answer) return answer.error();
  const auto* report = std::get_if<admin::StatusReport>(&*answer);
  nlohmann::json json = report ? nlohmann::json::parse(report->json, nullptr, false) : nlohmann::json();
  if (!json.is_object())
    return Error{Fault::bad_input, "the daemon on " + options.socket + " answers with something else than a status"};
  return json;
}

}  // namespace

Status show_status(const StatusOptions& options, std::ostream& out) {
  const bool redraw = options.watch_seconds > 0 && !options.json && ::isatty(STDOUT_FILENO) == 1;
  std::optional<nlohmann::json> before;
  for (;;) {
    auto report = ask_status(options);
    if (!report) return report.error();
    if (redraw) out << "\033[H\033[2J";
    if (options.json)
      out << (options.watch_seconds > 0 ? report->dump() : report->dump(2)) << '\n';
    else
      out << status_text(*report, before ? &*before : nullptr);
    if (!out.flush()) return Error{Fault::io, "the status cannot be written"};
    if (options.watch_seconds <= 0) return Done{};
    if (!redraw && !options.json) out << '\n';
    before = *std::move(report);
    std::this_thread::sleep_for(milliseconds(options.watch_seconds));
  }
}

Status take_snapshot(const SnapshotOptions& options, std::ostream& out) {
  // The daemon has another working directory.
  const std::string directory = std::filesystem::absolute(options.directory).lexically_normal().string();
  auto answer = ask_daemon(options.socket, admin::SnapshotRequest{directory}, milliseconds(options.timeout_seconds));
  if (!answer) return answer.error();
  const auto* reply = std::get_if<admin::SnapshotReply>(&*answer);
  if (!reply)
    return Error{Fault::bad_input, "the daemon on " + options.socket + " answers with something else than a snapshot"};
  if (!reply->error.empty()) return Error{Fault::unavailable, reply->error};
  out << directory << '\n';
  return Done{};
}

}  // namespace kpool
