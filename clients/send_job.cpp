#include "clients/send_job.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace kpool {
namespace {

using namespace std::chrono_literals;

constexpr int records_per_pass = 1024;
constexpr auto farewell = 5s;      // for acknowledgements after an interruption
constexpr auto quiet_before_flush = 1s;
constexpr auto save_every = 1s;

}  // namespace

SendJob::SendJob(Parts parts) : parts_(std::move(parts)), saved_acked_(parts_.start.acked) {}

Status SendJob::run(const volatile std::sig_atomic_t& stop) {
  std::optional<Clock::time_point> give_up;
  for (;;) {
    if (stop != 0 && !give_up) {
      interrupted_ = true;
      give_up = Clock::now() + farewell;
      parts_.client.flush();
    }
    auto read = ended_ || interrupted_ ? Result<bool>(false) : read_some();
    if (!read) return read.error();
    if (auto polled = parts_.client.poll(*read ? 0ms : 20ms); !polled) {
      (void)look_after(Clock::now());
      return polled;
    }
    const auto now = Clock::now();
    if (auto done = look_after(now); !done) return done;
    if ((ended_ || interrupted_) && parts_.client.idle() && !waiting_) break;
    if (give_up && now > *give_up) break;
  }
  parts_.progress.finish(sample());
  return parts_.save(state());
}

// True: there is more to read at once.
Result<bool> SendJob::read_some() {
  for (int i = 0; i < records_per_pass; ++i) {
    if (waiting_) {
      if (!offer(*waiting_)) return false;
      waiting_.reset();
    }
    auto item = parts_.reader.next();
    if (!item) return item.error();
    if (std::holds_alternative<ReadNothingYet>(*item)) {
      const auto now = Clock::now();
      if (!quiet_since_) quiet_since_ = now;
      if (now - *quiet_since_ > quiet_before_flush) parts_.client.flush();
      return false;
    }
    quiet_since_.reset();
    if (auto taken = take(std::move(*item)); !taken) return taken.error();
    if (ended_) return false;
  }
  return true;
}

Status SendJob::take(ReadItem item) {
  if (const auto* rejection = std::get_if<ReadRejection>(&item)) {
    ++rejected_;
    parts_.say(parts_.reader.name(rejection->place) + ": not sent: " + rejection->why);
  } else if (std::holds_alternative<ReadEnd>(item)) {
    ended_ = true;
    parts_.client.flush();
  } else {
    auto& record = std::get<ReadRecord>(item);
    ++seq_;
    if (seq_ <= parts_.start.acked) {
      bytes_from_ = parts_.reader.bytes();
      return Done{};
    }
    parts_.refusals.read(seq_, record.place, parts_.reader.bytes());
    if (!offer(record)) waiting_ = std::move(record);
  }
  return Done{};
}

bool SendJob::offer(ReadRecord& record) { return parts_.client.offer(seq_, std::move(record.record)); }

Status SendJob::look_after(Clock::time_point now) {
  parts_.refusals.settled(parts_.client.acked_up_to());
  const auto& progress = parts_.client.progress();
  if (progress.trouble != trouble_) {
    trouble_ = progress.trouble;
    parts_.say(trouble_.empty() ? "connected" : trouble_ + " (still trying)");
  }
  parts_.progress.show(sample());
  if (now - saved_at_ < save_every || parts_.client.acked_up_to() == saved_acked_) return Done{};
  saved_at_ = now;
  saved_acked_ = parts_.client.acked_up_to();
  return parts_.save(state());
}

GatewayState SendJob::state() const {
  GatewayState state = parts_.start;
  state.acked = parts_.client.acked_up_to();
  state.refused += parts_.client.progress().refused;
  if (ended_ && !waiting_ && parts_.client.idle()) state.finished = true;
  return state;
}

ProgressSample SendJob::sample() const {
  const auto& progress = parts_.client.progress();
  const auto all = summary();
  ProgressSample sample;
  sample.elapsed_s = all.elapsed_s;
  sample.connected = progress.connected;
  sample.read = seq_;
  sample.acknowledged = all.acknowledged;
  sample.refused = all.refused;
  sample.rejected = rejected_;
  sample.open = all.open;
  sample.records_done = progress.acknowledged + progress.refused;
  sample.bytes_done = std::max(bytes_from_, parts_.refusals.settled_bytes());
  sample.bytes_from = bytes_from_;
  sample.bytes_total = parts_.bytes_total;
  return sample;
}

SendSummary SendJob::summary() const {
  const auto& progress = parts_.client.progress();
  SendSummary summary;
  summary.skipped = std::min(seq_, parts_.start.acked);
  summary.sent = summary.skipped + progress.offered;
  summary.refused = parts_.start.refused + progress.refused;
  summary.acknowledged = parts_.start.acked - parts_.start.refused + progress.acknowledged;
  const std::uint64_t settled = summary.acknowledged + summary.refused;
  summary.open = summary.sent > settled ? summary.sent - settled : 0;
  summary.rejected = rejected_;
  summary.elapsed_s = std::chrono::duration<double>(Clock::now() - begin_).count();
  summary.interrupted = interrupted_ && (!ended_ || summary.open != 0);
  return summary;
}

std::string summary_text(const SendSummary& summary) {
  std::string text = "sent " + std::to_string(summary.sent) + " = " + std::to_string(summary.acknowledged) +
                     " acknowledged + " + std::to_string(summary.refused) + " refused";
  if (summary.open != 0) text += " + " + std::to_string(summary.open) + " open (send the same files again)";
  if (summary.rejected != 0) text += "; not sent: " + std::to_string(summary.rejected);
  if (summary.skipped != 0) text += "; of an earlier run: " + std::to_string(summary.skipped);
  text += "; " + duration_text(summary.elapsed_s);
  return summary.interrupted ? text + "; interrupted" : text;
}

std::string summary_json(const SendSummary& summary) {
  return nlohmann::ordered_json{{"summary", true},
                                {"sent", summary.sent},
                                {"acknowledged", summary.acknowledged},
                                {"refused", summary.refused},
                                {"open", summary.open},
                                {"rejected", summary.rejected},
                                {"skipped", summary.skipped},
                                {"elapsed_s", summary.elapsed_s},
                                {"interrupted", summary.interrupted}}.dump();
}

int summary_exit_code(const SendSummary& summary) {
  if (summary.interrupted) return exit_code(Fault::again);
  return summary.refused + summary.rejected != 0 ? exit_code(Fault::bad_input) : 0;
}

}  // namespace kpool
