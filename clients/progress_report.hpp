// What a run of kpool-gateway shows: a line on a terminal, plain lines, or JSON. Owned by the send
// job, used on its thread alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <ostream>
#include <string>

namespace kpool {

enum class ProgressKind { terminal, plain, json, none };

struct ProgressSample {
  double elapsed_s = 0;
  bool connected = false;
  std::uint64_t read = 0, acknowledged = 0, refused = 0, rejected = 0, open = 0;  ///< records
  std::uint64_t records_done = 0;             ///< acknowledged or refused in this run
  std::uint64_t bytes_done = 0, bytes_from = 0, bytes_total = 0;  ///< of the input: acknowledged, skipped, all
};

/// "1 min 05 s".
std::string duration_text(double seconds);
/// One line without its end.
std::string progress_text(const ProgressSample& sample);
std::string progress_json(const ProgressSample& sample);

class ProgressReport {
 public:
  ProgressReport(ProgressKind kind, std::ostream& out) : kind_(kind), out_(out) {}
  /// Shows the sample if it is time to.
  void show(const ProgressSample& sample);
  /// A message of its own line.
  void say(const std::string& line, std::ostream& where);
  /// The last sample; leaves the terminal's line.
  void finish(const ProgressSample& sample);

 private:
  void print(const ProgressSample& sample);
  const ProgressKind kind_;
  std::ostream& out_;
  double shown_s_ = -1e9;
  bool on_line_ = false;
};

}  // namespace kpool
