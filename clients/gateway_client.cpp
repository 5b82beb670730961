#include "clients/gateway_client.hpp"

#include <algorithm>
#include <cerrno>
#include <zmq.hpp>

#include "clients/connection_monitor.hpp"
#include "clients/gateway_session.hpp"

namespace kpool {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds trouble_after{2000};
constexpr milliseconds reopen_pause_min{500}, reopen_pause_max{5000};
constexpr milliseconds poll_slice{50};
constexpr int received_per_pass = 256;

zmq::message_t to_message(Frame frame) {
  auto* owner = new Frame(std::move(frame));  // wiped and freed when libzmq has sent it
  const auto bytes = owner->bytes();
  return zmq::message_t(bytes.data(), bytes.size(), [](void*, void* hint) { delete static_cast<Frame*>(hint); }, owner);
}

class Client final : public GatewayClient {
 public:
  Client(GatewayClientOptions options, OnRefused on_refused)
      : options_(std::move(options)), session_(options_, std::move(on_refused)) {
    open_socket();
  }

  std::uint64_t resume_at() const override { return session_.acked_up_to() + 1; }
  bool offer(std::uint64_t seq, gateway::OutgoingRecord&& record) override {
    return session_.offer(seq, std::move(record));
  }
  void flush() override { session_.flush(); }
  bool idle() const override { return session_.idle(); }
  std::uint64_t acked_up_to() const override { return session_.acked_up_to(); }
  const GatewayProgress& progress() const override {
    progress_ = session_.progress();
    progress_.reconnects = connections_ > 1 ? connections_ - 1 : 0;
    progress_.trouble = trouble();
    return progress_;
  }

  Status poll(milliseconds wait) override {
    try {
      const auto deadline = Clock::now() + wait;
      for (;;) {
        const bool heard = pass();
        if (session_.error()) return *session_.error();
        const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
        if (heard || left.count() <= 0) return Done{};
        sleep(std::min(left, poll_slice));
      }
    } catch (const zmq::error_t& error) {
      if (error.num() == EINTR) return Done{};  // a signal: the caller decides what it means
      return Error{Fault::internal, std::string("libzmq fails: ") + error.what()};
    }
  }

 private:
  void open_socket() {
    monitor_.reset();
    pending_.reset();
    session_.on_disconnected();
    socket_ = zmq::socket_t(context_, zmq::socket_type::dealer);
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::immediate, true);  // nothing is queued for a connection that is not there
    socket_.set(zmq::sockopt::sndhwm, 16);
    socket_.set(zmq::sockopt::rcvhwm, 64);
    socket_.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(gateway::frame_bytes_max));
    socket_.set(zmq::sockopt::reconnect_ivl, 100);
    socket_.set(zmq::sockopt::reconnect_ivl_max, 5000);
    socket_.set(zmq::sockopt::handshake_ivl, 2000);
    socket_.set(zmq::sockopt::heartbeat_ivl, 1000);
    socket_.set(zmq::sockopt::heartbeat_timeout, 3000);
    socket_.set(zmq::sockopt::curve_serverkey, options_.server_public_key);
    socket_.set(zmq::sockopt::curve_publickey, options_.keys.public_key);
    socket_.set(zmq::sockopt::curve_secretkey, options_.keys.secret_key);
    monitor_ = std::make_unique<ConnectionMonitor>(context_, socket_);
    socket_.connect(options_.endpoint);
    unlinked_since_ = Clock::now();
    if (!unwelcome_since_) unwelcome_since_ = unlinked_since_;
    linked_ = false;
    reopen_at_.reset();
  }

  /// Everything that can be done without waiting; true: something was heard.
  bool pass() {
    const auto now = Clock::now();
    watch(now);
    bool heard = receive(now);
    send(now);
    if (session_.progress().connected) {
      unwelcome_since_.reset();
      reopen_pause_ = reopen_pause_min;
    } else if (!unwelcome_since_) {
      unwelcome_since_ = now;
    }
    // libzmq gives up on a connection whose handshake was refused, so asking again takes a new socket.
    const bool stuck = !linked_ && now - unlinked_since_ > 3 * reopen_pause_max;
    if ((reopen_at_ && now >= *reopen_at_) || stuck || session_.is_silent(now)) open_socket();
    return heard;
  }

  void watch(Clock::time_point now) {
    while (auto event = monitor_->next()) {
      if (*event == ConnectionEvent::connected) {
        linked_ = true;
        ++connections_;
        last_failure_.reset();
        session_.on_connected(now);
        continue;
      }
      if (linked_) unlinked_since_ = now;
      linked_ = false;
      pending_.reset();
      session_.on_disconnected();
      // A plain disconnect during the handshake says less than the failure that came with it.
      if (*event != ConnectionEvent::disconnected) last_failure_ = *event;
      if (*event == ConnectionEvent::refused && !reopen_at_) {
        reopen_at_ = now + reopen_pause_;
        reopen_pause_ = std::min(2 * reopen_pause_, reopen_pause_max);
      }
    }
  }

  bool receive(Clock::time_point now) {
    bool heard = false;
    zmq::message_t message;
    for (int i = 0; i < received_per_pass && socket_.recv(message, zmq::recv_flags::dontwait); ++i) {
      auto decoded = gateway::decode(Frame::copy({message.data<std::byte>(), message.size()}));
      // What cannot be read is dropped: if it mattered, the silence that follows leads to a new hello.
      if (decoded) session_.on_message(std::move(*decoded), now);
      heard = true;
    }
    return heard;
  }

  void send(Clock::time_point now) {
    while (linked_) {
      if (!pending_) {
        auto frame = session_.next_frame(now);
        if (!frame) return;
        pending_ = to_message(std::move(*frame));
      }
      if (!socket_.send(*pending_, zmq::send_flags::dontwait)) return;
      pending_.reset();
    }
  }

  void sleep(milliseconds time) {
    const short events = pending_ ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN;
    zmq::pollitem_t items[] = {{socket_.handle(), 0, events, 0}, {monitor_->handle(), 0, ZMQ_POLLIN, 0}};
    zmq::poll(items, 2, time);
  }

  std::string trouble() const {
    if (!unwelcome_since_ || Clock::now() - *unwelcome_since_ < trouble_after) return {};
    const std::string& endpoint = options_.endpoint;
    if (linked_) {
      const std::string& complaint = session_.complaint();
      return complaint.empty() ? "the daemon at " + endpoint + " accepts the connection and does not answer"
                               : "the daemon at " + endpoint + " says: " + complaint;
    }
    if (last_failure_ == ConnectionEvent::refused) {
      return "the daemon at " + endpoint + " refuses this gateway's key " + options_.keys.public_key +
             "; is it in the daemon's list of authorized keys?";
    }
    if (last_failure_ == ConnectionEvent::handshake_failed) {
      return endpoint + " breaks off the handshake; the server key is probably not this daemon's, or the key " +
             options_.keys.public_key + " is not in its list of authorized keys";
    }
    return "nobody answers at " + endpoint + "; is the daemon running there?";
  }

  const GatewayClientOptions options_;
  GatewaySession session_;
  zmq::context_t context_{1};
  zmq::socket_t socket_;
  std::unique_ptr<ConnectionMonitor> monitor_;
  std::optional<zmq::message_t> pending_;  ///< a frame that the socket did not take yet
  bool linked_ = false;
  std::uint64_t connections_ = 0;
  Clock::time_point unlinked_since_{};
  std::optional<Clock::time_point> unwelcome_since_, reopen_at_;
  milliseconds reopen_pause_ = reopen_pause_min;
  std::optional<ConnectionEvent> last_failure_;
  mutable GatewayProgress progress_;
};

}  // namespace

Result<std::unique_ptr<GatewayClient>> GatewayClient::open(GatewayClientOptions options, OnRefused on_refused) {
  if (options.epoch == 0) return Error{Fault::usage, "an epoch is 1 or more"};
  const std::string endpoint = options.endpoint;
  try {
    return std::unique_ptr<GatewayClient>(std::make_unique<Client>(std::move(options), std::move(on_refused)));
  } catch (const zmq::error_t& error) {
    return Error{Fault::usage, endpoint + ": no connection can be opened: " + error.what()};
  }
}

}  // namespace kpool
