#include "clients/gateway_session.hpp"

#include <algorithm>

namespace kpool {
namespace {

using std::chrono::milliseconds;

// What a held record costs beside its text, so that a million tiny ones are bounded too.
constexpr std::uint64_t record_overhead_bytes = 64;
constexpr milliseconds hello_pause{250};

std::uint64_t held_size(const gateway::OutgoingRecord& record) { return record.text.size() + record_overhead_bytes; }

}  // namespace

GatewaySession::GatewaySession(const GatewayClientOptions& options, GatewayClient::OnRefused on_refused)
    : epoch_(options.epoch),
      hold_bytes_max_(options.hold_bytes_max),
      silence_(options.silence),
      on_refused_(std::move(on_refused)),
      acked_up_to_(options.last_acked),
      last_offered_(options.last_acked),
      next_(options.last_acked + 1) {}

bool GatewaySession::offer(std::uint64_t seq, gateway::OutgoingRecord&& record) {
  // Without gaps, except that what the daemon has already may be skipped.
  KPOOL_ASSERT(seq > last_offered_ && (seq == last_offered_ + 1 || seq <= acked_up_to_ + 1));
  if (seq <= acked_up_to_) {
    last_offered_ = seq;
    ++progress_.offered;
    const auto refusal = refused_.find(seq);
    if (refusal == refused_.end()) ++progress_.acknowledged;
    refused_.erase(refused_.begin(), refused_.upper_bound(seq));
    return true;
  }
  if (!held_.empty() && held_bytes_ + held_size(record) > hold_bytes_max_) return false;
  held_bytes_ += held_size(record);
  held_.push_back(std::move(record));
  last_offered_ = seq;
  ++progress_.offered;
  return true;
}

void GatewaySession::flush() {
  if (flush_at_ == last_offered_) return;
  flush_at_ = last_offered_;
  flush_sent_ = false;
}

void GatewaySession::on_connected(Time now) {
  linked_ = true;
  last_heard_ = now;
  unanswered_since_.reset();
  say_hello_again(milliseconds(0));
  hello_due_ = now;
}

void GatewaySession::on_disconnected() {
  linked_ = false;
  hello_sent_ = false;
  progress_.connected = false;
}

void GatewaySession::on_message(gateway::Message message, Time now) {
  now_ = last_heard_ = now;
  unanswered_since_.reset();
  if (auto* welcome = std::get_if<gateway::Welcome>(&message)) return on(*welcome);
  if (auto* ack = std::get_if<gateway::Ack>(&message)) return on(*ack);
  if (auto* refuse = std::get_if<gateway::Refuse>(&message)) return on(*refuse);
  fail(Fault::bad_input, "the other end speaks as a gateway does: this is not the daemon's endpoint");
}

void GatewaySession::on(const gateway::Welcome& welcome) {
  if (!hello_sent_ || welcome.epoch != epoch_) return;  // the answer to an earlier hello
  if (welcome.version != gateway::protocol_version) {
    return fail(Fault::bad_input, "the daemon speaks protocol version " + std::to_string(welcome.version) +
                                      " and this gateway version " + std::to_string(gateway::protocol_version));
  }
  if (welcome.watermark < acked_up_to_) {
    return fail(Fault::mismatch, "the daemon acknowledged record " + std::to_string(acked_up_to_) +
                                     " and now knows only " + std::to_string(welcome.watermark) +
                                     ": its store was lost or set back; begin a new epoch to send all again");
  }
  credit_bytes_ = welcome.credit_bytes;
  credit_records_ = welcome.credit_records;
  record_bytes_max_ = welcome.record_bytes_max;
  in_flight_bytes_ = 0;
  next_ = acked_up_to_ + 1;
  flush_sent_ = false;
  progress_.connected = true;
  complaint_.clear();
  acknowledge(welcome.watermark, welcome.refused);
}

void GatewaySession::on(const gateway::Ack& ack) {
  if (!progress_.connected || ack.epoch != epoch_) return;
  credit_bytes_ = ack.credit_bytes;
  credit_records_ = ack.credit_records;
  acknowledge(ack.up_to, ack.refused);
}

void GatewaySession::on(const gateway::Refuse& refuse) {
  using gateway::RefuseReason;
  complaint_ = refuse.detail;
  if (refuse.final) {
    const Fault fault = refuse.reason == RefuseReason::regression || refuse.reason == RefuseReason::stale_epoch
                            ? Fault::mismatch : Fault::bad_input;
    return fail(fault, "the daemon refuses this gateway for good: " + refuse.detail);
  }
  // While a hello is on its way, refusals of what was sent before it say nothing new.
  const bool of_the_hello = refuse.reason == RefuseReason::starting || refuse.reason == RefuseReason::credit ||
                            refuse.reason == RefuseReason::stopping || refuse.reason == RefuseReason::no_space;
  if (!progress_.connected && !of_the_hello) return;
  const bool at_once = refuse.reason == RefuseReason::no_hello || refuse.reason == RefuseReason::gap;
  say_hello_again(at_once ? milliseconds(0) : hello_pause);
}

void GatewaySession::say_hello_again(milliseconds pause) {
  progress_.connected = false;
  hello_sent_ = false;
  hello_due_ = now_ + pause;
}

void GatewaySession::acknowledge(std::uint64_t up_to, const std::vector<gateway::RefusedSeq>& refused) {
  for (const auto& [seq, reason] : refused) {
    if (seq <= acked_up_to_ || !refused_.emplace(seq, reason).second) continue;
    ++progress_.refused;
    if (on_refused_) on_refused_(seq, reason);
  }
  for (; acked_up_to_ < up_to; ++acked_up_to_) {
    const std::uint64_t seq = acked_up_to_ + 1;
    if (held_.empty()) {  // the daemon knows more than was offered here: an earlier life sent it
      acked_up_to_ = up_to;
      break;
    }
    if (seq < next_) in_flight_bytes_ -= bytes_of(seq);
    held_bytes_ -= held_size(held_.front());
    held_.pop_front();
    if (refused_.erase(seq) == 0) ++progress_.acknowledged;
  }
  next_ = std::max(next_, acked_up_to_ + 1);
}

std::size_t GatewaySession::bytes_of(std::uint64_t seq) const {
  const std::size_t size = held_[seq - acked_up_to_ - 1].text.size();
  // Of a record that will be refused for its length, a prefix that is too long is enough.
  return std::min<std::size_t>(size, std::min<std::size_t>(record_bytes_max_, gateway::record_bytes_limit) + 1);
}

std::optional<Frame> GatewaySession::next_frame(Time now) {
  now_ = now;
  if (!linked_ || error_) return std::nullopt;
  if (!progress_.connected) {
    if (hello_sent_ ? now - last_asked_ <= silence_ : now < hello_due_) return std::nullopt;
    hello_sent_ = true;
    ask(now);
    return gateway::encode(gateway::Hello{gateway::protocol_version, epoch_, acked_up_to_, acked_up_to_ + 1});
  }
  if (auto data = next_data()) return data;
  if (flush_at_ != 0 && !flush_sent_ && next_ > flush_at_ && acked_up_to_ < flush_at_) {
    flush_sent_ = true;
    return gateway::encode(gateway::Flush{epoch_, flush_at_});
  }
  if (now - std::max(last_heard_, last_asked_) > silence_ / 3) {
    ask(now);
    return gateway::encode(gateway::Ping{});
  }
  return std::nullopt;
}

std::optional<Frame> GatewaySession::next_data() {
  views_.clear();
  const std::uint64_t first = next_;
  std::uint64_t bytes = 0;
  for (std::uint64_t seq = first; seq <= last_offered_ && views_.size() < gateway::data_records_max; ++seq) {
    const std::uint64_t size = bytes_of(seq);
    const bool alone = seq == acked_up_to_ + 1;  // nothing else is in flight: it must go, whatever the credit
    const bool in_credit = in_flight_bytes_ + size <= credit_bytes_ && seq - acked_up_to_ <= credit_records_;
    if (!alone && !in_credit) break;
    if (!views_.empty() && bytes + size > gateway::data_bytes_max) break;
    const auto& record = held_[seq - acked_up_to_ - 1];
    views_.push_back({std::string_view(record.text).substr(0, size), record.prompt_bytes});
    bytes += size;
    in_flight_bytes_ += size;
  }
  if (views_.empty()) return std::nullopt;
  next_ = first + views_.size();
  if (first <= highest_sent_) progress_.resent += std::min(next_ - 1, highest_sent_) - first + 1;
  highest_sent_ = std::max(highest_sent_, next_ - 1);
  return gateway::encode_data(epoch_, first, views_);
}

void GatewaySession::ask(Time now) {
  last_asked_ = now;
  if (!unanswered_since_) unanswered_since_ = now;
}

bool GatewaySession::is_silent(Time now) const {
  return linked_ && !error_ && unanswered_since_ && now - *unanswered_since_ > silence_;
}

void GatewaySession::fail(Fault fault, std::string message) {
  if (!error_) error_ = Error{fault, std::move(message)};
  progress_.connected = false;
}

}  // namespace kpool
