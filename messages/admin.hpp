// kpoolctl's messages as values, and their codec.
#pragma once

#include <string>
#include <variant>

#include "core/result.hpp"
#include "messages/frame.hpp"
#include "messages/slot_change.hpp"

namespace kpool::admin {

inline constexpr std::size_t frame_bytes_max = 16u << 20;

struct StatusRequest {};
struct StatusReport { std::string json; };
struct SnapshotRequest { std::string directory; };
struct Reply { std::string error; };  ///< empty: done
struct ChangeRequest { std::uint32_t slot = 0; SlotChange what = SlotChange::pin; };

using Message = std::variant<StatusRequest, StatusReport, SnapshotRequest, Reply, ChangeRequest>;

Frame encode(const Message& message);
Result<Message> decode(const Frame& frame);

}  // namespace kpool::admin
