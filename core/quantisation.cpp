#include "core/quantisation.hpp"

#include <bit>
#include <cstring>

namespace kpool {
namespace {

// Elements of a "K" super-block; its sub-blocks of 32 (Q4_K) or 16 (Q6_K) elements have scales of their own.
constexpr int kSuperBlock = 256;

std::uint8_t byte_at(const std::byte* in, std::size_t index) { return std::to_integer<std::uint8_t>(in[index]); }

std::uint16_t word_at(const std::byte* in) {
  std::uint16_t value;
  std::memcpy(&value, in, sizeof value);
  return value;
}

float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

float half_at(const std::byte* in) { return half_to_float(word_at(in)); }

void expand_f32(const std::byte* in, float* out) { std::memcpy(out, in, sizeof(float)); }

void expand_f16(const std::byte* in, float* out) { *out = half_at(in); }

void expand_bf16(const std::byte* in, float* out) {
  *out = std::bit_cast<float>(static_cast<std::uint32_t>(word_at(in)) << 16);
}

// half scale, 16 bytes; the low nibbles are the first half of the block.
void expand_q4_0(const std::byte* in, float* out) {
  const float scale = half_at(in);
  for (int i = 0; i < 16; ++i) {
    const int pair = byte_at(in + 2, i);
    out[i] = scale * static_cast<float>((pair & 15) - 8);
    out[i + 16] = scale * static_cast<float>((pair >> 4) - 8);
  }
}

// half scale, half minimum, 16 bytes as in Q4_0.
void expand_q4_1(const std::byte* in, float* out) {
  const float scale = half_at(in);
  const float minimum = half_at(in + 2);
  for (int i = 0; i < 16; ++i) {
    const int pair = byte_at(in + 4, i);
    out[i] = scale * static_cast<float>(pair & 15) + minimum;
    out[i + 16] = scale * static_cast<float>(pair >> 4) + minimum;
  }
}

// half scale, 32 signed bytes.
void expand_q8_0(const std::byte* in, float* out) {
  const float scale = half_at(in);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(static_cast<std::int8_t>(byte_at(in + 2, i)));
}

struct ScaleAndMinimum {
  int scale, minimum;
};

// Q4_K packs 8 scales and 8 minima of 6 bits into 12 bytes: the first four lie whole in bytes 0-3 and 4-7;
// of the last four the low nibbles lie in bytes 8-11 and the two high bits on top of bytes 0-7.
ScaleAndMinimum q4_k_scales(const std::byte* packed, int index) {
  if (index < 4) return {byte_at(packed, index) & 63, byte_at(packed, index + 4) & 63};
  const int low = byte_at(packed, index + 4);
  return {(low & 15) | (byte_at(packed, index - 4) >> 6 << 4), (low >> 4) | (byte_at(packed, index) >> 6 << 4)};
}

// half scale, half minimum scale, 12 bytes of scales, 128 bytes: 32 bytes hold two sub-blocks, low nibbles first.
void expand_q4_k(const std::byte* in, float* out) {
  const float scale = half_at(in);
  const float minimum = half_at(in + 2);
  for (int block = 0; block < 8; ++block) {
    const auto packed = q4_k_scales(in + 4, block);
    const float d = scale * static_cast<float>(packed.scale);
    const float m = minimum * static_cast<float>(packed.minimum);
    const std::byte* quants = in + 16 + block / 2 * 32;
    const int shift = block % 2 * 4;
    for (int i = 0; i < 32; ++i) out[block * 32 + i] = d * static_cast<float>(byte_at(quants, i) >> shift & 15) - m;
  }
}

// 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, half scale. Each half of 128 elements
// takes 64 low and 32 high bytes: four runs of 32, the first two in the low nibbles.
void expand_q6_k(const std::byte* in, float* out) {
  const std::byte* scales = in + 192;
  const float scale = half_at(in + 208);
  for (int i = 0; i < kSuperBlock; ++i) {
    const int half = i / 128, run = i % 128 / 32, column = i % 32;
    const int low = byte_at(in, half * 64 + run % 2 * 32 + column) >> (run / 2 * 4) & 15;
    const int high = byte_at(in + 128, half * 32 + column) >> (run * 2) & 3;
    const float d = scale * static_cast<float>(static_cast<std::int8_t>(byte_at(scales, i / 16)));
    out[i] = d * static_cast<float>((low | high << 4) - 32);
  }
}

using Expand = void (*)(const std::byte*, float*);

Expand expansion_of(GgmlType type) {
  switch (type) {
    case GgmlType::f32: return expand_f32;
    case GgmlType::f16: return expand_f16;
    case GgmlType::bf16: return expand_bf16;
    case GgmlType::q4_0: return expand_q4_0;
    case GgmlType::q4_1: return expand_q4_1;
    case GgmlType::q8_0: return expand_q8_0;
    case GgmlType::q4_k: return expand_q4_k;
    case GgmlType::q6_k: return expand_q6_k;
  }
  return nullptr;
}

void expand_blocks(GgmlType type, const std::byte* in, std::int64_t blocks, float* out) {
  const BlockLayout layout = *block_layout(static_cast<std::uint32_t>(type));
  if (type == GgmlType::f32) {
    if (blocks > 0) std::memcpy(out, in, static_cast<std::size_t>(blocks * layout.bytes));
    return;
  }
  const Expand expand = expansion_of(type);
  for (std::int64_t i = 0; i < blocks; ++i) expand(in + i * layout.bytes, out + i * layout.elements);
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

void dequantise(const GgufTensor& tensor, std::int64_t first, std::int64_t count, float* out) {
  const auto layout = block_layout(static_cast<std::uint32_t>(tensor.type));
  KPOOL_ASSERT(layout && !tensor.shape.empty() && first >= 0 && count >= 0);
  const std::int64_t columns = tensor.shape.back();
  const std::int64_t row_bytes = columns / layout->elements * layout->bytes;
  KPOOL_ASSERT((first + count) * row_bytes <= static_cast<std::int64_t>(tensor.data.size()));
  const std::byte* in = tensor.data.data() + first * row_bytes;
  expand_blocks(tensor.type, in, count * columns / layout->elements, out);
}

void dequantise_part(const GgufTensor& tensor, std::int64_t row, std::int64_t column, std::int64_t count, float* out) {
  const auto layout = block_layout(static_cast<std::uint32_t>(tensor.type));
  KPOOL_ASSERT(layout && tensor.shape.size() == 2 && row >= 0 && row < tensor.shape[0]);
  KPOOL_ASSERT(column >= 0 && count >= 0 && column + count <= tensor.shape[1]);
  KPOOL_ASSERT(column % layout->elements == 0 && count % layout->elements == 0);
  const std::int64_t first = (row * tensor.shape[1] + column) / layout->elements;
  expand_blocks(tensor.type, tensor.data.data() + first * layout->bytes, count / layout->elements, out);
}

}  // namespace kpool
