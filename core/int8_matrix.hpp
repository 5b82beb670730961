// A frozen matrix in 8-bit integers, rounded once and kept: for a forward pass that runs often and may be
// coarse, as the encoder's. A step for each row of the matrix, and for each token's row that it is multiplied with
// (LLM.int8(), Dettmers et al. 2022, arXiv 2208.07339, section 2.1, without outliers apart). Inside core/ only;
// immutable once made, so any thread may read it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/frozen_matrix.hpp"
#include "core/weights.hpp"

namespace kpool {

struct Int8Matrix {
  at::Tensor panels;  ///< (panels, panel_size<std::uint8_t>(columns)) bytes, as simd::RowKernels::pack_int8 gives them
  at::Tensor steps;   ///< (panels, kPanel) float32
};

struct Int8Layer {
  Int8Matrix qkv, output, gate_up, down;
};

/// The lowest `layers` layers. weights: for tiles, dense.
std::vector<Int8Layer> int8_layers(const Base::Weights& weights, std::int64_t layers);

/// What that takes, in bytes. weights: dense or not.
std::size_t int8_layers_bytes(const Base::Weights& weights, std::int64_t layers);

}  // namespace kpool
