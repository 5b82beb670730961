#include "clients/progress_report.hpp"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace kpool {
namespace {

double rate(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

// Seconds until the rest of the input is acknowledged, or -1 where it is not known.
double remaining_s(const ProgressSample& sample) {
  if (sample.bytes_total == 0 || sample.bytes_done <= sample.bytes_from) return -1;
  const double per_second = rate(static_cast<double>(sample.bytes_done - sample.bytes_from), sample.elapsed_s);
  const double left = static_cast<double>(sample.bytes_total) - static_cast<double>(sample.bytes_done);
  return per_second > 0 ? std::max(0.0, left) / per_second : -1;
}

std::string rate_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value < 10 ? "%.1f" : "%.0f", value);
  return text;
}

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::uint64_t>(std::llround(seconds));
  char text[64];
  if (whole < 60) std::snprintf(text, sizeof text, "%d s", static_cast<int>(whole));
  else if (whole < 3600) std::snprintf(text, sizeof text, "%d min %02d s", int(whole / 60), int(whole % 60));
  else std::snprintf(text, sizeof text, "%llu h %02d min", (unsigned long long)(whole / 3600), int(whole / 60 % 60));
  return text;
}

std::string progress_text(const ProgressSample& sample) {
  std::string line = std::to_string(sample.acknowledged) + " acknowledged, " + std::to_string(sample.open) + " open, " +
                     std::to_string(sample.refused + sample.rejected) + " refused, " +
                     rate_text(rate(static_cast<double>(sample.records_done), sample.elapsed_s)) + " records/s";
  if (sample.bytes_total != 0) {
    const double share = static_cast<double>(sample.bytes_done) / static_cast<double>(sample.bytes_total);
    line = std::to_string(static_cast<int>(100 * std::min(1.0, share))) + " %: " + line;
  }
  if (const double left = remaining_s(sample); left >= 0) line += ", " + duration_text(left) + " left";
  if (!sample.connected) line += " (not connected)";
  return line;
}

std::string progress_json(const ProgressSample& sample) {
  nlohmann::ordered_json json = {{"elapsed_s", sample.elapsed_s}, {"connected", sample.connected},
                                 {"read", sample.read},           {"acknowledged", sample.acknowledged},
                                 {"refused", sample.refused},     {"rejected", sample.rejected},
                                 {"open", sample.open},           {"bytes_done", sample.bytes_done},
                                 {"bytes_total", sample.bytes_total},
                                 {"records_per_s", rate(static_cast<double>(sample.records_done), sample.elapsed_s)}};
  const double left = remaining_s(sample);
  if (left >= 0) json["remaining_s"] = left;
  return json.dump();
}

void ProgressReport::print(const ProgressSample& sample) {
  if (kind_ == ProgressKind::terminal) {
    out_ << "\r\x1b[K" << progress_text(sample) << std::flush;
    on_line_ = true;
  } else if (kind_ == ProgressKind::plain) {
    out_ << progress_text(sample) << std::endl;
  } else if (kind_ == ProgressKind::json) {
    out_ << progress_json(sample) << std::endl;
  }
  shown_s_ = sample.elapsed_s;
}

void ProgressReport::show(const ProgressSample& sample) {
  const double every_s = kind_ == ProgressKind::terminal ? 0.2 : kind_ == ProgressKind::json ? 1 : 5;
  if (shown_s_ < 0 && kind_ == ProgressKind::plain) shown_s_ = 0;  // a short run needs no line but its summary
  if (sample.elapsed_s - shown_s_ >= every_s) print(sample);
}

void ProgressReport::say(const std::string& line, std::ostream& where) {
  if (on_line_) out_ << "\r\x1b[K" << std::flush;
  on_line_ = false;
  where << line << std::endl;
}

void ProgressReport::finish(const ProgressSample& sample) {
  if (kind_ == ProgressKind::none || (kind_ == ProgressKind::plain && sample.elapsed_s < 5)) return;
  print(sample);
  if (on_line_) out_ << std::endl;
  on_line_ = false;
}

}  // namespace kpool
