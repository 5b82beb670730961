#include "core/linear.hpp"

#include <algorithm>
#include <cstring>

#include "core/frozen_panels.hpp"
#include "core/kernels.hpp"
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

constexpr auto nothing = [](std::int64_t, std::int64_t, std::int64_t, std::int64_t, const float*) {};

/// bent = scale x right^T: right is A (width, in), or bent = scale x right with right B (out, width).
template <class T>
void bend_as(const at::Tensor& x, const at::Tensor& right, bool transposed, double scale, at::Tensor& bent,
             Workspace& workspace) {
  workspace.enter(Section::lora);
  const std::int64_t depth = x.size(1), width = bent.size(1);
  PanelProduct<T> product{x.size(0), depth, width, data<T>(x), depth};
  product.out = data<T>(bent);
  product.out_stride = width;
  product.factor = static_cast<float>(scale);
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
         nothing);
}

/// in W^T, to which project adds what is the linear's own.
template <class T>
PanelProduct<T> product_of(const at::Tensor& in, const at::Tensor& bent, at::Tensor& out, bool adapted) {
  const std::int64_t depth = in.size(1), columns = out.size(1);
  PanelProduct<T> product{in.size(0), depth, columns, data<T>(in), depth};
  product.out = data<T>(out);
  product.out_stride = columns;
  if (!adapted) return product;
  product.a2 = data<T>(bent);
  product.depth2 = product.a2_stride = bent.size(1);
  return product;
}

template <class T>
Int8Rows int8_rows(const at::Tensor& x, Workspace& workspace, const Int8Matrix* kept = nullptr) {
  const std::int64_t tokens = x.size(0), depth = x.size(1), stride = (depth + 3) / 4 * 4;
  const std::int64_t group = kept ? depth : kInt8Group, groups = kept ? 1 : int8_groups(depth);
  at::Tensor values = workspace.take({tokens, stride}, at::kChar), steps = workspace.take({tokens, groups}, at::kFloat);
  at::Tensor offsets = workspace.take({tokens, groups}, at::kInt);
  const T* from = data<T>(x);
  auto* value = data<std::int8_t>(values);
  auto* step = data<float>(steps);
  auto* offset = data<std::int32_t>(offsets);
  at::parallel_for(0, tokens, 16, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i)
      simd::rows<T>().quantise(from + i * depth, depth, group, value + i * stride, step + i * groups,
                               offset + i * groups);
  });
  Int8Rows rows{value, stride, step, offset, groups, group};
  if (kept) rows.panels = data<std::uint8_t>(kept->panels), rows.panel_steps = data<float>(kept->steps);
  return rows;
}

std::size_t int8_bytes(std::int64_t depth, std::int64_t tokens) {
  return Workspace::size_of({tokens, (depth + 3) / 4 * 4}, at::kChar) +
         2 * Workspace::size_of({tokens, int8_groups(depth)}, at::kFloat);
}

/// done(first row, rows, first column, columns) when these have been written, with those `pair` panels further on.
template <class T, class Done>
void project_as(const Linear& linear, const at::Tensor& in, at::Tensor& bent, at::Tensor& out, std::int64_t pair,
                Workspace& workspace, Done done) {
  if (linear.lora) bend_as<T>(in, linear.lora->a, true, linear.scale, bent, workspace);
  workspace.enter(Section::product);
  Workspace::Frame frame(workspace);
  PanelProduct<T> product = product_of<T>(in, bent, out, linear.lora != nullptr);
  Int8Rows rows;
  KPOOL_ASSERT(!linear.kept || !linear.lora);
  if (linear.int8 || linear.kept) product.int8 = &(rows = int8_rows<T>(in, workspace, linear.kept));
  if (linear.bias) product.bias = data<T>(*linear.bias);
  product.pair = pair;
  multiply_panels<T>(product, expanded_forward<T>(linear.weight), workspace,
         [&](const PanelBlock& block, PanelScratch<T>& scratch) {
           for (std::int64_t p = 0; linear.lora && block.begin == 0 && p < block.count; ++p) {
             const std::int64_t first = (block.panel + p) * kPanel, width = product.depth2;
             simd::rows<T>().pack_columns(data<T>(linear.lora->b) + first * width, width, width,
                                          std::min(kPanel, product.columns - first),
                                          scratch.extra + p * panel_size<T>(width));
           }
           return pack_forward(linear.weight, block, scratch);
         },
         done);
}

template <class T, class Done>
void input_gradient(const Linear& linear, const at::Tensor& dout, const at::Tensor& dbent, at::Tensor& din,
                    Workspace& workspace, Done done) {
  workspace.enter(Section::product);
  Workspace::Frame frame(workspace);
  PanelProduct<T> product = product_of<T>(dout, dbent, din, true);
  Int8Rows rows;
  if (linear.weight.int8_gradients) product.int8 = &(rows = int8_rows<T>(dout, workspace));
  multiply_panels<T>(product, expanded_backward<T>(linear.weight), workspace,
         [&](const PanelBlock& block, PanelScratch<T>& scratch) {
           for (std::int64_t p = 0; block.begin == 0 && p < block.count; ++p) {
             const std::int64_t first = (block.panel + p) * kPanel;
             simd::rows<T>().pack_rows(data<T>(linear.lora->a) + first, product.columns, product.depth2,
                                       std::min(kPanel, product.columns - first),
                                       scratch.extra + p * panel_size<T>(product.depth2));
           }
           return pack_backward(linear.weight, block, scratch);
         },
         done);
}

/// Where element (row, column) of a finished tile lies.
std::int64_t at(std::int64_t row, std::int64_t column) {
  return column / kPanel * kPanelStride + row * kPanel + column % kPanel;
}

/// Rows of a tile lie far apart, where the processor's own prefetching does not follow: fetches a later one, to be read
/// (0) or written (1). Past the last row it does no harm.
template <int write, class T>
void fetch(const T* row, std::int64_t columns) {
  for (std::int64_t i = 0; i < columns; i += 64 / std::int64_t{sizeof(T)}) __builtin_prefetch(row + i, write);
}
constexpr std::int64_t kRowsAhead = 2;

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
      panel_bytes<T>(weight.columns, width, expanded_forward<T>(weight), threads, true) +
          int8_bytes(weight.columns, tokens),
      panel_bytes<T>(weight.rows, 0, 0, threads),              // bent gradients
      panel_bytes<T>(weight.rows, width, expanded_backward<T>(weight), threads, weight.int8_gradients) +
          (weight.int8_gradients ? int8_bytes(weight.rows, tokens) : 0),
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
  by_type(in.scalar_type(), [&]<class T>(T) { project_as<T>(linear, in, bent, out, 0, workspace, nothing); });
}

void project_gated(const Linear& linear, const at::Tensor& in, at::Tensor& bent, at::Tensor& gate_up,
                   at::Tensor& gated, Workspace& workspace) {
  const std::int64_t ffn = gated.size(1);
  if (workspace.operators() == Operators::library || ffn % kPanel != 0) {
    project(linear, in, bent, gate_up, workspace);
    return swiglu(gate_up, gated, workspace);
  }
  by_type(in.scalar_type(), [&]<class T>(T) {
    project_as<T>(linear, in, bent, gate_up, ffn / kPanel, workspace,
                  [gate = data<T>(gate_up), out = data<T>(gated), ffn](std::int64_t first, std::int64_t rows,
                                                                       std::int64_t column, std::int64_t columns,
                                                                       const float*) {
                    for (std::int64_t row = first; row < first + rows; ++row) {
                      const T* at = gate + row * 2 * ffn + column;
                      fetch<1>(out + (row + kRowsAhead) * ffn + column, columns);
                      simd::rows<T>().swiglu(at, at + ffn, columns, out + row * ffn + column);
                    }
                  });
  });
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
    if (din) input_gradient<T>(linear, dout, dbent, *din, workspace, nothing);
  });
}

void project_gated_backward(const Linear& linear, const at::Tensor& bent, const at::Tensor& dout, at::Tensor& dbent,
                            const at::Tensor& gate_up, at::Tensor& dgate_up, at::Tensor& gated,
                            const GradientSink& sink, Workspace& workspace) {
  if (workspace.operators() == Operators::library) {
    library::project_backward(linear, bent, dout, dbent, &gated, sink);
    return library::swiglu_backward(gated, gate_up, dgate_up, gated);
  }
  by_type(dout.scalar_type(), [&]<class T>(T) {
    b_gradient<T>(bent, dout, sink, workspace);
    bend_as<T>(dout, linear.lora->b, false, linear.scale, dbent, workspace);
    const std::int64_t ffn = gated.size(1);
    const T* gate = data<T>(gate_up);
    T *dgate = data<T>(dgate_up), *out = data<T>(gated);
    input_gradient<T>(linear, dout, dbent, gated, workspace,
                      [=](std::int64_t first, std::int64_t rows, std::int64_t column, std::int64_t columns,
                          const float*) {
                        for (std::int64_t row = first; row < first + rows; ++row) {
                          const std::int64_t at = row * 2 * ffn + column, ahead = at + kRowsAhead * 2 * ffn;
                          fetch<0>(gate + ahead, columns);
                          fetch<0>(gate + ahead + ffn, columns);
                          fetch<1>(dgate + ahead, columns);
                          fetch<1>(dgate + ahead + ffn, columns);
                          T* here = out + row * ffn + column;  // its gradient until now
                          simd::rows<T>().swiglu_backward(here, gate + at, gate + at + ffn, columns, dgate + at,
                                                          dgate + at + ffn, here);
                        }
                      });
  });
}

void a_gradient(const at::Tensor& in, const at::Tensor& dbent, const GradientSink& sink, Workspace& workspace) {
  if (workspace.operators() == Operators::library) return library::a_gradient(in, dbent, sink);
  by_type(in.scalar_type(), [&]<class T>(T) { a_gradient_as<T>(in, dbent, sink, workspace); });
}

}  // namespace kpool
