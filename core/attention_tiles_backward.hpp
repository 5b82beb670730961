// The part of core/attention_tiles.hpp that plans the backward pass's memory. Pure function.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

#include "core/base.hpp"

namespace kpool::tiles {

std::size_t attention_backward_bytes(const BaseShape& shape, std::int64_t tokens, at::ScalarType dtype, int threads);

}  // namespace kpool::tiles
