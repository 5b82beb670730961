#include "core/learner.hpp"

#include <cmath>
#include <set>
#include <utility>

#include "core/adamw.hpp"
#include "core/llama.hpp"
#include "core/lora_merge.hpp"
#include "core/signum.hpp"
#include "core/slot.hpp"
#include "core/threads.hpp"
#include "core/warm_birth.hpp"
#include "core/weights.hpp"

namespace kpool {
namespace {

double mean_of(const at::Tensor& nats) {
  return nats.sum(at::kDouble).item<double>() / static_cast<double>(nats.size(0));
}

bool finite(std::span<const float> values) {
  double sum = 0;  // a NaN or an infinity stays one
  for (const float value : values) sum += std::abs(value);
  return std::isfinite(sum);
}

/// out = from + share (to - from). All of one length; out may be to.
void move_by(std::span<const float> from, std::span<const float> to, double share, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = from[i] + static_cast<float>(share) * (to[i] - from[i]);
}

bool due(std::uint64_t step, std::uint32_t every) { return every != 0 && step % every == 0; }

class LoraLearner final : public Learner {
 public:
  LoraLearner(const LearnerOptions& options, std::shared_ptr<const Base> base)
      : options_(options),
        base_(std::move(base)),
        weights_(base_->weights()),
        layout_(weights_.shape, options.rank, options.top_layers),
        identity_{options.alpha, base_->fingerprint()},
        adapter_(layout_, weights_.dtype, options.alpha / options.rank, weights_.device),
        gradient_(static_cast<std::size_t>(layout_.size)),
        workspace_(make_workspace(weights_)),
        slots_(options.slots) {
    KPOOL_ASSERT(weights_.whole() && options.slots > 0 && options.tokens_per_step >= 2);
    use_threads(options.threads);
    plan_ = plan_step(weights_, layout_, options.tokens_per_step, thread_count(), options.activation_bytes);
  }

  std::optional<MergeReport> open(const Birth& birth) override {
    KPOOL_ASSERT(birth.slot < slots_.size() && birth.generation != 0);
    Slot& slot = slots_[birth.slot];
    const auto merge = birth.merged_into ? std::optional(take_over(slot, *birth.merged_into)) : std::nullopt;
    slot.buffer.clear();  // what waited for the old adapter would vanish with it
    slot.state = {birth.generation, 0, std::vector<float>(gradient_.size()),
                  zero_momentum(options_.momentum_type, gradient_.size())};
    slot.moments = zero_moments();
    draw_lora(layout_, options_.seed, birth.generation, slot.state.weights);
    dirty_.insert(birth.slot);
    return merge;
  }

  std::vector<StepReport> learn(std::uint32_t index, Sample sample) override {
    KPOOL_ASSERT(index < slots_.size() && slots_[index].state.open());
    use_threads(options_.threads);
    slots_[index].buffer.add(std::move(sample));
    std::vector<StepReport> reports;
    while (slots_[index].buffer.tokens() >= options_.tokens_per_step) reports.push_back(step(index));
    return reports;
  }

  std::vector<StepReport> flush() override {
    use_threads(options_.threads);
    std::vector<StepReport> reports;
    for (std::uint32_t i = 0; i < slots_.size(); ++i)
      while (!slots_[i].buffer.empty()) reports.push_back(step(i));
    return reports;
  }

  double agreement(std::uint32_t one, std::uint32_t other) const override {
    KPOOL_ASSERT(one < slots_.size() && other < slots_.size());
    KPOOL_ASSERT(slots_[one].state.open() && slots_[other].state.open());
    return lora_agreement(layout_, slots_[one].state.weights, slots_[other].state.weights);
  }

  std::vector<std::uint32_t> take_dirty() override {
    std::vector<std::uint32_t> taken(dirty_.begin(), dirty_.end());
    dirty_.clear();
    return taken;
  }

  std::string save(std::uint32_t index) const override {
    KPOOL_ASSERT(index < slots_.size() && slots_[index].state.open());
    return save_slot(slots_[index].state, layout_, identity_);
  }

  Status restore(std::uint32_t index, std::string_view bytes) override {
    KPOOL_ASSERT(index < slots_.size() && options_.optimiser == Optimiser::signum);
    auto state = restore_slot(bytes, layout_, identity_, options_.momentum_type);
    if (!state) return state.error();
    if (options_.rate_guard != RateGuardMode::automatic) state->guard.rate = 0;
    if (options_.rate_guard == RateGuardMode::off) state->guard.cliff = 0;
    slots_[index].state = std::move(*state);
    slots_[index].buffer.clear();
    dirty_.erase(index);
    return Done{};
  }

 private:
  struct Slot {
    SlotState state;
    AdamWMoments moments;  ///< empty under Signum
    PackingBuffer buffer;
  };
  using Pieces = std::vector<PackingBuffer::Piece>;

  AdamWMoments zero_moments() const {
    return AdamWMoments(options_.optimiser == Optimiser::adamw ? gradient_.size() : 0);
  }

  /// What `from` learned goes over to the slot `index`, each weighing by its steps. The momentum starts anew.
  MergeReport take_over(const Slot& from, std::uint32_t index) {
    KPOOL_ASSERT(index < slots_.size() && from.state.open() && slots_[index].state.open());
    SlotState& into = slots_[index].state;
    const auto steps = static_cast<double>(from.state.step + into.step);
    const double share = steps > 0 ? static_cast<double>(from.state.step) / steps : 0;
    MergeReport report{.agreement = lora_agreement(layout_, from.state.weights, into.weights)};
    if (share > 0) report.discarded = merge_lora(layout_, from.state.weights, share, into.weights);
    into.momentum = zero_momentum(options_.momentum_type, gradient_.size());
    slots_[index].moments = zero_moments();
    into.step += from.state.step;
    dirty_.insert(index);
    return report;
  }

  StepReport step(std::uint32_t index) {
    Slot& slot = slots_[index];
    const Pieces pieces = slot.buffer.take(options_.tokens_per_step);
    std::vector<Segment> segments;
    const std::uint32_t given = shared_layers(pieces);
    for (const auto& piece : pieces)
      segments.push_back({piece.sample.tokens, piece.context, hidden_of(piece.sample, given)});
    Batch batch = make_batch(weights_, segments);
    batch.int8 = weights_.int8_forward;
    StepReport report{index, slot.state.step, static_cast<std::uint32_t>(batch.counted)};
    for (const auto& piece : pieces) report.records += piece.ends;
    if (batch.counted == 0) return report;  // prompts alone: nothing to predict, nothing learned
    if (layout_.first_layer > 0) run_lower(weights_, batch, segments, given, layout_.first_layer, workspace_);
    if (options_.births != Births::fresh && slot.state.step == 0) report.warm = start_warm(index, batch);
    adapter_.load(slot.state.weights);
    report.loss = mean_of(nats_and_gradient(weights_, batch, adapter_, plan_, gradient_, workspace_));
    if (!std::isfinite(report.loss) || !finite(gradient_)) return refuse(slot, pieces, report);
    report.step = slot.state.step + 1;
    report.rate = rate_of(slot.state);
    measure(slot.state, batch, report);
    update(slot, batch, report);
    slot.state.step = report.step;
    dirty_.insert(index);
    return report;
  }

  /// Below the lowest adapter, as samples bring their hidden states after; 0: none does.
  std::uint32_t shared_layers(const Pieces& pieces) const {
    std::uint32_t layers = 0;
    for (const auto& piece : pieces)
      if (piece.sample.hidden.layers <= layout_.first_layer) layers = std::max(layers, piece.sample.hidden.layers);
    return layers;
  }

  /// Those of the sample's tokens after so many layers, or none where they do not reach that far.
  std::span<const float> hidden_of(const Sample& sample, std::uint32_t layers) const {
    const auto& [own_layers, values] = sample.hidden;
    const auto needed = sample.tokens.size() * static_cast<std::size_t>(weights_.shape.hidden);
    if (layers == 0 || own_layers != layers || values.size() < needed) return {};
    return std::span(values).first(needed);
  }

  double rate_of(const SlotState& state) const {
    return state.guard.rate > 0 ? state.guard.rate : options_.learning_rate;
  }

  void update(Slot& slot, const Batch& batch, StepReport& report) {
    SlotState& state = slot.state;
    const double share = static_cast<double>(batch.tokens) / options_.tokens_per_step;
    const bool guarded = options_.rate_guard != RateGuardMode::off && report.rate > 0 && cliff_is_due(report.step);
    const std::vector<float> before = guarded ? state.weights : std::vector<float>{};
    const SignumOptions signum{report.rate, options_.momentum, options_.weight_decay};
    const auto step = [&](auto& momentum) { signum_step(state.weights, momentum, gradient_, signum, share); };
    if (options_.optimiser == Optimiser::signum) std::visit(step, state.momentum);
    else adamw_step(state.weights, slot.moments, gradient_, {report.rate, options_.weight_decay}, share);
    if (guarded) guard_step(state, before, batch, share, report);
  }

  /// Measures where the step that was taken would stop helping and, where it is automatic and went beyond its limit,
  /// shortens it.
  void guard_step(SlotState& state, const std::vector<float>& before, const Batch& batch, double share,
                  StepReport& report) {
    const double eta = report.rate * share;
    double slope = 0;
    for (std::size_t i = 0; i < before.size(); ++i)
      slope += static_cast<double>(gradient_[i]) * (before[i] - state.weights[i]) / eta;
    std::vector<float> moved(before.size());
    const auto full = in_full(batch, before, report.loss);
    auto change = [&](double length) {
      move_by(before, state.weights, length / eta, moved);
      adapter_.load(moved);
      return mean_of(nats(weights_, full.batch, &adapter_, workspace_)) - full.loss;
    };
    const double cliff = predict_cliff(probe_length(state.guard, eta), slope, change);
    observe(state.guard, options_.rate_guard, report.rate, cliff);
    report.cliff = state.guard.cliff;
    if (options_.rate_guard != RateGuardMode::automatic || state.guard.rate >= report.rate) return;
    move_by(before, state.weights, state.guard.rate / report.rate, state.weights);
    report.rate = state.guard.rate;
  }

  std::optional<WarmStart> start_warm(std::uint32_t index, const Batch& batch) {
    std::vector<std::span<const float>> trained(slots_.size());
    for (std::uint32_t k = 0; k < slots_.size(); ++k)
      if (k != index && slots_[k].state.step > 0) trained[k] = slots_[k].state.weights;
    auto start = find_warm_start(weights_, batch, trained, adapter_, workspace_);
    if (!start) return start;
    if (options_.births == Births::directions) start->share = 0;
    start_from(layout_, trained[start->slot], start->share, slots_[index].state.weights);
    dirty_.insert(index);  // even if the step itself is refused
    return start;
  }

  /// Every record that has a part in the step, with what still waits of the one that was cut.
  static StepReport refuse(Slot& slot, const Pieces& pieces, StepReport report) {
    report = {report.slot, report.step};
    for (const auto& piece : pieces) report.refused.push_back({piece.sample.origin, Refusal::numeric});
    if (!pieces.back().ends) slot.buffer.drop(pieces.back().sample.origin);
    return report;
  }

  struct Full { Batch batch; double loss; };
  /// Second differences of the loss would drown in the rounding of 8-bit integers: none from the lowest adapter on.
  Full in_full(const Batch& batch, std::span<const float> weights, double loss) {
    Full full{batch, loss};
    if (!std::exchange(full.batch.int8, false)) return full;
    adapter_.load(weights);
    full.loss = mean_of(nats(weights_, full.batch, &adapter_, workspace_));
    return full;
  }

  /// Gain and sharpness (method.md 2(d)), where this step is due for them; both before the update.
  void measure(const SlotState& state, const Batch& batch, StepReport& report) {
    if (due(report.step, options_.gain_every))
      report.gain = mean_of(nats(weights_, batch, nullptr, workspace_)) - report.loss;
    if (due(report.step, options_.rival_every)) report.rival = rival_of(report, batch);
    if (!due(report.step, options_.sharpness_every)) return;
    const auto full = in_full(batch, state.weights, report.loss);
    std::vector<float> signs(gradient_.size()), moved(gradient_.size());
    draw_signs(options_.seed, state.generation, report.step, signs);
    double sum = 0;
    for (const auto eta : {static_cast<float>(report.rate), -static_cast<float>(report.rate)}) {
      for (std::size_t i = 0; i < moved.size(); ++i) moved[i] = state.weights[i] + eta * signs[i];
      adapter_.load(moved);
      sum += mean_of(nats(weights_, full.batch, &adapter_, workspace_));
    }
    report.sharpness = 0.5 * (sum - 2 * full.loss);
  }

  /// The trained slots take turns.
  std::optional<Rival> rival_of(const StepReport& report, const Batch& batch) {
    std::vector<std::uint32_t> others;
    for (std::uint32_t k = 0; k < slots_.size(); ++k)
      if (k != report.slot && slots_[k].state.step > 0) others.push_back(k);
    if (others.empty()) return std::nullopt;
    const std::uint32_t rival = others[report.step / options_.rival_every % others.size()];
    adapter_.load(slots_[rival].state.weights);
    return Rival{rival, mean_of(nats(weights_, batch, &adapter_, workspace_))};
  }

  const LearnerOptions options_;
  const std::shared_ptr<const Base> base_;
  const Base::Weights& weights_;
  const LoraLayout layout_;
  const SlotIdentity identity_;
  Adapter adapter_;              // scratch: the slot of the step in compute precision
  std::vector<float> gradient_;  // scratch: (layout.size)
  StepPlan plan_;
  Workspace workspace_;
  std::vector<Slot> slots_;
  std::set<std::uint32_t> dirty_;
};

}  // namespace

std::unique_ptr<Learner> make_learner(const LearnerOptions& options, std::shared_ptr<const Base> base) {
  return std::make_unique<LoraLearner>(options, std::move(base));
}

}  // namespace kpool
