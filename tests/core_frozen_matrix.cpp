#include "core/frozen_matrix.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>

#include "core/llama.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

using namespace kpool;
using kpool::testing::TemporaryDirectory;
using kpool::testing::TinyModel;

namespace {

std::shared_ptr<const Base> load(const TinyModel& model, const std::string& precision, const std::string& weights) {
  TemporaryDirectory directory;
  kpool::testing::write_tiny_model(model, directory.file("tiny.gguf"));
  auto base = Base::load({directory.file("tiny.gguf"), precision, -1, weights});
  REQUIRE(base);
  return *base;
}

/// A tensor of the file as it lies there.
at::Tensor in_file(const Base& base, const std::string& name) {
  const GgufTensor* tensor = base.file().find(name);
  REQUIRE(tensor);
  at::Tensor out = at::empty({tensor->shape[0], tensor->shape[1]}, at::kFloat);
  dequantise(*tensor, 0, tensor->shape[0], out.mutable_data_ptr<float>());
  return out;
}

/// The rows of GGUF's q or k with the two halves of each head one after the other.
at::Tensor half_after_half(const at::Tensor& rows, std::int64_t head_width) {
  const std::int64_t columns = rows.size(1);
  return rows.view({-1, head_width / 2, 2, columns}).transpose(1, 2).reshape({-1, columns});
}

const TinyModel kModels[] = {
    {},
    {.kv_heads = 4, .tied = false, .type = GgmlType::q8_0},
    {.heads = 2, .kv_heads = 1, .type = GgmlType::q4_0},
    {.architecture = "qwen2", .type = GgmlType::q8_0},
};

}  // namespace

TEST_CASE("frozen matrix: the rows of q and k come half after half", "[frozen]") {
  for (const TinyModel& model : kModels)
    for (const char* weights : {"bf16", "quantised"}) {
      const auto base = load(model, "float32", weights);
      CAPTURE(model.architecture, model.heads, weights);
      at::Tensor q = in_file(*base, "blk.1.attn_q.weight"), k = in_file(*base, "blk.1.attn_k.weight");
      if (model.architecture == "llama") {
        q = half_after_half(q, base->shape().head_width);
        k = half_after_half(k, base->shape().head_width);
      }
      const at::Tensor expected = at::cat({q, k, in_file(*base, "blk.1.attn_v.weight")});
      CHECK(at::equal(base->weights().layers[1].qkv.expanded(), expected));
    }
}

TEST_CASE("frozen matrix: quantised and dense bases hold the same numbers", "[frozen]") {
  for (const TinyModel& model : kModels)
    for (const char* precision : {"float32", "bfloat16"}) {
      const auto dense = load(model, precision, "bf16"), mapped = load(model, precision, "quantised");
      const Base::Weights &a = dense->weights(), &b = mapped->weights();
      CAPTURE(model.architecture, model.heads, precision);
      const at::Tensor ids = at::tensor({3, 0, 255, 3}, at::kLong);
      CHECK(at::equal(gather_rows(a.embedding, ids), gather_rows(b.embedding, ids)));
      CHECK(at::equal(a.head.expanded(), b.head.expanded()));
      for (std::size_t i = 0; i < a.layers.size(); ++i)
        for (const auto matrix : {&LayerWeights::qkv, &LayerWeights::output, &LayerWeights::gate_up,
                                  &LayerWeights::down}) {
          const FrozenMatrix &whole = a.layers[i].*matrix, &parts = b.layers[i].*matrix;
          REQUIRE((whole.dense.defined() || whole.panels.defined()));
          REQUIRE_FALSE((parts.dense.defined() || parts.panels.defined()));
          CHECK(at::equal(whole.expanded(), parts.expanded()));
        }
    }
}

TEST_CASE("frozen matrix: any block of it is what the whole holds there", "[frozen]") {
  const auto base = load({.type = GgmlType::q4_0}, "float32", "quantised");
  const FrozenMatrix& qkv = base->weights().layers[0].qkv;
  CHECK(qkv.column_step() == 32);
  CHECK(load({}, "float32", "quantised")->weights().layers[0].qkv.column_step() == 1);
  CHECK(load({}, "float32", "bf16")->weights().layers[0].qkv.column_step() == 1);
  const FrozenMatrix& down = base->weights().layers[0].down;  // (32, 64): two blocks in a row
  const at::Tensor whole = down.expanded();
  at::Tensor block = at::zeros({7, 40}, at::kFloat);
  down.expand(5, 7, 32, 32, block.mutable_data_ptr(), 40);
  CHECK(at::equal(block.narrow(1, 0, 32), whole.narrow(0, 5, 7).narrow(1, 32, 32)));
  CHECK(at::equal(block.narrow(1, 32, 8), at::zeros({7, 8})));
  const at::Tensor fused = qkv.expanded();
  for (std::int64_t row = 0; row < qkv.rows; row += 3) {  // across the borders of q, k and v
    const std::int64_t count = std::min<std::int64_t>(5, qkv.rows - row);
    at::Tensor some = at::empty({count, 32}, at::kFloat);
    qkv.expand(row, count, 0, 32, some.mutable_data_ptr(), 32);
    CHECK(at::equal(some, fused.narrow(0, row, count)));
  }
}

TEST_CASE("frozen matrix: a quantised base predicts what the dense one predicts", "[frozen]") {
  use_threads(1);
  for (const char* precision : {"float32", "bfloat16"}) {
    const TinyModel model{.type = GgmlType::q4_0};
    const auto dense = load(model, precision, "bf16"), mapped = load(model, precision, "quantised");
    std::vector<std::int32_t> tokens;
    for (std::int32_t i = 0; i < 100; ++i) tokens.push_back(i * i % 256);
    const Segment segment{tokens, 1};
    const Batch batch = make_batch(dense->weights(), {&segment, 1});
    Workspace workspace = make_workspace(dense->weights());
    const at::Tensor a = nats(dense->weights(), batch, nullptr, workspace);
    const at::Tensor b = nats(mapped->weights(), batch, nullptr, workspace);
    CHECK(a.sub(b).abs().max().item<float>() < 1e-3f);
  }
}

TEST_CASE("frozen matrix: other words than bf16 and quantised are refused", "[frozen]") {
  TemporaryDirectory directory;
  kpool::testing::write_tiny_model({}, directory.file("tiny.gguf"));
  const auto base = Base::load({directory.file("tiny.gguf"), "auto", -1, "int8"});
  REQUIRE_FALSE(base);
  CHECK(base.error().fault == Fault::bad_config);
  CHECK(base.error().message.find("int8") != std::string::npos);
}
