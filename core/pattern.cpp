#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/pattern.hpp"

#include <pcre2.h>

#include <utility>

#include "core/result.hpp"

namespace kpool {

Pattern::Pattern(const char* expression) {
  int code = 0;
  PCRE2_SIZE offset = 0;
  code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code,
                        &offset, nullptr);
  KPOOL_ASSERT(code_ != nullptr);
  // Where the kernel forbids writable code (MemoryDenyWriteExecute) this fails, and matching interprets instead.
  static_cast<void>(pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE));
  scratch_ = pcre2_match_data_create(1, nullptr);
  KPOOL_ASSERT(scratch_ != nullptr);
}

Pattern::Pattern(Pattern&& other) noexcept
    : code_(std::exchange(other.code_, nullptr)), scratch_(std::exchange(other.scratch_, nullptr)) {}

Pattern::~Pattern() {
  pcre2_match_data_free(scratch_);
  pcre2_code_free(code_);
}

std::optional<Pattern::Match> Pattern::find(std::string_view subject, std::size_t from) const {
  // The check of the whole subject's UTF-8 at every call would make a scan quadratic.
  const int count = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), from,
                                PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, scratch_, nullptr);
  KPOOL_ASSERT(count >= 0 || count == PCRE2_ERROR_NOMATCH);
  if (count < 0) return std::nullopt;
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch_);
  return Match{bounds[0], bounds[1]};
}

}  // namespace kpool
