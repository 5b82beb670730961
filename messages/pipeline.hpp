// The messages between stages as values, and their codec. The only place that knows their schema.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/fragility.hpp"
#include "core/learner.hpp"
#include "core/record.hpp"
#include "core/result.hpp"
#include "messages/frame.hpp"

namespace kpool::pipeline {

/// Of one frame; the longest are the parts of a commit, each a whole slot.
inline constexpr std::size_t frame_bytes_max = 256u << 20;

struct Join {
  std::string stage;
  std::uint64_t instance = 0;  ///< random per start of the stage
  std::string identity;        ///< what its state depends on (base fingerprint, shapes), or empty
};
struct Restore { std::string key, value; };
struct Restored { std::uint64_t group = 0, run = 0; };
struct Records { std::vector<Record> records; };
struct EncodedRecords { std::vector<EncodedRecord> records; };
struct Routed { std::uint32_t slot = 0; std::vector<Sample> samples; };
struct Trained { StepReport report; };  ///< without its refusals, which go to persistence
struct Refused { std::uint64_t group = 0; std::vector<RefusedRecord> records; };
struct Barrier { std::uint64_t group = 0; std::string stage; };
struct Part { std::uint64_t group = 0; std::string key, value; };  ///< an empty value deletes the key
struct Durable { std::uint64_t group = 0; std::vector<RefusedRecord> refused; };
struct Ranking { std::uint64_t group = 0; std::vector<SlotScore> slots; };
struct Report { std::string stage, json; };
struct Snapshot { std::uint64_t id = 0; std::string directory; };
struct SnapshotDone { std::uint64_t id = 0; std::string error; };
struct Reset { std::string why; };
struct End {};

using Message = std::variant<Join, Restore, Restored, Records, EncodedRecords, Routed, Birth, Trained,
                             Refused, Barrier, Part, Durable, Ranking, Report, Snapshot, SnapshotDone,
                             Reset, End>;

/// run: the life of the pipeline that the frame belongs to (0: before it is known).
Frame encode(const Message& message, std::uint64_t run);
struct Decoded { std::uint64_t run = 0; Message message; };
/// Errors: bad_input (truncated, hostile, or beyond a limit). Never throws.
Result<Decoded> decode(const Frame& frame);

}  // namespace kpool::pipeline
