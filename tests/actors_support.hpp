// What the tests of stages share: an outbox that keeps what it is given, and short ways to look into it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "actors/stage.hpp"

namespace kpool::testing {

class FakeOutbox : public Outbox {
 public:
  struct Sent { StageId to; pipeline::Message message; };
  void send(StageId to, pipeline::Message message) override { sent.push_back({to, std::move(message)}); }

  /// All messages of one type, in order.
  template <class T>
  std::vector<T> all() const {
    std::vector<T> found;
    for (const Sent& each : sent)
      if (auto* message = std::get_if<T>(&each.message)) found.push_back(*message);
    return found;
  }
  template <class T>
  std::vector<T> to(StageId stage) const {
    std::vector<T> found;
    for (const Sent& each : sent)
      if (auto* message = std::get_if<T>(&each.message); message && each.to == stage) found.push_back(*message);
    return found;
  }
  /// "stage:index of the message's type" in order, for comparing sequences.
  std::vector<std::pair<StageId, std::size_t>> order() const {
    std::vector<std::pair<StageId, std::size_t>> result;
    for (const Sent& each : sent) result.emplace_back(each.to, each.message.index());
    return result;
  }

  std::vector<Sent> sent;
};

/// The place of T among the messages, as FakeOutbox::order gives it.
template <class T>
std::size_t kind() { return pipeline::Message(T{}).index(); }

}  // namespace kpool::testing
