#include "core/gemm.hpp"
#include "core/lora.hpp"

#include <ATen/ops/equal.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

using namespace kpool;

namespace {

BaseShape smollm2() {
  return {.architecture = "llama", .layers = 30, .hidden = 576, .heads = 9, .kv_heads = 3, .head_width = 64,
          .ffn = 1536, .vocabulary = 49152, .context = 8192};
}
BaseShape small() {
  return {.architecture = "llama", .layers = 2, .hidden = 16, .heads = 4, .kv_heads = 2, .head_width = 4, .ffn = 24,
          .vocabulary = 300, .context = 64};
}

}  // namespace

TEST_CASE("all seven linears of every layer have their place", "[lora]") {
  const LoraLayout layout(smollm2(), 8);
  CHECK(layout.size == 2442240);
  CHECK(layout.places.size() == 210);
  CHECK(layout.places[0].module == "layers.0.self_attn.q_proj");
  CHECK(layout.places[209].module == "layers.29.mlp.down_proj");
  std::vector<int> covered(layout.size);
  for (const LoraPlace& place : layout.places) {
    for (std::int64_t i = 0; i < 8 * place.in; ++i) ++covered[place.a + i];
    for (std::int64_t i = 0; i < 8 * place.out; ++i) ++covered[place.b + i];
  }
  CHECK(std::all_of(covered.begin(), covered.end(), [](int count) { return count == 1; }));
}

TEST_CASE("A is drawn uniform within 1 / sqrt(in), B is zero", "[lora]") {
  const LoraLayout layout(smollm2(), 8);
  std::vector<float> flat(layout.size, 9.0f);
  draw_lora(layout, 7, 1, flat);
  for (std::size_t i : {std::size_t{0}, std::size_t{6}, std::size_t{209}}) {
    const LoraPlace& place = layout.places[i];
    const double bound = 1 / std::sqrt(static_cast<double>(place.in));
    double sum = 0, squares = 0, largest = 0;
    const std::int64_t count = 8 * place.in;
    for (std::int64_t j = 0; j < count; ++j) {
      const double value = flat[place.a + j];
      sum += value;
      squares += value * value;
      largest = std::max(largest, std::abs(value));
    }
    CHECK(largest <= bound);
    CHECK(largest > 0.99 * bound);
    CHECK(std::abs(sum / static_cast<double>(count)) < 4 * bound / std::sqrt(3.0 * static_cast<double>(count)));
    CHECK(squares / static_cast<double>(count) == Approx(bound * bound / 3).epsilon(0.05));
    const auto* b = flat.data() + place.b;
    CHECK(std::all_of(b, b + 8 * place.out, [](float x) { return x == 0; }));
  }
}

TEST_CASE("the draw depends on seed, generation and place alone", "[lora]") {
  const LoraLayout layout(small(), 4);
  auto draw = [&](std::uint64_t seed, std::uint64_t generation) {
    std::vector<float> flat(layout.size);
    draw_lora(layout, seed, generation, flat);
    return flat;
  };
  CHECK(draw(1, 1) == draw(1, 1));
  CHECK(draw(1, 1) != draw(2, 1));
  CHECK(draw(1, 1) != draw(1, 2));
  CHECK(draw(1, 2) != draw(2, 1));
  const auto flat = draw(1, 1);
  CHECK(flat[layout.places[0].a] != flat[layout.places[1].a]);
}

TEST_CASE("random signs are balanced and differ from step to step", "[lora]") {
  std::vector<float> one(100000), two(100000);
  draw_signs(1, 1, 64, one);
  draw_signs(1, 1, 128, two);
  double sum = 0, agreement = 0;
  for (std::size_t i = 0; i < one.size(); ++i) {
    REQUIRE(std::abs(one[i]) == 1.0f);
    sum += one[i];
    agreement += one[i] * two[i];
  }
  CHECK(std::abs(sum) < 4 * std::sqrt(1e5));
  CHECK(std::abs(agreement) < 4 * std::sqrt(1e5));
}

TEST_CASE("an adapter's fused matrices hold A stacked and B in blocks", "[lora]") {
  const LoraLayout layout(small(), 2);
  std::vector<float> flat(layout.size), back(layout.size);
  for (std::size_t i = 0; i < flat.size(); ++i) flat[i] = static_cast<float>(i + 1);
  Adapter adapter(layout, at::kFloat, 1.0);
  adapter.load(flat);
  const LoraPlace& key = layout.places[1];
  const std::int64_t width = whole_depth();  // six columns are used
  CHECK(adapter.groups[0].a.sizes() == at::IntArrayRef({width, 16}));
  CHECK(adapter.groups[0].b.sizes() == at::IntArrayRef({32, width}));
  CHECK(adapter.groups[0].a[2][0].item<float>() == flat[key.a]);
  CHECK(adapter.groups[0].b[16][2].item<float>() == flat[key.b]);
  CHECK(adapter.groups[0].b[16][1].item<float>() == 0);
  CHECK(adapter.groups[0].b[15][2].item<float>() == 0);
  for (std::size_t i = 0; i < layout.groups.size(); ++i) {
    store_a_gradient(layout, layout.groups[i], adapter.groups[i].a, back);
    store_b_gradient(layout, layout.groups[i], adapter.groups[i].b, back);
  }
  CHECK(back == flat);
}
