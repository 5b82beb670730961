#include "core/gemm.hpp"

#include <ATen/native/CPUBlas.h>
#include <c10/util/BFloat16.h>

#include "core/result.hpp"

namespace kpool {
namespace {

namespace blas = at::native::cpublas;

thread_local bool holds_tiles = false;  // brgemm leaves the tile registers configured

const c10::BFloat16* cast(const Bf16* x) { return reinterpret_cast<const c10::BFloat16*>(x); }

}  // namespace

bool multiplies_bfloat16() {
#if defined(__x86_64__)
  return (__builtin_cpu_supports("avx512bf16") || __builtin_cpu_supports("amx-bf16")) &&
         blas::could_pack(at::kBFloat16);
#else
  return false;
#endif
}

TileScope::~TileScope() {
  if (holds_tiles) blas::brgemm_release();
  holds_tiles = false;
}

void multiply(std::int64_t rows, std::int64_t depth, const Bf16* a, std::int64_t a_stride, const Bf16* panel, float* c,
              std::int64_t c_stride, bool add) {
  if (rows == 0 || depth == 0) return;
  holds_tiles = true;
  blas::brgemm(rows, kPanel, (depth + 1) / 2 * 2, a_stride, kPanel, c_stride, add, cast(a), cast(panel), c);
}

void multiply(std::int64_t rows, std::int64_t depth, const float* a, std::int64_t a_stride, const float* panel,
              float* c, std::int64_t c_stride, bool add) {
  if (rows == 0 || depth == 0) return;
  blas::brgemm(rows, kPanel, depth, a_stride, kPanel, c_stride, add, a, panel, c);
}

}  // namespace kpool
