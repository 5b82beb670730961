#include "messages/gateway.hpp"

#include <catch2/catch.hpp>

#include "messages/envelope.hpp"
#include "messages/gateway.capnp.h"
#include "tests/messages_support.hpp"

using namespace kpool;
using namespace kpool::gateway;

namespace {

template <class T>
T through(const T& value) {
  auto message = decode(encode(value));
  REQUIRE(message);
  REQUIRE(std::holds_alternative<T>(*message));
  return std::get<T>(*message);
}

const std::vector<RefusedSeq> two_refused = {{7, Refusal::empty}, {~0ull, Refusal::bad_prompt}};

bool same(const std::vector<RefusedSeq>& a, const std::vector<RefusedSeq>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return x.seq == y.seq && x.reason == y.reason; });
}

Frame data_of(std::size_t records, std::size_t bytes) {
  Data data{3, 1, {}};
  for (std::size_t i = 0; i < records; ++i) data.records.push_back({std::string(bytes, 'a'), 1});
  return encode(data);
}

}  // namespace

TEST_CASE("hello, flush and ping survive a round trip") {
  const auto hello = through(Hello{9, 1, 2, 3});
  CHECK((hello.version == 9 && hello.epoch == 1 && hello.last_acked == 2 && hello.first_unacked == 3));
  CHECK(through(Hello{}).version == protocol_version);
  const auto flush = through(Flush{4, ~0ull});
  CHECK((flush.epoch == 4 && flush.up_to == ~0ull));
  through(Ping{});
}

TEST_CASE("welcome and ack survive a round trip with their refusals") {
  const auto welcome = through(Welcome{1, 2, 3, 4, 5, 6, two_refused});
  CHECK((welcome.version == 1 && welcome.epoch == 2 && welcome.watermark == 3 && welcome.credit_bytes == 4));
  CHECK((welcome.credit_records == 5 && welcome.record_bytes_max == 6));
  CHECK(same(welcome.refused, two_refused));
  const auto ack = through(Ack{1, 2, two_refused, 3, 4});
  CHECK((ack.epoch == 1 && ack.up_to == 2 && ack.credit_bytes == 3 && ack.credit_records == 4));
  CHECK(same(ack.refused, two_refused));
  CHECK(through(Ack{}).refused.empty());
}

TEST_CASE("every reason of a refusal survives a round trip") {
  for (int reason = 0; reason <= static_cast<int>(RefuseReason::no_space); ++reason) {
    const auto refuse = through(Refuse{static_cast<RefuseReason>(reason), "because", 17, reason % 2 == 0});
    CHECK(static_cast<int>(refuse.reason) == reason);
    CHECK((refuse.detail == "because" && refuse.expected_seq == 17 && refuse.final == (reason % 2 == 0)));
  }
}

TEST_CASE("records survive a round trip byte for byte, valid UTF-8 or not") {
  const std::vector<std::string> texts = {
      "", "a", std::string("nul\0inside", 10), "\xff\xfe not UTF-8", "grüße 世界", std::string(65536, 'x')};
  Data data{5, 100, {}};
  for (const auto& text : texts) data.records.push_back({text, static_cast<std::uint32_t>(text.size() / 2)});
  const auto back = through(data);
  CHECK((back.epoch == 5 && back.first_seq == 100));
  REQUIRE(back.records.size() == texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CHECK(back.records[i].text == texts[i]);
    CHECK(back.records[i].prompt_bytes == texts[i].size() / 2);
  }
}

TEST_CASE("a full data message fits the limit of a frame, and a longer frame is refused") {
  CHECK(decode(data_of(data_records_max, data_bytes_max / data_records_max)));
  CHECK(decode(data_of(1, record_bytes_limit)));
  const auto refused = decode(data_of(3, record_bytes_limit));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().fault == Fault::bad_input);
  CHECK(refused.error().message.find("longer than the limit") != std::string::npos);
}

TEST_CASE("empty and ragged frames are refused with one sentence") {
  CHECK(decode(Frame()).error().message == "the frame is empty");
  CHECK(decode(test::frame_of("abc")).error().message == "the frame of 3 bytes is not whole words of 8 bytes");
}

TEST_CASE("hostile gateway frames are refused, not obeyed") {
  CHECK(test::torment(data_of(3, 20), decode) > 100);
  CHECK(test::torment(encode(Hello{1, 2, 3, 4}), decode) > 50);
  CHECK(test::torment(encode(Welcome{1, 2, 3, 4, 5, 6, two_refused}), decode) > 50);
  CHECK(test::torment(encode(Refuse{RefuseReason::gap, "detail", 3, true}), decode) > 50);
}

TEST_CASE("random bytes never decode into a crash") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes(random() % 32 * 8, '\0');
    for (auto& byte : bytes) byte = static_cast<char>(random());
    if (bytes.size() >= 8 && round % 2 == 0) {  // a right segment table, so that the content is reached
      const std::uint32_t table[2] = {0, static_cast<std::uint32_t>(bytes.size() / 8 - 1)};
      std::memcpy(bytes.data(), table, 8);
    }
    (void)decode(test::frame_of(bytes));
  }
  SUCCEED();
}

TEST_CASE("a frame that claims more than it holds is refused before memory is spent") {
  // 1024 records whose text pointers all point to one text of 64 KiB: 64 MiB claimed by 80 KiB.
  std::string bytes = test::bytes_of(data_of(data_records_max, 0));
  const std::size_t first_pointer = bytes.size() - data_records_max * 16 + 8;
  const std::size_t words_now = bytes.size() / 8;
  const std::size_t text_bytes = 1u << 16;
  for (std::size_t i = 0; i < data_records_max; ++i) {
    const std::size_t at = first_pointer + i * 16;
    const std::uint64_t offset = words_now - (at / 8 + 1);
    const std::uint64_t pointer = 1u | (offset << 2) | (2ull << 32) | (static_cast<std::uint64_t>(text_bytes) << 35);
    std::memcpy(bytes.data() + at, &pointer, 8);
  }
  bytes.append(text_bytes, 'x');
  const std::uint32_t table[2] = {0, static_cast<std::uint32_t>(bytes.size() / 8 - 1)};
  std::memcpy(bytes.data(), table, 8);
  const auto result = decode(test::frame_of(bytes));
  REQUIRE_FALSE(result);
  CHECK(result.error().message.find("damaged") != std::string::npos);
}

TEST_CASE("a list that claims millions of empty records is refused") {
  std::string bytes = test::bytes_of(data_of(1, 0));
  // The tag word of the list: n structs of no words at all.
  const std::size_t tag = bytes.size() - 16 - 8;
  const std::uint64_t claim = static_cast<std::uint64_t>((1u << 29) - 1) << 2;
  std::memcpy(bytes.data() + tag, &claim, 8);
  CHECK_FALSE(decode(test::frame_of(bytes)));
}
