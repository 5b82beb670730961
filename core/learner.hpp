// The K LoRA slots and the step that trains them. Owned by one training stage, used on its thread
// alone. Only the slot that a sample was routed to changes; all others keep their bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base.hpp"
#include "core/rate_guard.hpp"
#include "core/record.hpp"
#include "core/result.hpp"
#include "core/signum.hpp"

namespace kpool {

/// Another slot's loss on the same tokens.
struct Rival {
  std::uint32_t slot = 0;
  double loss = 0;  ///< nats per token
};

/// A new slot starts from `share` of what the slot changes of the base: its A, and its B times the share.
struct WarmStart {
  std::uint32_t slot = 0;
  double share = 1; ///< 0: A alone
  double gain = 0;  ///< nats per token of the new slot's first step, against a fresh start; of the best share
};

/// What one optimiser step measured.
struct StepReport {
  std::uint32_t slot = 0;
  std::uint64_t step = 0;           ///< steps of this slot's generation, from 1
  std::uint32_t tokens = 0;         ///< tokens whose loss counted
  std::uint32_t records = 0;        ///< records that ended in this step
  double loss = 0;                  ///< mean nats per token, before the update (prequential)
  std::optional<double> gain;       ///< nats per token: loss without the adapter minus with it, before the update
  std::optional<double> sharpness;  ///< nats: expected rise of the loss under one random sign step
  double rate = 0;                  ///< learning rate of the step, had it been a full one
  std::optional<double> cliff;      ///< where measured: the rate at which a step stops helping, as predicted after it
  std::optional<Rival> rival;       ///< one of the others in turn, before the update
  std::optional<WarmStart> warm;    ///< first step of a warm birth: where the slot started
  std::vector<RefusedRecord> refused;  ///< not empty: the step was rolled back (Refusal::numeric)
};

/// Opens a slot for a new domain: A drawn anew from the seed, B and momentum zero.
struct Birth {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;  ///< births of the pool so far, from 1; seeds A
  bool evicts = false;           ///< the slot held another domain until now, which goes
  std::optional<std::uint32_t> merged_into;  ///< or which this slot takes over: it is of the same domain
};

/// Two slots that would become one if a birth needed room, and how well their adapters agree.
struct MergePair {
  std::uint32_t lesser = 0, greater = 0;
  std::uint64_t birth = 0;  ///< generation of the pool's latest birth: the next one makes the pair void
  double agreement = 0;     ///< Learner::agreement
};

/// How a slot took over another's adapter: both averaged by their steps.
struct MergeReport {
  double agreement = 0;  ///< Learner::agreement
  double discarded = 0;  ///< share of the merged change that the rank has no room for
};

class Learner {
 public:
  virtual ~Learner() = default;
  /// Where the birth merges, says how.
  virtual std::optional<MergeReport> open(const Birth& birth) = 0;
  /// Adds a sample to the slot's packing buffer and runs the steps that become full.
  virtual std::vector<StepReport> learn(std::uint32_t slot, Sample sample) = 0;
  /// Trains what is left in the packing buffers, the step scaled by its share of a full one.
  virtual std::vector<StepReport> flush() = 0;
  /// Cosine of two open slots' changes of the base's weights; 0 where one is no change.
  virtual double agreement(std::uint32_t one, std::uint32_t other) const = 0;
  /// Slots changed since the last call, in ascending order.
  virtual std::vector<std::uint32_t> take_dirty() = 0;
  /// The slot's durable state: A, B, momentum, counters (a safetensors blob; the same state gives
  /// the same bytes).
  virtual std::string save(std::uint32_t slot) const = 0;
  /// Errors: bad_input (damaged blob), mismatch (other shapes).
  virtual Status restore(std::uint32_t slot, std::string_view bytes) = 0;
};

/// adamw: for comparisons (core/adamw.hpp). Its moments are not durable: save gives the adapter with a momentum of
/// zero, and restore is Signum's alone.
enum class Optimiser : std::uint8_t { signum, adamw };

/// How a new slot starts: with A drawn anew and B zero; from what predicts its first step clearly better than the base;
/// with the A of that slot and B zero.
enum class Births : std::uint8_t { fresh, warm, directions };

struct LearnerOptions {
  std::uint32_t slots = 5;
  std::uint32_t rank = 8;
  double alpha = 64;             ///< the adapter's output is scaled by alpha / rank (docs/training.md)
  double learning_rate = 5e-4;   ///< of a full step: every weight moves by exactly so much
  RateGuardMode rate_guard = RateGuardMode::off;  ///< automatic: the learning rate is that of a slot's first step
  Optimiser optimiser = Optimiser::signum;
  double momentum = 0.9;         ///< this and its type: Signum's
  MomentumType momentum_type = MomentumType::bfloat16;  ///< a stored slot of the other type is converted
  double weight_decay = 0;       ///< decoupled
  std::uint32_t tokens_per_step = 512;
  std::uint32_t gain_every = 8;       ///< steps of a slot between two measurements of its gain (0: never)
  std::uint32_t sharpness_every = 64; ///< and of its sharpness (0: never)
  std::uint32_t rival_every = 32;     ///< and of another slot's loss (0: never)
  std::uint64_t seed = 0;
  Births births = Births::fresh;
  std::uint32_t top_layers = 0;  ///< only so many of the last layers have an adapter (0: all)
  std::size_t activation_bytes = 0;  ///< limit of a step's workspace (0: as much as is fastest)
  std::uint32_t threads = 0;     ///< of the calling thread's libtorch kernels; 0: one per core
};

std::unique_ptr<Learner> make_learner(const LearnerOptions& options, std::shared_ptr<const Base> base);

}  // namespace kpool
