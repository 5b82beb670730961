// The frozen encoder: text in, tokens of the base model and an embedding for routing out.
// Owned by the encoding stage, used on its thread alone.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/base.hpp"
#include "core/record.hpp"
#include "core/result.hpp"

namespace kpool {

using Encoded = std::variant<EncodedRecord, RefusedRecord>;

class Encoder {
 public:
  virtual ~Encoder() = default;
  /// Encodes records in order; one result per record. It never depends on which others share the call (deterministic
  /// mode rests on it), but for hidden states, which depend on what came before in the group.
  virtual std::vector<Encoded> encode(std::vector<Record> records) = 0;
  /// A group begins: its records may take hidden_tokens_per_group with them anew.
  virtual void begin_group() {}
  /// Length of an embedding.
  virtual std::size_t width() const = 0;
};

struct EncoderOptions {
  std::string kind = "base:13";      ///< base:L (hidden state after the base's layer L) | minilm
  std::string path;                 ///< minilm: directory with model.safetensors and vocab.txt
  std::uint32_t tokens_max = 96;    ///< only so many leading tokens are embedded; all of them are trained on
  std::uint32_t threads = 1;        ///< of the calling thread's libtorch kernels
  /// base:L: its frozen products in full (in the base's precision) | in int8 | auto: int8 where that is faster. In int8
  /// the encoder keeps the layers of a dense base in 8-bit integers besides, unless it shares them with a learner.
  std::string products = "auto";
  /// base:L: the hidden states of so many leading tokens go with a record, for a learner whose adapters all lie above
  /// layer L (0: none), as long as those of a group are no more than the second number.
  std::uint32_t hidden_tokens = 0, hidden_tokens_per_group = 0;
};

/// L of "base:L", or nothing.
std::optional<std::int64_t> base_layers(std::string_view kind);

/// What makes embeddings of this kind what they are: a pool's mixture fits those of the same identity alone.
std::string encoder_identity(const std::string& kind);

/// base: at least L layers of it; it also gives the tokens. Errors: bad_config, missing, bad_input.
Result<std::unique_ptr<Encoder>> make_encoder(const EncoderOptions& options, std::shared_ptr<const Base> base);

}  // namespace kpool
