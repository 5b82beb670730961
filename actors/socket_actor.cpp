#include "actors/socket_actor.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

namespace kpool {

SocketActor::SocketActor(caf::actor_config& config, std::unique_ptr<Loop> loop, caf::actor supervisor)
    : caf::blocking_actor(config),
      name_(loop->name()),
      loop_(std::move(loop)),
      supervisor_(std::move(supervisor)),
      wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  KPOOL_ASSERT(wake_fd_ >= 0);
}

SocketActor::~SocketActor() { close(wake_fd_); }

void SocketActor::enqueue(caf::mailbox_element_ptr element, caf::execution_unit* unit) {
  caf::blocking_actor::enqueue(std::move(element), unit);
  const std::uint64_t one = 1;
  (void)!write(wake_fd_, &one, sizeof one);
}

void SocketActor::act() {
  Status status = Done{};
  // The stage boundary: the one place where exceptions of libraries end.
  try {
    status = run();
  } catch (const std::exception& error) {
    status = Error{Fault::internal, name_ + " failed: " + error.what()};
  }
  if (!status)
    send(supervisor_, failed_atom::value, name_, exit_code(status.error().fault), status.error().message);
  loop_.reset();  // closes the sockets on the thread that used them
}

Status SocketActor::run() {
  if (auto opened = loop_->open(); !opened) return opened;
  while (true) {
    read_mailbox();
    if (stopped_) return Done{};
    if (!ready_ && loop_->running()) {
      ready_ = true;
      send(supervisor_, ready_atom::value, name_);
    }
    if (draining_ && loop_->drained()) {
      draining_ = false;
      send(supervisor_, drained_atom::value, name_);
    }
    if (auto passed = loop_->pass(wake_fd_); !passed) return passed;
  }
}

void SocketActor::read_mailbox() {
  std::uint64_t count;
  (void)!read(wake_fd_, &count, sizeof count);
  while (has_next_message()) {
    receive([this](stop_atom) { stopped_ = true; },
            [this](drain_atom) {
              draining_ = true;
              loop_->drain();
            },
            [this](ping_atom, std::uint64_t n) { send(supervisor_, pong_atom::value, name_, n); },
            // A blocking actor gets its exit as an ordinary message.
            [this](const caf::exit_msg&) { stopped_ = true; },
            caf::others >> [](caf::message_view&) -> caf::result<caf::message> { return caf::message{}; });
  }
}

}  // namespace kpool
