#include "bench/frozen_products.hpp"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>

#include <ctime>

#include "bench/common.hpp"
#include "core/weights.hpp"

namespace kpool {
namespace {

constexpr std::int64_t memory_max = 1LL << 28;  // bytes of the matrices of one linear
constexpr int calls = 9;

at::Tensor random(std::int64_t rows, std::int64_t columns, at::ScalarType dtype) {
  return at::randn({rows, columns}, at::kFloat).to(dtype);
}

}  // namespace

FrozenProducts::FrozenProducts(const Base& base, std::int64_t tokens) : tokens_(tokens), dtype_(base.weights().dtype) {
  const BaseShape& shape = base.shape();
  const std::int64_t layers = shape.layers, attention = shape.heads * shape.head_width;
  // Nothing learns below the first layer, so the gradient of its input is not asked for.
  add("qkv", attention + 2 * shape.kv_heads * shape.head_width, shape.hidden, layers, layers - 1);
  add("output", shape.hidden, attention, layers, layers);
  add("gate_up", 2 * shape.ffn, shape.hidden, layers, layers);
  add("down", shape.hidden, shape.ffn, layers, layers);
  add("head", shape.vocabulary, shape.hidden, 1, 1);
  single_ = {"", 1, 0, {random(1536, 576, dtype_)}, random(tokens, 576, dtype_), random(tokens, 1536, dtype_)};
}

void FrozenProducts::add(std::string name, std::int64_t out, std::int64_t in, std::int64_t forward,
                         std::int64_t backward) {
  parameters_ += forward * out * in;
  Linear linear{std::move(name), forward, backward, {}, random(tokens_, in, dtype_), random(tokens_, out, dtype_)};
  const std::int64_t bytes = out * in * static_cast<std::int64_t>(c10::elementSize(dtype_));
  for (std::int64_t i = 0; i < forward && (i == 0 || (i + 1) * bytes <= memory_max); ++i)
    linear.weights.push_back(random(out, in, dtype_));
  linears_.push_back(std::move(linear));
}

FrozenProducts::Times FrozenProducts::time(const Linear& linear, bool forward) {
  at::Tensor result = at::empty_like(forward ? linear.out : linear.in);
  std::vector<double> wall;
  std::clock_t clock = 0;
  for (int i = -2; i < calls; ++i) {  // two to warm up
    const at::Tensor& weight = linear.weights[static_cast<std::size_t>(i + 2) % linear.weights.size()];
    if (i == 0) clock = std::clock();
    const double start = seconds_now();
    if (forward) at::mm_out(result, linear.in, weight.t());
    else at::mm_out(result, linear.out, weight);
    if (i >= 0) wall.push_back(seconds_now() - start);
  }
  // The mean: the kernel adds up the other threads' time at its ticks only, which are longer than a call.
  return {median(wall), static_cast<double>(std::clock() - clock) / CLOCKS_PER_SEC / calls};
}

nlohmann::json FrozenProducts::measure() {
  nlohmann::json each;
  Times sum;
  for (const Linear& linear : linears_) {
    const Times forward = time(linear, true), backward = time(linear, false);
    const auto forwards = static_cast<double>(linear.forward), backwards = static_cast<double>(linear.backward);
    sum.wall += forwards * forward.wall + backwards * backward.wall;
    sum.processor += forwards * forward.processor + backwards * backward.processor;
    each[linear.name] = {{"forward_ms", 1e3 * forward.wall}, {"backward_ms", 1e3 * backward.wall}};
  }
  const double flops = 2.0 * static_cast<double>(tokens_) * 576 * 1536;
  return {{"model_shapes_seconds", sum.wall},
          {"model_shapes_cpu_seconds", sum.processor},
          {"single_shape_flops", flops / time(single_, true).wall},
          {"each", each}};
}

}  // namespace kpool
