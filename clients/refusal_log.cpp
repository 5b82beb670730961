#include "clients/refusal_log.hpp"

namespace kpool {

void RefusalLog::read(std::uint64_t seq, const Place& place, std::uint64_t input_bytes) {
  if (const auto early = early_.find(seq); early != early_.end()) {
    say_(place, describe(early->second));
    early_.erase(early);
  }
  if (seq <= settled_up_to_ || seq < first_) {  // settled in an earlier life
    settled_bytes_ = input_bytes;
    first_ = std::max(first_, seq + 1);
    return;
  }
  entries_.push_back({place, input_bytes});
}

void RefusalLog::refused(std::uint64_t seq, Refusal reason) {
  if (seq >= first_ && seq - first_ < entries_.size()) {
    say_(entries_[seq - first_].place, describe(reason));
  } else {
    early_.emplace(seq, reason);
  }
}

void RefusalLog::settled(std::uint64_t up_to) {
  for (; !entries_.empty() && first_ <= up_to; ++first_) {
    settled_bytes_ = entries_.front().input_bytes;
    entries_.pop_front();
  }
  settled_up_to_ = std::max(settled_up_to_, up_to);
}

}  // namespace kpool
