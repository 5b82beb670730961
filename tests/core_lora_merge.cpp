#include "core/lora_merge.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

using namespace kpool;

namespace {

LoraLayout layout() {
  return LoraLayout({.architecture = "llama", .layers = 2, .hidden = 16, .heads = 4, .kv_heads = 2, .head_width = 4,
                     .ffn = 24, .vocabulary = 300, .context = 64},
                    3);
}

std::vector<float> drawn(const LoraLayout& layout, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> flat(static_cast<std::size_t>(layout.size));
  for (float& value : flat) value = normal(random);
  return flat;
}

/// B A of one place, (out, in).
std::vector<double> change(const LoraLayout& layout, const LoraPlace& place, const std::vector<float>& flat) {
  std::vector<double> product(static_cast<std::size_t>(place.out * place.in), 0.0);
  for (std::int64_t o = 0; o < place.out; ++o)
    for (std::int64_t r = 0; r < layout.rank; ++r)
      for (std::int64_t i = 0; i < place.in; ++i)
        product[o * place.in + i] += double{flat[place.b + o * layout.rank + r]} * flat[place.a + r * place.in + i];
  return product;
}

double squares(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return sum;
}

}  // namespace

TEST_CASE("an adapter merged with itself stays the same change of the base", "[lora]") {
  const LoraLayout shape = layout();
  const std::vector<float> one = drawn(shape, 1);
  std::vector<float> merged = one;
  CHECK(lora_agreement(shape, one, merged) == Approx(1));
  CHECK(merge_lora(shape, one, 0.3, merged) == Approx(0).margin(1e-9));
  for (const LoraPlace& place : shape.places) {
    const auto before = change(shape, place, one), after = change(shape, place, merged);
    for (std::size_t i = 0; i < before.size(); ++i) REQUIRE(after[i] == Approx(before[i]).margin(1e-4));
    double length = 0;
    for (std::int64_t i = 0; i < place.in; ++i) length += double{merged[place.a + i]} * merged[place.a + i];
    CHECK(length == Approx(1.0 / 3));
  }
}

TEST_CASE("a merge is the weighted sum but for what it says it discards", "[lora]") {
  const LoraLayout shape = layout();
  const std::vector<float> one = drawn(shape, 1), other = drawn(shape, 2);
  for (const double share : {0.0, 0.25, 1.0}) {
    std::vector<float> merged = other;
    const double discarded = merge_lora(shape, one, share, merged);
    double sum_squares = 0, error_squares = 0;
    for (const LoraPlace& place : shape.places) {
      auto sum = change(shape, place, one);
      const auto rest = change(shape, place, other), got = change(shape, place, merged);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = share * sum[i] + (1 - share) * rest[i];
      sum_squares += squares(sum);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] -= got[i];
      error_squares += squares(sum);
    }
    CAPTURE(share);
    CHECK(error_squares / sum_squares == Approx(discarded).margin(1e-6));
    if (share == 0.25) CHECK((discarded > 0.01 && discarded < 0.5));
    else CHECK(discarded == Approx(0).margin(1e-6));
  }
}

TEST_CASE("agreement is the cosine of two changes", "[lora]") {
  const LoraLayout shape = layout();
  const std::vector<float> one = drawn(shape, 1), other = drawn(shape, 2);
  double both = 0, of_one = 0, of_other = 0;
  for (const LoraPlace& place : shape.places) {
    const auto a = change(shape, place, one), b = change(shape, place, other);
    for (std::size_t i = 0; i < a.size(); ++i) both += a[i] * b[i];
    of_one += squares(a);
    of_other += squares(b);
  }
  CHECK(lora_agreement(shape, one, other) == Approx(both / std::sqrt(of_one * of_other)).margin(1e-6));
  CHECK(lora_agreement(shape, one, std::vector<float>(one.size(), 0.0F)) == 0);
}
