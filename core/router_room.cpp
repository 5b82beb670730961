// Which slot a birth gets: a free one, one of two that become one, or the most expendable.
#include <algorithm>

#include "core/mixture_router.hpp"

namespace kpool {

bool MixtureRouter::full() const {
  for (std::uint32_t k = 0; k < options_.slots; ++k)
    if (!mixture_.live(k)) return false;
  return true;
}

std::optional<std::uint32_t> MixtureRouter::choose_slot() const {
  for (std::uint32_t k = 0; k < options_.slots; ++k)
    if (!mixture_.live(k)) return k;
  if (!options_.evicts) return std::nullopt;
  for (const std::uint32_t k : eviction_order_)
    if (k < options_.slots && !pinned_[k]) return k;
  std::optional<std::uint32_t> least;
  for (std::uint32_t k = 0; k < options_.slots; ++k)
    if (!pinned_[k] && (!least || mixture_.records(k) < mixture_.records(*least))) least = k;
  return least;
}

/// Of a full pool: two slots that turned out to be of one domain.
std::optional<Mixture::Pair> MixtureRouter::close_pair() const {
  if (options_.join_distance <= 0 || !full()) return std::nullopt;
  const auto pair = mixture_.closest_pair(pinned_);
  return pair && pair->distance <= options_.join_distance ? pair : std::nullopt;
}

std::optional<MergePair> MixtureRouter::merge_candidate() const {
  const auto pair = options_.merge_agreement > 0 ? close_pair() : std::nullopt;
  if (!pair) return std::nullopt;
  return MergePair{pair->lesser, pair->greater, generation_};
}

/// As it was measured since the last birth; which of the two has more records may have changed.
std::optional<double> MixtureRouter::agreement(const Mixture::Pair& pair) const {
  if (!agreed_ || agreed_->birth != generation_) return std::nullopt;
  if (std::minmax(agreed_->lesser, agreed_->greater) != std::minmax(pair.lesser, pair.greater)) return std::nullopt;
  return agreed_->agreement;
}

/// Two slots of one domain become one before any is evicted. Nothing where none may go.
std::optional<Birth> MixtureRouter::make_room(Verdict& verdict) {
  if (const auto pair = close_pair()) {
    verdict.merge = {pair->distance, options_.merge_agreement, agreement(*pair)};
    if (verdict.merge->accepted()) {
      mixture_.merge(pair->lesser, pair->greater);
      return Birth{pair->lesser, ++generation_, false, pair->greater};
    }
  }
  const bool full = this->full();
  const auto slot = choose_slot();
  if (!slot) return std::nullopt;
  return Birth{*slot, ++generation_, full, std::nullopt};
}

}  // namespace kpool
