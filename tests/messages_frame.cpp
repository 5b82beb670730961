#include "messages/frame.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <new>
#include <string_view>

#include "messages/envelope.hpp"
#include "messages/gateway.capnp.h"
#include "tests/messages_support.hpp"

using namespace kpool;

namespace {

// A block of memory whose bytes are looked at in the moment it is freed.
struct Watched {
  const void* memory = nullptr;
  std::size_t size = 0;
  bool was_freed = false, was_wiped = false;
} watched;

void watch(const Frame& frame) { watched = {frame.bytes().data(), frame.bytes().size(), false, false}; }

}  // namespace

void operator delete[](void* memory) noexcept {
  if (memory != nullptr && memory == watched.memory) {
    watched.was_freed = true;
    watched.was_wiped = std::string_view(static_cast<const char*>(memory), watched.size)
                            .find_first_not_of('\0') == std::string_view::npos;
    watched.memory = nullptr;
  }
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept { operator delete[](memory); }
void* operator new[](std::size_t size) {
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

TEST_CASE("a frame copies misaligned bytes into aligned memory") {
  const std::string text = "xabcdefgh";
  const Frame frame = Frame::copy(std::as_bytes(std::span(text)).subspan(1));
  CHECK(test::bytes_of(frame) == "abcdefgh");
  CHECK(reinterpret_cast<std::uintptr_t>(frame.bytes().data()) % 8 == 0);
}

TEST_CASE("a frame moves and leaves nothing behind") {
  Frame first = test::frame_of("abcdefgh");
  Frame second = std::move(first);
  CHECK(first.empty());
  second = test::frame_of("12345678");
  CHECK(test::bytes_of(second) == "12345678");
  CHECK(Frame().empty());
}

TEST_CASE("truncating a frame wipes what is cut off") {
  Frame frame = test::frame_of("abcdefgh");
  const std::byte* memory = frame.bytes().data();
  frame.truncate(3);
  CHECK(test::bytes_of(frame) == "abc");
  for (int i = 3; i < 8; ++i) CHECK(memory[i] == std::byte{0});
}

TEST_CASE("a frame's memory is zero when it is given back") {
  const std::string secret = "a record's text!";
  { Frame frame = test::frame_of(secret); watch(frame); }
  CHECK(watched.was_wiped);
  Frame assigned = test::frame_of(secret);
  watch(assigned);
  assigned = Frame(8);
  CHECK(watched.was_wiped);
  Frame moved_to;
  { Frame moved_from = test::frame_of(secret); watch(moved_from); moved_to = std::move(moved_from); }
  CHECK(test::bytes_of(moved_to) == secret);
  CHECK_FALSE(watched.was_freed);
  moved_to = Frame();
  CHECK(watched.was_wiped);
}

TEST_CASE("a message that outgrows the guessed size is still one flat frame") {
  using Envelope = kpool::schema::gateway::Envelope;
  for (const std::size_t guess : {0u, 1u, 4u, 100u, 100000u}) {
    envelope::FrameBuilder builder(guess);
    auto records = builder.initRoot<Envelope>().initData().initRecords(300);
    const std::string text(100, 'x');
    for (auto record : records) record.setText(envelope::data(text));
    const Frame frame = builder.finish();
    CHECK(frame.bytes().size() % 8 == 0);
    const auto bytes = frame.bytes();
    auto count = envelope::read<Envelope, std::size_t>(bytes, 1 << 20, [&](Envelope::Reader in) -> Result<std::size_t> {
      std::size_t same = 0;
      for (auto record : in.getData().getRecords()) same += envelope::string(record.getText()) == text;
      return same;
    });
    REQUIRE(count);
    CHECK(*count == 300);
  }
}
