#include "core/int8_matrix.hpp"

#include <ATen/ops/empty.h>

#include "core/panel_product.hpp"

namespace kpool {
namespace {

std::int64_t panel_bytes(const FrozenMatrix& matrix) { return panel_size<std::uint8_t>(matrix.columns); }

Int8Matrix rounded(const FrozenMatrix& matrix) {
  KPOOL_ASSERT(matrix.panels.defined());
  const std::int64_t panels = panels_of(matrix.rows), size = panel_bytes(matrix);
  Int8Matrix out{at::empty({panels, size}, at::kByte), at::empty({panels, kPanel}, at::kFloat)};
  by_type(matrix.dtype, [&]<class T>(T) {
    for (std::int64_t p = 0; p < panels; ++p)
      simd::rows<T>().pack_int8(data<T>(matrix.panels) + p * panel_size<T>(matrix.columns), matrix.columns,
                                matrix.columns, data<std::uint8_t>(out.panels) + p * size,
                                data<float>(out.steps) + p * kPanel);
  });
  return out;
}

}  // namespace

std::vector<Int8Layer> int8_layers(const Base::Weights& weights, std::int64_t layers) {
  std::vector<Int8Layer> out;
  for (std::int64_t i = 0; i < layers; ++i) {
    const LayerWeights& layer = weights.layers[static_cast<std::size_t>(i)];
    out.push_back({rounded(layer.qkv), rounded(layer.output), rounded(layer.gate_up), rounded(layer.down)});
  }
  return out;
}

std::size_t int8_layers_bytes(const Base::Weights& weights, std::int64_t layers) {
  std::int64_t bytes = 0;
  for (std::int64_t i = 0; i < layers; ++i) {
    const LayerWeights& layer = weights.layers[static_cast<std::size_t>(i)];
    for (const FrozenMatrix* matrix : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down})
      bytes += panels_of(matrix->rows) * (panel_bytes(*matrix) + kPanel * std::int64_t{sizeof(float)});
  }
  return static_cast<std::size_t>(bytes);
}

}  // namespace kpool
