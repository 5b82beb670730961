#include "core/quantisation.hpp"

namespace kpool {
namespace {

constexpr int kSuperBlock = 256;  // elements of a "K" block

}  // namespace

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

template simd::Expand<float> expansion_of<float>(GgmlType);
template simd::Expand<simd::Bf16> expansion_of<simd::Bf16>(GgmlType);

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

void dequantise(const GgufTensor& tensor, std::int64_t first, std::int64_t count, float* out) {
  const auto layout = block_layout(static_cast<std::uint32_t>(tensor.type));
  KPOOL_ASSERT(layout && !tensor.shape.empty() && first >= 0 && count >= 0);
  const std::int64_t columns = tensor.shape.back();
  const std::int64_t row_bytes = columns / layout->elements * layout->bytes;
  KPOOL_ASSERT((first + count) * row_bytes <= static_cast<std::int64_t>(tensor.data.size()));
  const std::byte* in = tensor.data.data() + first * row_bytes;
  const auto* blocks = reinterpret_cast<const std::uint8_t*>(in);
  expansion_of<float>(tensor.type)(blocks, count * columns / layout->elements, out);
}

}  // namespace kpool
