#include "messages/envelope.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kpool::envelope {
namespace {

constexpr std::size_t word_bytes = sizeof(capnp::word);
constexpr std::size_t table_bytes = 8;  // of one segment: their number less one, and its length

Frame zeroed(std::size_t bytes) {
  Frame frame(bytes);
  std::memset(frame.bytes().data(), 0, bytes);
  return frame;
}

}  // namespace

FrameBuilder::FrameBuilder(std::size_t content_words)
    : first_(zeroed(table_bytes + (1 + content_words) * word_bytes)) {}

kj::ArrayPtr<capnp::word> FrameBuilder::allocateSegment(unsigned minimum_words) {
  if (!used_) {
    used_ = true;
    const std::size_t words = (first_.bytes().size() - table_bytes) / word_bytes;
    if (words >= minimum_words) {
      return {reinterpret_cast<capnp::word*>(first_.bytes().data() + table_bytes), words};
    }
  }
  more_.push_back(zeroed(std::max<std::size_t>(minimum_words, 1024) * word_bytes));
  auto bytes = more_.back().bytes();
  return {reinterpret_cast<capnp::word*>(bytes.data()), bytes.size() / word_bytes};
}

Frame FrameBuilder::finish() {
  const auto segments = getSegmentsForOutput();
  if (segments.size() == 1 && more_.empty()) {
    const std::uint32_t table[2] = {0, static_cast<std::uint32_t>(segments[0].size())};
    std::memcpy(first_.bytes().data(), table, sizeof table);
    first_.truncate(table_bytes + segments[0].size() * word_bytes);
    return std::move(first_);
  }
  Frame flat(capnp::computeSerializedSizeInWords(segments) * word_bytes);
  std::vector<std::uint32_t> table((segments.size() / 2 + 1) * 2, 0);
  table[0] = static_cast<std::uint32_t>(segments.size() - 1);
  for (std::size_t i = 0; i < segments.size(); ++i) table[i + 1] = static_cast<std::uint32_t>(segments[i].size());
  std::byte* at = flat.bytes().data();
  std::memcpy(at, table.data(), table.size() * sizeof table[0]);
  at += table.size() * sizeof table[0];
  for (const auto& segment : segments) {
    std::memcpy(at, segment.begin(), segment.size() * word_bytes);
    at += segment.size() * word_bytes;
  }
  return flat;
}

Status check_size(Bytes frame, std::size_t bytes_max) {
  const std::size_t size = frame.size();
  if (size == 0) return Error{Fault::bad_input, "the frame is empty"};
  if (size % word_bytes != 0) {
    return Error{Fault::bad_input, "the frame of " + std::to_string(size) + " bytes is not whole words of 8 bytes"};
  }
  if (size > bytes_max) {
    return Error{Fault::bad_input, "the frame of " + std::to_string(size) + " bytes is longer than the limit of " +
                                       std::to_string(bytes_max)};
  }
  return Done{};
}

Error damaged(const char* why) { return {Fault::bad_input, std::string("the frame is damaged: ") + why}; }

capnp::ReaderOptions limits(Bytes frame) {
  capnp::ReaderOptions options;
  // Pointers may overlap, so a small frame can claim to hold a large message: what is read of it is
  // bounded by a multiple of what was received.
  options.traversalLimitInWords = std::max<std::uint64_t>(4 * (frame.size() / word_bytes), 1024);
  options.nestingLimit = 8;
  return options;
}

}  // namespace kpool::envelope
