// Leads a refused record's number back to the place in the input that it came from. Owned by the send
// command, used on its thread alone.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "clients/record_reader.hpp"
#include "core/record.hpp"

namespace kpool {

class RefusalLog {
 public:
  using Say = std::function<void(const Place& place, const char* why)>;
  /// first: the lowest seq that can still be refused.
  RefusalLog(std::uint64_t first, Say say) : first_(first), say_(std::move(say)) {}

  /// Record `seq` was read at a place; input_bytes: of the input up to its end.
  void read(std::uint64_t seq, const Place& place, std::uint64_t input_bytes);
  /// The daemon refused `seq`, which was perhaps not read again yet in this run.
  void refused(std::uint64_t seq, Refusal reason);
  /// Everything up to here is settled.
  void settled(std::uint64_t up_to);
  std::uint64_t settled_bytes() const { return settled_bytes_; }  ///< of the input

 private:
  struct Entry { Place place; std::uint64_t input_bytes = 0; };
  std::uint64_t first_;       ///< seq of entries_.front()
  std::deque<Entry> entries_;
  std::map<std::uint64_t, Refusal> early_;  ///< refused before they were read
  std::uint64_t settled_bytes_ = 0, settled_up_to_ = 0;
  Say say_;
};

}  // namespace kpool
