// What the tests of whole training steps share: small models, an adapter and packed records, and how far results are
// from each other.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

#include "core/llama.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

namespace kpool::testing {

inline const TinyModel kStepModels[] = {{},
                                        {.kv_heads = 4, .tied = false},
                                        {.architecture = "qwen2", .layers = 3},
                                        {.tied = false, .type = GgmlType::q8_0}};

inline const char* name(at::ScalarType dtype) { return dtype == at::kFloat ? "float32" : "bfloat16"; }

/// Of two ways to compute the same.
inline double bound(at::ScalarType dtype) { return dtype == at::kFloat ? 1e-4 : 2e-2; }

inline Result<std::shared_ptr<const Base>> try_load(const TinyModel& model, const BaseOptions& options) {
  TemporaryDirectory directory;
  BaseOptions complete = options;
  complete.path = directory.file("tiny.gguf");
  write_tiny_model(model, complete.path);
  return Base::load(complete);
}

inline std::shared_ptr<const Base> load(const TinyModel& model, const BaseOptions& options) {
  auto base = try_load(model, options);
  if (!base) FAIL(base.error().message);
  return *base;
}

inline at::Tensor random_rows(std::int64_t rows, std::int64_t columns, at::ScalarType dtype, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  at::Tensor x = at::empty({rows, columns}, at::kFloat);
  float* values = x.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < x.numel(); ++i) values[i] = normal(engine);
  return x.to(dtype);
}

inline at::Tensor tensor_of(const std::vector<float>& values) {
  at::Tensor out = at::empty({static_cast<std::int64_t>(values.size())}, at::kFloat);
  std::copy(values.begin(), values.end(), out.mutable_data_ptr<float>());
  return out;
}

/// An adapter whose B is not zero, so that A has a gradient.
inline std::vector<float> random_adapter(const LoraLayout& layout) {
  std::vector<float> flat(layout.size), signs(layout.size);
  draw_lora(layout, 3, 1, flat);
  draw_signs(3, 1, 1, signs);
  for (const LoraPlace& place : layout.places)
    for (std::int64_t i = 0; i < place.out * layout.rank; ++i) flat[place.b + i] = 0.05f * signs[place.b + i];
  return flat;
}

/// The largest difference, in units of the largest expected value.
inline double error(const at::Tensor& measured, const at::Tensor& expected) {
  const at::Tensor right = expected.cpu().to(at::kDouble);
  return ((measured.cpu().to(at::kDouble) - right).abs().max() / right.abs().max()).item<double>();
}

/// How the layers of a step are kept: as is fastest, one of each kind, or as little as can be.
enum class Kept { all, mixed, least };
constexpr Kept kEveryKept[] = {Kept::all, Kept::mixed, Kept::least};

struct Outcome {
  at::Tensor nats, gradient;  // the latter on the CPU
};

/// One step on three packed records, with padding after them.
inline Outcome train(const Base& base, Workspace& workspace, Kept kept) {
  constexpr std::int64_t count = 190;
  const Base::Weights& weights = base.weights();
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 0; i < count; ++i) tokens.push_back(i * i * 7 % 256);
  const std::span<const std::int32_t> all = tokens;
  const std::vector<Segment> segments{{all.first(40), 1}, {all.subspan(40, 130), 10}, {all.subspan(170), 1}};
  const LoraLayout layout(weights.shape, 4);
  Adapter adapter(layout, weights.dtype, 2.0, weights.device);
  adapter.load(random_adapter(layout));
  std::vector<float> gradient(layout.size);
  StepPlan plan = plan_step(weights, layout, count, thread_count(), kept == Kept::least ? 1 : 0);
  if (kept == Kept::mixed) {
    plan.store_narrow = 1;
    plan.store_inputs = plan.store_all - 2;
    plan.store_all = 1;
  }
  Outcome outcome;
  Batch batch = make_batch(weights, segments);
  batch.int8 = weights.int8_forward;
  outcome.nats = nats_and_gradient(weights, batch, adapter, plan, gradient, workspace);
  outcome.gradient = tensor_of(gradient);
  return outcome;
}

}  // namespace kpool::testing
