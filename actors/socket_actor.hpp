// The actor around a loop: a thread of its own that CAF can monitor, ping, drain and stop.
// Its mailbox wakes the loop's poll through an eventfd, so one thread waits for both worlds.
#pragma once

#include <memory>

#include "actors/loop.hpp"
#include "actors/protocol.hpp"

namespace kpool {

class SocketActor : public caf::blocking_actor {
 public:
  SocketActor(caf::actor_config& config, std::unique_ptr<Loop> loop, caf::actor supervisor);
  ~SocketActor() override;
  const char* name() const override { return name_.c_str(); }
  void enqueue(caf::mailbox_element_ptr element, caf::execution_unit* unit) override;
  void act() override;

 private:
  Status run();
  void read_mailbox();

  const std::string name_;
  std::unique_ptr<Loop> loop_;
  caf::actor supervisor_;
  int wake_fd_;
  bool stopped_ = false, draining_ = false, ready_ = false;
};

}  // namespace kpool
