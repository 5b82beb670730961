#include "messages/admin.hpp"

#include "messages/admin.capnp.h"
#include "messages/envelope.hpp"

namespace kpool::admin {
namespace {

using Envelope = schema::admin::Envelope;
using envelope::string;
using envelope::text;

void write(Envelope::Builder out, const StatusRequest&) { out.setStatus(); }
void write(Envelope::Builder out, const StatusReport& report) { out.setReport(text(report.json)); }
void write(Envelope::Builder out, const SnapshotRequest& request) { out.setSnapshot(text(request.directory)); }
void write(Envelope::Builder out, const Reply& reply) { out.setDone(text(reply.error)); }

void write(Envelope::Builder out, const ChangeRequest& request) {
  auto change = out.initChange();
  change.setSlot(request.slot);
  change.setWhat(static_cast<std::uint8_t>(request.what));
}

std::size_t words(const StatusRequest&) { return 0; }
std::size_t words(const StatusReport& report) { return envelope::text_words(report.json.size()); }
std::size_t words(const SnapshotRequest& request) { return envelope::text_words(request.directory.size()); }
std::size_t words(const ChangeRequest&) { return capnp::sizeInWords<schema::admin::Change>(); }
std::size_t words(const Reply& reply) { return envelope::text_words(reply.error.size()); }

Result<Message> read(schema::admin::Change::Reader in) {
  if (in.getWhat() > slot_change_max) return envelope::damaged("it wants something unknown of a slot");
  return Message(ChangeRequest{in.getSlot(), static_cast<SlotChange>(in.getWhat())});
}

}  // namespace

Frame encode(const Message& message) {
  return std::visit([](const auto& value) {
    envelope::FrameBuilder builder(capnp::sizeInWords<Envelope>() + words(value));
    write(builder.initRoot<Envelope>(), value);
    return builder.finish();
  }, message);
}

Result<Message> decode(const Frame& frame) {
  return envelope::read<Envelope, Message>(frame.bytes(), frame_bytes_max, [](Envelope::Reader in) -> Result<Message> {
    switch (in.which()) {
      case Envelope::STATUS: return Message(StatusRequest{});
      case Envelope::REPORT: return Message(StatusReport{string(in.getReport())});
      case Envelope::SNAPSHOT: return Message(SnapshotRequest{string(in.getSnapshot())});
      case Envelope::DONE: return Message(Reply{string(in.getDone())});
      case Envelope::CHANGE: return read(in.getChange());
    }
    return envelope::damaged("its kind is unknown");
  });
}

}  // namespace kpool::admin
