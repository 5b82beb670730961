#include <algorithm>

#include "messages/envelope.hpp"
#include "messages/pipeline.capnp.h"
#include "messages/pipeline.hpp"

namespace kpool::pipeline {
namespace {

namespace schema = kpool::schema::pipeline;
using envelope::array_words;
using envelope::list_words;
using envelope::text;
using envelope::text_words;
using Out = schema::Envelope::Builder;

template <class Schema>
constexpr std::size_t size = capnp::sizeInWords<Schema>();

// The words behind the envelope, so that each message is built in one piece of the right size.

std::size_t words(const Join& join) {
  return size<schema::Join> + text_words(join.stage.size()) + text_words(join.identity.size());
}
std::size_t value_words(const std::string& key, const std::string& value) {
  return size<schema::Value> + text_words(key.size()) + array_words(value.size(), 1);
}
std::size_t words(const Restore& restore) { return value_words(restore.key, restore.value); }
std::size_t words(const Part& part) { return value_words(part.key, part.value); }
std::size_t words(const Restored&) { return size<schema::Restored>; }
std::size_t words(const Records& message) {
  std::size_t sum = list_words<schema::Record>(message.records.size());
  for (const auto& record : message.records) sum += size<schema::Origin> + text_words(record.text.size());
  return sum;
}
std::size_t words(const HiddenStates& hidden) {
  return size<schema::HiddenStates> + array_words(hidden.values.size(), 4);
}
std::size_t words(const EncodedRecords& message) {
  std::size_t sum = list_words<schema::EncodedRecord>(message.records.size());
  for (const auto& record : message.records) {
    sum += size<schema::Origin> + array_words(record.tokens.size(), 4) + array_words(record.embedding.size(), 4) +
           words(record.hidden);
  }
  return sum;
}
std::size_t words(const Routed& routed) {
  std::size_t sum = size<schema::Routed> + list_words<schema::Sample>(routed.samples.size());
  for (const auto& sample : routed.samples)
    sum += size<schema::Origin> + array_words(sample.tokens.size(), 4) + words(sample.hidden);
  return sum;
}
std::size_t words(const Birth&) { return size<schema::Birth>; }
std::size_t words(const Trained&) { return size<schema::Trained>; }
std::size_t refused_words(std::size_t n) { return list_words<schema::Refused>(n) + n * size<schema::Origin>; }
std::size_t words(const Refused& refused) { return size<schema::Refusals> + refused_words(refused.records.size()); }
std::size_t words(const std::optional<MergePair>& pair) { return pair ? size<schema::MergePair> : 0; }
std::size_t words(const Barrier& barrier) {
  return size<schema::Barrier> + text_words(barrier.stage.size()) + words(barrier.merge);
}
std::size_t words(const Durable& durable) { return size<schema::Refusals> + refused_words(durable.refused.size()); }
std::size_t words(const Ranking& ranking) {
  std::size_t sum = size<schema::Ranking> + list_words<schema::SlotScore>(ranking.slots.size()) + words(ranking.merge);
  for (const auto& slot : ranking.slots) sum += text_words(slot.reason.size());
  return sum;
}
std::size_t words(const Report& report) {
  return size<schema::Report> + text_words(report.stage.size()) + text_words(report.json.size());
}
std::size_t words(const Snapshot& snapshot) { return size<schema::Snapshot> + text_words(snapshot.directory.size()); }
std::size_t words(const Answer& done) { return size<schema::Answer> + text_words(done.error.size()); }
std::size_t words(const Change&) { return size<schema::Change>; }
std::size_t words(const Setting& setting) { return size<schema::Setting> + value_words(setting.key, setting.value); }
std::size_t words(const Reset& reset) { return text_words(reset.why.size()); }
std::size_t words(const Mark&) { return 0; }

void write(schema::Origin::Builder out, const Origin& origin) {
  out.setSource(origin.source);
  out.setSeq(origin.seq);
}

void write(schema::Value::Builder out, const std::string& key, const std::string& value) {
  out.setKey(text(key));
  out.setValue(envelope::data(value));
}

void write(capnp::List<schema::Refused>::Builder out, const std::vector<RefusedRecord>& refused) {
  for (unsigned i = 0; i < out.size(); ++i) {
    write(out[i].initOrigin(), refused[i].origin);
    out[i].setReason(static_cast<std::uint8_t>(refused[i].reason));
  }
}

template <class List, class T>
void write_numbers(List out, const std::vector<T>& values) {
  for (unsigned i = 0; i < out.size(); ++i) out.set(i, values[i]);
}

void write(schema::HiddenStates::Builder out, const HiddenStates& hidden) {
  out.setLayers(hidden.layers);
  write_numbers(out.initValues(hidden.values.size()), hidden.values);
}

void write(Out envelope, const Join& join) {
  auto out = envelope.initJoin();
  out.setStage(text(join.stage));
  out.setInstance(join.instance);
  out.setIdentity(text(join.identity));
}

void write(Out envelope, const Restore& restore) { write(envelope.initRestore(), restore.key, restore.value); }
void write(Out envelope, const Part& part) {
  auto out = envelope.initPart();
  out.setGroup(part.group);
  write(out, part.key, part.value);
}

void write(Out envelope, const Restored& restored) {
  auto out = envelope.initRestored();
  out.setGroup(restored.group);
  out.setValues(restored.values);
}

void write(Out envelope, const Records& message) {
  auto out = envelope.initRecords(message.records.size());
  for (unsigned i = 0; i < out.size(); ++i) {
    const auto& record = message.records[i];
    write(out[i].initOrigin(), record.origin);
    out[i].setPromptBytes(record.prompt_bytes);
    out[i].setText(text(record.text));
  }
}

void write(Out envelope, const EncodedRecords& message) {
  auto out = envelope.initEncoded(message.records.size());
  for (unsigned i = 0; i < out.size(); ++i) {
    const auto& record = message.records[i];
    write(out[i].initOrigin(), record.origin);
    out[i].setPromptTokens(record.prompt_tokens);
    write_numbers(out[i].initTokens(record.tokens.size()), record.tokens);
    write_numbers(out[i].initEmbedding(record.embedding.size()), record.embedding);
    write(out[i].initHidden(), record.hidden);
  }
}

void write(Out envelope, const Routed& routed) {
  auto out = envelope.initRouted();
  out.setSlot(routed.slot);
  auto samples = out.initSamples(routed.samples.size());
  for (unsigned i = 0; i < samples.size(); ++i) {
    const auto& sample = routed.samples[i];
    write(samples[i].initOrigin(), sample.origin);
    samples[i].setPromptTokens(sample.prompt_tokens);
    write_numbers(samples[i].initTokens(sample.tokens.size()), sample.tokens);
    write(samples[i].initHidden(), sample.hidden);
  }
}

void write(Out envelope, const Birth& birth) {
  auto out = envelope.initBirth();
  out.setSlot(birth.slot);
  out.setGeneration(birth.generation);
  out.setEvicts(birth.evicts);
  out.setMerges(birth.merged_into.has_value());
  out.setMergedInto(birth.merged_into.value_or(0));
}

void write(Out envelope, const Trained& trained) {
  auto out = envelope.initTrained();
  const StepReport& report = trained.report;
  out.setSlot(report.slot);
  out.setStep(report.step);
  out.setTokens(report.tokens);
  out.setRecords(report.records);
  out.setLoss(report.loss);
  out.setHasGain(report.gain.has_value());
  out.setGain(report.gain.value_or(0));
  out.setHasSharpness(report.sharpness.has_value());
  out.setSharpness(report.sharpness.value_or(0));
  out.setHasRival(report.rival.has_value());
  out.setRivalSlot(report.rival.value_or(Rival{}).slot);
  out.setRivalLoss(report.rival.value_or(Rival{}).loss);
}

void write(Out envelope, const Refused& refused) {
  auto out = envelope.initRefused();
  out.setGroup(refused.group);
  write(out.initRefused(refused.records.size()), refused.records);
}

/// out: the barrier or ranking that it belongs to.
void write_pair(auto out, const std::optional<MergePair>& pair) {
  if (!pair) return;
  auto written = out.initMerge();
  written.setLesser(pair->lesser);
  written.setGreater(pair->greater);
  written.setBirth(pair->birth);
  written.setAgreement(pair->agreement);
}

void write(Out envelope, const Barrier& barrier) {
  auto out = envelope.initBarrier();
  out.setGroup(barrier.group);
  out.setStage(text(barrier.stage));
  write_pair(out, barrier.merge);
}

void write(Out envelope, const Durable& durable) {
  auto out = envelope.initDurable();
  out.setGroup(durable.group);
  write(out.initRefused(durable.refused.size()), durable.refused);
}

void write(Out envelope, const Ranking& ranking) {
  auto out = envelope.initRanking();
  out.setGroup(ranking.group);
  auto slots = out.initSlots(ranking.slots.size());
  for (unsigned i = 0; i < slots.size(); ++i) {
    const SlotScore& score = ranking.slots[i];
    auto slot = slots[i];
    slot.setSlot(score.slot);
    slot.setGeneration(score.generation);
    slot.setSteps(score.steps);
    slot.setTokens(score.tokens);
    slot.setLoss(score.loss);
    slot.setGain(score.gain);
    slot.setSharpness(score.sharpness);
    slot.setFragility(score.fragility);
    slot.setValue(score.value);
    slot.setReason(text(score.reason));
  }
  write_pair(out, ranking.merge);
}

void write(Out envelope, const Report& report) {
  auto out = envelope.initReport();
  out.setStage(text(report.stage));
  out.setJson(text(report.json));
}

void write(Out envelope, const Snapshot& snapshot) {
  auto out = envelope.initSnapshot();
  out.setId(snapshot.id);
  out.setDirectory(text(snapshot.directory));
}

void write(Out envelope, const Answer& done) {
  auto out = envelope.initAnswer();
  out.setId(done.id);
  out.setError(text(done.error));
}

void write(Out envelope, const Change& change) {
  auto out = envelope.initChange();
  out.setId(change.id);
  out.setSlot(change.slot);
  out.setWhat(static_cast<std::uint8_t>(change.what));
}

void write(Out envelope, const Setting& setting) {
  auto out = envelope.initSetting();
  out.setId(setting.id);
  write(out.initValue(), setting.key, setting.value);
}

void write(Out envelope, const Reset& reset) { envelope.setReset(text(reset.why)); }
void write(Out envelope, const Mark&) { envelope.setMark(); }

}  // namespace

Frame encode(const Message& message, const Tag& tag) {
  return std::visit([&tag](const auto& value) {
    const std::size_t content = size<schema::Envelope> + words(value);
    KPOOL_ASSERT(content * sizeof(capnp::word) < frame_bytes_max);
    envelope::FrameBuilder builder(content);
    auto out = builder.initRoot<schema::Envelope>();
    out.setRun(tag.run);
    out.setFrom(tag.from);
    out.setNumber(tag.number);
    write(out, value);
    return builder.finish();
  }, message);
}

}  // namespace kpool::pipeline
