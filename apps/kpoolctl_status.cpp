#include "apps/kpoolctl_status.hpp"

#include <unistd.h>

#include <array>
#include <filesystem>
#include <optional>
#include <thread>

#include <nlohmann/json.hpp>

#include "apps/kpoolctl_daemon.hpp"
#include "apps/kpoolctl_metrics.hpp"

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

/// Until the daemon has done it.
Status ask_to(const std::string& socket, const admin::Message& request, double timeout_seconds) {
  const auto answer = ask_daemon(socket, request, milliseconds(timeout_seconds));
  if (!answer) return answer.error();
  const auto* reply = std::get_if<admin::Reply>(&*answer);
  if (!reply) return Error{Fault::bad_input, "the daemon on " + socket + " answers with something else than its done"};
  if (!reply->error.empty()) return Error{Fault::unavailable, reply->error};
  return Done{};
}

}  // namespace

Status show_status(const StatusOptions& options, std::ostream& out) {
  const bool for_programs = options.json || options.metrics;
  const bool redraw = options.watch_seconds > 0 && !for_programs && ::isatty(STDOUT_FILENO) == 1;
  std::optional<nlohmann::json> before;
  for (;;) {
    auto report = ask_status(options);
    if (!report) return report.error();
    if (redraw) out << "\033[H\033[2J";
    if (options.metrics)
      out << metrics_text(*report);
    else if (options.json)
      out << (options.watch_seconds > 0 ? report->dump() : report->dump(2)) << '\n';
    else
      out << status_text(*report, before ? &*before : nullptr);
    if (!out.flush()) return Error{Fault::io, "the status cannot be written"};
    if (options.watch_seconds <= 0) return Done{};
    if (!redraw && !for_programs) out << '\n';
    before = *std::move(report);
    std::this_thread::sleep_for(milliseconds(options.watch_seconds));
  }
}

Status change_slot(const ChangeOptions& options, std::ostream& out) {
  constexpr std::array now = {"pinned: it is neither evicted nor merged", "not pinned",
                              "on hold: it is neither evicted nor merged, and its records are refused", "not on hold"};
  const auto done = ask_to(options.socket, admin::ChangeRequest{options.slot, options.what}, options.timeout_seconds);
  if (done) out << "slot " << options.slot << " is " << now[static_cast<std::size_t>(options.what)] << '\n';
  return done;
}

Status take_snapshot(const SnapshotOptions& options, std::ostream& out) {
  // The daemon has another working directory.
  const std::string directory = std::filesystem::absolute(options.directory).lexically_normal().string();
  const auto done = ask_to(options.socket, admin::SnapshotRequest{directory}, options.timeout_seconds);
  if (done) out << directory << '\n';
  return done;
}

}  // namespace kpool
