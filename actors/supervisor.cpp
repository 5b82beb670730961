#include "actors/supervisor.hpp"

#include <spdlog/spdlog.h>

namespace kpool {

namespace {

using Self = caf::stateful_actor<SupervisorState>*;
constexpr auto ping_every = std::chrono::seconds(5);

void stop_all(Self self) {
  if (std::exchange(self->state.stopping, true)) return;
  self->state.options.notify("STOPPING=1");
  for (auto& [address, child] : self->state.children) self->send(child, stop_atom::value);
}

void on_failed(Self self, const std::string& name, int code, const std::string& message) {
  if (!self->state.outcome) self->state.outcome = Outcome{code, message};
  spdlog::error("{}: {}", name, message);
  stop_all(self);
}

void check_end(Self self) {
  if (!self->state.started || !self->state.children.empty()) return;
  self->state.options.on_end(self->state.outcome.value_or(Outcome{}));
  self->quit();
}

void on_down(Self self, const caf::down_msg& down) {
  self->state.children.erase(down.source);
  auto name = self->state.names.extract(down.source);
  if (!self->state.stopping)
    on_failed(self, name.empty() ? "?" : name.mapped(), exit_code(Fault::internal), "an actor ended unasked");
  check_end(self);
}

/// A child may fail before its siblings are adopted: then they are stopped as they come.
void on_adopt(Self self, const std::string& name, const caf::actor& child) {
  self->state.children.emplace(child.address(), child);
  self->state.names.emplace(child.address(), name);
  self->monitor(child);
  if (self->state.stopping) self->send(child, stop_atom::value);
}

void check_ready(Self self) {
  if (!self->state.started || self->state.stopping || self->state.ready.size() < self->state.names.size()) return;
  spdlog::info("ready");
  self->state.options.notify("READY=1\nSTATUS=learning");
}

/// The watchdog is fed only by a round trip through every actor.
void on_tick(Self self) {
  if (self->state.silent.empty()) self->state.options.notify("WATCHDOG=1");
  if (self->state.silent.empty() && !self->state.stopping) {
    ++self->state.ping;
    for (auto& [address, child] : self->state.children) {
      self->state.silent.insert(self->state.names[address]);
      self->send(child, ping_atom::value, self->state.ping);
    }
  }
  self->delayed_send(self, ping_every, tick_atom::value);
}

void on_drain(Self self) {
  if (self->state.stopping) return;
  spdlog::info("stopping: what was received is committed first");
  for (auto& [address, child] : self->state.children)
    if (self->state.names[address] == "ingestion") {
      self->send(child, drain_atom::value);
      self->delayed_send(self, self->state.options.drain_max, stop_atom::value);
      return;
    }
  stop_all(self);
}

}  // namespace

caf::behavior supervisor(Self self, SupervisorOptions options) {
  self->state.options = std::move(options);
  self->set_down_handler([self](caf::down_msg& down) { on_down(self, down); });
  return {
      [self](adopt_atom, const std::string& name, const caf::actor& child) { on_adopt(self, name, child); },
      [self](start_atom) {
        self->state.started = true;
        check_ready(self);
        self->delayed_send(self, ping_every, tick_atom::value);
        check_end(self);
      },
      [self](ready_atom, const std::string& name) {
        self->state.ready.insert(name);
        check_ready(self);
      },
      [self](failed_atom, const std::string& name, int code, const std::string& message) {
        on_failed(self, name, code, message);
      },
      [self](drain_atom) { on_drain(self); },
      [self](drained_atom, const std::string&) { stop_all(self); },
      [self](stop_atom) { stop_all(self); },
      [self](pong_atom, const std::string& name, std::uint64_t ping) {
        if (ping == self->state.ping) self->state.silent.erase(name);
      },
      [self](tick_atom) { on_tick(self); },
  };
}

}  // namespace kpool
