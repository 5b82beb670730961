// UTF-8 and the normal forms of Unicode, in time linear in the text (n log n for a run of combining marks,
// where the sorting of utf8proc itself is quadratic). Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>

namespace kpool {

/// Well-formed UTF-8: shortest form, no surrogate, at most U+10FFFF.
bool is_utf8(std::string_view text);

/// text: well-formed UTF-8.
std::u32string decode_utf8(std::string_view text);
void append_utf8(std::string& out, char32_t code_point);
std::string encode_utf8(std::u32string_view text);

/// Canonical decomposition, and canonical composition.
std::u32string normalise_nfd(std::u32string_view text);
std::u32string normalise_nfc(std::u32string_view text);

/// The property White_Space.
bool is_white_space(char32_t code_point);

}  // namespace kpool
