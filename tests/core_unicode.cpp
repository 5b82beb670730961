#include "core/unicode.hpp"

#include <catch2/catch.hpp>

#include "core/unicode8.hpp"

using namespace kpool;

TEST_CASE("unicode: well-formed UTF-8 is told from the rest", "[unicode]") {
  for (const char* good : {"", "a", "\u00e9", "\u20ac", "\U0001f600", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf",
                           "\xee\x80\x80"})
    CHECK(is_utf8(good));
  for (const char* bad : {"\x80", "\xc3", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe2\x82", "\xe2\x82z"})
    CHECK_FALSE(is_utf8(bad));
  CHECK(is_utf8(std::string_view("\0", 1)));
}

TEST_CASE("unicode: every code point comes back from UTF-8", "[unicode]") {
  std::u32string all;
  for (char32_t c = 0; c < 0x110000; ++c)
    if (c < 0xd800 || c >= 0xe000) all.push_back(c);
  const auto text = encode_utf8(all);
  CHECK(is_utf8(text));
  CHECK(decode_utf8(text) == all);
}

TEST_CASE("unicode: canonical forms", "[unicode]") {
  CHECK(normalise_nfd(U"\u00c5") == U"A\u030a");
  CHECK(normalise_nfc(U"A\u030a") == U"\u00c5");
  CHECK(normalise_nfd(U"\u1e69") == U"s\u0323\u0307");
  CHECK(normalise_nfc(U"s\u0307\u0323") == U"\u1e69");  // marks are put in order first
  CHECK(normalise_nfd(U"\ud55c") == U"\u1112\u1161\u11ab");
  CHECK(normalise_nfc(U"\u1112\u1161\u11ab") == U"\ud55c");
  CHECK(normalise_nfc(U"\uc720\u11a7\u11a8") == U"\uc720\u11a7\u11a8");
  CHECK(normalise_nfc(U"\u2126") == U"\u03a9");
}

TEST_CASE("unicode: a long run of marks is ordered in a moment", "[unicode]") {
  std::u32string run = U"a";
  for (int i = 0; i < 500000; ++i) run += i % 2 ? U'\u0323' : U'\u0307';  // sorting by swaps would take hours
  const auto ordered = normalise_nfd(run);
  REQUIRE(ordered.size() == run.size());
  CHECK(ordered[1] == U'\u0323');
  CHECK(ordered[250000] == U'\u0323');
  CHECK(ordered[250001] == U'\u0307');
}

TEST_CASE("unicode: kinds of characters as Unicode 8 has them", "[unicode]") {
  CHECK(unicode8_kind(U'\u0301') == CharacterKind::mark);
  CHECK(unicode8_kind(U'\u00ad') == CharacterKind::control);
  CHECK(unicode8_kind(U'\u2014') == CharacterKind::punctuation);
  CHECK(unicode8_kind(U'$') == CharacterKind::other);
  CHECK(unicode8_kind(U'\u061d') == CharacterKind::other);  // punctuation since Unicode 14
}
