// The public gateway protocol as values, and its codec (docs/protocol.md).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/record.hpp"
#include "core/result.hpp"
#include "messages/frame.hpp"

namespace kpool::gateway {

inline constexpr std::uint16_t protocol_version = 1;
inline constexpr std::size_t data_bytes_max = 1u << 20;  ///< of one Data message, but for one long record
inline constexpr std::size_t data_records_max = 1024;    ///< of one Data message
inline constexpr std::size_t record_bytes_limit = 1u << 20;  ///< a daemon's record_bytes_max is at most this
/// Of any frame of this protocol: a full Data message, one long record, and their pointers.
inline constexpr std::size_t frame_bytes_max = data_bytes_max + record_bytes_limit + (1u << 16);

struct RefusedSeq { std::uint64_t seq = 0; Refusal reason = Refusal::empty; };
struct OutgoingRecord { std::string text; std::uint32_t prompt_bytes = 0; };

struct Hello { std::uint16_t version = protocol_version; std::uint64_t epoch = 0, last_acked = 0, first_unacked = 0; };
struct Welcome {
  std::uint16_t version = protocol_version;
  std::uint64_t epoch = 0, watermark = 0, credit_bytes = 0;
  std::uint32_t credit_records = 0, record_bytes_max = 0;
  std::vector<RefusedSeq> refused;
};
struct Data { std::uint64_t epoch = 0, first_seq = 0; std::vector<OutgoingRecord> records; };
struct Flush { std::uint64_t epoch = 0, up_to = 0; };
struct Ack {
  std::uint64_t epoch = 0, up_to = 0;
  std::vector<RefusedSeq> refused;
  std::uint64_t credit_bytes = 0;
  std::uint32_t credit_records = 0;
};
enum class RefuseReason : std::uint16_t {
  bad_frame, version, no_hello, stale_epoch, gap, credit, regression, starting, stopping, no_space
};
struct Refuse {
  RefuseReason reason = RefuseReason::bad_frame;
  std::string detail;              ///< one sentence
  std::uint64_t expected_seq = 0;  ///< gap: what was expected
  bool final = false;              ///< sending again will not help
};
struct Ping {};

using Message = std::variant<Hello, Welcome, Data, Flush, Ack, Refuse, Ping>;

Frame encode(const Message& message);
/// A Data message out of records that lie elsewhere, without copying them first.
struct RecordView { std::string_view text; std::uint32_t prompt_bytes = 0; };
Frame encode_data(std::uint64_t epoch, std::uint64_t first_seq, std::span<const RecordView> records);
/// Errors: bad_input with one sentence that names what is wrong. Never throws; costs at most time
/// linear in the frame.
Result<Message> decode(const Frame& frame);

}  // namespace kpool::gateway
