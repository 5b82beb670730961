// `kpoolctl model score`: nats per record under the base, one adapter, or each record's own slot.
#include <charconv>
#include <map>
#include <optional>

#include "apps/kpoolctl_encoder.hpp"
#include "apps/kpoolctl_records.hpp"
#include "apps/kpoolctl_table.hpp"
#include "core/router.hpp"
#include "core/score.hpp"
#include "storage/peft.hpp"

namespace kpool {
namespace {

// One portion: enough to fill forwards of every slot, small beside the model.
constexpr std::size_t portion_records = 512, portion_bytes = 1u << 20;

using SlotIndex = std::optional<std::uint32_t>;  ///< nothing: the base alone

/// "slot:N", or nothing.
SlotIndex slot_named(std::string_view under) {
  constexpr std::string_view prefix = "slot:";
  if (!under.starts_with(prefix)) return std::nullopt;
  std::uint32_t index = 0;
  const char* end = under.data() + under.size();
  const auto [stop, fault] = std::from_chars(under.data() + prefix.size(), end, index);
  if (fault != std::errc{} || stop != end) return std::nullopt;
  return index;
}

/// What `--under` names outside of the model, read before the model is loaded: errors come at once.
struct Outside {
  std::optional<Pool> pool;
  std::optional<std::string> adapter;
};

Result<Outside> read_outside(const ModelOptions& options) {
  Outside outside;
  if (options.under == "base") return outside;
  if (options.under == "auto" || slot_named(options.under)) {
    auto pool = open_pool(options.store);
    if (!pool) return pool.error();
    outside.pool = *std::move(pool);
    return outside;
  }
  if (options.under.starts_with("slot:"))
    return Error{Fault::usage, "--under " + options.under + " names no slot, which is slot: and a number"};
  auto adapter = import_peft(options.under);
  if (!adapter) return adapter.error();
  outside.adapter = *std::move(adapter);
  return outside;
}

/// Under what a record is scored. confidence: of the router, that the slot is the right one of those in use.
struct Choice {
  SlotIndex slot;
  double confidence = 0;
};

/// Decides under what each record is scored, and brings the scorer to it.
class Judge {
 public:
  static Result<Judge> make(const ModelOptions& options, Outside outside, std::shared_ptr<const Base> base);
  bool names_slots() const { return router_ || fixed_; }
  bool routes() const { return router_ != nullptr; }
  /// One for each record.
  std::vector<Choice> choose(std::span<const InputRecord> portion) const;
  Status use(SlotIndex slot);
  std::vector<Score> score(std::span<const Sample> samples) { return scorer_->score(samples); }

 private:
  Status prepare(const ModelOptions& options, const std::shared_ptr<const Base>& base);
  Status prepare_routing(const ModelOptions& options, const std::shared_ptr<const Base>& base);

  std::unique_ptr<Scorer> scorer_;
  std::optional<Pool> pool_;
  std::unique_ptr<Encoder> encoder_;  ///< auto only, as the router
  std::unique_ptr<Router> router_;
  SlotIndex fixed_;                   ///< slot:N
  bool directory_ = false;            ///< an adapter from outside the pool is in use for good
  std::optional<SlotIndex> in_use_;
};

Result<Judge> Judge::make(const ModelOptions& options, Outside outside, std::shared_ptr<const Base> base) {
  Judge judge;
  judge.scorer_ = make_scorer({.threads = options.threads}, base);
  judge.pool_ = std::move(outside.pool);
  if (outside.adapter) {
    judge.directory_ = true;
    if (auto used = judge.scorer_->use_adapter(*outside.adapter, std::nullopt); !used)
      return Error{used.error().fault, options.under + ": " + used.error().message};
    return judge;
  }
  if (auto ready = judge.prepare(options, base); !ready) return ready.error();
  return judge;
}

Status Judge::prepare(const ModelOptions& options, const std::shared_ptr<const Base>& base) {
  if (!pool_) return Done{};
  if (auto same = check_base(*pool_, options.model, base->fingerprint()); !same) return same;
  fixed_ = slot_named(options.under);
  return fixed_ ? use(fixed_) : prepare_routing(options, base);
}

Status Judge::prepare_routing(const ModelOptions& options, const std::shared_ptr<const Base>& base) {
  auto encoder = choose_encoder(options, &*pool_);
  if (!encoder) return encoder.error();
  auto made = make_encoder(*encoder, base);
  if (!made) return made.error();
  encoder_ = *std::move(made);
  auto mixture = mixture_blob(*pool_);
  if (!mixture) return mixture.error();
  auto router = read_router(*mixture, RoutingOptions{});
  if (!router) return Error{router.error().fault, options.store + ": " + router.error().message};
  if (router->width != encoder_->width())
    return Error{Fault::mismatch, options.store + ": its mixture is over embeddings of width " +
                                      std::to_string(router->width) + ", the encoder " + encoder->kind +
                                      " gives " + std::to_string(encoder_->width())};
  router_ = std::move(router->router);
  return Done{};
}

std::vector<Choice> Judge::choose(std::span<const InputRecord> portion) const {
  std::vector<Choice> choices(portion.size(), Choice{fixed_});
  if (!router_) return choices;
  std::vector<Record> records;
  for (const InputRecord& input : portion) records.push_back(input.record);
  const auto encoded = encoder_->encode(std::move(records));
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    const auto* embedded = std::get_if<EncodedRecord>(&encoded[i]);
    choices[i].slot = embedded ? router_->classify(embedded->embedding) : std::nullopt;
    if (choices[i].slot) choices[i].confidence = router_->posterior(embedded->embedding).at(*choices[i].slot);
  }
  return choices;
}

Status Judge::use(SlotIndex slot) {
  if (directory_ || in_use_ == slot) return Done{};
  if (slot) {
    auto blob = slot_blob(*pool_, *slot);
    if (!blob) return blob.error();
    if (auto used = scorer_->use_adapter(*blob, std::nullopt); !used)
      return Error{used.error().fault, pool_->path + ": slot " + std::to_string(*slot) + ": " + used.error().message};
  } else {
    scorer_->use_base();
  }
  in_use_ = slot;
  return Done{};
}

struct Sums {
  std::uint64_t records = 0;
  Score score;
  std::map<SlotIndex, std::uint64_t> slots;
};

std::string summary(const Sums& sums, bool names_slots) {
  std::string text = std::to_string(sums.records) + " records, " + std::to_string(sums.score.tokens) + " tokens";
  if (sums.score.tokens > 0)
    text += ", " + fixed(sums.score.nats / static_cast<double>(sums.score.tokens), 4) + " nats per token";
  for (const auto& [slot, count] : sums.slots)
    if (names_slots) text += (slot ? ", slot " + std::to_string(*slot) : ", base") + ": " + std::to_string(count);
  return text;
}

/// Scores one portion and writes it in the order in which it came.
Status score_portion(std::vector<InputRecord>& portion, Judge& judge, const Tokenizer& tokenizer, Output& output,
                     Sums& sums) {
  std::map<SlotIndex, std::vector<std::size_t>> groups;
  const auto choices = judge.choose(portion);
  for (std::size_t i = 0; i < portion.size(); ++i) groups[choices[i].slot].push_back(i);
  for (const auto& [slot, members] : groups) {
    if (auto ready = judge.use(slot); !ready) return ready;
    std::vector<Sample> samples;
    for (const std::size_t i : members) samples.push_back(tokenize(portion[i].record, tokenizer));
    const auto scores = judge.score(samples);
    for (std::size_t j = 0; j < members.size(); ++j) {
      auto& fields = portion[members[j]].fields;
      for (const char* former : {"slot", "confidence"}) fields.erase(former);  // of a file that was scored already
      fields["nats"] = scores[j].nats;
      fields["tokens"] = scores[j].tokens;
      if (judge.names_slots()) fields["slot"] = slot ? nlohmann::ordered_json(*slot) : nlohmann::ordered_json();
      if (judge.routes() && slot) fields["confidence"] = choices[members[j]].confidence;
      sums.score.nats += scores[j].nats;
      sums.score.tokens += scores[j].tokens;
    }
    sums.slots[slot] += members.size();
  }
  for (const InputRecord& input : portion) output.write(input.fields);
  sums.records += portion.size();
  return Done{};
}

}  // namespace

Status model_score(const ModelOptions& options, const Console& console) {
  auto outside = read_outside(options);
  if (!outside) return outside.error();
  auto base = Base::load({options.model, options.precision, -1, options.weights, options.device});
  if (!base) return base.error();
  auto tokenizer = make_bpe((*base)->file());
  if (!tokenizer) return tokenizer.error();
  auto judge = Judge::make(options, *std::move(outside), *base);
  if (!judge) return judge.error();
  auto output = Output::open(options.out, console.out);
  if (!output) return output.error();
  InputRecords records(options.in, console.in, console.complaints);
  Sums sums;
  for (;;) {
    auto portion = records.next_some(portion_records, portion_bytes);
    if (!portion) return portion.error();
    if (portion->empty()) break;
    if (auto done = score_portion(*portion, *judge, **tokenizer, *output, sums); !done) return done;
  }
  if (auto written = output->finish(); !written) return written;
  if (!options.quiet) console.complaints << summary(sums, judge->names_slots()) << "\n";
  return records.finish();
}

}  // namespace kpool
