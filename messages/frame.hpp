// One serialised message: owning, move-only, aligned for Cap'n Proto, wiped when it dies, because it
// may hold a record's text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace kpool {

class Frame {
 public:
  Frame() = default;
  /// An uninitialised frame of `bytes`, a multiple of 8.
  explicit Frame(std::size_t bytes);
  /// A copy of foreign bytes (a socket's buffer), which may be misaligned. The size is kept as it
  /// is; decoding refuses one that is not a multiple of 8.
  static Frame copy(std::span<const std::byte> bytes);
  Frame(Frame&& other) noexcept;
  Frame& operator=(Frame&& other) noexcept;
  ~Frame();

  std::span<std::byte> bytes() { return {reinterpret_cast<std::byte*>(words_.get()), size_}; }
  std::span<const std::byte> bytes() const { return {reinterpret_cast<const std::byte*>(words_.get()), size_}; }
  bool empty() const { return size_ == 0; }
  /// Keeps the first `bytes` and wipes the rest.
  void truncate(std::size_t bytes);

 private:
  void wipe() noexcept;

  std::unique_ptr<std::uint64_t[]> words_;
  std::size_t size_ = 0;
};

}  // namespace kpool
