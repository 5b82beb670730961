// What an operator may want of a slot. Crosses both the admin socket and the pipeline.
#pragma once

#include <cstdint>

namespace kpool {

enum class SlotChange : std::uint8_t {
  pin,      ///< the slot is neither evicted nor merged
  unpin,
  hold,     ///< as pinned, and its records are refused
  release,
};
inline constexpr std::uint8_t slot_change_max = static_cast<std::uint8_t>(SlotChange::release);

}  // namespace kpool
