// The decoder in libtorch's operators, which CUDA runs, against the hand-written tiles, on the CPU: each operation, and
// whole steps.
#include "core/library.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>

#include "core/gemm.hpp"
#include "core/kernels.hpp"
#include "core/loss.hpp"
#include "tests/step_fixture.hpp"

using namespace kpool;
using namespace kpool::testing;

namespace {

/// Those that the tiles compute in on this machine.
std::vector<at::ScalarType> dtypes() {
  if (multiplies_bfloat16()) return {at::kFloat, at::kBFloat16};
  return {at::kFloat};
}

/// Runs `work` with each kind of operators; both return their results.
template <class Work>
void compare(at::ScalarType dtype, Work work) {
  Workspace tiles(Operators::tiles), library(Operators::library);
  tiles.reserve(64u << 20);
  const std::vector<at::Tensor> expected = work(tiles), measured = work(library);
  REQUIRE(expected.size() == measured.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    INFO("result " << i << " in " << name(dtype));
    REQUIRE(expected[i].abs().max().item<float>() > 0);
    CHECK(error(measured[i], expected[i]) <= bound(dtype));
  }
}

/// work on the first layer of each model, with an adapter of rank 4.
template <class Work>
void each_adapted(Work work) {
  use_threads(2);
  for (const at::ScalarType dtype : dtypes())
    for (const TinyModel& model : kStepModels) {
      const auto base = load(model, {.precision = name(dtype)});
      const LoraLayout layout(base->shape(), 4);
      Adapter adapter(layout, dtype, 2.0);
      adapter.load(random_adapter(layout));
      work(base->weights().layers[0], layout, adapter, dtype);
    }
}

}  // namespace

TEST_CASE("library: norms are those of the tiles", "[library]") {
  use_threads(2);
  constexpr std::int64_t rows = 45, width = 72;
  const at::Tensor weight = random_rows(1, width, at::kFloat, 1)[0];
  for (const at::ScalarType dtype : dtypes()) {
    const at::Tensor delta = random_rows(rows, width, dtype, 2), dout = random_rows(rows, width, dtype, 3);
    compare(dtype, [&](Workspace& workspace) -> std::vector<at::Tensor> {
      at::Tensor hidden = random_rows(rows, width, at::kFloat, 4), inverse = at::empty({rows}, at::kFloat);
      at::Tensor out = at::empty_like(delta);
      add_norm(hidden, delta, weight, 1e-5, inverse, out, workspace);
      at::Tensor gradient = random_rows(rows, width, at::kFloat, 5), rounded = at::empty_like(delta);
      norm_backward(dout, hidden, inverse, weight, gradient, rounded, workspace);
      at::Tensor before = hidden.clone(), again = at::empty_like(delta);
      take_norm(before, delta, weight, inverse, again, workspace);
      return {hidden, inverse, out, gradient, rounded, before, again};
    });
  }
}

TEST_CASE("library: SwiGLU is that of the tiles", "[library]") {
  use_threads(2);
  constexpr std::int64_t rows = 45, width = 72;
  for (const at::ScalarType dtype : dtypes()) {
    const at::Tensor gate_up = random_rows(rows, 2 * width, dtype, 1), dout = random_rows(rows, width, dtype, 2);
    compare(dtype, [&](Workspace& workspace) -> std::vector<at::Tensor> {
      at::Tensor out = at::empty_like(dout), again = at::empty_like(dout), dgate_up = at::empty_like(gate_up);
      swiglu(gate_up, out, workspace);
      swiglu_backward(dout, gate_up, dgate_up, again, workspace);
      return {out, again, dgate_up};
    });
  }
}

TEST_CASE("library: linears with an adapter are those of the tiles", "[library]") {
  each_adapted([](const LayerWeights& layer, const LoraLayout& layout, const Adapter& adapter, at::ScalarType dtype) {
    const at::Tensor* bias = layer.qkv_bias.defined() ? &layer.qkv_bias : nullptr;
    const Linear linear{layer.qkv, bias, &adapter.groups[0], adapter.scale};
    constexpr std::int64_t tokens = 64;
    const at::Tensor in = random_rows(tokens, layer.qkv.columns, dtype, 1);
    const at::Tensor dout = random_rows(tokens, layer.qkv.rows, dtype, 2);
    compare(dtype, [&](Workspace& workspace) -> std::vector<at::Tensor> {
      const std::int64_t width = layout.width(layout.groups[0]);
      at::Tensor bent = at::empty({tokens, width}, dtype), again = at::empty_like(bent), dbent = at::empty_like(bent);
      at::Tensor out = at::empty_like(dout), din = at::empty_like(in);
      std::vector<float> flat(layout.size);
      const GradientSink sink{layout, layout.groups[0], flat};
      project(linear, in, bent, out, workspace);
      bend(linear, in, again, workspace);
      project_backward(linear, bent, dout, dbent, &din, sink, workspace);
      a_gradient(in, dbent, sink, workspace);
      return {bent, again, out, dbent, din, tensor_of(flat)};
    });
  });
}

TEST_CASE("library: linears around a SwiGLU are those of the tiles", "[library]") {
  each_adapted([](const LayerWeights& layer, const LoraLayout& layout, const Adapter& adapter, at::ScalarType dtype) {
    const Linear gate_up{layer.gate_up, nullptr, &adapter.groups[2], adapter.scale};
    const Linear down{layer.down, nullptr, &adapter.groups[3], adapter.scale};
    constexpr std::int64_t tokens = 64;
    const at::Tensor in = random_rows(tokens, layer.gate_up.columns, dtype, 1);
    const at::Tensor dout = random_rows(tokens, layer.down.rows, dtype, 2);
    compare(dtype, [&](Workspace& workspace) -> std::vector<at::Tensor> {
      at::Tensor bent = at::empty({tokens, layout.width(layout.groups[2])}, dtype);
      at::Tensor both = at::empty({tokens, layer.gate_up.rows}, dtype), dboth = at::empty_like(both);
      at::Tensor gated = at::empty({tokens, layer.down.columns}, dtype), again = at::empty_like(gated);
      project_gated(gate_up, in, bent, both, gated, workspace);
      at::Tensor down_bent = at::empty({tokens, layout.width(layout.groups[3])}, dtype);
      at::Tensor dbent = at::empty_like(down_bent);
      bend(down, gated, down_bent, workspace);
      std::vector<float> flat(layout.size);
      project_gated_backward(down, down_bent, dout, dbent, both, dboth, again,
                             {layout, layout.groups[3], flat}, workspace);
      return {bent, both, gated, dbent, dboth, again, tensor_of(flat)};
    });
  });
}

TEST_CASE("library: the loss is that of the tiles, over more rows than one chunk", "[library]") {
  use_threads(2);
  constexpr std::int64_t rows = 70, padded = 96, hidden = 32;
  const at::Tensor few = random_rows(1000, hidden, at::kFloat, 1);
  for (const at::ScalarType dtype : dtypes())
    for (const std::int64_t repeats : {1, 300}) {  // 300,000 words: the library takes them 55 rows at a time
      const at::Tensor dense = few.repeat({repeats, 1}).to(dtype);
      const GgufTensor bytes{"head", dtype == at::kFloat ? GgmlType::f32 : GgmlType::bf16, {dense.size(0), hidden},
                             {static_cast<const std::byte*>(dense.const_data_ptr()), dense.nbytes()}};
      const FrozenMatrix head{.rows = dense.size(0), .columns = hidden, .dtype = dtype, .parts = {{&bytes}}};
      const at::Tensor x = random_rows(padded, hidden, dtype, 2);
      const at::Tensor targets = at::arange(rows, at::kLong) * 13 % 1000;
      compare(dtype, [&](Workspace& workspace) -> std::vector<at::Tensor> {
        at::Tensor nats = at::empty({rows}, at::kFloat), alone = at::empty({rows}, at::kFloat);
        at::Tensor gradient = at::empty({rows, hidden}, at::kFloat);
        token_nats(x, head, targets, nats, &gradient, workspace);
        token_nats(x, head, targets, alone, nullptr, workspace);
        return {nats, alone, gradient};
      });
    }
}

TEST_CASE("library: attention is that of the tiles", "[library]") {
  use_threads(2);
  for (const at::ScalarType dtype : dtypes()) {
    const auto base = load({.kv_heads = 2}, {.precision = name(dtype)});
    const BaseShape& shape = base->shape();
    const std::vector<std::int32_t> tokens(150, 1);
    const std::vector<Segment> segments{{std::span(tokens).first(33), 1}, {tokens, 1}};
    const Batch batch = make_batch(base->weights(), segments);
    const std::int64_t rows = batch.ids.size(0), columns = (shape.heads + 2 * shape.kv_heads) * shape.head_width;
    const at::Tensor dout = random_rows(rows, shape.heads * shape.head_width, dtype, 1);
    compare(dtype, [&](Workspace& workspace) -> std::vector<at::Tensor> {
      at::Tensor qkv = random_rows(rows, columns, dtype, 2), out = at::empty_like(dout), dqkv = at::empty_like(qkv);
      at::Tensor log_sums = at::empty({shape.heads, rows}, at::kFloat);
      rotate(qkv, batch, shape, workspace);
      attend(qkv, batch, shape, out, log_sums, workspace);
      attend_backward(dout, out, qkv, log_sums, batch, shape, dqkv, workspace);
      return {qkv, out, log_sums, dqkv};
    });
  }
}

TEST_CASE("library: a whole step is that of the tiles, however the layers are kept", "[library]") {
  use_threads(2);
  for (const at::ScalarType dtype : dtypes())
    for (const char* weights : {"bf16", "quantised"})
      for (const TinyModel& model : kStepModels)
        for (const Kept kept : kEveryKept) {
          if (kept == Kept::mixed && model.layers < 3) continue;
          INFO(model.architecture << ", " << name(dtype) << ", " << weights << ", kept " << static_cast<int>(kept));
          const auto own = load(
              model, {.precision = name(dtype), .weights = weights, .gradients = "full", .forward = "full"});
          const auto other = load(model, {.precision = name(dtype), .weights = weights, .library = true});
          Workspace tiles = make_workspace(own->weights()), library = make_workspace(other->weights());
          REQUIRE(tiles.operators() == Operators::tiles);
          REQUIRE(library.operators() == Operators::library);
          const Outcome expected = train(*own, tiles, kept), measured = train(*other, library, kept);
          CHECK(error(measured.nats, expected.nats) <= bound(dtype));
          CHECK(error(measured.gradient, expected.gradient) <= bound(dtype));
        }
}

TEST_CASE("library: bfloat16 runs on any processor", "[library]") {
  use_threads(1);
  const auto wide = load({}, {.precision = "float32"}), narrow = load({}, {.precision = "bfloat16", .library = true});
  CHECK((load({}, {.precision = "bfloat16"})->weights().operators == Operators::tiles) == multiplies_bfloat16());
  Workspace own = make_workspace(wide->weights()), library = make_workspace(narrow->weights());
  CHECK(own.operators() == Operators::tiles);
  const Outcome expected = train(*wide, own, Kept::all), measured = train(*narrow, library, Kept::all);
  CHECK(error(measured.nats, expected.nats) <= 2e-2);
  CHECK(error(measured.gradient, expected.gradient) <= 5e-2);
}

TEST_CASE("a device that is not there is refused in one sentence", "[library]") {
  const auto unknown = try_load({}, {.device = "tpu"});
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().fault == Fault::bad_config);
  CHECK(unknown.error().message == "device \"tpu\" is none of cpu, cuda.");
  if (const auto cuda = try_load({}, {.device = "cuda"}); !cuda) {
    CHECK(cuda.error().fault == Fault::bad_config);
    CHECK(cuda.error().message.find("device \"cuda\": ") == 0);
    return;
  }
  const auto quantised = try_load({}, {.weights = "quantised", .device = "cuda"});
  REQUIRE_FALSE(quantised);
  CHECK(quantised.error().message.find("device \"cuda\" needs weights \"bf16\"") == 0);
}
