#include "tests/kernel_cases.hpp"

#include <algorithm>
#include <memory>

namespace kpool::testing {
namespace {

using simd::Bf16;
using simd::kPanel;
using std::int64_t;

constexpr int64_t kWide = 576, kFeed = 1536, kHalf = 32, kTokens = 512;

/// Room for every case: bytes on a cache line's border, filled with values around one.
template <class T>
struct Buffers {
  static constexpr int64_t kSize = 64 * 1024;
  explicit Buffers(const simd::RowKernels<T>& kernels) {
    for (float*& buffer : wide) buffer = allocate<float>();
    for (T*& buffer : narrow) buffer = allocate<T>();
    for (int64_t i = 0; i < kSize; ++i) {
      for (float* buffer : wide) buffer[i] = 1 - static_cast<float>(i % 97) / 64;
    }
    std::fill_n(cos, kHalf, 0.8f);
    std::fill_n(sin, kHalf, 0.6f);
    for (T* buffer : narrow) kernels.from_float(wide[0], kSize, buffer);
  }
  template <class E>
  E* allocate() {
    storage.push_back(std::make_unique<std::byte[]>(kSize * sizeof(E) + 64));
    const auto at = reinterpret_cast<std::uintptr_t>(storage.back().get());
    return reinterpret_cast<E*>((at + 63) / 64 * 64);
  }
  std::vector<std::unique_ptr<std::byte[]>> storage;
  float cos[kHalf], sin[kHalf];  // of one angle
  float* wide[3];  // (kSize) each
  T* narrow[6];
};

template <class T>
void add_rows(std::vector<KernelCase>& cases, const simd::RowKernels<T>& k, const std::string& type) {
  const auto b = std::make_shared<Buffers<T>>(k);
  constexpr auto size = static_cast<int64_t>(sizeof(T));
  const auto add = [&](const char* name, int64_t elements, int64_t bytes_each, auto run) {
    cases.push_back({name + ("." + type), elements, elements * bytes_each, run});
  };
  add("norm", kWide, 12 + 2 * size, [=] {
    k.norm(b->wide[0], b->narrow[0], b->wide[1], 1e-5, kWide, b->wide[2], b->narrow[1]);
  });
  add("normed", kWide, 8 + size, [=] { k.normed(b->wide[0], 0.5f, b->wide[1], kWide, b->narrow[1]); });
  add("norm_backward", kWide, 16 + size, [=] {
    k.norm_backward(b->narrow[0], b->wide[0], 1e-3f, b->wide[1], kWide, b->wide[2]);
  });
  add("rotate", 2 * kHalf, 4 + 2 * size, [=] { k.rotate(b->narrow[2], b->cos, b->sin, kHalf, 1); });
  add("unrotate", 2 * kHalf, 8 + size, [=] {
    k.unrotate(b->wide[2], b->cos, b->sin, kHalf, 1, b->narrow[1]);
  });
  add("swiglu", kFeed, 3 * size, [=] { k.swiglu(b->narrow[0], b->narrow[3], kFeed, b->narrow[1]); });
  add("swiglu_backward", kFeed, 6 * size, [=] {
    k.swiglu_backward(b->narrow[0], b->narrow[3], b->narrow[4], kFeed, b->narrow[1], b->narrow[2], b->narrow[5]);
  });
  add("from_float", kWide, 4 + size, [=] { k.from_float(b->wide[0], kWide, b->narrow[1]); });
  add("scaled", kWide, 4 + size, [=] { k.scaled(b->wide[0], kWide, 0.5f, b->narrow[1]); });
  add("to_float", kWide, 4 + size, [=] { k.to_float(b->narrow[0], kWide, b->wide[2]); });
  add("add_to_float", kWide, 8 + size, [=] { k.add_to_float(b->narrow[0], kWide, b->wide[2]); });
  add("take_from_float", kWide, 8 + size, [=] { k.take_from_float(b->narrow[0], kWide, b->wide[2]); });
  add("dot", kWide, 2 * size, [=] { b->wide[2][0] = k.dot(b->narrow[0], b->narrow[3], kWide); });
  add("exponentials", kTokens, 4 + size, [=] { k.exponentials(b->wide[0], kTokens, 1, 1, b->narrow[1]); });
  add("softmax_backward", kTokens * kPanel, 8 + 3 * size, [=] {
    k.softmax_backward(b->wide[0], b->wide[1], kTokens, b->wide[2], b->wide[2], b->narrow[1], b->narrow[2],
                       b->narrow[5], kPanel + 8);
  });
  add("pack_rows", kWide * kPanel, 2 * size, [=] {
    k.pack_rows(b->narrow[0], kFeed / 16, kWide, kPanel, b->narrow[1]);
  });
  add("pack_columns", kWide * kPanel, 2 * size, [=] {
    k.pack_columns(b->narrow[0], kWide + 32, kWide, kPanel, b->narrow[1]);
  });
  add("turn_panel", kPanel * kPanel, 2 * size, [=] { k.turn_panel(b->narrow[0], kPanel, kPanel, b->narrow[1]); });
  const auto bytes = std::make_shared<std::vector<std::int8_t>>(kWide * kPanel);
  const auto offsets = std::make_shared<std::vector<std::int32_t>>(kWide);
  add("quantise", kWide, 2 * size + 1, [=] {
    k.quantise(b->narrow[0], kWide, simd::kInt8Group, bytes->data(), b->wide[2], offsets->data());
  });
  add("pack_int8", kWide * kPanel, 2 * size + 1, [=] {
    k.pack_int8(b->narrow[0], kWide, simd::kInt8Group, reinterpret_cast<std::uint8_t*>(bytes->data()), b->wide[2]);
  });
  add("scaled_panels", kWide * kPanel, 4 + size, [=] {
    k.scaled_panels(b->wide[0], kWide * kPanel, kWide, kPanel, 0.5f, b->narrow[1], kPanel);
  });
  add("transpose", kTokens * 2 * kHalf, 2 * size, [=] {
    k.transpose(b->narrow[0], 2 * kHalf, kTokens, 2 * kHalf, b->narrow[1], kTokens);
  });
}

}  // namespace

std::vector<KernelCase> kernel_cases(const simd::Kernels& set) {
  std::vector<KernelCase> cases;
  add_rows(cases, set.f32, "f32");
  add_rows(cases, set.bf16, "bf16");
  const auto b = std::make_shared<Buffers<Bf16>>(set.bf16);
  const simd::SignumFactors factors{.beta = 0.9f, .fresh = 0.1f, .keep = 1, .eta = 1e-3f, .dead = 0};
  constexpr int64_t weights = 16384;
  cases.push_back({"signum.f32", weights, 20 * weights, [=, &set] {
    set.signum(b->wide[0], b->wide[1], b->wide[2], weights, factors);
  }});
  cases.push_back({"signum.bf16", weights, 16 * weights, [=, &set] {
    set.signum_bf16(b->wide[0], b->narrow[1], b->wide[2], weights, factors);
  }});
  constexpr int64_t rows = 48, groups = (kWide + simd::kInt8Group - 1) / simd::kInt8Group;
  const auto values = std::make_shared<std::vector<std::int8_t>>(rows * kWide, 3);
  const auto panel = std::make_shared<std::vector<std::uint8_t>>(kWide * kPanel, 130);
  const auto offsets = std::make_shared<std::vector<std::int32_t>>(rows * groups);
  cases.push_back({"multiply_int8", rows * kPanel, rows * (kWide + 4 * kPanel), [=, &set] {
    if (set.begin_tiles) set.begin_tiles();
    set.multiply_int8({rows, kWide, values->data(), kWide, b->wide[0], offsets->data(), groups, panel->data(),
                       b->wide[1], b->wide[2], kPanel, false});
    if (set.end_tiles) set.end_tiles();
  }});
  cases.push_back({"maximum.f32", kTokens, 4 * kTokens, [=, &set] {
    b->wide[2][0] = set.maximum(b->wide[0], kTokens);
  }});
  cases.push_back({"finite.f32", weights, 4 * weights, [=, &set] {
    b->wide[2][0] = set.finite(b->wide[0], weights) ? 1.0f : 0.0f;
  }});
  return cases;
}

}  // namespace kpool::testing
