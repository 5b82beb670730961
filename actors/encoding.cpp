#include "actors/encoding.hpp"

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

namespace kpool {

Status Encoding::open() {
  auto made = make_();
  if (!made) return made.error();
  encoder_ = *std::move(made);
  return Done{};
}

Status Encoding::start(std::uint64_t group, Outbox&) {
  group_ = group;
  return Done{};
}

Status Encoding::on_message(pipeline::Message message, Outbox& out) {
  if (auto* barrier = std::get_if<pipeline::Barrier>(&message)) {
    const pipeline::Barrier mine{barrier->group, name(id())};
    group_ = barrier->group;
    out.send(StageId::persistence, mine);
    out.send(StageId::routing, mine);
    return Done{};
  }
  auto* records = std::get_if<pipeline::Records>(&message);
  if (!records) return Done{};
  pipeline::EncodedRecords encoded;
  pipeline::Refused refused{group_ + 1, {}};
  records_ += records->records.size();
  for (Encoded& result : encode(std::move(records->records))) {
    if (auto* record = std::get_if<EncodedRecord>(&result)) {
      tokens_ += record->tokens.size();
      encoded.records.push_back(std::move(*record));
    } else {
      refused.records.push_back(std::get<RefusedRecord>(result));
    }
  }
  refused_ += refused.records.size();
  if (!refused.records.empty()) out.send(StageId::persistence, std::move(refused));
  if (!encoded.records.empty()) out.send(StageId::routing, std::move(encoded));
  return Done{};
}

/// A record that makes the encoder throw is refused alone; its neighbours are encoded without it.
std::vector<Encoded> Encoding::encode(std::vector<Record> records) {
  std::vector<Encoded> results;
  for (Record& record : records) {
    const Origin origin = record.origin;
    std::vector<Record> one;
    one.push_back(std::move(record));
    try {
      auto encoded = encoder_->encode(std::move(one));
      KPOOL_ASSERT(encoded.size() == 1);
      results.push_back(std::move(encoded.front()));
    } catch (const std::exception& error) {
      spdlog::error("encoding: record {} of source {} was refused: {}", origin.seq, origin.source, error.what());
      results.push_back(RefusedRecord{origin, Refusal::internal});
    }
  }
  return results;
}

std::string Encoding::report() const {
  return nlohmann::json{{"records", records_}, {"tokens", tokens_}, {"refused", refused_}}.dump();
}

}  // namespace kpool
