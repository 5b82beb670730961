// The block formats of GGML tensors and their expansion. Pure functions; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/gguf.hpp"
#include "core/simd/dequantise.hpp"

namespace kpool {

/// A row is a sequence of blocks, each of so many elements in so many bytes.
struct BlockLayout {
  std::int64_t elements = 1;
  std::int64_t bytes = 0;
};

/// Nothing for a type that is not supported.
std::optional<BlockLayout> block_layout(std::uint32_t type);

/// The function that expands whole blocks of a type to float or simd::Bf16 (float32 rounded to nearest even), in the
/// best instruction set that this processor has.
template <class T>
simd::Expand<T> expansion_of(GgmlType type);

}  // namespace kpool
