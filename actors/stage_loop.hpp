// The one shell around a stage: joins the pipeline, then polls {wake-up, control, records, doors,
// outputs}, decodes what comes, encodes what goes. Owned by one actor, runs on its thread alone.
// Back-pressure is not reading: while output waits or the stage has work in hand, records stay in
// their socket, whose bound presses back on the stage before.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "actors/door.hpp"
#include "actors/links.hpp"
#include "actors/loop.hpp"
#include "actors/stage.hpp"

namespace kpool {

class StageLoop : public Loop, public Outbox {
 public:
  StageLoop(std::unique_ptr<Stage> stage, Links links, std::vector<std::unique_ptr<Door>> doors);

  const char* name() const override { return kpool::name(id()); }
  /// Loads the stage. Errors: the stage's own.
  Status open() override;
  /// A few milliseconds at most, unless one piece of work takes longer.
  Status pass(int wake_fd) override;
  void drain() override { stage_->drain(*this); }
  bool drained() const override { return stage_->drained(); }
  /// True once the stage has its state.
  bool running() const override { return run_ != 0; }
  StageId id() const { return stage_->id(); }

  void send(StageId to, pipeline::Message message) override;

 private:
  Status receive(zmq::socket_t& socket, Clock::time_point until, bool records);
  Status dispatch(pipeline::Decoded decoded);
  Status join(pipeline::Decoded decoded);
  Status check_number(const pipeline::Decoded& decoded);
  void mark(Clock::time_point now);
  void reset(const std::string& stage, std::uint64_t run);
  Status tick(Clock::time_point now);
  bool open_to_records() const;
  bool output_waits() const;
  void put(StageId to, const pipeline::Message& message, const pipeline::Tag& tag);
  void flush();
  long wait_ms(Clock::time_point now) const;
  std::vector<zmq::pollitem_t> poll_items(int wake_fd);

  std::unique_ptr<Stage> stage_;
  Links links_;
  std::vector<std::unique_ptr<Door>> doors_;
  std::map<StageId, std::deque<zmq::message_t>> waiting_;  ///< bounded by what one message makes a stage say
  std::uint64_t run_ = 0;                         ///< 0: not yet restored
  std::map<StageId, std::uint64_t> sent_;       ///< counted frames per receiver, in this run
  std::map<std::uint8_t, std::uint64_t> received_;  ///< and per sender
  std::set<std::string> restored_;              ///< keys of the values given so far
  Clock::time_point next_mark_{};
  const std::uint64_t instance_;
  Clock::time_point next_join_{}, next_report_{};
  std::deque<pipeline::Decoded> early_;  ///< came before the state; the latest few
};

}  // namespace kpool
