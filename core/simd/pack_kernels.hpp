// Packing and transposing of a set. Both move blocks of 4 kLanes rows through registers: each register gathers
// 16 bytes of kLanes rows into its lanes of 128 bits, two or three rounds of interleaving transpose within
// the lanes, and what comes out are whole stretches of the result's rows.
#pragma once

#include "core/simd/kernels.hpp"

namespace kpool::simd {
namespace {

constexpr std::int64_t kLanes = kWidth / 4;
constexpr std::int64_t kRowsAhead = 32;  // prefetched, where rows are short

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

/// A block that is smaller than a whole one, by way of a whole one.
template <class Element>
__attribute__((noinline)) void transpose_small(const char* in, std::int64_t in_stride, std::int64_t rows,
                                               std::int64_t columns, char* out, std::int64_t out_stride) {
  constexpr std::int64_t bytes = Element::kBytes, in_row = Element::kColumns * bytes, out_row = Element::kRows * bytes;
  alignas(64) char from[Element::kRows * in_row] = {}, to[Element::kColumns * out_row];
  for (std::int64_t r = 0; r < rows; ++r) {
    if (columns == Element::kColumns) {
      __builtin_memcpy(from + r * in_row, in + r * in_stride, in_row);
    } else {
      __builtin_memcpy(from + r * in_row, in + r * in_stride, columns * bytes);
    }
  }
  Element::block(from, in_row, to, out_row);
  for (std::int64_t c = 0; c < columns; ++c) __builtin_memcpy(out + c * out_stride, to + c * out_row, rows * bytes);
}

KPOOL_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// out (columns, rows) = in (rows, columns) transposed. The last blocks overlap those before them, so that all are
/// whole, unless there are too few rows or columns for one. Strides in bytes.
template <class Element>
KPOOL_INLINE void transpose_all(const char* in, std::int64_t in_stride, std::int64_t rows, std::int64_t columns,
                                char* out, std::int64_t out_stride) {
  constexpr std::int64_t bytes = Element::kBytes, height = Element::kRows, width = Element::kColumns;
  const bool whole = rows >= height && columns >= width;
  for (std::int64_t r = 0; r < rows; r += height) {
    const std::int64_t row = whole ? smaller(r, rows - height) : r;
    const char* from = in + row * in_stride;
    char* to = out + row * bytes;
    if (whole) {
      std::int64_t c = 0;
      for (; c + width <= columns; c += width) {
        if (c * bytes % 64 == 0) {  // many rows at once are more streams than the processor follows by itself
          for (std::int64_t i = height; i < 2 * height; ++i) __builtin_prefetch(from + i * in_stride + c * bytes);
        }
        Element::block(from + c * bytes, in_stride, to + c * out_stride, out_stride);
      }
      c = columns - width;
      if (columns % width) Element::block(from + c * bytes, in_stride, to + c * out_stride, out_stride);
    } else {
      for (std::int64_t c = 0; c < columns; c += width) {
        transpose_small<Element>(from + c * bytes, in_stride, smaller(rows - r, height), smaller(columns - c, width),
                                 to + c * out_stride, out_stride);
      }
    }
  }
}

inline void transpose(const float* in, std::int64_t in_stride, std::int64_t rows, std::int64_t columns, float* out,
                      std::int64_t out_stride) {
  transpose_all<Wide>((const char*)in, 4 * in_stride, rows, columns, (char*)out, 4 * out_stride);
}
inline void transpose(const Bf16* in, std::int64_t in_stride, std::int64_t rows, std::int64_t columns, Bf16* out,
                      std::int64_t out_stride) {
  transpose_all<Narrow>((const char*)in, 2 * in_stride, rows, columns, (char*)out, 2 * out_stride);
}

/// A panel of zeros where the columns do not fill it: they are then written over them.
KPOOL_INLINE void clear_panel(char* panel, std::int64_t rows, std::int64_t count) {
  if (count < kPanel) __builtin_memset(panel, 0, rows * kPanel * 4);
}

inline void pack_columns(const float* in, std::int64_t stride, std::int64_t depth, std::int64_t count, float* panel) {
  clear_panel((char*)panel, depth, count);
  transpose_all<Wide>((const char*)in, 4 * stride, count, depth, (char*)panel, 4 * kPanel);
}
/// Pairs along the depth are what lies together in `in`: a transposition of 32 bits.
inline void pack_columns(const Bf16* in, std::int64_t stride, std::int64_t depth, std::int64_t count, Bf16* panel) {
  clear_panel((char*)panel, depth / 2, count);
  transpose_all<Wide>((const char*)in, 2 * stride, count, depth / 2, (char*)panel, 4 * kPanel);
  if (depth % 2 == 0) return;
  Bf16* last = panel + (depth - 1) * kPanel;
  for (std::int64_t c = 0; c < kPanel; ++c) {
    last[2 * c] = c < count ? in[c * stride + depth - 1] : Bf16{0};
    last[2 * c + 1] = Bf16{0};
  }
}

inline void pack_rows(const float* in, std::int64_t stride, std::int64_t depth, std::int64_t count, float* panel) {
  clear_panel((char*)panel, depth, count);
  for (std::int64_t d = 0; d < depth; ++d, in += stride, panel += kPanel) {
    if (count == kPanel) {
      for (std::int64_t i = 0; i < kPanel; i += kWidth) store(panel + i, load(in + i, Full{}), Full{});
    } else {
      __builtin_memcpy(panel, in, count * 4);
    }
  }
}
inline void pack_rows(const Bf16* in, std::int64_t stride, std::int64_t depth, std::int64_t count, Bf16* panel) {
  std::int64_t d = 0;
  if (count == kPanel) {
    for (; d + 2 <= depth; d += 2) {
      __builtin_prefetch(in + (d + kRowsAhead) * stride);
      __builtin_prefetch(in + (d + kRowsAhead + 1) * stride);
      interleave(in + d * stride, in + (d + 1) * stride, panel + d * kPanel);
    }
  }
  alignas(64) Bf16 even[kPanel] = {}, odd[kPanel] = {};
  for (; d < depth; d += 2) {
    const bool pair = d + 1 < depth;
    __builtin_memcpy(even, in + d * stride, count * 2);
    if (pair) __builtin_memcpy(odd, in + (d + 1) * stride, count * 2);
    if (!pair) __builtin_memset(odd, 0, sizeof odd);
    interleave(even, odd, panel + d * kPanel);
  }
}

inline void turn_panel(const float* panel, std::int64_t depth, std::int64_t count, float* out) {
  clear_panel((char*)out, count, depth);
  transpose_all<Wide>((const char*)panel, 4 * kPanel, depth, count, (char*)out, 4 * kPanel);
}
/// Two rows of the panel are four of 16 bits for each pair of columns: exchanging the middle ones turns them, and the
/// rest moves 64 bits at a time.
KPOOL_INLINE void turn_square(const char* panel, char* out) {
  constexpr std::int64_t row = 4 * kPanel, lane = 16, pairs = kPanel / 2;  // bytes, bytes, rows of either
  for (std::int64_t p = 0; p < pairs; p += 2 * kLanes)
    for (std::int64_t q = 0; q < pairs; q += 2) {
      const char* from = panel + p * row + q / 2 * lane;
      const I even = cross16(gather(from, row, 2)), odd = cross16(gather(from + row, row, 2));
      scatter(out + q * row + p * 8, low64(even, odd));
      scatter(out + (q + 1) * row + p * 8, high64(even, odd));
    }
}
inline void turn_panel(const Bf16* panel, std::int64_t depth, std::int64_t count, Bf16* out) {
  if (depth == kPanel && count == kPanel) return turn_square((const char*)panel, (char*)out);
  Bf16 rows[kPanel * kPanel];
  transpose_all<Wide>((const char*)panel, 4 * kPanel, depth / 2, count, (char*)rows, 2 * kPanel);
  pack_rows(rows, kPanel, count, depth, out);
}

}  // namespace
}  // namespace kpool::simd
