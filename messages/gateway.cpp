#include "messages/gateway.hpp"

#include "messages/envelope.hpp"
#include "messages/gateway.capnp.h"

namespace kpool::gateway {
namespace {

using Envelope = schema::gateway::Envelope;
using envelope::list_words;
using envelope::string;
using RefusedBuilder = capnp::List<schema::gateway::Refused>::Builder;
using RefusedReader = capnp::List<schema::gateway::Refused>::Reader;

void write(RefusedBuilder out, const std::vector<RefusedSeq>& refused) {
  for (unsigned i = 0; i < out.size(); ++i) {
    out[i].setSeq(refused[i].seq);
    out[i].setReason(static_cast<std::uint8_t>(refused[i].reason));
  }
}

void write(Envelope::Builder envelope, const Hello& hello) {
  auto out = envelope.initHello();
  out.setVersion(hello.version);
  out.setEpoch(hello.epoch);
  out.setLastAcked(hello.last_acked);
  out.setFirstUnacked(hello.first_unacked);
}

void write(Envelope::Builder envelope, const Welcome& welcome) {
  auto out = envelope.initWelcome();
  out.setVersion(welcome.version);
  out.setEpoch(welcome.epoch);
  out.setWatermark(welcome.watermark);
  out.setCreditBytes(welcome.credit_bytes);
  out.setCreditRecords(welcome.credit_records);
  out.setRecordBytesMax(welcome.record_bytes_max);
  write(out.initRefused(welcome.refused.size()), welcome.refused);
}

void write(Envelope::Builder envelope, const Flush& flush) {
  auto out = envelope.initFlush();
  out.setEpoch(flush.epoch);
  out.setUpTo(flush.up_to);
}

void write(Envelope::Builder envelope, const Ack& ack) {
  auto out = envelope.initAck();
  out.setEpoch(ack.epoch);
  out.setUpTo(ack.up_to);
  write(out.initRefused(ack.refused.size()), ack.refused);
  out.setCreditBytes(ack.credit_bytes);
  out.setCreditRecords(ack.credit_records);
}

void write(Envelope::Builder envelope, const Refuse& refuse) {
  auto out = envelope.initRefuse();
  out.setReason(static_cast<schema::gateway::Refuse::Reason>(refuse.reason));
  out.setDetail(envelope::text(refuse.detail));
  out.setExpectedSeq(refuse.expected_seq);
  out.setFinal(refuse.final);
}

void write(Envelope::Builder envelope, const Ping&) { envelope.setPing(); }

std::size_t words(const Hello&) { return capnp::sizeInWords<schema::gateway::Hello>(); }
std::size_t words(const Welcome& welcome) {
  return capnp::sizeInWords<schema::gateway::Welcome>() + list_words<schema::gateway::Refused>(welcome.refused.size());
}
std::size_t words(const Flush&) { return capnp::sizeInWords<schema::gateway::Flush>(); }
std::size_t words(const Ack& ack) {
  return capnp::sizeInWords<schema::gateway::Ack>() + list_words<schema::gateway::Refused>(ack.refused.size());
}
std::size_t words(const Refuse& refuse) {
  return capnp::sizeInWords<schema::gateway::Refuse>() + envelope::text_words(refuse.detail.size());
}
std::size_t words(const Ping&) { return 0; }

template <class Value>
Frame build(const Value& value) {
  envelope::FrameBuilder builder(capnp::sizeInWords<Envelope>() + words(value));
  write(builder.initRoot<Envelope>(), value);
  return builder.finish();
}

Frame build(const Data& data) {
  std::vector<RecordView> views;
  views.reserve(data.records.size());
  for (const auto& record : data.records) views.push_back({record.text, record.prompt_bytes});
  return encode_data(data.epoch, data.first_seq, views);
}

std::vector<RefusedSeq> read(RefusedReader in) {
  std::vector<RefusedSeq> refused;
  refused.reserve(in.size());
  for (auto item : in) refused.push_back({item.getSeq(), static_cast<Refusal>(item.getReason())});
  return refused;
}

Result<Message> read(schema::gateway::Batch::Reader in) {
  Data data{in.getEpoch(), in.getFirstSeq(), {}};
  const auto records = in.getRecords();
  if (records.size() > data_records_max) {
    return Error{Fault::bad_input, "the data message claims " + std::to_string(records.size()) +
                                       " records, more than the limit of " + std::to_string(data_records_max)};
  }
  data.records.reserve(records.size());
  for (auto record : records) data.records.push_back({string(record.getText()), record.getPromptBytes()});
  return Message(std::move(data));
}

Message read(schema::gateway::Welcome::Reader in) {
  return Welcome{in.getVersion(),       in.getEpoch(),          in.getWatermark(),     in.getCreditBytes(),
                 in.getCreditRecords(), in.getRecordBytesMax(), read(in.getRefused())};
}

Result<Message> read(Envelope::Reader envelope) {
  switch (envelope.which()) {
    case Envelope::HELLO: {
      const auto in = envelope.getHello();
      return Message(Hello{in.getVersion(), in.getEpoch(), in.getLastAcked(), in.getFirstUnacked()});
    }
    case Envelope::WELCOME: return read(envelope.getWelcome());
    case Envelope::DATA: return read(envelope.getData());
    case Envelope::FLUSH: {
      const auto in = envelope.getFlush();
      return Message(Flush{in.getEpoch(), in.getUpTo()});
    }
    case Envelope::ACK: {
      const auto in = envelope.getAck();
      return Message(
          Ack{in.getEpoch(), in.getUpTo(), read(in.getRefused()), in.getCreditBytes(), in.getCreditRecords()});
    }
    case Envelope::REFUSE: {
      const auto in = envelope.getRefuse();
      return Message(Refuse{static_cast<RefuseReason>(in.getReason()), string(in.getDetail()), in.getExpectedSeq(),
                            in.getFinal()});
    }
    case Envelope::PING: return Message(Ping{});
  }
  return envelope::damaged("its kind is unknown");
}

}  // namespace

Frame encode_data(std::uint64_t epoch, std::uint64_t first_seq, std::span<const RecordView> records) {
  KPOOL_ASSERT(records.size() <= data_records_max);
  std::size_t words = capnp::sizeInWords<Envelope>() + capnp::sizeInWords<schema::gateway::Batch>() +
                      list_words<schema::gateway::Record>(records.size());
  for (const auto& record : records) words += envelope::array_words(record.text.size(), 1);
  envelope::FrameBuilder builder(words);
  auto out = builder.initRoot<Envelope>().initData();
  out.setEpoch(epoch);
  out.setFirstSeq(first_seq);
  auto list = out.initRecords(records.size());
  for (unsigned i = 0; i < list.size(); ++i) {
    list[i].setText(envelope::data(records[i].text));
    list[i].setPromptBytes(records[i].prompt_bytes);
  }
  return builder.finish();
}

Frame encode(const Message& message) {
  return std::visit([](const auto& value) { return build(value); }, message);
}

Result<Message> decode(const Frame& frame) {
  return envelope::read<Envelope, Message>(frame.bytes(), frame_bytes_max,
                                           [](Envelope::Reader in) { return read(in); });
}

}  // namespace kpool::gateway
