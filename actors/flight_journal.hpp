// Which record a stage had in hand when the process crashed: source and number, never content. A
// record that was in hand at three crashes is refused as poison, so that no record can stop the
// daemon for good. Kept in a mapped file on a tmpfs: it outlives the process, not the machine.
// Only crashes of the process's own count (a fatal signal, an exception out of a library); kill -9
// and a power cut are not the record's fault. Record numbers mean nothing in another pool, so a
// journal is of one pool.
// One journal per stage; owned by it, used on its thread alone; locked, so that no second daemon
// takes what is in hand here for what was in hand at a crash.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "core/record.hpp"
#include "core/result.hpp"

namespace kpool {

struct JournalPlace {
  std::string path;  ///< empty: no journal
  std::string pool;  ///< what the record numbers belong to: the store and the identity of the stage's state
};

class FlightJournal {
 public:
  static constexpr std::uint32_t crashes_max = 3;

  /// Maps the file, created if absent and emptied if of another pool, and blames the record that was in hand
  /// at a crash. Errors: io, no_space, unavailable (in use), naming the path.
  static Result<std::unique_ptr<FlightJournal>> open(const JournalPlace& place);
  ~FlightJournal();

  void take(const Origin& origin);
  void put_down();
  bool is_poison(const Origin& origin) const;
  /// The life before this one ended by a crash, whatever was in hand.
  bool after_crash() const { return after_crash_; }
  /// True after a crash until so many groups have ended as can have been in flight (commit.groups_in_flight is at most
  /// 64): the stage works record by record, so that what is in hand is what crashes.
  bool careful() const { return careful_groups_ > 0; }
  void end_group() { careful_groups_ -= careful(); }
  /// The process is about to end because of what is in hand. Async-signal-safe.
  void mark_crash();
  /// Marks all open journals when a fatal signal comes, then lets it do what it does. Call once, in main.
  static void watch_fatal_signals();

 private:
  struct Suspect { std::uint64_t seq; std::uint32_t source, crashes; };
  struct Page {
    std::uint64_t pool;  ///< a hash of its name
    std::uint64_t seq;   ///< in hand; 0: nothing
    std::uint32_t source, crashed, next_suspect, unused;
    std::array<Suspect, 64> suspects;  ///< a ring
  };
  FlightJournal(Page* page, int file, std::uint64_t pool);
  void blame(const Origin& origin);

  Page* const page_;
  const int file_;  ///< holds the lock
  bool after_crash_ = false;
  int careful_groups_ = 0;
};

}  // namespace kpool
