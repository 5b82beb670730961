#include "messages/frame.hpp"

#include <string.h>

#include <cstring>
#include <utility>

#include "core/result.hpp"

namespace kpool {

Frame::Frame(std::size_t bytes)
    : words_(std::make_unique_for_overwrite<std::uint64_t[]>((bytes + 7) / 8)), size_(bytes) {}

Frame Frame::copy(std::span<const std::byte> bytes) {
  Frame frame(bytes.size());
  if (!bytes.empty()) std::memcpy(frame.words_.get(), bytes.data(), bytes.size());
  return frame;
}

Frame::Frame(Frame&& other) noexcept : words_(std::move(other.words_)), size_(std::exchange(other.size_, 0)) {}

Frame& Frame::operator=(Frame&& other) noexcept {
  if (this == &other) return *this;
  wipe();
  words_ = std::move(other.words_);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

Frame::~Frame() { wipe(); }

void Frame::truncate(std::size_t bytes) {
  KPOOL_ASSERT(bytes <= size_);
  if (bytes < size_) explicit_bzero(this->bytes().data() + bytes, size_ - bytes);
  size_ = bytes;
}

void Frame::wipe() noexcept {
  if (size_ != 0) explicit_bzero(words_.get(), size_);
}

}  // namespace kpool
