#include "apps/kpoolctl_records.hpp"

#include <catch2/catch.hpp>

#include <sstream>

#include "tests/temporary_directory.hpp"

using namespace kpool;

namespace {

std::string complaint(const std::string& line) {
  const auto record = parse_record(line);
  return record ? "none" : record.error().message;
}

}  // namespace

TEST_CASE("a record keeps its other fields and loses its text") {
  auto input = parse_record(R"({"z":1,"text":"a b","a":{"b":[null,"\u00e9"]},"prompt":"a "})");
  REQUIRE(input);
  CHECK(input->record.text == "a b");
  CHECK(input->record.prompt_bytes == 2);
  CHECK(input->fields.dump() == R"({"z":1,"a":{"b":[null,"é"]}})");
  CHECK(parse_record(R"({"text":"a b","prompt":"b"})")->record.prompt_bytes == 0);
  CHECK(parse_record(R"({"text":"a b","prompt":3})")->record.prompt_bytes == 0);
}

TEST_CASE("a line that is no record is refused with a sentence") {
  CHECK(complaint("[]") == "no JSON object with a field \"text\"");
  CHECK(complaint("{}") == "the object has no field \"text\"");
  CHECK(complaint(R"({"text":null})") == "the field \"text\" is not a string");
  CHECK(complaint(R"({"text":"a")") == "broken JSON at byte 12");
  CHECK(complaint("{\"text\":\"\xff\"}").starts_with("not valid UTF-8 at byte"));
  CHECK(complaint(R"({"text":"a","x":1e999})").starts_with("broken JSON"));
  CHECK(complaint(R"({"text":"a","x":)" + std::string(100000, '[')).starts_with("broken JSON"));
  CHECK(complaint(R"({"text":"a","x":)" + std::string(100, '[') + std::string(100, ']') + "}") ==
        "the JSON is nested more than 64 deep");
}

TEST_CASE("broken lines are named by file and line, the rest is read") {
  testing::TemporaryDirectory directory;
  std::ofstream(directory.file("a.jsonl")) << "{\"text\":\"1\"}\nbroken\n\n  \r\n{\"text\":\"2\"}\r\n";
  const std::string long_line(InputRecords::line_bytes_max + 1, ' ');
  std::ofstream(directory.file("b.jsonl")) << long_line << "\n{\"text\":\"3\"}";
  std::istringstream standard("{\"text\":\"4\"}\n7\n");
  std::ostringstream complaints;
  InputRecords records({directory.file("a.jsonl"), directory.file("b.jsonl"), "-"}, standard, complaints);
  std::string texts, places;
  for (;;) {
    auto input = records.next();
    REQUIRE(input);
    if (!*input) break;
    texts += (*input)->record.text;
    places += (*input)->where.substr((*input)->where.rfind('/') + 1) + " ";
  }
  CHECK(texts == "1234");
  CHECK(places == "a.jsonl:1 a.jsonl:5 b.jsonl:2 standard input:1 ");
  CHECK(complaints.str() == directory.file("a.jsonl:2: broken JSON at byte 1\n") +
                                directory.file("b.jsonl:1: the line is longer than 16 MiB\n") +
                                "standard input:2: no JSON object with a field \"text\"\n");
  const auto status = records.finish();
  REQUIRE_FALSE(status);
  CHECK(status.error().fault == Fault::bad_input);
  CHECK(status.error().message.starts_with("3 lines were left out"));
}

TEST_CASE("an input that is not there or is a directory is named") {
  testing::TemporaryDirectory directory;
  std::istringstream standard;
  std::ostringstream complaints;
  for (const std::string& path : {directory.path(), directory.file("none")}) {
    InputRecords records({path}, standard, complaints);
    const auto input = records.next();
    REQUIRE_FALSE(input);
    CHECK(input.error().fault == Fault::missing);
    CHECK(input.error().message.starts_with(path));
  }
}

TEST_CASE("portions are bounded by records and bytes") {
  std::string lines;
  for (int i = 0; i < 10; ++i) lines += "{\"text\":\"12345\"}\n";
  std::istringstream standard(lines);
  std::ostringstream complaints;
  InputRecords records({}, standard, complaints);
  CHECK(records.next_some(3, 1000)->size() == 3);
  CHECK(records.next_some(100, 11)->size() == 3);
  CHECK(records.next_some(100, 1000)->size() == 4);
  CHECK(records.next_some(100, 1000)->empty());
}

TEST_CASE("output that cannot be written is an error") {
  std::ostringstream standard;
  CHECK_FALSE(Output::open("/dev/null/x", standard));
  auto full = Output::open("/dev/full", standard);
  REQUIRE(full);
  full->write({{"a", 1}});
  const auto status = full->finish();
  REQUIRE_FALSE(status);
  CHECK(status.error().fault == Fault::io);
}
