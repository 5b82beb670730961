#include "actors/stage_loop.hpp"

#include <algorithm>
#include <random>

#include <spdlog/spdlog.h>

namespace kpool {

using namespace std::chrono_literals;

namespace {

constexpr auto pass_budget = 2ms;
constexpr auto join_every = 500ms;
constexpr auto report_every = 500ms;
constexpr auto mark_every = 5s;
constexpr std::size_t early_max = 16;

std::uint64_t random_instance() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device() | 1;
}

template <class... Kinds>
bool is_one_of(const pipeline::Message& message) {
  return (std::holds_alternative<Kinds>(message) || ...);
}

/// Messages that do not belong to one life of the pipeline.
bool of_any_run(const pipeline::Message& message) {
  return is_one_of<pipeline::Join, pipeline::Report, pipeline::Snapshot, pipeline::Answer, pipeline::Change,
                   pipeline::Setting>(message);
}

/// Messages whose loss would be a loss of records. The others are asked for again, or replaced by the next.
bool is_counted(const pipeline::Message& message) {
  return !of_any_run(message) && !is_one_of<pipeline::Restore, pipeline::Restored, pipeline::Reset>(message);
}

/// In place where the message lies as words: a slot's state is tens of megabytes. libzmq keeps short ones in itself,
/// anywhere.
Result<pipeline::Decoded> decode(const zmq::message_t& message) {
  const std::span bytes(message.data<std::byte>(), message.size());
  const bool aligned = reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(std::uint64_t) == 0;
  return aligned ? pipeline::decode_in_place(bytes) : pipeline::decode(Frame::copy(bytes));
}

}  // namespace

StageLoop::StageLoop(std::unique_ptr<Stage> stage, Links links, std::vector<std::unique_ptr<Door>> doors)
    : stage_(std::move(stage)), links_(std::move(links)), doors_(std::move(doors)), instance_(random_instance()) {}

Status StageLoop::open() {
  if (auto opened = stage_->open(); !opened) return opened;
  // Persistence holds the state and serving has none: neither asks for any.
  if (id() == StageId::persistence || id() == StageId::serving) {
    run_ = instance_;
    return stage_->start(0, *this);
  }
  return Done{};
}

void StageLoop::send(StageId to, pipeline::Message message) {
  const std::uint64_t number = is_counted(message) ? ++sent_[to] : 0;
  put(to, message, pipeline::Tag{run_, static_cast<std::uint8_t>(id()), number});
}

void StageLoop::put(StageId to, const pipeline::Message& message, const pipeline::Tag& tag) {
  waiting_[to].push_back(to_message(pipeline::encode(message, tag)));
  flush();
}

void StageLoop::flush() {
  for (auto& [to, queue] : waiting_) {
    auto output = links_.outputs.find(to);
    KPOOL_ASSERT(output != links_.outputs.end());
    while (!queue.empty() && send_now(output->second, std::move(queue.front()))) queue.pop_front();
  }
}

bool StageLoop::output_waits() const {
  return std::any_of(waiting_.begin(), waiting_.end(),
                     [](const auto& entry) { return entry.first != StageId::serving && !entry.second.empty(); });
}

bool StageLoop::open_to_records() const {
  return running() && !output_waits() && !stage_->has_work() && stage_->accepts_records();
}

std::vector<zmq::pollitem_t> StageLoop::poll_items(int wake_fd) {
  std::vector<zmq::pollitem_t> items{{nullptr, wake_fd, ZMQ_POLLIN, 0}};
  if (links_.control) items.push_back({links_.control.handle(), 0, ZMQ_POLLIN, 0});
  if (links_.records && open_to_records()) items.push_back({links_.records.handle(), 0, ZMQ_POLLIN, 0});
  for (auto& door : doors_) items.push_back({door->socket().handle(), 0, ZMQ_POLLIN, 0});
  for (auto& [to, queue] : waiting_)
    if (!queue.empty() && to != StageId::serving)
      items.push_back({links_.outputs.at(to).handle(), 0, ZMQ_POLLOUT, 0});
  return items;
}

long StageLoop::wait_ms(Clock::time_point now) const {
  if (running() && stage_->has_work() && !output_waits()) return 0;
  Clock::time_point next = running() ? next_report_ : next_join_;
  if (auto deadline = stage_->deadline(); running() && deadline) next = std::min(next, *deadline);
  if (next <= now) return 0;
  return std::chrono::ceil<std::chrono::milliseconds>(next - now).count();
}

Status StageLoop::pass(int wake_fd) {
  auto items = poll_items(wake_fd);
  wait_for(items, std::chrono::milliseconds(wait_ms(Clock::now())));
  flush();
  const auto until = Clock::now() + pass_budget;
  if (links_.control)
    if (auto done = receive(links_.control, until, false); !done) return done;
  for (auto& door : doors_)
    if (auto done = door->on_readable(until, *this); !done) return done;
  if (links_.records)
    if (auto done = receive(links_.records, until, true); !done) return done;
  while (running() && stage_->has_work() && !output_waits()) {
    if (auto done = stage_->work(*this); !done) return done;
    if (Clock::now() >= until) break;
  }
  return tick(Clock::now());
}

Status StageLoop::receive(zmq::socket_t& socket, Clock::time_point until, bool records) {
  zmq::message_t message;
  while ((!records || open_to_records()) && Clock::now() < until && receive_now(socket, message)) {
    auto decoded = decode(message);
    wipe(message);
    message.rebuild();  // given back before the stage makes something of what it said
    if (!decoded)  // what it said is lost
      return Error{Fault::again,
                   std::string(name()) + " got a damaged frame from another stage: " + decoded.error().message};
    if (auto done = dispatch(*std::move(decoded)); !done) return done;
  }
  return Done{};
}

Status StageLoop::dispatch(pipeline::Decoded decoded) {
  pipeline::Message& message = decoded.message;
  const bool collects = id() == StageId::persistence || id() == StageId::serving;
  if (!running() && !collects) return join(std::move(decoded));
  if (id() == StageId::persistence && std::holds_alternative<pipeline::Join>(message) && decoded.run != 0) {
    if (decoded.run != run_) reset(std::get<pipeline::Join>(message).stage, decoded.run);
    return Done{};
  }
  if (decoded.run != run_ && !of_any_run(message)) return Done{};
  if (auto whole = check_number(decoded); !whole) return whole;
  if (std::holds_alternative<pipeline::Mark>(message)) return Done{};
  if (auto* reset = std::get_if<pipeline::Reset>(&message))
    return Error{Fault::again, std::string(name()) + " starts anew: " + reset->why};
  if (std::holds_alternative<pipeline::Restore>(message) || std::holds_alternative<pipeline::Restored>(message))
    return Done{};  // the second answer to a repeated join
  return stage_->on_message(std::move(message), *this);
}

Status StageLoop::check_number(const pipeline::Decoded& decoded) {
  if (decoded.number == 0) return Done{};
  std::uint64_t& received = received_[decoded.from];
  const bool is_mark = std::holds_alternative<pipeline::Mark>(decoded.message);
  if (decoded.number == received + (is_mark ? 0 : 1)) {
    received = decoded.number;
    return Done{};
  }
  return Error{Fault::again, std::string(name()) + " misses what " +
                                 (decoded.from < stage_count ? kpool::name(static_cast<StageId>(decoded.from)) : "?") +
                                 " sent: a connection between stages broke; the pipeline starts anew"};
}

/// Tells every receiver how much it should have, in case the last of it was lost and nothing follows.
void StageLoop::mark(Clock::time_point now) {
  if (!links_.between_processes || now < next_mark_) return;
  next_mark_ = now + mark_every;
  for (const auto& [to, number] : sent_)
    if (waiting_[to].empty()) put(to, pipeline::Mark{}, pipeline::Tag{run_, static_cast<std::uint8_t>(id()), number});
}

/// A stage of an earlier life is still at work: it must start anew.
void StageLoop::reset(const std::string& stage, std::uint64_t run) {
  const auto to = stage_named(stage);
  if (!to || !links_.outputs.contains(*to)) return;
  put(*to, pipeline::Reset{"the store was opened anew"}, pipeline::Tag{run});
}

/// Before the stage runs: takes its state. What another stage that runs already has to say waits.
Status StageLoop::join(pipeline::Decoded decoded) {
  if (auto* value = std::get_if<pipeline::Restore>(&decoded.message)) {
    restored_.insert(value->key);
    return stage_->restore(value->key, std::move(value->value));
  }
  auto* restored = std::get_if<pipeline::Restored>(&decoded.message);
  if (!restored) {
    if (early_.size() == early_max) early_.pop_front();
    early_.push_back(std::move(decoded));
    return Done{};
  }
  if (restored_.size() != restored->values) return Done{};  // some were lost: asked for again with the next join
  run_ = decoded.run;
  if (auto started = stage_->start(restored->group, *this); !started) return started;
  for (auto& early : std::exchange(early_, {}))
    if (auto done = dispatch(std::move(early)); !done) return done;
  return Done{};
}

Status StageLoop::tick(Clock::time_point now) {
  if (!running()) {
    if (now < next_join_) return Done{};
    next_join_ = now + join_every;
    if (waiting_[StageId::persistence].empty())
      send(StageId::persistence, pipeline::Join{name(), instance_, stage_->identity()});
    return Done{};
  }
  if (auto deadline = stage_->deadline(); deadline && *deadline <= now)
    if (auto done = stage_->on_deadline(now, *this); !done) return done;
  if (now < next_report_) return Done{};
  next_report_ = now + report_every;
  mark(now);
  if (id() == StageId::serving) return Done{};
  // What operators see is a state, not a history: while a report waits, there is none after it.
  if (waiting_[StageId::serving].empty()) send(StageId::serving, pipeline::Report{name(), stage_->report()});
  // Tells persistence, which may be of a later life, which life this stage belongs to.
  if (id() != StageId::persistence && waiting_[StageId::persistence].empty())
    send(StageId::persistence, pipeline::Join{name(), instance_, stage_->identity()});
  return Done{};
}

}  // namespace kpool
