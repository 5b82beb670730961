#include "core/gguf.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>

#include "tests/gguf_writer.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;
using kpool::testing::GgufWriter;
using kpool::testing::TemporaryDirectory;

namespace {

GgufWriter small_file(std::uint32_t version = 3) {
  GgufWriter writer(version);
  writer.text("general.architecture", "llama").word("llama.block_count", 2).integer("big", -5).real("theta", 1e5f);
  writer.flag("flag", true).texts("words", {"a", "", "bc"}).integers("types", {1, -3}).reals("scores", {0.5f});
  writer.tensor("first", {2, 3}, {1, 2, 3, 4, 5, 6}).tensor("second", {1}, {7});
  return writer;
}

std::string write_bytes(const TemporaryDirectory& directory, const std::string& bytes) {
  const auto path = directory.file("model.gguf");
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  return path;
}

std::string refusal(const std::string& bytes) {
  TemporaryDirectory directory;
  const auto opened = Gguf::open(write_bytes(directory, bytes));
  if (opened) return "";
  CHECK(opened.error().fault == Fault::bad_input);
  CHECK(opened.error().message.find("model.gguf") != std::string::npos);
  return opened.error().message;
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

template <class T>
std::string replaced(std::string bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
  return bytes;
}

}  // namespace

TEST_CASE("gguf: metadata and tensors of versions 2 and 3 are read", "[gguf]") {
  const auto version = GENERATE(2u, 3u);
  TemporaryDirectory directory;
  const auto path = directory.file("model.gguf");
  small_file(version).write(path);
  const auto opened = Gguf::open(path);
  REQUIRE(opened);
  const Gguf& file = **opened;
  CHECK(file.path() == path);
  CHECK(file.text("general.architecture") == "llama");
  CHECK(file.integer("llama.block_count") == 2);
  CHECK(file.integer("big") == -5);
  CHECK(file.integer("flag") == 1);
  CHECK(file.real("theta") == 1e5);
  CHECK(file.texts("words") == std::vector<std::string>{"a", "", "bc"});
  CHECK(file.integers("types") == std::vector<std::int64_t>{1, -3});
  CHECK_FALSE(file.integer("theta"));
  CHECK_FALSE(file.text("absent"));
  CHECK(file.texts("types").empty());
  REQUIRE(file.tensors().size() == 2);
  const auto* tensor = file.find("first");
  REQUIRE(tensor);
  CHECK(tensor->shape == std::vector<std::int64_t>{2, 3});
  float row[3];
  dequantise(*tensor, 1, 1, row);
  CHECK(row[0] == 4);
  CHECK(row[2] == 6);
  CHECK(file.find("third") == nullptr);
}

TEST_CASE("gguf: the fingerprint is the SHA-256 of the file", "[gguf]") {
  TemporaryDirectory directory;
  // 24 bytes: magic, version 3, no tensors, no keys; the digest is that of sha256sum.
  const auto path = write_bytes(directory, GgufWriter(3).bytes());
  const auto opened = Gguf::open(path);
  REQUIRE(opened);
  CHECK((*opened)->fingerprint() == "a4e5e156ddec27e286f75328784d7106b60a4eb1d246e950a001a3f944fbda99");
  CHECK((*opened)->fingerprint().size() == 64);
}

TEST_CASE("gguf: what is not a file is missing", "[gguf]") {
  TemporaryDirectory directory;
  const auto absent = Gguf::open(directory.file("absent.gguf"));
  REQUIRE_FALSE(absent);
  CHECK(absent.error().fault == Fault::missing);
  CHECK(contains(absent.error().message, "absent.gguf"));
  const auto folder = Gguf::open(directory.path());
  REQUIRE_FALSE(folder);
  CHECK(folder.error().fault == Fault::missing);
}

TEST_CASE("gguf: every truncation is refused", "[gguf]") {
  TemporaryDirectory directory;
  const auto bytes = small_file().bytes();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto opened = Gguf::open(write_bytes(directory, bytes.substr(0, size)));
    INFO(size);
    REQUIRE_FALSE(opened);
  }
}

TEST_CASE("gguf: hostile headers are refused", "[gguf]") {
  const auto bytes = small_file().bytes();
  CHECK(contains(refusal("GGML" + bytes.substr(4)), "begin with GGUF"));
  CHECK(contains(refusal(replaced(bytes, 4, std::uint32_t{1})), "version 1"));
  CHECK(contains(refusal(replaced(bytes, 4, std::uint32_t{0x03000000})), "version"));
  CHECK(contains(refusal(replaced(bytes, 8, UINT64_MAX)), "tensors"));
  CHECK(contains(refusal(replaced(bytes, 16, UINT64_MAX)), "metadata keys"));
  CHECK(contains(refusal(replaced(bytes, 24, UINT64_MAX)), "length of a metadata key"));
  CHECK(contains(refusal(GgufWriter().text("a", "").text("a", "").bytes()), "twice"));
  // A key of one letter, an array of i32 with too many elements.
  const auto array = GgufWriter().integers("k", {1}).bytes();
  CHECK(contains(refusal(replaced(array, 24 + 9 + 4 + 4, UINT64_MAX / 4)), "longer than the file"));
  CHECK(contains(refusal(replaced(array, 24 + 9 + 4, std::uint32_t{9})), "unsupported kind"));
  CHECK(contains(refusal(replaced(array, 24 + 9, std::uint32_t{77})), "unknown kind"));
}

TEST_CASE("gguf: hostile tensors are refused", "[gguf]") {
  const auto two = [] {
    return GgufWriter().tensor("a", {8}, std::vector<float>(8)).tensor("b", {8}, std::vector<float>(8));
  };
  CHECK(refusal(two().bytes()).empty());
  CHECK(contains(refusal(two().offset(0).bytes()), "overlap"));
  CHECK(contains(refusal(two().offset(4).bytes()), "not aligned"));
  CHECK(contains(refusal(two().offset(64).bytes()), "beyond the file"));
  CHECK(contains(refusal(two().offset(UINT64_MAX - 31).bytes()), "beyond the file"));
  CHECK(contains(refusal(GgufWriter().tensor("a", {1}, {1}).tensor("a", {1}, {1}).bytes()), "twice"));
  CHECK(contains(refusal(GgufWriter().tensor("a", {0}, {}).bytes()), "dimension of 0"));
  CHECK(contains(refusal(GgufWriter().tensor("a", {}, {1}).bytes()), "dimensions"));
  CHECK(contains(refusal(GgufWriter().tensor("a", {1, 1, 1, 1, 1}, {1}).bytes()), "dimensions"));
  const std::int64_t wide = std::int64_t{1} << 21;
  CHECK(contains(refusal(GgufWriter().tensor("a", {wide, wide}, {1}).bytes()), "dimension of"));
  const std::string uneven = GgufWriter().raw_tensor("a", GgmlType::q4_0, {33}, std::string(18, 0)).bytes();
  CHECK(contains(refusal(uneven), "whole blocks"));
  CHECK(contains(refusal(GgufWriter().raw_tensor("a", GgmlType{99}, {1}, "    ").bytes()), "type 99"));
  CHECK(contains(refusal(GgufWriter().tensor(std::string(256, 'n'), {1}, {1}).bytes()), "tensor's name"));
  CHECK(contains(refusal(GgufWriter().word("general.alignment", 3).tensor("a", {1}, {1}).bytes()), "alignment"));
  CHECK(contains(refusal(GgufWriter().word("general.alignment", 0).tensor("a", {1}, {1}).bytes()), "alignment"));
}
