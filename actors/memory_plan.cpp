#include "actors/memory_plan.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "actors/links.hpp"
#include "actors/models.hpp"
#include "storage/rocksdb_store.hpp"

namespace kpool {
namespace {

constexpr std::size_t mega = 1'000'000;

/// Pages of libraries that are touched only later, small blocks of all stages, and what glibc keeps in its arenas.
constexpr std::size_t process_margin = 32 * mega;
constexpr std::size_t process_step = 8 * mega;  ///< what is measured differs a little from start to start
constexpr std::size_t stack_bytes = 256 << 10;
/// What the lane between encoding and routing holds: 16 frames on their way and one at each end, of 256 records each.
constexpr std::size_t embedded_records_max = 18 * 256;
constexpr const char* shared_layers = "shared layers";
constexpr const char* kept_layers = "encoder's layers";
constexpr int threads_besides_training = 20;  ///< of the stages, libzmq, CAF and RocksDB

std::string number(double value) {
  std::string text = std::to_string(value);
  return text.substr(0, text.find('.') + 2);
}

std::string megabytes(std::size_t bytes) {
  const double value = static_cast<double>(bytes) / mega;
  return value < 10 ? number(value) : std::to_string((bytes + mega / 2) / mega);
}

class Planner {
 public:
  Planner(const Config& config, const MemoryFacts& facts) : config_(config), facts_(facts) {}

  MemoryPlan plan() {
    process();
    if (facts_.base.mapped > 0) base();
    if (has(StageId::encoding)) add("encoder", facts_.encoder.work, "workspace of a pack of texts");
    if (has(StageId::encoding) && facts_.encoder.int8 > 0)
      add(kept_layers, facts_.encoder.int8, "once more, in 8-bit integers");
    if (has(StageId::routing)) mixture();
    if (has(StageId::training)) slots();
    transit();
    if (has(StageId::persistence)) store();
    queues();
    plan_.budget = config_.memory.budget_mb * mega;
    if (!has(StageId::training)) return plan_;
    plan_.activations_least = facts_.learner.activations_least;
    plan_.activations_most = facts_.learner.activations_most;
    return plan_;
  }

 private:
  bool has(StageId id) const { return has_stage(config_, id); }
  void add(std::string what, std::size_t bytes, std::string how) {
    plan_.lines.push_back({std::move(what), bytes, std::move(how)});
  }
  static std::string times(std::size_t count, std::size_t bytes) {
    return std::to_string(count) + " x " + megabytes(bytes);
  }

  void process() {
    const std::size_t threads = threads_besides_training + static_cast<std::size_t>(facts_.threads);
    const std::size_t measured = (facts_.process + process_step - 1) / process_step * process_step;
    add("process", measured + process_margin + threads * stack_bytes,
        "measured " + megabytes(facts_.process) + ", margin " + megabytes(process_margin) + ", stacks of " +
            std::to_string(threads) + " threads");
  }

  void base() {
    const bool quantised = config_.base.weights == "quantised";
    add("base", quantised ? facts_.base.mapped : facts_.base.expanded,
        quantised ? "mapped file" : "expanded when loaded");
    add("tokenizer", facts_.base.tokenizer, "by the size of the vocabulary");
  }

  void mixture() {
    const std::size_t saved = mixture_bytes(config_.routing, facts_.embedding_width);
    constexpr std::size_t copies = 6;  // itself and scratch, a saved part and its frame, twice in the store
    add("mixture", copies * saved, times(copies, saved));
  }

  void slots() {
    const std::size_t count = config_.routing.slots;
    add("slots", count * facts_.learner.slot, times(count, facts_.learner.slot));
    add("learner", facts_.learner.scratch, "gradient, adapter in compute precision, sharpness");
  }

  /// Serialised slots between training and the store.
  void transit() {
    const std::size_t ends = has(StageId::training) + has(StageId::persistence);
    if (ends == 0) return;
    // At either end one in use and its frame.
    const bool inside = config_.engine.transport == "inproc";
    const std::size_t slots = 2 * ends + (inside ? slot_frames_max : ends * records_frames_max);
    add("slots in transit", slots * facts_.learner.slot, times(slots, facts_.learner.slot));
  }

  void store() {
    const std::size_t count = config_.routing.slots;
    const bool on_disk = config_.store.kind == "rocksdb";
    add("commit", 2 * count * facts_.learner.slot,
        times(2 * count, facts_.learner.slot) + ": a group that changes every slot, and the store's copy");
    if (on_disk) add("store", rocksdb_bytes, "cache, write buffers");
    else add("store", count * facts_.learner.slot, times(count, facts_.learner.slot) + ": store.kind = memory");
  }

  /// Text that gateways may send without being answered, as frame and as record; records in the pipeline as tokens (at
  /// most one for a byte), and as embeddings between encoding and routing.
  void queues() {
    const CommitConfig& commit = config_.commit;
    if (has(StageId::ingestion)) add("gateways", 2 * config_.gateway.credit_bytes, "2 x gateway.credit_bytes");
    constexpr std::size_t record_bytes = 256, token_copies = 2 * sizeof(std::int32_t);
    const std::size_t text = commit.groups_in_flight * commit.bytes;
    const std::size_t records = std::min<std::size_t>(commit.groups_in_flight * commit.records_max, text);
    const std::size_t embedded = std::min<std::size_t>(records, embedded_records_max);
    add("groups in flight",
        records * record_bytes + text * (1 + token_copies) + embedded * facts_.embedding_width * sizeof(float),
        std::to_string(records) + " records, " + std::to_string(embedded) + " of them with embeddings");
    if (facts_.hidden_tokens == 0) return;
    const std::size_t of_group = facts_.hidden_tokens * facts_.embedding_width * sizeof(float);
    add(shared_layers, 2 * commit.groups_in_flight * of_group,  // as frame and as record
        times(2 * commit.groups_in_flight, of_group) + ": hidden states of " + std::to_string(facts_.hidden_tokens) +
            " tokens of a group");
  }

  const Config& config_;
  const MemoryFacts& facts_;
  MemoryPlan plan_;
};

std::string sum_of(const MemoryPlan& plan) {
  std::string text;
  for (const MemoryLine& line : plan.lines) text += line.what + " " + megabytes(line.bytes) + " + ";
  return text + "activations " + megabytes(plan.activations_least) + " at least";
}

}  // namespace

std::size_t MemoryPlan::fixed() const {
  std::size_t sum = 0;
  for (const MemoryLine& line : lines) sum += line.bytes;
  return sum;
}

std::size_t MemoryPlan::activations() const {
  if (budget == 0 || activations_most == 0) return activations_most;
  return std::clamp(budget - std::min(budget, fixed()), activations_least, activations_most);
}

MemoryPlan plan_memory(const Config& config, const MemoryFacts& facts) { return Planner(config, facts).plan(); }

Status check_budget(const MemoryPlan& plan, const Config& config) {
  if (plan.fits()) return Done{};
  std::string cure = "fewer routing.slots, a lower lora.rank";
  if (config.base.weights != "quantised") cure += ", base.weights = \"quantised\"";
  const auto has = [&](const std::string& what) {
    return std::any_of(plan.lines.begin(), plan.lines.end(), [&](const MemoryLine& line) { return line.what == what; });
  };
  if (has(shared_layers)) cure += ", encoder.share = false with encoder.products = \"full\"";
  if (has(kept_layers)) cure += ", encoder.products = \"full\"";
  if (config.train.momentum_type != "bfloat16") cure += ", train.momentum_type = \"bfloat16\"";
  return Error{Fault::bad_config,
               "memory.budget_mb = " + std::to_string(config.memory.budget_mb) + ", but this process needs at least " +
                   std::to_string((plan.fixed() + plan.activations_least + mega - 1) / mega) + " MB: " + sum_of(plan) +
                   "; raise it, or choose " + cure + ", fewer train.tokens_per_step or a smaller gateway.credit_bytes"};
}

std::vector<std::string> describe(const MemoryPlan& plan) {
  std::vector<std::string> text;
  for (const MemoryLine& line : plan.lines)
    text.push_back(line.what + " " + megabytes(line.bytes) + " MB (" + line.how + ")");
  if (plan.activations_most > 0)
    text.push_back("activations " + megabytes(plan.activations()) + " MB (" + megabytes(plan.activations_least) +
                   " at least, " + megabytes(plan.activations_most) + " at most; a step keeps all of " +
                   std::to_string(plan.step.store_all) + " layers, computes the wide product of " +
                   std::to_string(plan.step.store_narrow) + " again, and all of " +
                   std::to_string(plan.step.store_inputs) + ")");
  const std::string sum = megabytes(plan.fixed() + plan.activations()) + " MB at most";
  text.push_back(plan.budget == 0 ? sum + "; memory.budget_mb sets no limit"
                                  : sum + ", of a budget of " + megabytes(plan.budget) + " MB");
  return text;
}

Result<std::size_t> resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  if (!(in >> size >> resident)) return Error{Fault::io, "/proc/self/statm cannot be read"};
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace kpool
