#include "core/quantisation.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

using namespace kpool;

namespace {

// Made again by: bench/parity/dequantise.py > tests/golden/dequantise.json
nlohmann::json golden() {
  std::ifstream file(KPOOL_SOURCE_DIR "/tests/golden/dequantise.json");
  return nlohmann::json::parse(file);
}

std::vector<std::byte> from_hex(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

}  // namespace

TEST_CASE("dequantise: every type gives the values of the gguf package", "[gguf]") {
  int cases = 0;
  for (const auto& example : golden()) {
    CAPTURE(example["name"].get<std::string>());
    const auto data = from_hex(example["data"]);
    const auto expected = example["values"].get<std::vector<float>>();
    const auto columns = static_cast<std::int64_t>(expected.size() / 2);  // two rows
    const GgufTensor tensor{"t", static_cast<GgmlType>(example["type"].get<std::uint32_t>()), {2, columns}, data};
    std::vector<float> out(expected.size());
    dequantise(tensor, 0, 2, out.data());
    for (std::size_t i = 0; i < out.size(); ++i) {
      INFO(i);
      REQUIRE(std::abs(out[i] - expected[i]) <= 1e-6f * std::max(1e-30f, std::abs(expected[i])) + 1e-7f);
    }
    std::vector<float> second(expected.size() / 2);
    dequantise(tensor, 1, 1, second.data());
    REQUIRE(std::equal(second.begin(), second.end(), out.begin() + columns));
    ++cases;
  }
  CHECK(cases == 8);
}

TEST_CASE("dequantise: halves that are not numbers stay so", "[gguf]") {
  const std::vector<std::byte> data = from_hex("007c00fc017e0080");
  const GgufTensor tensor{"t", GgmlType::f16, {1, 4}, data};
  float out[4];
  dequantise(tensor, 0, 1, out);
  CHECK(out[0] == std::numeric_limits<float>::infinity());
  CHECK(out[1] == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(out[2]));
  CHECK(out[3] == 0);
  CHECK(std::signbit(out[3]));
}

TEST_CASE("dequantise: block layouts", "[gguf]") {
  CHECK(block_layout(12)->bytes == 144);
  CHECK(block_layout(14)->elements == 256);
  CHECK_FALSE(block_layout(7));
  CHECK_FALSE(block_layout(std::numeric_limits<std::uint32_t>::max()));
}
