// The frozen encoder: text in, tokens of the base model and an embedding for routing out.
// Owned by the encoding stage, used on its thread alone.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "core/record.hpp"
#include "core/result.hpp"

namespace kpool {

using Encoded = std::variant<EncodedRecord, RefusedRecord>;

class Encoder {
 public:
  virtual ~Encoder() = default;
  /// Encodes records in order; one result per record. The result of a record never depends on
  /// which others share the call (deterministic mode rests on it).
  virtual std::vector<Encoded> encode(std::vector<Record> records) = 0;
  /// Length of an embedding.
  virtual std::size_t width() const = 0;
};

}  // namespace kpool
