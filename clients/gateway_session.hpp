// The protocol of a gateway without its socket or clock: which record is held, sent, acknowledged,
// and which frame goes next. Owned by the GatewayClient, used on its thread alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "clients/gateway_client.hpp"

namespace kpool {

class GatewaySession {
 public:
  using Time = std::chrono::steady_clock::time_point;

  GatewaySession(const GatewayClientOptions& options, GatewayClient::OnRefused on_refused);

  bool offer(std::uint64_t seq, gateway::OutgoingRecord&& record);
  void flush();
  bool idle() const { return acked_up_to_ >= last_offered_; }
  std::uint64_t acked_up_to() const { return acked_up_to_; }
  const GatewayProgress& progress() const { return progress_; }
  const std::optional<Error>& error() const { return error_; }
  /// The daemon's last word about why it does not go on, or empty.
  const std::string& complaint() const { return complaint_; }

  void on_connected(Time now);
  void on_disconnected();
  void on_message(gateway::Message message, Time now);
  /// The next frame to send, if there is one. A frame that is taken counts as sent.
  std::optional<Frame> next_frame(Time now);
  /// The other end has been silent although asked: the connection is worth nothing.
  bool is_silent(Time now) const;

 private:
  void on(const gateway::Welcome& welcome);
  void on(const gateway::Ack& ack);
  void on(const gateway::Refuse& refuse);
  void acknowledge(std::uint64_t up_to, const std::vector<gateway::RefusedSeq>& refused);
  void ask(Time now);
  void say_hello_again(std::chrono::milliseconds pause);
  void fail(Fault fault, std::string message);
  std::optional<Frame> next_data();
  std::size_t bytes_of(std::uint64_t seq) const;

  const std::uint64_t epoch_;
  const std::uint64_t hold_bytes_max_;
  const std::chrono::milliseconds silence_;
  const GatewayClient::OnRefused on_refused_;

  // The records acked_up_to_ + 1 to last_offered_ are held; those before next_ have been sent in this
  // connection. A record counts for its text and for what holding it costs.
  std::deque<gateway::OutgoingRecord> held_;
  std::uint64_t acked_up_to_, last_offered_, next_ = 0, highest_sent_ = 0;
  std::uint64_t held_bytes_ = 0, in_flight_bytes_ = 0;
  std::map<std::uint64_t, Refusal> refused_;  ///< reported, and not yet counted as offered and acknowledged
  std::uint64_t flush_at_ = 0;                ///< 0: no flush is wanted
  bool flush_sent_ = false;

  bool linked_ = false, hello_sent_ = false;
  Time hello_due_{}, last_heard_{}, last_asked_{}, now_{};
  std::optional<Time> unanswered_since_;  ///< when a hello or ping went out that nothing followed
  std::uint64_t credit_bytes_ = 0;
  std::uint32_t credit_records_ = 0, record_bytes_max_ = 0;
  std::vector<gateway::RecordView> views_;
  std::optional<Error> error_;
  std::string complaint_;
  GatewayProgress progress_;
};

}  // namespace kpool
