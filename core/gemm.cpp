#include "core/gemm.hpp"

#include <ATen/native/CPUBlas.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/util/BFloat16.h>

#include <exception>

#include "core/result.hpp"

namespace kpool {
namespace {

namespace blas = at::native::cpublas;

thread_local bool holds_tiles = false;  // brgemm leaves the tile registers configured

const c10::BFloat16* cast(const Bf16* x) { return reinterpret_cast<const c10::BFloat16*>(x); }

/// Whether brgemm runs here and is right: what it needs of the processor differs between libtorch's versions.
template <class T, class Number>
bool runs_tiles(Number number) {
  T a[2] = {number(1), number(2)}, panel[2 * kPanel] = {};
  float c[kPanel] = {};
  panel[0] = number(3);
  panel[sizeof(T) == sizeof(float) ? kPanel : 1] = number(4);
  try {
    blas::brgemm(1, kPanel, 2, 2, kPanel, kPanel, false, a, panel, c, sizeof(T) != sizeof(float));
    blas::brgemm_release();
  } catch (const std::exception&) {
    return false;
  }
  return c[0] == 11 && c[1] == 0;
}

#if defined(__x86_64__)
bool has_amx() { return __builtin_cpu_supports("amx-bf16"); }
bool has_bfloat16_instructions() { return __builtin_cpu_supports("avx512bf16") || has_amx(); }
#else
bool has_amx() { return false; }
bool has_bfloat16_instructions() { return false; }
#endif

}  // namespace

bool multiplies_bfloat16() {
  static const bool does =
      has_bfloat16_instructions() && runs_tiles<c10::BFloat16>([](int x) { return c10::BFloat16(float(x)); });
  return does;
}

TileKernel tile_kernel() {
  static const TileKernel kernel = has_amx() ? nullptr : simd::kernels().multiply;
  return kernel;
}

bool int8_is_faster(bool bfloat16) { return simd::kernels().dots_int8 && !(bfloat16 && has_amx()); }

TileScope::~TileScope() {
  if (holds_tiles) blas::brgemm_release();
  holds_tiles = false;
}

void multiply(std::int64_t rows, std::int64_t depth, const Bf16* a, std::int64_t a_stride, const Bf16* panel, float* c,
              std::int64_t c_stride, bool add) {
  if (rows == 0 || depth == 0) return;
  if (const auto own = tile_kernel()) return own({rows, (depth + 1) / 2 * 2, a, a_stride, panel, c, c_stride, add});
  holds_tiles = true;
  blas::brgemm(rows, kPanel, (depth + 1) / 2 * 2, a_stride, kPanel, c_stride, add, cast(a), cast(panel), c);
}

void multiply(std::int64_t rows, std::int64_t depth, const float* a, std::int64_t a_stride, const float* panel,
              float* c, std::int64_t c_stride, bool add) {
  if (rows == 0 || depth == 0) return;
  static const bool has_tiles = runs_tiles<float>([](int x) { return float(x); });
  if (has_tiles) return blas::brgemm(rows, kPanel, depth, a_stride, kPanel, c_stride, add, a, panel, c, false);
  // from_blob takes no const pointer; a and the panel are only read.
  const at::Tensor left = at::from_blob(const_cast<float*>(a), {rows, depth}, {a_stride, 1}, at::kFloat);
  const at::Tensor right = at::from_blob(const_cast<float*>(panel), {depth, kPanel}, at::kFloat);
  at::Tensor out = at::from_blob(c, {rows, kPanel}, {c_stride, 1}, at::kFloat);
  if (add) out.addmm_(left, right);
  else at::mm_out(out, left, right);
}

}  // namespace kpool
