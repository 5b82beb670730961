// bench_attention [TOKENS SEGMENTS THREADS PRECISION REPEATS]
// Attention of one layer of SmolLM2 on tiles, forward and backward, against libtorch's flash attention on the same
// values and threads (per segment, as it has no packing), and the share of the rate that tile products reach alone.
// Medians of rounds in which all parts take turns; prints JSON.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "bench/common.hpp"
#include "core/attention_tiles.hpp"
#include "core/gemm.hpp"
#include "core/threads.hpp"
#include "core/weights.hpp"

using namespace kpool;

namespace {

struct Data {
  BaseShape shape;
  Batch batch;
  std::vector<std::int64_t> lengths;
  at::Tensor qkv, dout, out, log_sums, dqkv;
  Workspace workspace;

  Data(std::int64_t tokens, std::int64_t segments, at::ScalarType dtype) {
    Base::Weights weights;
    weights.shape = {.heads = 9, .kv_heads = 3, .head_width = 64, .vocabulary = 1};
    for (int j = 0; j < 32; ++j) weights.inverse_frequencies.push_back(std::pow(1e5, -j / 32.0));
    const std::vector<std::int32_t> text(tokens / segments, 0);
    const std::vector<Segment> all(segments, {text, 1});
    lengths.assign(segments, tokens / segments);
    shape = weights.shape;
    batch = make_batch(weights, all);
    const std::int64_t rows = batch.ids.size(0);
    qkv = at::randn({rows, 15 * 64}, at::kFloat).to(dtype);
    dout = at::randn({rows, 9 * 64}, at::kFloat).to(dtype);
    out = at::empty_like(dout);
    dqkv = at::empty_like(qkv);
    log_sums = at::empty({9, rows}, at::kFloat);
    workspace.reserve(tiles::attention_bytes(shape, rows, dtype, at::get_num_threads()));
  }
  void forward() { tiles::attend(qkv, batch, shape, out, log_sums, workspace); }
  void backward() { tiles::attend_backward(dout, out, qkv, log_sums, batch, shape, dqkv, workspace); }

  /// Multiplications and additions of the visible pairs: two products forward, five backward.
  double operations(double products) const {
    double pairs = 0;
    for (const std::int64_t length : lengths) pairs += 0.5 * static_cast<double>(length * (length + 1));
    return 2 * products * pairs * static_cast<double>(shape.heads * shape.head_width);
  }
};

/// libtorch's, on one batch of equal segments.
struct Flash {
  at::Tensor q, k, v, dout, out, log_sums;

  explicit Flash(const Data& data) {
    const auto segments = static_cast<std::int64_t>(data.lengths.size()), tokens = data.lengths[0];
    auto heads = [&](const at::Tensor& x) {
      return x.narrow(0, 0, segments * tokens).view({segments, tokens, -1, 64}).transpose(1, 2);
    };
    q = heads(data.qkv.narrow(1, 0, 9 * 64).contiguous());
    k = heads(data.qkv.narrow(1, 9 * 64, 3 * 64).contiguous()).repeat_interleave(3, 1);
    v = heads(data.qkv.narrow(1, 12 * 64, 3 * 64).contiguous()).repeat_interleave(3, 1);
    dout = heads(data.dout);
  }
  void forward() {
    std::tie(out, log_sums) = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, true, {}, 1.0);
  }
  void backward() {
    at::_scaled_dot_product_flash_attention_for_cpu_backward(dout, q, k, v, out, log_sums, 0.0, true, {}, 1.0);
  }
};

/// Operations per second of one thread's tile products, (64, 576) by (576, kPanel).
template <class T>
double tile_rate() {
  constexpr std::int64_t kRows = 64, kDepth = 576, kProducts = 200;
  const at::Tensor a = at::zeros({kRows, kDepth}, at::kFloat), panel = at::zeros({kDepth, kPanel}, at::kFloat);
  at::Tensor c = at::empty({kRows, kPanel}, at::kFloat);
  const TileScope scope;
  const double time = seconds([&] {
    for (int i = 0; i < kProducts; ++i)
      multiply(kRows, kDepth, static_cast<const T*>(a.const_data_ptr()), kDepth,
               static_cast<const T*>(panel.const_data_ptr()), c.mutable_data_ptr<float>(), kPanel, false);
  });
  return 2.0 * kRows * kDepth * kPanel * kProducts / time;
}

}  // namespace

int main(int count, char** arguments) {
  auto argument = [&](int i, const char* fallback) { return std::string(count > i ? arguments[i] : fallback); };
  const int tokens = std::atoi(argument(1, "512").c_str()), segments = std::atoi(argument(2, "1").c_str());
  const int threads = std::atoi(argument(3, "2").c_str()), repeats = std::atoi(argument(5, "30").c_str());
  const bool narrow = argument(4, multiplies_bfloat16() ? "bfloat16" : "float32") == "bfloat16";
  if (tokens < segments || segments < 1 || threads < 1 || repeats < 1 || (narrow && !multiplies_bfloat16())) {
    std::fputs("usage: bench_attention [TOKENS SEGMENTS THREADS float32|bfloat16 REPEATS]\n", stderr);
    return 64;
  }
  use_threads(static_cast<std::uint32_t>(threads));
  Data data(tokens, segments, narrow ? at::kBFloat16 : at::kFloat);
  Flash flash(data);
  std::vector<double> forward, backward, flash_forward, flash_backward, rate;
  for (int i = 0; i <= repeats; ++i) {
    const double times[] = {seconds([&] { data.forward(); }), seconds([&] { data.backward(); }),
                            seconds([&] { flash.forward(); }), seconds([&] { flash.backward(); }),
                            narrow ? tile_rate<Bf16>() : tile_rate<float>()};
    if (i == 0) continue;  // warms caches and compiles tile products
    forward.push_back(times[0]);
    backward.push_back(times[1]);
    flash_forward.push_back(times[2]);
    flash_backward.push_back(times[3]);
    rate.push_back(times[4]);
  }
  const double both = median(forward) + median(backward), flash_both = median(flash_forward) + median(flash_backward);
  std::printf("{\"tokens\": %d, \"segments\": %d, \"threads\": %d, \"precision\": \"%s\", \"forward_us\": %.0f, "
              "\"backward_us\": %.0f, \"flash_forward_us\": %.0f, \"flash_backward_us\": %.0f, \"ratio_over_flash\": "
              "%.2f, \"tile_gflops_per_thread\": %.0f, \"share_of_tile_rate\": %.3f, \"layers_30_ms\": %.1f}\n",
              tokens, segments, threads, narrow ? "bfloat16" : "float32", 1e6 * median(forward), 1e6 * median(backward),
              1e6 * median(flash_forward), 1e6 * median(flash_backward), flash_both / both, 1e-9 * median(rate),
              data.operations(7) / both / (median(rate) * threads), 30e3 * both);
  return 0;
}
