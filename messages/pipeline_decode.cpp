#include "messages/envelope.hpp"
#include "messages/pipeline.capnp.h"
#include "messages/pipeline.hpp"

namespace kpool::pipeline {
namespace {

namespace schema = kpool::schema::pipeline;
using envelope::string;

Origin read(schema::Origin::Reader in) { return {in.getSource(), in.getSeq()}; }

template <class T, class List>
std::vector<T> read_numbers(List in) {
  std::vector<T> values(in.size());
  for (unsigned i = 0; i < values.size(); ++i) values[i] = in[i];
  return values;
}

std::vector<RefusedRecord> read(capnp::List<schema::Refused>::Reader in) {
  std::vector<RefusedRecord> refused;
  refused.reserve(in.size());
  for (auto item : in) refused.push_back({read(item.getOrigin()), static_cast<Refusal>(item.getReason())});
  return refused;
}

Join read(schema::Join::Reader in) { return {string(in.getStage()), in.getInstance(), string(in.getIdentity())}; }

Records read(capnp::List<schema::Record>::Reader in) {
  Records message;
  message.records.reserve(in.size());
  for (auto record : in) {
    message.records.push_back({read(record.getOrigin()), record.getPromptBytes(), string(record.getText())});
  }
  return message;
}

HiddenStates read(schema::HiddenStates::Reader in) { return {in.getLayers(), read_numbers<float>(in.getValues())}; }

EncodedRecords read(capnp::List<schema::EncodedRecord>::Reader in) {
  EncodedRecords message;
  message.records.reserve(in.size());
  for (auto record : in) {
    message.records.push_back({read(record.getOrigin()), record.getPromptTokens(),
                               read_numbers<std::int32_t>(record.getTokens()),
                               read_numbers<float>(record.getEmbedding()),
                               read(record.getHidden())});
  }
  return message;
}

Routed read(schema::Routed::Reader in) {
  Routed routed{in.getSlot(), {}};
  const auto samples = in.getSamples();
  routed.samples.reserve(samples.size());
  for (auto sample : samples) {
    routed.samples.push_back({read(sample.getOrigin()), sample.getPromptTokens(),
                              read_numbers<std::int32_t>(sample.getTokens()),
                              read(sample.getHidden())});
  }
  return routed;
}

Trained read(schema::Trained::Reader in) {
  StepReport report;
  report.slot = in.getSlot();
  report.step = in.getStep();
  report.tokens = in.getTokens();
  report.records = in.getRecords();
  report.loss = in.getLoss();
  if (in.getHasGain()) report.gain = in.getGain();
  if (in.getHasSharpness()) report.sharpness = in.getSharpness();
  if (in.getHasRival()) report.rival = Rival{in.getRivalSlot(), in.getRivalLoss()};
  return {std::move(report)};
}

std::optional<MergePair> read_pair(auto in) {
  if (!in.hasMerge()) return std::nullopt;
  const auto pair = in.getMerge();
  return MergePair{pair.getLesser(), pair.getGreater(), pair.getBirth(), pair.getAgreement()};
}

Ranking read(schema::Ranking::Reader in) {
  Ranking ranking{in.getGroup(), {}};
  const auto slots = in.getSlots();
  ranking.slots.reserve(slots.size());
  for (auto slot : slots) {
    SlotScore score;
    score.slot = slot.getSlot();
    score.generation = slot.getGeneration();
    score.steps = slot.getSteps();
    score.tokens = slot.getTokens();
    score.loss = slot.getLoss();
    score.gain = slot.getGain();
    score.sharpness = slot.getSharpness();
    score.fragility = slot.getFragility();
    score.value = slot.getValue();
    score.reason = string(slot.getReason());
    ranking.slots.push_back(std::move(score));
  }
  ranking.merge = read_pair(in);
  return ranking;
}

Restore read_restore(schema::Value::Reader in) { return {string(in.getKey()), string(in.getValue())}; }
Part read_part(schema::Value::Reader in) { return {in.getGroup(), string(in.getKey()), string(in.getValue())}; }

template <class Refusals>
Refusals read_refusals(schema::Refusals::Reader in) { return {in.getGroup(), read(in.getRefused())}; }

Restored read(schema::Restored::Reader in) { return {in.getGroup(), in.getValues()}; }
Birth read(schema::Birth::Reader in) {
  Birth birth{in.getSlot(), in.getGeneration(), in.getEvicts(), std::nullopt};
  if (in.getMerges()) birth.merged_into = in.getMergedInto();
  return birth;
}
Barrier read(schema::Barrier::Reader in) { return {in.getGroup(), string(in.getStage()), read_pair(in)}; }

Report read(schema::Report::Reader in) { return {string(in.getStage()), string(in.getJson())}; }
Snapshot read(schema::Snapshot::Reader in) { return {in.getId(), string(in.getDirectory())}; }
Answer read(schema::Answer::Reader in) { return {in.getId(), string(in.getError())}; }

Setting read(schema::Setting::Reader in) {
  return {in.getId(), string(in.getValue().getKey()), string(in.getValue().getValue())};
}
Result<Message> read(schema::Change::Reader in) {
  if (in.getWhat() > slot_change_max) return envelope::damaged("it wants something unknown of a slot");
  return Message(Change{in.getId(), in.getSlot(), static_cast<SlotChange>(in.getWhat())});
}

Result<Message> read_message(schema::Envelope::Reader in) {
  switch (in.which()) {
    case schema::Envelope::JOIN: return Message(read(in.getJoin()));
    case schema::Envelope::RESTORE: return Message(read_restore(in.getRestore()));
    case schema::Envelope::RESTORED: return Message(read(in.getRestored()));
    case schema::Envelope::RECORDS: return Message(read(in.getRecords()));
    case schema::Envelope::ENCODED: return Message(read(in.getEncoded()));
    case schema::Envelope::ROUTED: return Message(read(in.getRouted()));
    case schema::Envelope::BIRTH: return Message(read(in.getBirth()));
    case schema::Envelope::TRAINED: return Message(read(in.getTrained()));
    case schema::Envelope::REFUSED: return Message(read_refusals<Refused>(in.getRefused()));
    case schema::Envelope::BARRIER: return Message(read(in.getBarrier()));
    case schema::Envelope::PART: return Message(read_part(in.getPart()));
    case schema::Envelope::DURABLE: return Message(read_refusals<Durable>(in.getDurable()));
    case schema::Envelope::RANKING: return Message(read(in.getRanking()));
    case schema::Envelope::REPORT: return Message(read(in.getReport()));
    case schema::Envelope::SNAPSHOT: return Message(read(in.getSnapshot()));
    case schema::Envelope::ANSWER: return Message(read(in.getAnswer()));
    case schema::Envelope::RESET: return Message(Reset{string(in.getReset())});
    case schema::Envelope::MARK: return Message(Mark{});
    case schema::Envelope::CHANGE: return read(in.getChange());
    case schema::Envelope::SETTING: return Message(read(in.getSetting()));
  }
  return envelope::damaged("its kind is unknown");
}

}  // namespace

Result<Decoded> decode(const Frame& frame) { return decode_in_place(frame.bytes()); }

Result<Decoded> decode_in_place(std::span<const std::byte> frame) {
  return envelope::read<schema::Envelope, Decoded>(frame, frame_bytes_max, [](auto in) -> Result<Decoded> {
    auto message = read_message(in);
    if (!message) return std::move(message.error());
    return Decoded{in.getRun(), std::move(*message), in.getFrom(), in.getNumber()};
  });
}

}  // namespace kpool::pipeline
