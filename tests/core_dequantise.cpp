// Every instruction set's expansion of every tensor type, bit for bit against the plain one, which the golden values
// of tests/core_quantisation.cpp check, and bfloat16 against float32 rounded by libtorch's rule.
#include "core/simd/dequantise.hpp"

#include <c10/util/BFloat16.h>

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>

#include "core/quantisation.hpp"

using namespace kpool;
using simd::Bf16;

namespace {

struct Type {
  const char* name;
  GgmlType type;
  simd::Expand<float> simd::BlockKernels<float>::*to_f32;
  simd::Expand<Bf16> simd::BlockKernels<Bf16>::*to_bf16;
  std::vector<std::size_t> halves;  ///< where a block holds half-precision scales
};

using F = simd::BlockKernels<float>;
using B = simd::BlockKernels<Bf16>;
const Type kTypes[] = {
    {"f32", GgmlType::f32, &F::f32, &B::f32, {}},           {"f16", GgmlType::f16, &F::f16, &B::f16, {0}},
    {"bf16", GgmlType::bf16, &F::bf16, &B::bf16, {}},       {"q4_0", GgmlType::q4_0, &F::q4_0, &B::q4_0, {0}},
    {"q4_1", GgmlType::q4_1, &F::q4_1, &B::q4_1, {0, 2}},   {"q8_0", GgmlType::q8_0, &F::q8_0, &B::q8_0, {0}},
    {"q4_k", GgmlType::q4_k, &F::q4_k, &B::q4_k, {0, 2}},   {"q6_k", GgmlType::q6_k, &F::q6_k, &B::q6_k, {208}},
};

constexpr std::int64_t kBlocks = 2051;  // of odd number, so that loops over several at once have a rest

/// Random blocks; their scales run through everything a half can be: subnormal, huge, infinite, NaN.
std::vector<std::uint8_t> random_blocks(const Type& type, std::int64_t bytes) {
  std::mt19937 engine(static_cast<std::uint32_t>(type.type) + 1);
  std::vector<std::uint8_t> data(static_cast<std::size_t>(kBlocks * bytes));
  for (auto& byte : data) byte = static_cast<std::uint8_t>(engine());
  const std::uint16_t special[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7c01, 0x7fff,
                                   0xffff};
  for (std::size_t i = 0; i < std::size(special); ++i)
    for (const std::size_t half : type.halves)
      std::memcpy(data.data() + 3 * i * static_cast<std::size_t>(bytes) + half, &special[i], 2);
  return data;
}

std::int64_t differing(const std::vector<float>& a, const std::vector<float>& b) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    count += !(std::isnan(a[i]) && std::isnan(b[i])) &&
             std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]);
  return count;
}

std::int64_t differing(const std::vector<float>& exact, const std::vector<Bf16>& ours) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const auto widened = std::bit_cast<float>(static_cast<std::uint32_t>(ours[i].bits) << 16);
    count += std::isnan(exact[i]) ? !std::isnan(widened) : ours[i].bits != c10::BFloat16(exact[i]).x;
  }
  return count;
}

}  // namespace

TEST_CASE("dequantise: every set gives the same bits for every type", "[gguf][simd]") {
  const auto sets = simd::dequantise_sets();
  REQUIRE(std::string(sets.sets[0]->name) == "plain");
  for (const Type& type : kTypes) {
    const BlockLayout layout = *block_layout(static_cast<std::uint32_t>(type.type));
    const auto data = random_blocks(type, layout.bytes);
    const auto size = static_cast<std::size_t>(kBlocks * layout.elements);
    std::vector<float> exact(size);
    (sets.sets[0]->to_f32.*type.to_f32)(data.data(), kBlocks, exact.data());
    for (int i = 0; i < sets.count; ++i) {
      CAPTURE(type.name, sets.sets[i]->name);
      std::vector<float> wide(size);
      std::vector<Bf16> narrow(size);
      (sets.sets[i]->to_f32.*type.to_f32)(data.data(), kBlocks, wide.data());
      (sets.sets[i]->to_bf16.*type.to_bf16)(data.data(), kBlocks, narrow.data());
      CHECK(differing(exact, wide) == 0);
      CHECK(differing(exact, narrow) == 0);
    }
  }
}

TEST_CASE("dequantise: nothing is read or written beyond the blocks", "[gguf][simd]") {
  for (const Type& type : kTypes)
    for (int set = 0; set < simd::dequantise_sets().count; ++set)
      for (std::int64_t blocks : {0, 1, 2, 7, 8, 9, 33}) {
        CAPTURE(type.name, simd::dequantise_sets().sets[set]->name, blocks);
        const BlockLayout layout = *block_layout(static_cast<std::uint32_t>(type.type));
        // Of exactly this size, for AddressSanitizer; the marks behind are for everybody.
        const std::vector<std::uint8_t> data(static_cast<std::size_t>(blocks * layout.bytes), 0x11);
        std::vector<Bf16> narrow(static_cast<std::size_t>(blocks * layout.elements) + 64, Bf16{0xabcd});
        const auto& kernels = *simd::dequantise_sets().sets[set];
        (kernels.to_bf16.*type.to_bf16)(data.data(), blocks, narrow.data());
        for (std::size_t i = 0; i < narrow.size(); ++i)
          REQUIRE((narrow[i].bits == 0xabcd) == (i + 64 >= narrow.size()));
        std::vector<float> wide(narrow.size(), -7.0f);
        (kernels.to_f32.*type.to_f32)(data.data(), blocks, wide.data());
        for (std::size_t i = 0; i < wide.size(); ++i) REQUIRE((wide[i] == -7.0f) == (i + 64 >= wide.size()));
      }
}
