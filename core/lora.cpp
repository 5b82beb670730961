#include "core/lora.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "core/gemm.hpp"
#include "core/result.hpp"
#include "core/tiles.hpp"

namespace kpool {
namespace {

/// SplitMix64 (Steele, Lea and Flood 2014): a bijection that scatters its argument's bits.
std::uint64_t scatter(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

std::uint64_t key_of(std::uint64_t a, std::uint64_t b, std::uint64_t c) { return scatter(scatter(scatter(a) ^ b) ^ c); }

at::Tensor view_of(std::span<const float> flat, std::int64_t offset, std::int64_t rows, std::int64_t columns) {
  // from_blob takes no const pointer; what it returns here is only read, but for the copies of store_*_gradient.
  return at::from_blob(const_cast<float*>(flat.data()) + offset, {rows, columns}, at::kFloat);
}

/// Adapter::load by threads of the calling stage, on raw rows.
void load_on_cpu(Adapter& adapter, std::span<const float> flat) {
  const LoraLayout& layout = *adapter.layout;
  const auto load = [&]<class T>(T, std::size_t g) {
    const LoraGroup& group = layout.groups[g];
    const std::int64_t rank = layout.rank, width = adapter.groups[g].a.size(0);
    const auto narrow = simd::rows<T>().from_float;
    narrow(flat.data() + group.a, static_cast<std::int64_t>(group.count) * rank * group.in,
           data<T>(adapter.groups[g].a));
    T* to = data<T>(adapter.groups[g].b);
    for (std::size_t i = 0; i < group.count; ++i) {
      const LoraPlace& place = layout.places[group.first + i];
      for (std::int64_t row = 0; row < place.out; ++row, to += width)
        narrow(flat.data() + place.b + row * rank, rank, to + static_cast<std::int64_t>(i) * rank);
    }
  };
  at::parallel_for(0, static_cast<std::int64_t>(adapter.groups.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto g = static_cast<std::size_t>(begin); g < static_cast<std::size_t>(end); ++g)
      by_type(adapter.groups[g].a.scalar_type(), [&]<class T>(T type) { load(type, g); });
  });
}

}  // namespace

LoraLayout::LoraLayout(const BaseShape& shape, std::int64_t rank, std::int64_t top_layers)
    : rank(rank), first_layer(top_layers == 0 ? 0 : shape.layers - top_layers) {
  KPOOL_ASSERT(rank > 0 && first_layer >= 0);
  const std::int64_t q = shape.heads * shape.head_width, kv = shape.kv_heads * shape.head_width;
  using Members = std::vector<std::pair<const char*, std::int64_t>>;
  auto add = [&](const std::string& prefix, std::int64_t in, const Members& members) {
    LoraGroup group{places.size(), members.size(), in, 0, size};
    for (const auto& [name, out] : members) {
      places.push_back({prefix + name, in, out, size, 0});
      size += this->rank * in;
      group.out += out;
    }
    for (std::size_t i = group.first; i < places.size(); ++i) {
      places[i].b = size;
      size += this->rank * places[i].out;
    }
    groups.push_back(group);
  };
  for (std::int64_t i = first_layer; i < shape.layers; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    add(layer + "self_attn.", shape.hidden, {{"q_proj", q}, {"k_proj", kv}, {"v_proj", kv}});
    add(layer + "self_attn.", q, {{"o_proj", shape.hidden}});
    add(layer + "mlp.", shape.hidden, {{"gate_proj", shape.ffn}, {"up_proj", shape.ffn}});
    add(layer + "mlp.", shape.ffn, {{"down_proj", shape.hidden}});
  }
}

std::int64_t LoraLayout::width(const LoraGroup& group) const {
  const std::int64_t whole = whole_depth();
  return (static_cast<std::int64_t>(group.count) * rank + whole - 1) / whole * whole;
}

void draw_lora(const LoraLayout& layout, std::uint64_t seed, std::uint64_t generation, std::span<float> out) {
  KPOOL_ASSERT(static_cast<std::int64_t>(out.size()) == layout.size);
  std::fill(out.begin(), out.end(), 0.0f);
  for (std::size_t i = 0; i < layout.places.size(); ++i) {
    const LoraPlace& place = layout.places[i];
    const std::uint64_t key = key_of(seed, generation, i);
    const double bound = 1.0 / std::sqrt(static_cast<double>(place.in));  // sqrt(6 / ((1 + a^2) fan_in)), a = sqrt 5
    for (std::int64_t j = 0; j < layout.rank * place.in; ++j) {
      const double unit = static_cast<double>(scatter(key + static_cast<std::uint64_t>(j)) >> 40) * 0x1p-24;  // [0, 1)
      out[place.a + j] = static_cast<float>((2 * unit - 1) * bound);
    }
  }
}

void draw_signs(std::uint64_t seed, std::uint64_t generation, std::uint64_t step, std::span<float> out) {
  const std::uint64_t key = key_of(~seed, generation, step);
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < out.size(); ++i, bits >>= 1) {
    if (i % 64 == 0) bits = scatter(key + i / 64);
    out[i] = (bits & 1) ? 1.0f : -1.0f;
  }
}

Adapter::Adapter(const LoraLayout& layout, at::ScalarType dtype, double scale, at::Device device)
    : layout(&layout), scale(scale) {
  const at::TensorOptions options = at::TensorOptions(device).dtype(dtype);
  for (const LoraGroup& group : layout.groups) {
    const std::int64_t width = layout.width(group);
    groups.push_back({at::zeros({width, group.in}, options), at::zeros({group.out, width}, options)});
  }
}

void Adapter::load(std::span<const float> flat) {
  KPOOL_ASSERT(static_cast<std::int64_t>(flat.size()) == layout->size);
  const std::int64_t rank = layout->rank;
  if (!groups.empty() && groups[0].a.device().is_cpu()) return load_on_cpu(*this, flat);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const LoraGroup& group = layout->groups[g];
    const std::int64_t rows = static_cast<std::int64_t>(group.count) * rank;
    groups[g].a.narrow(0, 0, rows).copy_(view_of(flat, group.a, rows, group.in));
    std::int64_t row = 0;
    for (std::size_t i = 0; i < group.count; ++i) {
      const LoraPlace& place = layout->places[group.first + i];
      groups[g].b.narrow(0, row, place.out).narrow(1, static_cast<std::int64_t>(i) * rank, rank)
          .copy_(view_of(flat, place.b, place.out, rank));
      row += place.out;
    }
  }
}

void store_a_gradient(const LoraLayout& layout, const LoraGroup& group, const at::Tensor& da, std::span<float> flat) {
  const std::int64_t rows = static_cast<std::int64_t>(group.count) * layout.rank;
  view_of(flat, group.a, rows, group.in).copy_(da.narrow(0, 0, rows));
}

void store_b_gradient(const LoraLayout& layout, const LoraGroup& group, const at::Tensor& db, std::span<float> flat) {
  std::int64_t row = 0;
  for (std::size_t i = 0; i < group.count; ++i) {
    const LoraPlace& place = layout.places[group.first + i];
    view_of(flat, place.b, place.out, layout.rank)
        .copy_(db.narrow(0, row, place.out).narrow(1, static_cast<std::int64_t>(i) * layout.rank, layout.rank));
    row += place.out;
  }
}

}  // namespace kpool
