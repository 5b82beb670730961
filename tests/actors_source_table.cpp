// The table of sources: numbering, places, and how long refusals are kept.
#include <catch2/catch.hpp>

#include "actors/source_table.hpp"

using namespace kpool;
using namespace std::chrono_literals;
using Groups = std::vector<std::uint64_t>;

TEST_CASE("a source is what was saved") {
  SourceTable table;
  const auto index = table.open("key", 7);
  table.at(index).released = 99;
  SourceTable restored;
  REQUIRE(restored.restore(index, SourceTable::save(table.at(index))));
  const Source& source = restored.at(*restored.find("key"));
  CHECK(source.epoch == 7);
  CHECK(source.watermark == 99);
  CHECK(source.received == 99);
  CHECK(source.released == 99);
  CHECK(restored.open("other", 1) == index + 1);
}

TEST_CASE("a new epoch has a new index, and the old one is dropped once") {
  SourceTable table;
  const auto unseen = table.open("key", 1);
  table.open("key", 2);
  CHECK(table.find(unseen) == nullptr);
  CHECK(table.take_dropped().empty());  // no barrier has carried it: there is nothing to delete
  const auto first = *table.find("key");
  table.at(first).stored = true;
  const auto second = table.open("key", 3);
  CHECK(first != second);
  CHECK(table.find("key") == second);
  CHECK(table.find(first) == nullptr);
  CHECK(table.take_dropped() == std::vector<SourceTable::Index>{first});
  CHECK(table.take_dropped().empty());
}

TEST_CASE("a source has a place while it talks or has records open") {
  SourceTable table;
  const auto now = Clock::now();
  Source& source = table.at(table.open("key", 1));
  CHECK(table.active(now) == 0);
  source.route = "r";
  source.seen = now;
  CHECK(table.active(now + 59s) == 1);
  CHECK(table.active(now + 61s) == 0);
  source.bytes_open = 1;
  CHECK(table.active(now + 61s) == 1);
}

TEST_CASE("a group is settled when none of its refusals is needed, and told once") {
  SourceTable table;
  const auto a = table.open("a", 1), b = table.open("b", 1);
  table.add_refusals(4, {{{a, 1}, Refusal::empty}, {{b, 1}, Refusal::empty}});
  table.add_refusals(5, {{{b, 2}, Refusal::empty}});
  table.add_refusals(6, {});
  CHECK(table.take_settled_groups().empty());
  table.forget_refusals(a, 1);
  CHECK(table.take_settled_groups().empty());
  table.forget_refusals(b, 1);
  CHECK(table.take_settled_groups() == Groups{4});
  CHECK(table.take_settled_groups().empty());
  table.open("b", 2);  // the epoch is over: nobody asks for its refusals
  CHECK(table.take_settled_groups() == Groups{5});
}

TEST_CASE("refusals are bounded: the oldest group goes first") {
  SourceTable table;
  const auto index = table.open("key", 1);
  const std::uint64_t half = SourceTable::refusals_max / 2;
  std::uint64_t seq = 0;
  for (std::uint64_t group = 1; group <= 3; ++group) {
    std::vector<RefusedRecord> refused;
    for (std::uint64_t i = 0; i < half; ++i) refused.push_back({{index, ++seq}, Refusal::empty});
    table.add_refusals(group, refused);
  }
  CHECK(table.at(index).refused.size() == 2 * half);
  CHECK(table.at(index).refused.begin()->first == half + 1);
  CHECK(table.take_settled_groups() == Groups{1});
}

TEST_CASE("a damaged stored source is refused by its number") {
  SourceTable table;
  for (const char* damaged : {"", "{", "[]", R"({"key":"k","epoch":1})"}) {
    const auto restored = table.restore(8, damaged);
    REQUIRE_FALSE(restored);
    CHECK(restored.error().message == "the stored state of source 8 is not readable");
  }
}
