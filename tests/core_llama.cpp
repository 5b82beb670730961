#include "core/llama.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <random>

#include "core/loss.hpp"
#include "core/signum.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"
#include "tests/step_fixture.hpp"

using namespace kpool;
using kpool::testing::TemporaryDirectory;
using kpool::testing::TinyModel;
using kpool::testing::random_adapter;

namespace {

std::shared_ptr<const Base> load(const TinyModel& model, const std::string& precision = "float32") {
  TemporaryDirectory directory;
  kpool::testing::write_tiny_model(model, directory.file("tiny.gguf"));
  auto base = Base::load({directory.file("tiny.gguf"), precision});
  REQUIRE(base);
  return *base;
}

std::vector<std::int32_t> random_tokens(std::size_t count, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<std::int32_t> tokens(count);
  for (auto& token : tokens) token = static_cast<std::int32_t>(engine() % 256);
  return tokens;
}

Workspace workspace;  // of all tests here

StepPlan plan_of(const Base& base, const Batch& batch, const Adapter& adapter) {
  return plan_step(base.weights(), *adapter.layout, batch.tokens, thread_count());
}

double mean_nats(const Base& base, const Batch& batch, Adapter& adapter, const std::vector<float>& flat) {
  adapter.load(flat);
  const at::Tensor all = nats(base.weights(), batch, &adapter, workspace);
  return all.sum(at::kDouble).item<double>() / static_cast<double>(batch.counted);
}

/// Compares the gradient of each matrix with central differences, along the gradient itself and along
/// a random direction.
void check_gradients(const Base& base, const Batch& batch, std::int64_t top_layers = 0) {
  const LoraLayout layout(base.shape(), 4, top_layers);
  Adapter adapter(layout, at::kFloat, 2.0);
  const std::vector<float> flat = random_adapter(layout);
  std::vector<float> gradient(layout.size), signs(layout.size);
  draw_signs(5, 1, 1, signs);
  adapter.load(flat);
  nats_and_gradient(base.weights(), batch, adapter, plan_of(base, batch, adapter), gradient, workspace);
  using Direction = std::vector<float>;
  auto check = [&](const std::string& name, std::int64_t offset, std::int64_t count, const Direction& direction) {
    const double norm = std::sqrt(std::inner_product(direction.begin() + offset, direction.begin() + offset + count,
                                                     direction.begin() + offset, 0.0));
    REQUIRE(norm > 0);
    const double epsilon = 0.02 / norm;
    double expected = 0;
    std::vector<float> up = flat, down = flat;
    for (std::int64_t i = offset; i < offset + count; ++i) {
      expected += static_cast<double>(gradient[i]) * direction[i] / norm;
      up[i] += static_cast<float>(epsilon * direction[i]);
      down[i] -= static_cast<float>(epsilon * direction[i]);
    }
    const double measured = (mean_nats(base, batch, adapter, up) - mean_nats(base, batch, adapter, down)) / 0.04;
    const double size = std::sqrt(std::inner_product(gradient.begin() + offset, gradient.begin() + offset + count,
                                                     gradient.begin() + offset, 0.0));
    INFO(name << ": expected " << expected << ", measured " << measured << ", norm " << size);
    CHECK(std::abs(measured - expected) <= 1e-3 * size);
  };
  for (const LoraPlace& place : layout.places)
    for (const auto* direction : {&gradient, &signs}) {
      check(place.module + " A", place.a, layout.rank * place.in, *direction);
      check(place.module + " B", place.b, layout.rank * place.out, *direction);
    }
}

}  // namespace

TEST_CASE("the gradients of A and B are those of finite differences", "[llama]") {
  use_threads(1);
  const auto one = random_tokens(40, 1), two = random_tokens(25, 2), three = random_tokens(90, 3);
  const std::vector<Segment> segments{{one, 1}, {two, 10}, {three, 1}};
  SECTION("llama") {
    const auto base = load({});
    check_gradients(*base, make_batch(base->weights(), segments));
  }
  SECTION("llama with a head of its own and one key-value head per query head") {
    const auto base = load({.kv_heads = 4, .tied = false});
    check_gradients(*base, make_batch(base->weights(), segments));
  }
  SECTION("llama with an adapter on the top two of four layers") {
    const auto base = load({.layers = 4});
    check_gradients(*base, make_batch(base->weights(), segments), 2);
  }
  SECTION("qwen2") {
    const auto base = load({.architecture = "qwen2"});
    check_gradients(*base, make_batch(base->weights(), segments));
  }
}

TEST_CASE("packed segments do not see each other", "[llama]") {
  use_threads(1);
  const auto base = load({});
  const LoraLayout layout(base->shape(), 4);
  Adapter adapter(layout, at::kFloat, 2.0);
  adapter.load(random_adapter(layout));
  const auto one = random_tokens(150, 1), two = random_tokens(77, 2), three = random_tokens(200, 3);
  const std::vector<Segment> segments{{one, 1}, {two, 1}, {three, 1}};
  const at::Tensor packed = nats(base->weights(), make_batch(base->weights(), segments), &adapter, workspace);
  std::int64_t row = 0;
  for (const Segment& segment : segments) {
    const at::Tensor alone = nats(base->weights(), make_batch(base->weights(), {&segment, 1}), &adapter, workspace);
    CHECK(packed.narrow(0, row, alone.size(0)).sub(alone).abs().max().item<float>() < 2e-5f);
    row += alone.size(0);
  }
  CHECK(row == packed.size(0));
}

TEST_CASE("a later token never changes an earlier prediction", "[llama]") {
  use_threads(1);
  const auto base = load({});
  auto tokens = random_tokens(300, 4);
  const Segment segment{tokens, 1};
  const at::Tensor before = nats(base->weights(), make_batch(base->weights(), {&segment, 1}), nullptr, workspace);
  tokens[250] = (tokens[250] + 1) % 256;
  const at::Tensor after = nats(base->weights(), make_batch(base->weights(), {&segment, 1}), nullptr, workspace);
  CHECK(at::equal(before.narrow(0, 0, 249), after.narrow(0, 0, 249)));
  CHECK_FALSE(at::equal(before.narrow(0, 249, 50), after.narrow(0, 249, 50)));
}

TEST_CASE("only the tokens after a prompt are counted", "[llama]") {
  const auto base = load({});
  const auto tokens = random_tokens(20, 5);
  const Segment segments[] = {{tokens, 1}, {tokens, 15}, {tokens, 20}};
  const Batch batch = make_batch(base->weights(), segments);
  CHECK(batch.counted_per_segment == std::vector<std::int64_t>{19, 5, 0});
  CHECK(batch.counted == 24);
  CHECK(batch.targets.size(0) == 24);
  CHECK(batch.targets[19].item<std::int64_t>() == tokens[15]);
  CHECK(batch.rows[19].item<std::int64_t>() == 20 + 14);
}

TEST_CASE("an adapter with B = 0 changes nothing and gives A no gradient", "[llama]") {
  use_threads(1);
  const auto base = load({});
  const LoraLayout layout(base->shape(), 4);
  Adapter adapter(layout, at::kFloat, 2.0);
  std::vector<float> flat(layout.size), gradient(layout.size, 7.0f);
  draw_lora(layout, 1, 1, flat);
  adapter.load(flat);
  const auto tokens = random_tokens(64, 6);
  const Segment segment{tokens, 1};
  const Batch batch = make_batch(base->weights(), {&segment, 1});
  const StepPlan plan = plan_of(*base, batch, adapter);
  const at::Tensor with = nats_and_gradient(base->weights(), batch, adapter, plan, gradient, workspace);
  CHECK(at::equal(with, nats(base->weights(), batch, nullptr, workspace)));
  for (const LoraPlace& place : layout.places) {
    const auto* a = gradient.data() + place.a;
    const auto* b = gradient.data() + place.b;
    CHECK(std::all_of(a, a + layout.rank * place.in, [](float x) { return x == 0; }));
    CHECK(std::any_of(b, b + layout.rank * place.out, [](float x) { return x != 0; }));
  }
}

TEST_CASE("an adapter on the top layers steps as a whole one whose lower layers are frozen", "[llama]") {
  use_threads(1);
  const auto base = load({.layers = 4});
  const LoraLayout whole(base->shape(), 4), top(base->shape(), 4, 2);
  REQUIRE(top.first_layer == 2);
  REQUIRE(2 * top.size == whole.size);
  const auto lower = static_cast<std::size_t>(whole.size - top.size), skipped = whole.places.size() / 2;
  for (std::size_t i = 0; i < top.places.size(); ++i) {
    REQUIRE(top.places[i].module == whole.places[skipped + i].module);
    REQUIRE(top.places[i].a + whole.size - top.size == whole.places[skipped + i].a);
  }
  std::vector<float> few = random_adapter(top), all(whole.size);
  std::copy(few.begin(), few.end(), all.begin() + lower);  // B of the lower layers is zero
  const auto tokens = random_tokens(100, 8);
  const Segment segment{tokens, 1};
  const Batch batch = make_batch(base->weights(), {&segment, 1});
  auto step = [&](const LoraLayout& layout, std::vector<float>& flat, std::size_t frozen) {
    Adapter adapter(layout, at::kFloat, 2.0);
    adapter.load(flat);
    std::vector<float> gradient(flat.size()), momentum(flat.size());
    nats_and_gradient(base->weights(), batch, adapter, plan_of(*base, batch, adapter), gradient, workspace);
    signum_step(std::span(flat).subspan(frozen), std::span(momentum).subspan(frozen),
                std::span<const float>(gradient).subspan(frozen), {}, 1);
    return gradient;
  };
  const std::vector<float> before = few;
  const auto small = step(top, few, 0), large = step(whole, all, lower);
  REQUIRE(std::any_of(small.begin(), small.end(), [](float x) { return x != 0; }));
  CHECK(few != before);
  for (std::size_t i = 0; i < few.size(); ++i) {
    REQUIRE(small[i] == Approx(large[lower + i]).margin(1e-6));
    if (std::abs(small[i]) > 1e-6f) REQUIRE(few[i] == all[lower + i]);
  }
}

TEST_CASE("passes that begin above the layers without an adapter give the same bits", "[llama]") {
  use_threads(1);
  const auto base = load({.layers = 4});
  const LoraLayout top(base->shape(), 4, 2);
  Adapter adapter(top, at::kFloat, 2.0);
  adapter.load(random_adapter(top));
  const auto one = random_tokens(70, 11), other = random_tokens(33, 12);
  const Segment segments[] = {{one, 1}, {other, 9}};
  const Batch whole = make_batch(base->weights(), segments);
  Batch upper = whole;
  run_lower(base->weights(), upper, top.first_layer, workspace);
  CHECK(at::equal(upper.lower, hidden_states(base->weights(), whole, 2, nullptr, workspace)));
  std::vector<float> expected(top.size), gradient(top.size);
  const StepPlan plan = plan_of(*base, whole, adapter);
  const at::Tensor loss = nats_and_gradient(base->weights(), whole, adapter, plan, expected, workspace);
  CHECK(at::equal(nats_and_gradient(base->weights(), upper, adapter, plan, gradient, workspace), loss));
  CHECK(gradient == expected);
  CHECK(at::equal(nats(base->weights(), upper, &adapter, workspace), loss));
  CHECK(at::equal(nats(base->weights(), upper, nullptr, workspace), nats(base->weights(), whole, nullptr, workspace)));
  upper.lower.zero_();  // nothing below is run again
  CHECK_FALSE(at::equal(nats(base->weights(), upper, &adapter, workspace), loss));
}

TEST_CASE("only the rows of a completion enter the loss", "[llama]") {
  use_threads(1);
  const auto base = load({});
  const auto tokens = random_tokens(512, 9);
  const Segment text{tokens, 1}, prompted{tokens, 480};
  const Batch whole = make_batch(base->weights(), {&text, 1}), completion = make_batch(base->weights(), {&prompted, 1});
  const at::Tensor all = nats(base->weights(), whole, nullptr, workspace);
  const at::Tensor few = nats(base->weights(), completion, nullptr, workspace);
  REQUIRE(all.size(0) == 511);
  REQUIRE(few.size(0) == 32);
  CHECK(few.sub(all.narrow(0, 479, 32)).abs().max().item<float>() < 1e-5f);
  // token_nats takes its rows from the targets, asserts that x has no others, and needs memory for these alone.
  const FrozenMatrix& head = base->weights().head;
  const at::Tensor hidden = hidden_states(base->weights(), whole, 2, nullptr, workspace);
  auto peak = [&](const Batch& batch) {
    Workspace own;
    own.reserve(loss_bytes(head, 511, false, 1));
    at::Tensor out = at::empty({batch.counted}, at::kFloat);
    token_nats(hidden.narrow(0, 0, (batch.counted + 31) / 32 * 32), head, batch.targets, out, nullptr, own);
    return own.peak();
  };
  CHECK(peak(whole) == loss_bytes(head, 511, false, 1));
  CHECK(peak(completion) == loss_bytes(head, 32, false, 1));
  CHECK(2 * loss_bytes(head, 32, false, 1) < loss_bytes(head, 511, false, 1));
}

TEST_CASE("bfloat16 agrees with float32 to its precision", "[llama]") {
  use_threads(1);
  const auto exact = load({}), rough = load({}, "bfloat16");
  const auto tokens = random_tokens(200, 7);
  const Segment segment{tokens, 1};
  const at::Tensor a = nats(exact->weights(), make_batch(exact->weights(), {&segment, 1}), nullptr, workspace);
  Workspace own = make_workspace(rough->weights());  // where the processor lacks bfloat16, not the tiles
  const at::Tensor b = nats(rough->weights(), make_batch(rough->weights(), {&segment, 1}), nullptr, own);
  CHECK(std::abs(a.sub(b).mean().item<float>()) < 0.02f);
  CHECK(a.sub(b).abs().max().item<float>() < 0.5f);
}

TEST_CASE("every plan of a step gives the same gradient within its bytes", "[llama]") {
  const auto base = load({.layers = 4});
  const auto tokens = random_tokens(100, 21);
  const Segment segment{tokens, 1};
  const Batch batch = make_batch(base->weights(), {&segment, 1});
  const LoraLayout layout(base->shape(), 4, 3);
  Adapter adapter(layout, at::kFloat, 2.0);
  adapter.load(random_adapter(layout));
  std::vector<float> wanted(layout.size), gradient(layout.size);
  const StepPlan all = plan_step(base->weights(), layout, batch.tokens, thread_count());
  REQUIRE(all.store_all == 3);
  nats_and_gradient(base->weights(), batch, adapter, all, wanted, workspace);
  std::size_t least = all.bytes;
  for (std::size_t bytes = all.bytes; bytes > all.bytes / 2; bytes -= all.bytes / 50) {
    const StepPlan plan = plan_step(base->weights(), layout, batch.tokens, thread_count(), bytes);
    CHECK(plan.store_all + plan.store_narrow + plan.store_inputs == 3);
    CHECK((plan.bytes <= bytes || plan.store_inputs == 3));
    Workspace own;
    nats_and_gradient(base->weights(), batch, adapter, plan, gradient, own);
    CHECK(own.peak() <= plan.bytes);
    for (std::size_t i = 0; i < wanted.size(); ++i) REQUIRE(gradient[i] == Approx(wanted[i]).margin(1e-5));
    least = std::min(least, plan.bytes);
  }
  CHECK(plan_step(base->weights(), layout, batch.tokens, thread_count(), 1).store_inputs == 3);
  CHECK(least < all.bytes);
}
