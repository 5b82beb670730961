#include "core/unicode.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>

#include "core/result.hpp"

namespace kpool {
namespace {

std::uint8_t byte_at(std::string_view text, std::size_t i) { return static_cast<std::uint8_t>(text[i]); }

struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;  // 0: malformed
};

CodePoint code_point_at(std::string_view text, std::size_t i) {
  const std::uint8_t lead = byte_at(text, i);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (bytes == 0 || text.size() - i < bytes) return {};
  char32_t value = lead & (0x7f >> bytes);
  for (std::size_t k = 1; k < bytes; ++k) {
    const std::uint8_t next = byte_at(text, i + k);
    if ((next & 0xc0) != 0x80) return {};
    value = value << 6 | (next & 0x3f);
  }
  const bool overlong = (bytes == 3 && value < 0x800) || (bytes == 4 && value < 0x10000);
  const bool surrogate = value >= 0xd800 && value < 0xe000;
  if (overlong || surrogate || value > 0x10ffff) return {};
  return {value, bytes};
}

int combining_class(char32_t code_point) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(code_point))->combining_class;
}

// The canonical order: marks of a run sorted by class, marks of one class in their old order.
void order_marks(std::u32string& text) {
  std::size_t begin = 0;
  while (begin < text.size()) {
    if (combining_class(text[begin]) == 0) {
      ++begin;
      continue;
    }
    std::size_t end = begin;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + begin, text.begin() + end,
                     [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

// It composes with nothing, yet utf8proc loses it after a Hangul syllable: text is composed between these.
constexpr char32_t kHangulFillerFinal = 0x11a7;

void append_composed(std::u32string& out, std::u32string_view parts) {
  static_assert(sizeof(char32_t) == sizeof(utf8proc_int32_t));
  std::u32string text(parts);
  const auto count = utf8proc_normalize_utf32(reinterpret_cast<utf8proc_int32_t*>(text.data()),
                                              static_cast<utf8proc_ssize_t>(text.size()),
                                              static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  KPOOL_ASSERT(count >= 0);
  out.append(text, 0, static_cast<std::size_t>(count));
}

}  // namespace

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t bytes = code_point_at(text, i).bytes;
    if (bytes == 0) return false;
    i += bytes;
  }
  return true;
}

std::u32string decode_utf8(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto [value, bytes] = code_point_at(text, i);
    KPOOL_ASSERT(bytes > 0);
    out.push_back(value);
    i += bytes;
  }
  return out;
}

void append_utf8(std::string& out, char32_t value) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (value < 0x80) return put(value);
  if (value < 0x800) {
    put(0xc0 | value >> 6);
  } else if (value < 0x10000) {
    put(0xe0 | value >> 12);
    put(0x80 | (value >> 6 & 0x3f));
  } else {
    put(0xf0 | value >> 18);
    put(0x80 | (value >> 12 & 0x3f));
    put(0x80 | (value >> 6 & 0x3f));
  }
  put(0x80 | (value & 0x3f));
}

std::string encode_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t value : text) append_utf8(out, value);
  return out;
}

std::u32string normalise_nfd(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (const char32_t value : text) {
    utf8proc_int32_t parts[32];  // the longest canonical decomposition has 4
    int boundary = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(value), parts, 32, UTF8PROC_DECOMPOSE,
                                               &boundary);
    KPOOL_ASSERT(count >= 0 && count <= 32);
    out.append(parts, parts + count);
  }
  order_marks(out);
  return out;
}

std::u32string normalise_nfc(std::u32string_view text) {
  const std::u32string parts = normalise_nfd(text);
  std::u32string out;
  for (std::size_t begin = 0; begin < parts.size();) {
    const std::size_t end = std::min(parts.find(kHangulFillerFinal, begin), parts.size());
    append_composed(out, std::u32string_view(parts).substr(begin, end - begin));
    if (end < parts.size()) out.push_back(kHangulFillerFinal);
    begin = end + 1;
  }
  return out;
}

bool is_white_space(char32_t c) {
  return (c >= 0x9 && c <= 0xd) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
         c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

}  // namespace kpool
