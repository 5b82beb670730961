// One run of sending: reads records, offers them to the client, reports, remembers how far it came.
// Owned by the send command, used on its thread alone.
#pragma once

#include <chrono>
#include <csignal>
#include <functional>

#include "clients/gateway_client.hpp"
#include "clients/gateway_state.hpp"
#include "clients/progress_report.hpp"
#include "clients/record_reader.hpp"
#include "clients/refusal_log.hpp"

namespace kpool {

struct SendSummary {
  std::uint64_t sent = 0, acknowledged = 0, refused = 0;  ///< records of the epoch, earlier runs included
  std::uint64_t open = 0;      ///< sent = acknowledged + refused + open
  std::uint64_t rejected = 0;  ///< of the input, not sent: they are no records
  std::uint64_t skipped = 0;   ///< of the acknowledged, in an earlier run
  double elapsed_s = 0;
  bool interrupted = false;
};

std::string summary_text(const SendSummary& summary);
std::string summary_json(const SendSummary& summary);
/// 0; 65: something was refused or rejected; 75: interrupted.
int summary_exit_code(const SendSummary& summary);

class SendJob {
 public:
  using Save = std::function<Status(const GatewayState&)>;
  using Say = std::function<void(const std::string&)>;
  struct Parts {
    RecordReader& reader;
    GatewayClient& client;
    RefusalLog& refusals;
    ProgressReport& progress;
    Save save;
    Say say;  ///< one line for the user
    GatewayState start;
    std::uint64_t bytes_total = 0;  ///< of the input; 0: not known
  };
  explicit SendJob(Parts parts);

  /// Until all is settled, or `stop` is set. Errors: of the client (final), of a file, of saving.
  Status run(const volatile std::sig_atomic_t& stop);
  SendSummary summary() const;

 private:
  using Clock = std::chrono::steady_clock;
  Result<bool> read_some();
  Status take(ReadItem item);
  bool offer(ReadRecord& record);
  Status look_after(Clock::time_point now);
  GatewayState state() const;
  ProgressSample sample() const;

  Parts parts_;
  const Clock::time_point begin_ = Clock::now();
  std::uint64_t seq_ = 0;  ///< of the last record read
  std::uint64_t rejected_ = 0, bytes_from_ = 0, saved_acked_;
  std::optional<ReadRecord> waiting_;  ///< the client was full
  bool ended_ = false, interrupted_ = false;
  std::optional<Clock::time_point> quiet_since_;
  Clock::time_point saved_at_{};
  std::string trouble_;
};

}  // namespace kpool
