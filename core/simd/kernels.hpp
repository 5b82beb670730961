// The loops that libtorch has no operator for, or only one that sweeps memory many times, each compiled
// for several instruction sets and chosen once by what the processor has. Pure functions on raw rows:
// no tensor, no thread, no allocation; whoever calls them splits the rows over threads.
// T is float or Bf16; sums are float32.
#pragma once

#include <cstdint>

namespace kpool::simd {

/// bfloat16 as it lies in memory: the upper half of a float32, rounded to nearest even.
struct Bf16 {
  std::uint16_t bits;
};

/// Columns of a packed panel (core/gemm.hpp).
constexpr std::int64_t kPanel = 32;
/// Elements along the depth that share a step where weights are rounded to 8-bit integers for one product.
constexpr std::int64_t kInt8Group = 128;

template <class T>
struct RowKernels {
  /// sum = hidden + delta; out = sum weight / rms(sum). delta may be null: then sum is not written and may
  /// be null. All (width). Returns 1 / sqrt(mean(sum^2) + epsilon).
  float (*norm)(const float* hidden, const T* delta, const float* weight, double epsilon, std::int64_t width,
                float* sum, T* out);
  /// The same out again, from the sum and the inverse that norm returned.
  void (*normed)(const float* sum, float inverse, const float* weight, std::int64_t width, T* out);
  /// Adds the gradient that came through norm to gradient. All (width).
  void (*norm_backward)(const T* dout, const float* sum, float inverse, const float* weight, std::int64_t width,
                        float* gradient);
  /// RoPE by rotate-half of one head in place, times scale. x: (2 half); cos, sin: (half).
  void (*rotate)(T* x, const float* cos, const float* sin, std::int64_t half, float scale);
  /// Its transpose, from float32. dy: (2 half); dx: (2 half), overwritten.
  void (*unrotate)(const float* dy, const float* cos, const float* sin, std::int64_t half, float scale, T* dx);
  /// out = silu(gate) up. All (n).
  void (*swiglu)(const T* gate, const T* up, std::int64_t n, T* out);
  /// dgate and dup from dout; out as swiglu gave it, again. All (n).
  void (*swiglu_backward)(const T* dout, const T* gate, const T* up, std::int64_t n, T* dgate, T* dup, T* out);
  void (*from_float)(const float* in, std::int64_t n, T* out);
  void (*scaled)(const float* in, std::int64_t n, float factor, T* out);  ///< out = factor in; out may be in
  /// The same for panels side by side. in: panels of (rows, kPanel), the next panel_stride further on; out: (rows,
  /// columns) with a stride.
  void (*scaled_panels)(const float* in, std::int64_t panel_stride, std::int64_t rows, std::int64_t columns,
                        float factor, T* out, std::int64_t out_stride);
  void (*to_float)(const T* in, std::int64_t n, float* out);
  void (*add_to_float)(const T* in, std::int64_t n, float* sum);     ///< sum += in
  void (*take_from_float)(const T* in, std::int64_t n, float* sum);  ///< sum -= in
  float (*dot)(const T* a, const T* b, std::int64_t n);
  /// out = factor exp(x - shift); returns the sum of out before rounding. x = -infinity gives 0. Where T is bfloat16,
  /// exp is right to 2e-4, a tenth of what rounding costs, and x is at most shift + 88.
  float (*exponentials)(const float* x, std::int64_t n, float shift, float factor, T* out);
  /// p = exp(x - shift); dx = p (dp - mean): the softmax's backward pass of kPanel columns. x, dp: (rows, kPanel),
  /// rows even; shift, mean: (rows). p and packed_dx: as pack_rows packs them, depth rows; dx: the same again, in rows
  /// with a stride.
  void (*softmax_backward)(const float* x, const float* dp, std::int64_t rows, const float* shift, const float* mean,
                           T* p, T* packed_dx, T* dx, std::int64_t stride);
  /// Packs B (depth, count) for core/gemm.hpp, count <= kPanel, missing columns and depth zero:
  /// pack_rows: B = in, (depth, count) with stride `stride`; pack_columns: B = in^T, in (count, depth).
  /// panel: bfloat16 (depth / 2 rounded up, kPanel, 2), pairs along the depth; float32 (depth, kPanel).
  void (*pack_rows)(const T* in, std::int64_t stride, std::int64_t depth, std::int64_t count, T* panel);
  void (*pack_columns)(const T* in, std::int64_t stride, std::int64_t depth, std::int64_t count, T* panel);
  /// From in^T to in, depth and count <= kPanel: out is what pack_rows gives of in, (count, depth), where `panel` is
  /// what pack_columns gave of it, or `depth` (even in bfloat16) of a deeper panel.
  void (*turn_panel)(const T* panel, std::int64_t depth, std::int64_t count, T* out);
  /// out (columns, rows) = in (rows, columns) transposed.
  void (*transpose)(const T* in, std::int64_t in_stride, std::int64_t rows, std::int64_t columns, T* out,
                    std::int64_t out_stride);
  /// q = x / step rounded, step = largest |x| / 127 of each group of so many elements (a multiple of kInt8Group, or
  /// all of them). out: q (n), zero to the next multiple of 4; steps, offsets: (groups); offsets: -128 times the
  /// group's sum of q, which takes pack_int8's shift back.
  void (*quantise)(const T* x, std::int64_t n, std::int64_t group, std::int8_t* out, float* steps,
                   std::int32_t* offsets);
  /// The same for a panel of finite numbers, a step for each column of each group. panel: (depth, kPanel) as pack_rows
  /// gives it. out: q + 128, (depth / 4 rounded up, kPanel, 4); steps: (groups, kPanel).
  void (*pack_int8)(const T* panel, std::int64_t depth, std::int64_t group, std::uint8_t* out, float* steps);
};

/// sums (rows, columns) = a (rows, depth) times a packed panel, or sums += that. Where out is given, the adapter's part
/// is added, out = factor (sums + a panel + a2 panel2) is written, and sums are only read, where `add` says so.
struct TileProduct {
  std::int64_t rows = 0, depth = 0;  ///< depths are even
  const Bf16* a = nullptr;
  std::int64_t a_stride = 0;
  const Bf16* panel = nullptr;
  float* sums = nullptr;
  std::int64_t sums_stride = 0;
  bool add = false;
  std::int64_t depth2 = 0;
  const Bf16* a2 = nullptr;
  std::int64_t a2_stride = 0;
  const Bf16* panel2 = nullptr;
  Bf16* out = nullptr;
  std::int64_t out_stride = 0;
  float factor = 1;
  std::int64_t columns = kPanel;  ///< kPanel or half of it
  const void* next = nullptr;     ///< what is fetched meanwhile: the next panel, of the same depth, or null
};

/// sums (rows, kPanel) = a panel, or sums += that, a from RowKernels::quantise, the panel from pack_int8.
struct Int8Product {
  std::int64_t rows, depth;
  const std::int8_t* a;  ///< (rows, depth rounded up to 4) with a stride
  std::int64_t a_stride;
  const float* a_steps;           ///< (rows, at least the depth's groups), `groups` apart
  const std::int32_t* a_offsets;  ///< the same
  std::int64_t groups;
  const std::uint8_t* panel;
  const float* steps;
  float* sums;
  std::int64_t sums_stride;
  bool add;
  std::int64_t group = kInt8Group;  ///< elements of the depth that share a step
  /// Not null: has an `out`, which gets the sums as TileProduct says, of a whole panel; sums are then only read. For
  /// sets that have `multiply`.
  const TileProduct* rest = nullptr;
};

struct SignumFactors {
  float beta, fresh;  ///< m = beta m + fresh g
  float keep, eta;    ///< w = keep w - eta sign(m)
  float dead;         ///< |m| below this counts as zero
};

struct Kernels {
  const char* name;  ///< plain | avx2 | avxvnni | avx512vnni | avx512 | amx
  RowKernels<float> f32;
  RowKernels<Bf16> bf16;
  float (*maximum)(const float* x, std::int64_t n);
  /// Momentum in float32 or bfloat16; the sign is taken before the momentum is rounded. All (n).
  void (*signum)(float* weights, float* momentum, const float* gradient, std::int64_t n, const SignumFactors& factors);
  void (*signum_bf16)(float* weights, Bf16* momentum, const float* gradient, std::int64_t n,
                      const SignumFactors& factors);
  /// False where a value is a NaN or an infinity.
  bool (*finite)(const float* x, std::int64_t n);
  void (*multiply)(const TileProduct& product);  ///< null where the set has none
  /// Not null: a thread calls these before its first and after its last multiply or multiply_int8, and nothing else
  /// that uses the processor's tile registers in between.
  void (*begin_tiles)();
  void (*end_tiles)();
  void (*multiply_int8)(const Int8Product& product);
  bool dots_int8;  ///< whether it has an instruction for that, without which it is slower than float32
};

/// The best that this processor runs.
const Kernels& kernels();
/// Makes kernels() give another set, to measure what lesser processors do: before anything calls kernels(). False where
/// this processor has no set of that name.
bool choose_kernels(const char* name);
/// All that it runs, plainest first, for tests and measurements.
struct KernelSets {
  const Kernels* sets[6];
  int count;
};
KernelSets kernel_sets();

template <class T>
const RowKernels<T>& rows();
template <>
inline const RowKernels<float>& rows<float>() { return kernels().f32; }
template <>
inline const RowKernels<Bf16>& rows<Bf16>() { return kernels().bf16; }

}  // namespace kpool::simd
