#include "bench/stub_model.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <set>

#include "storage/store.hpp"

namespace kpool {

namespace {

/// splitmix64
std::uint64_t next(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

float uniform(std::uint64_t& state) {
  return static_cast<float>(next(state) >> 40) / static_cast<float>(1 << 24) - 0.5f;
}

void stamp(std::span<std::int64_t> stamps, std::uint64_t seq) {
  using std::chrono::nanoseconds;
  if (seq < stamps.size()) stamps[seq] = std::chrono::steady_clock::now().time_since_epoch() / nanoseconds(1);
}

class StubEncoder : public Encoder {
 public:
  StubEncoder(std::size_t width, Stamps stamps) : width_(width), stamps_(stamps) {}
  std::vector<Encoded> encode(std::vector<Record> records) override {
    std::vector<Encoded> out;
    for (const Record& record : records) out.push_back(encode_one(record));
    return out;
  }
  std::size_t width() const override { return width_; }

 private:
  /// The text's first byte chooses the cloud, its hash the place in it.
  EncodedRecord encode_one(const Record& record) const {
    stamp(stamps_.encoded, record.origin.seq);
    EncodedRecord encoded{record.origin, 0, {}, {}};
    encoded.tokens.resize(std::max<std::size_t>(2, record.text.size() / 4));
    std::uint64_t noise = std::hash<std::string>{}(record.text);
    std::uint64_t center = static_cast<unsigned char>(record.text.front()) % 5;
    encoded.embedding.resize(width_);
    for (float& x : encoded.embedding) x = 8 * uniform(center) + uniform(noise) + uniform(noise) + uniform(noise);
    return encoded;
  }
  const std::size_t width_;
  const Stamps stamps_;
};

class StubLearner : public Learner {
 public:
  StubLearner(std::uint32_t slots, Stamps stamps) : stamps_(stamps), slots_(slots) {}
  std::optional<MergeReport> open(const Birth& birth) override {
    slots_.at(birth.slot) = {};
    return std::nullopt;
  }
  std::vector<StepReport> learn(std::uint32_t slot, Sample sample) override {
    stamp(stamps_.learned, sample.origin.seq);
    Counter& counter = slots_.at(slot);
    dirty_.insert(slot);
    ++counter.records;
    counter.pending += static_cast<std::uint32_t>(sample.tokens.size());
    return counter.pending < 512 ? std::vector<StepReport>{} : std::vector<StepReport>{step(slot)};
  }
  std::vector<StepReport> flush() override {
    std::vector<StepReport> reports;
    for (std::uint32_t slot = 0; slot < slots_.size(); ++slot)
      if (slots_[slot].pending > 0) reports.push_back(step(slot));
    return reports;
  }
  double agreement(std::uint32_t, std::uint32_t) const override { return 0; }
  std::vector<std::uint32_t> take_dirty() override {
    std::vector<std::uint32_t> dirty(dirty_.begin(), dirty_.end());
    dirty_.clear();
    return dirty;
  }
  std::string save(std::uint32_t slot) const override { return std::to_string(slots_.at(slot).records); }
  Status restore(std::uint32_t slot, std::string_view bytes) override {
    slots_.at(slot).records = std::stoull(std::string(bytes));
    return Done{};
  }

 private:
  struct Counter { std::uint64_t records = 0, steps = 0; std::uint32_t pending = 0; };
  StepReport step(std::uint32_t slot) {
    StepReport report;
    report.slot = slot;
    report.step = ++slots_[slot].steps;
    report.tokens = std::exchange(slots_[slot].pending, 0);
    report.loss = 1;
    return report;
  }
  const Stamps stamps_;
  std::vector<Counter> slots_;
  std::set<std::uint32_t> dirty_;
};

}  // namespace

Parts stub_parts(std::size_t width, std::uint32_t slots, const std::string& store_path, Stamps stamps) {
  Parts parts;
  parts.encoder = [width, stamps]() -> Result<std::unique_ptr<Encoder>> {
    return std::unique_ptr<Encoder>(std::make_unique<StubEncoder>(width, stamps));
  };
  parts.learner = [slots, stamps]() -> Result<std::unique_ptr<Learner>> {
    return std::unique_ptr<Learner>(std::make_unique<StubLearner>(slots, stamps));
  };
  parts.store = [store_path] { return open_store("rocksdb", store_path); };
  parts.embedding_width = width;
  parts.encoder_identity = parts.learner_identity = "stub";
  return parts;
}

}  // namespace kpool
