// The values that a record becomes on its way through the stages. Plain data, moved from one owner
// to the next; the text ends at the encoder, the tokens at the trainer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kpool {

/// Where a record came from: an index into ingestion's table of sources, and its place there.
struct Origin {
  std::uint32_t source = 0;
  std::uint64_t seq = 0;  ///< 1, 2, 3... per source
  bool operator==(const Origin&) const = default;
};

/// A record as it came from a gateway.
struct Record {
  Origin origin;
  std::uint32_t prompt_bytes = 0;  ///< leading bytes of text that are a prompt (0: none)
  std::string text;                ///< UTF-8, checked
};

/// What layers that no adapter changes make of a record's leading tokens: run once, for routing and training.
struct HiddenStates {
  std::uint32_t layers = 0;   ///< the lowest so many of the base
  std::vector<float> values;  ///< (tokens, hidden), or empty
};

/// A record after the frozen encoder.
struct EncodedRecord {
  Origin origin;
  std::uint32_t prompt_tokens = 0;
  std::vector<std::int32_t> tokens;
  std::vector<float> embedding;  ///< (width)
  HiddenStates hidden = {};
};

/// A record on its way to a slot.
struct Sample {
  Origin origin;
  std::uint32_t prompt_tokens = 0;
  std::vector<std::int32_t> tokens;
  HiddenStates hidden = {};
};

/// Why a record was refused. The numbers are part of the public protocol.
enum class Refusal : std::uint8_t {
  empty = 1,     ///< no text, or white space only
  too_long = 2,  ///< above gateway.record_bytes_max
  not_utf8 = 3,
  no_tokens = 4,  ///< fewer than two tokens: nothing to predict
  numeric = 5,    ///< the batch that held it gave a non-finite loss or gradient and was rolled back
  poison = 6,     ///< it was in flight at three crashes
  bad_prompt = 7, ///< prompt_bytes is beyond the text or inside a character
  internal = 8,   ///< a library failed on it
  held = 9,       ///< the operator has put its slot on hold
};
const char* describe(Refusal reason);

struct RefusedRecord {
  Origin origin;
  Refusal reason;
};

}  // namespace kpool
