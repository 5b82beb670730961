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
#include "messages/slot_change.hpp"

namespace kpool::pipeline {

/// Of one frame; the longest are the parts of a commit, each a whole slot.
inline constexpr std::size_t frame_bytes_max = 256u << 20;

struct Join {
  std::string stage;
  std::uint64_t instance = 0;  ///< random per start of the stage
  std::string identity;        ///< what its state depends on (base fingerprint, shapes), or empty
};
struct Restore { std::string key, value; };
struct Restored { std::uint64_t group = 0, values = 0; };  ///< values: how many Restore came before
struct Records { std::vector<Record> records; };
struct EncodedRecords { std::vector<EncodedRecord> records; };
struct Routed { std::uint32_t slot = 0; std::vector<Sample> samples; };
struct Trained { StepReport report; };  ///< without its refusals, which go to persistence
struct Refused { std::uint64_t group = 0; std::vector<RefusedRecord> records; };
struct Barrier {
  std::uint64_t group = 0;
  std::string stage;
  std::optional<MergePair> merge = {};  ///< routing -> training: the candidate; -> fragility: and its agreement
};
struct Part { std::uint64_t group = 0; std::string key, value; };  ///< an empty value deletes the key
struct Durable { std::uint64_t group = 0; std::vector<RefusedRecord> refused; };
struct Ranking { std::uint64_t group = 0; std::vector<SlotScore> slots; std::optional<MergePair> merge = {}; };
struct Report { std::string stage, json; };
struct Snapshot { std::uint64_t id = 0; std::string directory; };
struct Answer { std::uint64_t id = 0; std::string error; };
struct Change { std::uint64_t id = 0; std::uint32_t slot = 0; SlotChange what = SlotChange::pin; };
struct Setting { std::uint64_t id = 0; std::string key, value; };  ///< of no group; an empty value deletes the key
struct Reset { std::string why; };
struct Mark {};

using Message = std::variant<Join, Restore, Restored, Records, EncodedRecords, Routed, Birth, Trained,
                             Refused, Barrier, Part, Durable, Ranking, Report, Snapshot, Answer,
                             Reset, Mark, Change, Setting>;

/// What the frame says of itself.
struct Tag {
  std::uint64_t run = 0;     ///< the life of the pipeline (0: before it is known)
  std::uint8_t from = 0;     ///< the sender, a StageId
  std::uint64_t number = 0;  ///< counts the frames of one sender to one receiver from 1; 0: not counted
};
Frame encode(const Message& message, const Tag& tag);
inline Frame encode(const Message& message, std::uint64_t run) { return encode(message, Tag{run}); }
struct Decoded {
  std::uint64_t run = 0;
  Message message;
  std::uint8_t from = 0;
  std::uint64_t number = 0;
};
/// Errors: bad_input (truncated, hostile, or beyond a limit). Never throws.
Result<Decoded> decode(const Frame& frame);
/// The same of a frame that lies elsewhere, aligned to 8 bytes.
Result<Decoded> decode_in_place(std::span<const std::byte> frame);

}  // namespace kpool::pipeline
