#include "core/weight_memory.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <vector>

using namespace kpool;

TEST_CASE("matrices of a base lie apart, on cache lines, and outlive who took them", "[base]") {
  std::vector<at::Tensor> taken;
  {
    WeightMemory memory;
    // More than one region in all, the last more than one alone.
    for (const std::int64_t rows : {3, 1000, 60'000, 60'000, 60'000, 150'000})
      taken.push_back(memory.take({rows, 1001}, at::kBFloat16));
  }
  for (std::size_t i = 0; i < taken.size(); ++i) {
    auto* begin = static_cast<char*>(taken[i].mutable_data_ptr());
    CHECK(reinterpret_cast<std::uintptr_t>(begin) % 64 == 0);
    CHECK(taken[i].size(1) == 1001);
    std::memset(begin, static_cast<int>(i) + 1, 64);  // the ends alone: not everything has to become resident
    std::memset(begin + taken[i].nbytes() - 64, static_cast<int>(i) + 1, 64);
  }
  for (std::size_t i = 0; i < taken.size(); ++i) {
    const auto* begin = static_cast<const char*>(taken[i].const_data_ptr());
    CHECK(begin[0] == static_cast<char>(i + 1));
    CHECK(begin[taken[i].nbytes() - 1] == static_cast<char>(i + 1));
  }
}
