// One LoRA slot: its parameters, momentum and counters, and the samples that wait to fill a step.
// Owned by the learner, used on its thread alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/lora.hpp"
#include "core/rate_guard.hpp"
#include "core/record.hpp"
#include "core/result.hpp"
#include "core/signum.hpp"

namespace kpool {

/// Signum's momentum, (layout.size).
using Momentum = std::variant<std::vector<float>, std::vector<simd::Bf16>>;
Momentum zero_momentum(MomentumType type, std::size_t size);

/// What of a slot is durable. A slot that was never opened has generation 0 and no parameters.
struct SlotState {
  std::uint64_t generation = 0;
  std::uint64_t step = 0;       ///< steps of this generation; also decides when gain and sharpness are due
  std::vector<float> weights;  ///< (layout.size)
  Momentum momentum;
  RateGuard guard{};
  bool open() const { return generation != 0; }
};

/// What else a blob names, to be refused where it differs.
struct SlotIdentity {
  double alpha = 16;
  std::string base;  ///< fingerprint
};

/// A safetensors file under PEFT's names, float32: base_model.model.model.layers.0.self_attn.q_proj.
/// lora_A.weight and so on, each also as momentum.<name> in the momentum's type; metadata rank, alpha, generation,
/// step, base, and with a rate guard what it knows: rate, cliff.
std::string save_slot(const SlotState& state, const LoraLayout& layout, const SlotIdentity& identity);

/// Reads a momentum of either type and gives it the one that is asked for.
/// Errors: bad_input (damaged), mismatch (another rank, alpha, base or shape).
Result<SlotState> restore_slot(std::string_view bytes, const LoraLayout& layout, const SlotIdentity& identity,
                               MomentumType momentum);

/// PEFT's names of one linear's two matrices.
std::string lora_a_name(const LoraPlace& place);
std::string lora_b_name(const LoraPlace& place);

/// Samples on their way into steps of equal length. A sample that does not fit is cut; its rest starts
/// the next step, with the last token before the cut as context, so that every token is predicted once.
class PackingBuffer {
 public:
  struct Piece {
    Sample sample;         ///< origin and the tokens of this piece
    std::int64_t context;  ///< leading tokens that are not predicted
    bool ends;             ///< the record's last piece
  };

  void add(Sample sample);
  std::int64_t tokens() const { return tokens_; }
  bool empty() const { return waiting_.empty(); }
  /// Takes up to `limit` tokens off the front (limit of at least 2).
  std::vector<Piece> take(std::int64_t limit);
  /// Forgets what waits of the record that was cut last, if it is this one.
  void drop(const Origin& origin);
  void clear();

 private:
  std::vector<Piece> waiting_;
  std::int64_t tokens_ = 0;
};

}  // namespace kpool
