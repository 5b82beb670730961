#include "core/linear.hpp"

#include <algorithm>
#include <cstring>

#include "core/frozen_panels.hpp"
#include "core/library.hpp"

namespace kpool {
namespace {

template <class T>
std::int64_t expanded_forward(const FrozenMatrix& weight) {
  return weight.panels.defined() ? 0 : kGroupPanels * kPanel * chunk_depth<T>(weight.columns);
}

template <class T>
std::int64_t expanded_backward(const FrozenMatrix& weight) {
  if (weight.panels.defined()) return 0;
  return chunk_depth<T>(weight.rows) * (kGroupPanels * kPanel + 2 * weight.column_step());
}

/// bent = scale x right^T: right is A (width, in), or bent = scale x right with right B (out, width).
template <class T>
void bend_as(const at::Tensor& x, const at::Tensor& right, bool transposed, double scale, at::Tensor& bent,
          Workspace& workspace) {
  workspace.enter(Section::lora);
  const std::int64_t depth = x.size(1), width = bent.size(1);
  const PanelProduct<T> product{x.size(0), depth, width, data<T>(x), depth};
  T* out = data<T>(bent);
  multiply_panels<T>(product, 0, workspace,
         [&](const PanelBlock& block, PanelScratch<T>& scratch) {
           if (!transposed) return pack_block<T>(data<T>(right), width, width, block, scratch);
           const std::int64_t step = panel_size<T>(block.depth);
           for (std::int64_t p = 0; p < block.count; ++p) {
             const std::int64_t first = (block.panel + p) * kPanel;
             simd::rows<T>().pack_columns(data<T>(right) + first * depth + block.begin, depth, block.depth,
                                          std::min(kPanel, width - first), scratch.panels + p * step);
           }
           return Packed<T>{scratch.panels, step};
         },
         [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns, const float* sums) {
           simd::rows<T>().scaled_panels(sums, kPanelStride, rows, columns, static_cast<float>(scale),
                                       out + row * width + column, width);
         });
}

template <class T>
void project_as(const Linear& linear, const at::Tensor& in, at::Tensor& bent, at::Tensor& out, Workspace& workspace) {
  const std::int64_t depth = in.size(1), columns = out.size(1);
  PanelProduct<T> product{in.size(0), depth, columns, data<T>(in), depth};
  if (linear.lora) {
    bend_as<T>(in, linear.lora->a, true, linear.scale, bent, workspace);
    product.a2 = data<T>(bent);
    product.depth2 = product.a2_stride = bent.size(1);
  }
  workspace.enter(Section::product);
  const T* bias = linear.bias ? data<T>(*linear.bias) : nullptr;
  T* to = data<T>(out);
  multiply_panels<T>(product, expanded_forward<T>(linear.weight), workspace,
         [&](const PanelBlock& block, PanelScratch<T>& scratch) {
           for (std::int64_t p = 0; linear.lora && block.begin == 0 && p < block.count; ++p) {
             const std::int64_t first = (block.panel + p) * kPanel, width = product.depth2;
             simd::rows<T>().pack_columns(data<T>(linear.lora->b) + first * width, width, width,
                                          std::min(kPanel, columns - first), scratch.extra + p * panel_size<T>(width));
           }
           return pack_forward(linear.weight, block, scratch);
         },
         [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t count, float* sums) {
           for (std::int64_t c = 0; bias && c < count; c += kPanel)
             for (std::int64_t i = 0; i < rows; ++i)
               simd::rows<T>().add_to_float(bias + column + c, std::min(kPanel, count - c),
                                            sums + c / kPanel * kPanelStride + i * kPanel);
           simd::rows<T>().scaled_panels(sums, kPanelStride, rows, count, 1, to + row * columns + column, columns);
         });
}

template <class T>
void input_gradient(const Linear& linear, const at::Tensor& dout, const at::Tensor& dbent, at::Tensor& din,
                    Workspace& workspace) {
  workspace.enter(Section::product);
  const std::int64_t depth = dout.size(1), columns = din.size(1), width = dbent.size(1);
  const PanelProduct<T> product{dout.size(0), depth, columns, data<T>(dout), depth, data<T>(dbent), width, width};
  T* to = data<T>(din);
  multiply_panels<T>(product, expanded_backward<T>(linear.weight), workspace,
         [&](const PanelBlock& block, PanelScratch<T>& scratch) {
           for (std::int64_t p = 0; block.begin == 0 && p < block.count; ++p) {
             const std::int64_t first = (block.panel + p) * kPanel;
             simd::rows<T>().pack_rows(data<T>(linear.lora->a) + first, columns, width,
                                       std::min(kPanel, columns - first), scratch.extra + p * panel_size<T>(width));
           }
           return pack_backward(linear.weight, block, scratch);
         },
         [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t count, const float* sums) {
           simd::rows<T>().scaled_panels(sums, kPanelStride, rows, count, 1, to + row * columns + column, columns);
         });
}

/// Where element (row, column) of a finished tile lies.
std::int64_t at(std::int64_t row, std::int64_t column) {
  return column / kPanel * kPanelStride + row * kPanel + column % kPanel;
}

/// put as in multiply_panels, of left^T right, (width, columns): the products that sum over tokens.
template <class T, class Put>
void over_tokens(const at::Tensor& left, const at::Tensor& right, Workspace& workspace, Put put) {
  workspace.enter(Section::lora);
  const std::int64_t tokens = left.size(0), width = left.size(1), columns = right.size(1);
  Workspace::Frame frame(workspace);
  at::Tensor turned = workspace.take({width, tokens}, left.scalar_type());
  simd::rows<T>().transpose(data<T>(left), width, tokens, width, data<T>(turned), tokens);
  const PanelProduct<T> product{width, tokens, columns, data<T>(turned), tokens};
  multiply_panels<T>(product, 0, workspace,
         [&](const PanelBlock& block, PanelScratch<T>& scratch) {
           return pack_block<T>(data<T>(right), columns, columns, block, scratch);
         },
         put);
}

template <class T>
void b_gradient(const at::Tensor& bent, const at::Tensor& dout, const GradientSink& sink, Workspace& workspace) {
  const std::int64_t rank = sink.layout.rank;
  over_tokens<T>(bent, dout, workspace,
                 [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
                     const float* sums) {
                   std::int64_t out = 0;  // row of the group where the place begins
                   for (std::size_t i = 0; i < sink.group.count; ++i) {
                     const LoraPlace& place = sink.layout.places[sink.group.first + i];
                     const std::int64_t from = std::max(column, out), to = std::min(column + columns, out + place.out);
                     const auto base = static_cast<std::int64_t>(i) * rank;
                     for (std::int64_t r = std::max(base, row); r < std::min(base + rank, row + rows); ++r)
                       for (std::int64_t j = from; j < to; ++j)
                         sink.flat[place.b + (j - out) * rank + r - base] = sums[at(r - row, j - column)];
                     out += place.out;
                   }
                 });
}

template <class T>
void a_gradient_as(const at::Tensor& in, const at::Tensor& dbent, const GradientSink& sink, Workspace& workspace) {
  const auto used = static_cast<std::int64_t>(sink.group.count) * sink.layout.rank;  // the rest of the width is padding
  float* to = sink.flat.data() + sink.group.a;
  over_tokens<T>(dbent, in, workspace,
                 [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
                     const float* sums) {
                   for (std::int64_t r = row; r < std::min(row + rows, used); ++r)
                     for (std::int64_t c = 0; c < columns; c += kPanel)
                       std::memcpy(to + r * sink.group.in + column + c, sums + at(r - row, c),
                                   std::min(kPanel, columns - c) * sizeof(float));
                 });
}

template <class T>
std::size_t bytes_as(const FrozenMatrix& weight, std::int64_t width, std::int64_t tokens, int threads) {
  const std::size_t products[] = {
      panel_bytes<T>(weight.columns, width, expanded_forward<T>(weight), threads),
      panel_bytes<T>(weight.rows, width, expanded_backward<T>(weight), threads),
      Workspace::size_of({width, tokens}, weight.dtype) + panel_bytes<T>(tokens, 0, 0, threads)};
  return *std::max_element(std::begin(products), std::end(products));
}

}  // namespace

std::size_t linear_bytes(const FrozenMatrix& weight, std::int64_t width, std::int64_t tokens, int threads) {
  std::size_t bytes = 0;
  by_type(weight.dtype, [&]<class T>(T) { bytes = bytes_as<T>(weight, width, tokens, threads); });
  return bytes;
}

void project(const Linear& linear, const at::Tensor& in, at::Tensor& bent, at::Tensor& out, Workspace& workspace) {
  if (workspace.operators() == Operators::library) return library::project(linear, in, bent, out);
  by_type(in.scalar_type(), [&]<class T>(T) { project_as<T>(linear, in, bent, out, workspace); });
}

void bend(const Linear& linear, const at::Tensor& in, at::Tensor& bent, Workspace& workspace) {
  if (workspace.operators() == Operators::library) return library::bend(linear, in, bent);
  by_type(in.scalar_type(),
          [&]<class T>(T) { bend_as<T>(in, linear.lora->a, true, linear.scale, bent, workspace); });
}

void project_backward(const Linear& linear, const at::Tensor& bent, const at::Tensor& dout, at::Tensor& dbent,
                      at::Tensor* din, const GradientSink& sink, Workspace& workspace) {
  if (workspace.operators() == Operators::library)
    return library::project_backward(linear, bent, dout, dbent, din, sink);
  by_type(dout.scalar_type(), [&]<class T>(T) {
    b_gradient<T>(bent, dout, sink, workspace);
    bend_as<T>(dout, linear.lora->b, false, linear.scale, dbent, workspace);
    if (din) input_gradient<T>(linear, dout, dbent, *din, workspace);
  });
}

void a_gradient(const at::Tensor& in, const at::Tensor& dbent, const GradientSink& sink, Workspace& workspace) {
  if (workspace.operators() == Operators::library) return library::a_gradient(in, dbent, sink);
  by_type(in.scalar_type(), [&]<class T>(T) { a_gradient_as<T>(in, dbent, sink, workspace); });
}

}  // namespace kpool
