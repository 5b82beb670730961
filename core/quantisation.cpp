#include "core/quantisation.hpp"

#include "core/simd/dequantise.hpp"

namespace kpool {
namespace {

constexpr int kSuperBlock = 256;  // elements of a "K" block

template <class T>
simd::Expand<T> expansion_of(GgmlType type) {
  const auto& kernels = simd::block_kernels<T>(simd::dequantise_kernels());
  switch (type) {
    case GgmlType::f32: return kernels.f32;
    case GgmlType::f16: return kernels.f16;
    case GgmlType::bf16: return kernels.bf16;
    case GgmlType::q4_0: return kernels.q4_0;
    case GgmlType::q4_1: return kernels.q4_1;
    case GgmlType::q8_0: return kernels.q8_0;
    case GgmlType::q4_k: return kernels.q4_k;
    case GgmlType::q6_k: return kernels.q6_k;
  }
  return nullptr;
}

template <class T>
void expand(GgmlType type, const std::byte* in, std::int64_t blocks, T* out) {
  const auto expand = expansion_of<T>(type);
  KPOOL_ASSERT(expand && blocks >= 0);
  expand(reinterpret_cast<const std::uint8_t*>(in), blocks, out);
}

}  // namespace

std::optional<BlockLayout> block_layout(std::uint32_t type) {
  switch (static_cast<GgmlType>(type)) {
    case GgmlType::f32: return BlockLayout{1, 4};
    case GgmlType::f16:
    case GgmlType::bf16: return BlockLayout{1, 2};
    case GgmlType::q4_0: return BlockLayout{32, 18};
    case GgmlType::q4_1: return BlockLayout{32, 20};
    case GgmlType::q8_0: return BlockLayout{32, 34};
    case GgmlType::q4_k: return BlockLayout{kSuperBlock, 144};
    case GgmlType::q6_k: return BlockLayout{kSuperBlock, 210};
  }
  return std::nullopt;
}

void expand_blocks(GgmlType type, const std::byte* in, std::int64_t blocks, float* out) {
  expand(type, in, blocks, out);
}

void expand_blocks(GgmlType type, const std::byte* in, std::int64_t blocks, simd::Bf16* out) {
  expand(type, in, blocks, out);
}

void dequantise(const GgufTensor& tensor, std::int64_t first, std::int64_t count, float* out) {
  const auto layout = block_layout(static_cast<std::uint32_t>(tensor.type));
  KPOOL_ASSERT(layout && !tensor.shape.empty() && first >= 0 && count >= 0);
  const std::int64_t columns = tensor.shape.back();
  const std::int64_t row_bytes = columns / layout->elements * layout->bytes;
  KPOOL_ASSERT((first + count) * row_bytes <= static_cast<std::int64_t>(tensor.data.size()));
  const std::byte* in = tensor.data.data() + first * row_bytes;
  expand_blocks(tensor.type, in, count * columns / layout->elements, out);
}

}  // namespace kpool
