#include "clients/record_reader.hpp"

#include <catch2/catch.hpp>

#include <fstream>

#include "clients/input_list.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;
using kpool::testing::TemporaryDirectory;

namespace {

std::string write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

// What a file is read as: "line:text" of records, "line!why" of rejections.
std::vector<std::string> read(const std::string& name, const std::string& text, RecordReaderOptions options = {}) {
  TemporaryDirectory directory;
  RecordReader reader({write(directory.file(name), text)}, options);
  std::vector<std::string> items;
  for (;;) {
    auto item = reader.next();
    REQUIRE(item);
    if (std::holds_alternative<ReadEnd>(*item)) break;
    if (auto* record = std::get_if<ReadRecord>(&*item)) {
      items.push_back(std::to_string(record->place.line) + ":" + record->record.text);
    } else {
      const auto& rejection = std::get<ReadRejection>(*item);
      items.push_back(std::to_string(rejection.place.line) + "!" + rejection.why);
    }
  }
  CHECK(reader.bytes() == text.size());
  return items;
}

using Items = std::vector<std::string>;

}  // namespace

TEST_CASE("JSON Lines give their texts, whatever else stands in them") {
  CHECK(read("a.jsonl", "{\"text\":\"one\"}\n\n"
                        "{\"id\":[1,{\"text\":\"inner\"}],\"text\":\"two\\n\\u00e9\"}\r\n{\"text\":\"\"}") ==
        Items{"1:one", "3:two\n\xC3\xA9", "4:"});
  CHECK(read("a.ndjson", "\xEF\xBB\xBF{\"text\":\"bom\"}\n") == Items{"1:bom"});
}

TEST_CASE("a broken JSON line is rejected by itself, with its line and place") {
  const auto items = read("a.jsonl",
                          "{\"text\":\"good\"}\n{\"text\":\n[1]\n{\"txt\":\"x\"}\n{\"text\":5}\n{\"text\":null}\n"
                          "{\"text\":\"\xff\"}\n{\"text\":\"a\"} x\n{\"text\":\"last\"}\n");
  CHECK(items == Items{"1:good", "2!broken JSON at byte 9 of the line", "3!not a JSON object with a field \"text\"",
                       "4!the object has no field \"text\"", "5!the field \"text\" is not a string",
                       "6!the field \"text\" is not a string", "7!not valid UTF-8 at byte 10 of the line",
                       "8!broken JSON at byte 14 of the line", "9:last"});
}

TEST_CASE("strict reading rejects fields that it does not know") {
  const RecordReaderOptions strict{InputKind::automatic, true};
  CHECK(read("a.jsonl", "{\"text\":\"a\",\"lang\":\"en\"}\n"
                        "{\"text\":\"b\",\"prompt\":\"x\"}\n{\"text\":\"c\"}\n", strict) ==
        Items{"1!unknown field \"lang\"", "2!the \"prompt\" is not the beginning of the \"text\"", "3:c"});
}

TEST_CASE("a prompt that begins the text is told from the answer") {
  CHECK(parse_json_record(R"({"prompt":"2+2=","text":"2+2=4"})", false)->prompt_bytes == 4);
  CHECK(parse_json_record(R"({"text":"2+2=4","prompt":"2+3="})", false)->prompt_bytes == 0);
  CHECK(parse_json_record(R"({"text":"x","prompt":7})", false)->prompt_bytes == 0);
  const std::string nested = std::string(100000, '[') + std::string(100000, ']');
  CHECK(parse_json_record("{\"a\":" + nested + ",\"text\":\"deep\"}", false)->text == "deep");
}

TEST_CASE("a line of unbounded length is skipped, and reading goes on") {
  const std::string huge = "{\"text\":\"" + std::string(LineReader::line_bytes_max, 'x') + "\"}\n";
  CHECK(read("a.jsonl", huge + "{\"text\":\"after\"}\n") == Items{"1!the line is longer than 16 MiB", "2:after"});
}

TEST_CASE("plain text becomes one record per paragraph, short ones joined") {
  const std::string body(250, 'b');
  CHECK(read("a.txt", "Heading\n\n" + body + "\nmore\n\n\n" + body + "\n\nend") ==
        Items{"1:Heading\n\n" + body + "\nmore", "7:" + body, "9:end"});
  CHECK(read("a.txt", "") == Items{});
  CHECK(read("a.txt", "\n \n\n") == Items{});
  CHECK(read("a.txt", std::string("ab\0c\nnext", 9)) ==
        Items{"1!the line holds a NUL byte, so the file is probably no text", "2:next"});
}

TEST_CASE("a long paragraph is cut at sentences and never inside a character") {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "\xE4\xB8\x96\xE7\x95\x8C grüße number " + std::to_string(i) + ". ";
  const auto items = read("a.txt", text);
  REQUIRE(items.size() > 5);
  std::string joined;
  for (const auto& item : items) {
    const std::string record = item.substr(2);
    const auto characters = std::count_if(record.begin(), record.end(), [](char c) { return (c & 0xC0) != 0x80; });
    CHECK(characters <= 2000);
    CHECK(record.back() == '.');
    joined += record + " ";
  }
  CHECK(joined == text);
  const auto solid = read("a.txt", std::string(9000, 'x'));
  CHECK(solid.size() == 5);
  CHECK(read("a.txt", std::string(9000, '\x80')).size() >= 2);  // no UTF-8 at all: still bounded
}

TEST_CASE("a kind that is given goes above the file's name") {
  CHECK(read("a.txt", "{\"text\":\"x\"}\n", {InputKind::jsonl, false}) == Items{"1:x"});
  CHECK(read("a.jsonl", "{\"text\":\"x\"}\n", {InputKind::text, false}) == Items{"1:{\"text\":\"x\"}"});
}

TEST_CASE("directories are listed in order of name, without hidden files") {
  TemporaryDirectory directory;
  std::filesystem::create_directories(directory.file("d/sub"));
  std::filesystem::create_directories(directory.file("d/.git"));
  for (const char* name : {"d/b.txt", "d/a.txt", "d/sub/c.txt", "d/.hidden", "d/.git/x"}) {
    write(directory.file(name), "12");
  }
  auto list = list_inputs({directory.file("d")}, {});
  REQUIRE(list);
  CHECK(list->files == Items{directory.file("d/a.txt"), directory.file("d/b.txt"), directory.file("d/sub/c.txt")});
  CHECK(list->bytes == 6);
  CHECK(list_inputs({directory.file("d")}, {})->fingerprint == list->fingerprint);
  CHECK(list_inputs({directory.file("d/a.txt")}, {})->fingerprint != list->fingerprint);
  CHECK(list_inputs({directory.file("d")}, {InputKind::text, false})->fingerprint != list->fingerprint);
  write(directory.file("d/a.txt"), "123");
  CHECK(list_inputs({directory.file("d")}, {})->fingerprint != list->fingerprint);
}

TEST_CASE("inputs that cannot be had are named before anything is sent") {
  TemporaryDirectory directory;
  auto missing = list_inputs({directory.file("none")}, {});
  REQUIRE_FALSE(missing);
  CHECK(missing.error().fault == Fault::missing);
  CHECK(missing.error().message == directory.file("none") + ": cannot be read: No such file or directory");
  CHECK(list_inputs({directory.path()}, {}).error().message == "there is no file to send");
  CHECK(list_inputs({"-", "-"}, {}).error().fault == Fault::usage);
  CHECK(list_inputs({"-"}, {})->fingerprint.empty());
}
