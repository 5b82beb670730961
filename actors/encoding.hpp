// Encoding: the frozen encoder turns text into tokens and an embedding. Owns the encoder; holds no
// durable state. A stage: one thread, no socket.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "actors/flight_journal.hpp"
#include "actors/stage.hpp"
#include "core/encoder.hpp"

namespace kpool {

using MakeEncoder = std::function<Result<std::unique_ptr<Encoder>>()>;

class Encoding : public Stage {
 public:
  /// identity: what the embeddings depend on.
  Encoding(MakeEncoder make, std::string identity, JournalPlace journal = {})
      : make_(std::move(make)), identity_(std::move(identity)), journal_place_(std::move(journal)) {}
  StageId id() const override { return StageId::encoding; }
  Status open() override;
  std::string identity() const override { return identity_; }
  Status start(std::uint64_t group, Outbox& out) override;
  Status on_message(pipeline::Message message, Outbox& out) override;
  std::string report() const override;

 private:
  std::vector<Encoded> encode(std::vector<Record> records);
  Encoded encode_one(Record record);

  const MakeEncoder make_;
  const std::string identity_;
  const JournalPlace journal_place_;
  std::unique_ptr<FlightJournal> journal_;
  std::unique_ptr<Encoder> encoder_;
  std::uint64_t group_ = 0;  ///< of the last barrier
  std::uint64_t records_ = 0, tokens_ = 0, refused_ = 0;
};

}  // namespace kpool
