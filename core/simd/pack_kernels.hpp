// Packing and transposing of a set. Both move blocks of 4 kLanes rows through registers: each register gathers
// 16 bytes of kLanes rows into its lanes of 128 bits, two or three rounds of interleaving transpose within
// the lanes, and what comes out are whole stretches of the result's rows.
#pragma once

#include "core/simd/kernels.hpp"

namespace kpool::simd {
namespace {

constexpr std::int64_t kLanes = kWidth / 4;

/// (kWidth, 4) of 32 bits to (4, kWidth). Strides in bytes.
KPOOL_INLINE void transpose_block32(const char* in, std::int64_t in_stride, char* out, std::int64_t out_stride) {
  const I a = gather(in, in_stride, 4), b = gather(in + in_stride, in_stride, 4),
          c = gather(in + 2 * in_stride, in_stride, 4), d = gather(in + 3 * in_stride, in_stride, 4);
  const I ab = low32(a, b), cd = low32(c, d), ab2 = high32(a, b), cd2 = high32(c, d);
  scatter(out, low64(ab, cd));
  scatter(out + out_stride, high64(ab, cd));
  scatter(out + 2 * out_stride, low64(ab2, cd2));
  scatter(out + 3 * out_stride, high64(ab2, cd2));
}

/// (2 kWidth, 8) of 16 bits to (8, 2 kWidth).
KPOOL_INLINE void transpose_block16(const char* in, std::int64_t in_stride, char* out, std::int64_t out_stride) {
  I row[8], pair[8];
  for (int r = 0; r < 8; ++r) row[r] = gather(in + r * in_stride, in_stride, 8);
  for (int r = 0; r < 4; ++r) {  // pair[r]: columns 0 to 3 of rows 2r and 2r + 1; pair[4 + r]: columns 4 to 7
    pair[r] = low16(row[2 * r], row[2 * r + 1]);
    pair[4 + r] = high16(row[2 * r], row[2 * r + 1]);
  }
  for (int half = 0; half < 8; half += 4) {
    const I* p = pair + half;
    const I ab = low32(p[0], p[1]), cd = low32(p[2], p[3]), ab2 = high32(p[0], p[1]), cd2 = high32(p[2], p[3]);
    char* to = out + half * out_stride;
    scatter(to, low64(ab, cd));
    scatter(to + out_stride, high64(ab, cd));
    scatter(to + 2 * out_stride, low64(ab2, cd2));
    scatter(to + 3 * out_stride, high64(ab2, cd2));
  }
}

/// How elements of kBytes bytes are transposed: (kRows, kColumns) at a time.
struct Wide {
  static constexpr std::int64_t kBytes = 4, kRows = kWidth, kColumns = 4;
  static KPOOL_INLINE void block(const char* in, std::int64_t in_stride, char* out, std::int64_t out_stride) {
    transpose_block32(in, in_stride, out, out_stride);
  }
};
struct Narrow {
  static constexpr std::int64_t kBytes = 2, kRows = 2 * kWidth, kColumns = 8;
  static KPOOL_INLINE void block(const char* in, std::int64_t in_stride, char* out, std::int64_t out_stride) {
    transpose_block16(in, in_stride, out, out_stride);
  }
};

/// A block at the edge, by way of a whole one: rows and columns of in that are there, rows of out that are wanted.
template <class Element>
__attribute__((noinline)) void transpose_edge(const char* in, std::int64_t in_stride, std::int64_t rows,
                                              std::int64_t columns, char* out, std::int64_t out_stride,
                                              std::int64_t out_rows) {
  constexpr std::int64_t bytes = Element::kBytes, in_row = Element::kColumns * bytes, out_row = Element::kRows * bytes;
  alignas(64) char from[Element::kRows * in_row] = {}, to[Element::kColumns * out_row];
  for (std::int64_t r = 0; r < rows; ++r) __builtin_memcpy(from + r * in_row, in + r * in_stride, columns * bytes);
  Element::block(from, in_row, to, out_row);
  for (std::int64_t c = 0; c < columns; ++c) {
    __builtin_memcpy(out + c * out_stride, to + c * out_row, out_rows * bytes);
  }
}

/// out (columns, padded_rows) = in (rows, columns) transposed, rows beyond the last one zero. Strides in bytes.
template <class Element>
KPOOL_INLINE void transpose_all(const char* in, std::int64_t in_stride, std::int64_t rows, std::int64_t columns,
                                std::int64_t padded_rows, char* out, std::int64_t out_stride) {
  constexpr std::int64_t bytes = Element::kBytes, height = Element::kRows, width = Element::kColumns;
  for (std::int64_t r = 0; r < padded_rows; r += height) {
    const std::int64_t here = rows - r < 0 ? 0 : rows - r < height ? rows - r : height;
    const std::int64_t wanted = padded_rows - r < height ? padded_rows - r : height;
    const char* from = in + r * in_stride;
    char* to = out + r * bytes;
    std::int64_t c = 0;
    if (here == height) {
      for (; c + width <= columns; c += width) {
        Element::block(from + c * bytes, in_stride, to + c * out_stride, out_stride);
      }
    }
    for (; c < columns; c += width) {
      const std::int64_t left = columns - c < width ? columns - c : width;
      transpose_edge<Element>(from + c * bytes, in_stride, here, left, to + c * out_stride, out_stride, wanted);
    }
  }
}

inline void transpose(const float* in, std::int64_t in_stride, std::int64_t rows, std::int64_t columns, float* out,
                      std::int64_t out_stride) {
  transpose_all<Wide>((const char*)in, 4 * in_stride, rows, columns, rows, (char*)out, 4 * out_stride);
}
inline void transpose(const Bf16* in, std::int64_t in_stride, std::int64_t rows, std::int64_t columns, Bf16* out,
                      std::int64_t out_stride) {
  transpose_all<Narrow>((const char*)in, 2 * in_stride, rows, columns, rows, (char*)out, 2 * out_stride);
}

inline void pack_columns(const float* in, std::int64_t stride, std::int64_t depth, std::int64_t count, float* panel) {
  transpose_all<Wide>((const char*)in, 4 * stride, count, depth, kPanel, (char*)panel, 4 * kPanel);
}
/// Pairs along the depth are what lies together in `in`: a transposition of 32 bits.
inline void pack_columns(const Bf16* in, std::int64_t stride, std::int64_t depth, std::int64_t count, Bf16* panel) {
  transpose_all<Wide>((const char*)in, 2 * stride, count, depth / 2, kPanel, (char*)panel, 4 * kPanel);
  if (depth % 2 == 0) return;
  Bf16* last = panel + (depth - 1) * kPanel;
  for (std::int64_t c = 0; c < kPanel; ++c) {
    last[2 * c] = c < count ? in[c * stride + depth - 1] : Bf16{0};
    last[2 * c + 1] = Bf16{0};
  }
}

inline void pack_rows(const float* in, std::int64_t stride, std::int64_t depth, std::int64_t count, float* panel) {
  for (std::int64_t d = 0; d < depth; ++d, in += stride, panel += kPanel) {
    if (count == kPanel) {
      for (std::int64_t i = 0; i < kPanel; i += kWidth) store(panel + i, load(in + i, Full{}), Full{});
    } else {
      for (std::int64_t i = 0; i < kPanel; ++i) panel[i] = i < count ? in[i] : 0;
    }
  }
}
inline void pack_rows(const Bf16* in, std::int64_t stride, std::int64_t depth, std::int64_t count, Bf16* panel) {
  std::int64_t d = 0;
  if (count == kPanel) {
    for (; d + 2 <= depth; d += 2) interleave(in + d * stride, in + (d + 1) * stride, panel + d * kPanel);
  }
  for (; d < depth; d += 2) {
    alignas(64) Bf16 even[kPanel] = {}, odd[kPanel] = {};
    for (std::int64_t i = 0; i < count; ++i) {
      even[i] = in[d * stride + i];
      if (d + 1 < depth) odd[i] = in[(d + 1) * stride + i];
    }
    interleave(even, odd, panel + d * kPanel);
  }
}

}  // namespace
}  // namespace kpool::simd
