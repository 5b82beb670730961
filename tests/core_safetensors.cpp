#include "core/safetensors.hpp"

#include <catch2/catch.hpp>
#include <cstring>

using namespace kpool;

namespace {

std::string file_of(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t size = header.size();
  std::string bytes(sizeof size, '\0');
  std::memcpy(bytes.data(), &size, sizeof size);
  return bytes + header + std::string(data_bytes, 'd');
}

std::string entry(const std::string& name, const std::string& shape, const std::string& offsets,
                  const std::string& dtype = "F32") {
  return '"' + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

std::string refusal(const std::string& header, std::size_t data_bytes) {
  const auto parsed = parse_safetensors(file_of(header, data_bytes));
  if (parsed) return "accepted";
  CHECK(parsed.error().fault == Fault::bad_input);
  return parsed.error().message;
}

}  // namespace

TEST_CASE("safetensors: what is written is read, and the bytes are stable", "[safetensors]") {
  const std::string wide(16, 'w'), narrow(3, 'n'), half(8, 'h');
  SafeTensors contents;
  contents.tensors = {{"b.weight", {"F32", {2, 2}, wide}}, {"a", {"I8", {3}, narrow}}, {"c", {"BF16", {1, 4}, half}},
                      {"empty", {"F32", {0, 5}, ""}}, {"scalar", {"F32", {}, std::string_view(wide).substr(0, 4)}}};
  contents.metadata = {{"rank", "8"}, {"note", "quote \" and \u00e9"}};
  const auto bytes = write_safetensors(contents);
  CHECK(bytes == write_safetensors(contents));
  const auto parsed = parse_safetensors(bytes);
  REQUIRE(parsed);
  CHECK(parsed->metadata == contents.metadata);
  REQUIRE(parsed->tensors.size() == contents.tensors.size());
  for (const auto& [name, tensor] : contents.tensors) {
    const auto& read = parsed->tensors.at(name);
    CHECK(read.dtype == tensor.dtype);
    CHECK(read.shape == tensor.shape);
    CHECK(read.data == tensor.data);
    CHECK((read.data.data() >= bytes.data() && read.data.data() + read.data.size() <= bytes.data() + bytes.size()));
  }
  CHECK(write_safetensors(*parsed) == bytes);
  CHECK((parsed->tensors.at("b.weight").data.data() - bytes.data()) % 4 == 0);
}

TEST_CASE("safetensors: a file without tensors", "[safetensors]") {
  const auto parsed = parse_safetensors(write_safetensors({}));
  REQUIRE(parsed);
  CHECK(parsed->tensors.empty());
  CHECK(parse_safetensors(file_of("{}", 0)));
}

TEST_CASE("safetensors: every truncation is refused", "[safetensors]") {
  SafeTensors contents;
  const std::string data(24, 'x');
  contents.tensors = {{"a", {"F32", {6}, data}}};
  const auto bytes = write_safetensors(contents);
  for (std::size_t size = 0; size < bytes.size(); ++size) REQUIRE_FALSE(parse_safetensors(bytes.substr(0, size)));
  CHECK_FALSE(parse_safetensors(bytes + "x"));
}

TEST_CASE("safetensors: hostile headers are refused", "[safetensors]") {
  using Catch::Contains;
  std::string longest(8, '\xff');
  CHECK_THAT(parse_safetensors(longest).error().message, Contains("100 MB"));
  CHECK_THAT(refusal("", 0), Contains("not JSON"));
  CHECK_THAT(refusal("{", 0), Contains("not JSON"));
  CHECK_THAT(refusal("{\"\xff\":1}", 0), Contains("not JSON"));
  CHECK_THAT(refusal("[]", 0), Contains("not an object"));
  CHECK_THAT(refusal("7", 0), Contains("not an object"));
  CHECK_THAT(refusal("{}{}", 0), Contains("not JSON"));
  CHECK_THAT(refusal(std::string(100000, '['), 0), Contains("not an object"));
  CHECK_THAT(refusal("{\"a\":[]}", 0), Contains("unexpected value in 'a'"));
  CHECK_THAT(refusal("{\"a\":{}}", 0), Contains("lacks"));
  CHECK_THAT(refusal("{\"a\":{\"dtype\":1}}", 0), Contains("unexpected"));
  CHECK_THAT(refusal("{\"a\":{\"shape\":{}}}", 0), Contains("unexpected"));
  CHECK_THAT(refusal("{\"a\":{\"colour\":1}}", 0), Contains("unknown field 'colour'"));
  CHECK_THAT(refusal("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0), Contains("twice"));
  CHECK_THAT(refusal("{\"\":{}}", 0), Contains("empty"));
  CHECK_THAT(refusal("{\"__metadata__\":{\"a\":1}}", 0), Contains("unexpected"));
  CHECK_THAT(refusal("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0), Contains("twice"));
  CHECK_THAT(refusal("{\"__metadata__\":{},\"__metadata__\":{}}", 0), Contains("twice"));
  CHECK_THAT(refusal("{" + entry("a", "[1]", "[0,4]") + "," + entry("a", "[1]", "[4,8]") + "}", 8), Contains("twice"));
}

TEST_CASE("safetensors: hostile tensors are refused", "[safetensors]") {
  using Catch::Contains;
  const auto one = [](const std::string& shape, const std::string& offsets, const std::string& dtype = "F32") {
    return refusal("{" + entry("a", shape, offsets, dtype) + "}", 8);
  };
  CHECK(one("[2]", "[0,8]") == "accepted");
  CHECK_THAT(one("[2]", "[0,8]", "F33"), Contains("unknown type 'F33'"));
  CHECK_THAT(one("[3]", "[0,12]"), Contains("beyond the data"));
  CHECK_THAT(one("[2]", "[8,0]"), Contains("beyond the data"));
  CHECK_THAT(one("[1]", "[0,8]"), Contains("not as many bytes"));
  CHECK_THAT(one("[1]", "[0,4]"), Contains("behind the last"));
  CHECK_THAT(one("[1]", "[4,8]"), Contains("gap"));
  CHECK_THAT(one("[-2]", "[0,8]"), Contains("unexpected"));
  CHECK_THAT(one("[2.0]", "[0,8]"), Contains("unexpected"));
  CHECK_THAT(one("[18446744073709551615]", "[0,8]"), Contains("unexpected"));
  CHECK_THAT(one("[99999999999999999999]", "[0,8]"), Contains("unexpected"));
  CHECK_THAT(one("[4611686018427387904,4,2]", "[0,8]"), Contains("not as many bytes"));  // 2^67 wraps to 8
  CHECK_THAT(one("[2]", "[0,8,9]"), Contains("unexpected"));
  CHECK_THAT(one("[2]", "[8]"), Contains("unexpected"));
  const auto two = [](const std::string& first, const std::string& second) {
    return refusal("{" + entry("a", "[1]", first) + "," + entry("b", "[1]", second) + "}", 8);
  };
  CHECK(two("[4,8]", "[0,4]") == "accepted");
  CHECK_THAT(two("[0,4]", "[0,4]"), Contains("overlaps"));
  CHECK_THAT(two("[0,4]", "[2,6]"), Contains("overlaps"));
}
