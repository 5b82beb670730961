#include "core/gemm.hpp"

#include <ATen/native/CPUBlas.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <exception>

#include "core/result.hpp"

namespace kpool {
namespace {

namespace blas = at::native::cpublas;

thread_local bool holds_tiles = false;

/// Whether brgemm runs here and is right: what it needs of the processor differs between libtorch's versions.
bool runs_brgemm() {
  float a[2] = {1, 2}, panel[2 * kPanel] = {3}, c[kPanel] = {};
  panel[kPanel] = 4;
  try {
    blas::brgemm(1, kPanel, 2, 2, kPanel, kPanel, false, a, panel, c, false);
  } catch (const std::exception&) {
    return false;
  }
  return c[0] == 11 && c[1] == 0;
}

}  // namespace

bool multiplies_bfloat16() { return simd::kernels().multiply != nullptr; }

bool int8_is_faster() { return simd::kernels().dots_int8; }

bool rows_are_alike(bool bfloat16) { return bfloat16 || &simd::kernels() != simd::kernel_sets().sets[0]; }

std::int64_t whole_depth() { return simd::kernels().begin_tiles ? 32 : 16; }

TileScope::TileScope() {
  KPOOL_ASSERT(!holds_tiles);
  holds_tiles = true;
  if (const auto begin = simd::kernels().begin_tiles) begin();
}

TileScope::~TileScope() {
  if (const auto end = simd::kernels().end_tiles) end();
  holds_tiles = false;
}

void multiply(std::int64_t rows, std::int64_t depth, const Bf16* a, std::int64_t a_stride, const Bf16* panel, float* c,
              std::int64_t c_stride, bool add) {
  KPOOL_ASSERT(holds_tiles);
  if (rows > 0 && depth > 0)
    simd::kernels().multiply({rows, (depth + 1) / 2 * 2, a, a_stride, panel, c, c_stride, add});
}

void multiply(std::int64_t rows, std::int64_t depth, const float* a, std::int64_t a_stride, const float* panel,
              float* c, std::int64_t c_stride, bool add) {
  if (rows == 0 || depth == 0) return;
  static const bool has_tiles = runs_brgemm();
  if (has_tiles) return blas::brgemm(rows, kPanel, depth, a_stride, kPanel, c_stride, add, a, panel, c, false);
  // from_blob takes no const pointer; a and the panel are only read.
  const at::Tensor left = at::from_blob(const_cast<float*>(a), {rows, depth}, {a_stride, 1}, at::kFloat);
  const at::Tensor right = at::from_blob(const_cast<float*>(panel), {depth, kPanel}, at::kFloat);
  at::Tensor out = at::from_blob(c, {rows, kPanel}, {c_stride, 1}, at::kFloat);
  if (add) out.addmm_(left, right);
  else at::mm_out(out, left, right);
}

}  // namespace kpool
