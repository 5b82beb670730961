// The block formats of GGML tensors and their expansion. Pure functions; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/gguf.hpp"
#include "core/simd/kernels.hpp"

namespace kpool {

/// A row is a sequence of blocks, each of so many elements in so many bytes.
struct BlockLayout {
  std::int64_t elements = 1;
  std::int64_t bytes = 0;
};

/// Nothing for a type that is not supported.
std::optional<BlockLayout> block_layout(std::uint32_t type);

/// Expands whole blocks, in the best instruction set that this processor has; bfloat16 is float32 rounded to nearest
/// even. out: (blocks x elements of a block).
void expand_blocks(GgmlType type, const std::byte* in, std::int64_t blocks, float* out);
void expand_blocks(GgmlType type, const std::byte* in, std::int64_t blocks, simd::Bf16* out);

}  // namespace kpool
