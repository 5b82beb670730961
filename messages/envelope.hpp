// How the three codecs write and read one Cap'n Proto envelope: exact-size building into a Frame, and
// reading under limits. Included by the codecs alone; no other file sees a kj::Exception.
#pragma once

#include <capnp/generated-header-support.h>
#include <capnp/message.h>
#include <capnp/serialize.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.hpp"
#include "messages/frame.hpp"

namespace kpool::envelope {

/// Words of a list of n structs T, of a text, and of n values of `bytes` each.
template <class T>
constexpr std::size_t list_words(std::size_t n) { return 1 + n * capnp::sizeInWords<T>(); }
constexpr std::size_t text_words(std::size_t bytes) { return bytes / 8 + 1; }
constexpr std::size_t array_words(std::size_t n, std::size_t bytes) { return (n * bytes + 7) / 8; }

inline capnp::Text::Reader text(const std::string& value) { return {value.c_str(), value.size()}; }
inline capnp::Data::Reader data(std::string_view value) {
  return {reinterpret_cast<const kj::byte*>(value.data()), value.size()};
}
inline std::string string(capnp::Text::Reader value) { return {value.begin(), value.size()}; }
inline std::string string(capnp::Data::Reader value) {
  return {reinterpret_cast<const char*>(value.begin()), value.size()};
}

/// Builds one message in place: its first segment lies in the frame behind the segment table, so a
/// right guess of the words means no copy. A low guess costs one.
class FrameBuilder final : public capnp::MessageBuilder {
 public:
  /// content_words: of everything behind the root pointer.
  explicit FrameBuilder(std::size_t content_words);
  kj::ArrayPtr<capnp::word> allocateSegment(unsigned minimum_words) override;
  /// The finished frame; the builder is spent.
  Frame finish();

 private:
  Frame first_;
  std::vector<Frame> more_;
  bool used_ = false;
};

using Bytes = std::span<const std::byte>;  ///< of one frame, aligned for words

/// What is wrong with the frame's size, or nothing.
Status check_size(Bytes frame, std::size_t bytes_max);
Error damaged(const char* why);
capnp::ReaderOptions limits(Bytes frame);

/// Reads the envelope with `read(Envelope::Reader) -> Result<T>`. Never throws.
template <class Envelope, class T, class Read>
Result<T> read(Bytes frame, std::size_t bytes_max, Read&& read) {
  if (auto size = check_size(frame, bytes_max); !size) return size.error();
  KPOOL_ASSERT(reinterpret_cast<std::uintptr_t>(frame.data()) % alignof(capnp::word) == 0);
  try {
    capnp::FlatArrayMessageReader reader(
        kj::arrayPtr(reinterpret_cast<const capnp::word*>(frame.data()), frame.size() / sizeof(capnp::word)),
        limits(frame));
    return read(reader.getRoot<Envelope>());
  } catch (const kj::Exception& exception) {
    return damaged(exception.getDescription().cStr());
  }
}

}  // namespace kpool::envelope
