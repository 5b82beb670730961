// kpoolctl's messages as values, and their codec.
#pragma once

#include <string>
#include <variant>

#include "core/result.hpp"
#include "messages/frame.hpp"

namespace kpool::admin {

inline constexpr std::size_t frame_bytes_max = 16u << 20;

struct StatusRequest {};
struct StatusReport { std::string json; };
struct SnapshotRequest { std::string directory; };
struct SnapshotReply { std::string error; };  ///< empty: done

using Message = std::variant<StatusRequest, StatusReport, SnapshotRequest, SnapshotReply>;

Frame encode(const Message& message);
Result<Message> decode(const Frame& frame);

}  // namespace kpool::admin
